//! Follows the pairs of key and certificates on the disk while the server runs: a new one is taken up without a restart,
//! one that cannot be used is left, and one that nears its end is warned of.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use billow_model::{Domain, Timestamp};
use billow_net::{LocalDomain, NetHandle};
use billow_signing::{Role, Signer, WARN_DAYS, days_left};

use super::running::introduce;
use crate::clock;
use crate::config::FederationConfig;
use crate::keys::PairFiles;
use crate::metrics::Metrics;
use crate::wavelets::Wavelets;

/// How often it is looked whether the files on the disk are others.
const EVERY: Duration = Duration::from_secs(5);
/// How often the metrics are told how long the certificates are good.
const COUNT_EVERY: u32 = 12;

/// Who takes up new pairs.
pub(super) struct Followed {
    pub(super) domain: Domain,
    pub(super) settings: FederationConfig,
    pub(super) net: NetHandle,
    pub(super) wavelets: Wavelets,
    pub(super) metrics: Metrics,
}

/// What is shown and signed with.
pub(super) fn local_domain(domain: &Domain, settings: &FederationConfig) -> anyhow::Result<LocalDomain> {
    let pair = settings.tls_files().open()?;
    Ok(LocalDomain {
        domain: domain.as_str().parse()?,
        chain_pem: pair.chain_pem,
        key_pem: pair.key_pem,
    })
}

/// Who signs.
pub(super) fn signer(domain: &Domain, settings: &FederationConfig) -> anyhow::Result<Signer> {
    let pair = settings.signer_files().open()?;
    Signer::from_pem(domain.clone(), &pair.key_pem, &pair.chain_pem)
        .with_context(|| format!("{} cannot sign for {domain}", settings.signer_certificate.display()))
}

impl Followed {
    /// Looks again and again, for ever.
    pub(super) async fn run(self) {
        let roles = [
            (Role::Tls, self.settings.tls_files()),
            (Role::Signer, self.settings.signer_files()),
        ];
        // Behind an XMPP server it is that server's certificate that is shown.
        let ours = roles
            .iter()
            .filter(|(role, _)| *role == Role::Signer || self.settings.component.is_none());
        let mut lives: Vec<Life> = ours.map(|(role, files)| Life::new(*role, files)).collect();
        let mut rounds = 0u32;
        loop {
            for life in &mut lives {
                if life.is_new() {
                    self.take_up(life).await;
                }
                if rounds.is_multiple_of(COUNT_EVERY) || life.told.is_none() {
                    life.tell(clock::now(), &self.metrics);
                }
            }
            rounds = rounds.wrapping_add(1);
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn take_up(&self, life: &mut Life) {
        let outcome = match life.role {
            Role::Tls => self.show_new(),
            Role::Signer => self.sign_with_new().await,
        };
        let path = life.files.certificate.display();
        match outcome {
            Ok(()) => {
                tracing::info!(%path, role = %life.role, "peers are shown the new certificate");
                life.used = life.present;
                life.told = None;
            }
            // Once is enough for each pair of files.
            Err(error) if life.refused != life.present => {
                tracing::error!(
                    %path, role = %life.role, error = format!("{error:#}"),
                    "the new certificate cannot be used; the old one is kept"
                );
                life.refused = life.present;
            }
            Err(_) => {}
        }
    }

    fn show_new(&self) -> anyhow::Result<()> {
        let local = local_domain(&self.domain, &self.settings)?;
        Ok(self.net.replace_certificate(&local)?)
    }

    /// The chain is kept before anything is signed with it: others will ask for it.
    async fn sign_with_new(&self) -> anyhow::Result<()> {
        let signer = signer(&self.domain, &self.settings)?;
        introduce(&self.wavelets, signer.info().clone()).await?;
        self.wavelets.shared().sign_with(signer);
        Ok(())
    }
}

type Stamp = [Option<(SystemTime, u64)>; 2];

/// A pair's files, and what was said of them.
struct Life {
    role: Role,
    files: PairFiles,
    /// As they were when they were taken up.
    used: Stamp,
    /// As they are.
    present: Stamp,
    /// As they were when they were last refused.
    refused: Stamp,
    /// How urgently it was last warned, as a place in [`WARN_DAYS`] (0: not at all); `None`: the pair is new.
    told: Option<usize>,
}

impl Life {
    fn new(role: Role, files: &PairFiles) -> Self {
        let present = stamp(files);
        Self {
            role,
            files: files.clone(),
            used: present,
            present,
            refused: [None; 2],
            told: None,
        }
    }

    fn is_new(&mut self) -> bool {
        self.present = stamp(&self.files);
        self.present != self.used
    }

    /// Warns when fewer days are left than the last time it was warned, and always says in the metrics how many.
    fn tell(&mut self, now: Timestamp, metrics: &Metrics) {
        let until = match self.files.pair() {
            Ok(Ok(pair)) => pair.validity().map(|validity| validity.until),
            // It was told when the pair was looked at.
            _ => return,
        };
        let Ok(until) = until else { return };
        let days = days_left(until, now);
        let role = match self.role {
            Role::Tls => "tls",
            Role::Signer => "signer",
        };
        metrics.set("certificate_days_left", role, days);
        let urgency = urgency(days, until < now);
        if self.told.is_none_or(|told| told < urgency) && urgency > 0 {
            let path = self.files.certificate.display();
            let words = words(self.role, days, until < now);
            if until < now {
                tracing::error!(%path, "ALARM: {words}");
            } else {
                tracing::warn!(%path, "{words}");
            }
        }
        self.told = Some(urgency);
    }
}

/// 0: long good; then one for each of [`WARN_DAYS`]; and the last when it has expired.
fn urgency(days: i64, expired: bool) -> usize {
    if expired {
        return WARN_DAYS.len() + 1;
    }
    WARN_DAYS.iter().filter(|limit| days < **limit).count()
}

fn words(role: Role, days: i64, expired: bool) -> String {
    let what = match role {
        Role::Tls => "the certificate that other servers are shown",
        Role::Signer => "the certificate that signs our users' changes",
    };
    match days {
        _ if expired => {
            format!("{what} has expired: other servers refuse us; put a new one in place (billow cert install)")
        }
        0 => format!("{what} expires within a day; put a new one in place (billow cert install)"),
        1 => format!("{what} expires in 1 day; put a new one in place (billow cert install)"),
        _ => format!("{what} expires in {days} days; put a new one in place (billow cert install)"),
    }
}

/// When the certificate and its key were last changed.
fn stamp(files: &PairFiles) -> Stamp {
    [&files.certificate, &files.key].map(|path: &std::path::PathBuf| changed(path))
}

fn changed(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use billow_signing::{Authority, Validity};

    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn a_certificate_is_warned_of_at_30_14_7_and_1_days_and_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let end = Timestamp(2_000_000_000_000);
        let validity = Validity {
            from: Timestamp(0),
            until: end,
        };
        let issued = Authority::new("a test", validity)
            .unwrap()
            .issue(&"example.org".parse().unwrap(), &[], validity)
            .unwrap();
        let files = PairFiles {
            certificate: dir.path().join("c.pem"),
            key: dir.path().join("k.pem"),
            passphrase: None,
        };
        std::fs::write(&files.certificate, &issued.chain_pem).unwrap();
        std::fs::write(&files.key, &issued.key_pem).unwrap();
        let (mut life, metrics) = (Life::new(Role::Tls, &files), Metrics::new());
        let mut seen = Vec::new();
        for hours in (-48..24 * 40).rev() {
            let before = life.told.unwrap_or(0);
            life.tell(Timestamp(end.0 - hours * DAY / 24), &metrics);
            if life.told != Some(before) {
                seen.push((hours, metrics.value("certificate_days_left", "tls")));
            }
        }
        assert_eq!(
            seen,
            [(24 * 30 - 1, 29), (24 * 14 - 1, 13), (24 * 7 - 1, 6), (23, 0), (-1, -1)],
            "the warnings come once each"
        );
    }
}
