//! Fetches the server's certificate from an authority and renews it (ACME, RFC 8555).
//!
//! The pair lies in the data folder and is taken up like any other pair that is replaced on the disk. It is renewed when a third
//! of its life is left, a little earlier by chance so that not all servers come at once. What goes wrong is told in words
//! and tried again later and later; the certificate that is in place stays.

mod answers;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use billow_model::{Domain, Timestamp};
use billow_signing::{KeyKind, Pair, PrivateKey, Validity, request_der};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use answers::{Answers, PATH};

use crate::clock;
use crate::config::{AcmeConfig, Challenge, Config};
use crate::keys::{self, PairFiles};
use crate::metrics::Metrics;
use crate::web::stopped;

/// The pause after the first failure; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(300);
/// How often it is looked whether it is time; the files may also have been replaced by hand.
const LOOK: Duration = Duration::from_secs(3600);
/// The part of a certificate's life that is left when it is renewed, and the part by which chance makes it earlier.
const LEFT: i64 = 3;
const CHANCE: i64 = 30;

/// What fetches the certificate.
pub(crate) struct Acme {
    settings: AcmeConfig,
    domain: Domain,
    files: PairFiles,
    account: PathBuf,
    answers: Answers,
    metrics: Metrics,
}

/// An account with an authority, as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    credentials: AccountCredentials,
}

impl Acme {
    /// If the configuration asks for it.
    pub(crate) fn new(config: &Config, answers: Answers, metrics: Metrics) -> Option<Self> {
        let federation = config.federation.as_ref()?;
        Some(Self {
            settings: federation.acme.clone()?,
            domain: config.domain.clone(),
            files: federation.tls_files(),
            account: config.data_dir.join("acme/account.json"),
            answers,
            metrics,
        })
    }

    /// Renews until the server stops. `fetched` becomes true when a certificate is in place.
    pub(crate) async fn run(self, fetched: watch::Sender<bool>, mut stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.renew(fetched) => {}
            () = stopped(&mut stopping) => {}
        }
    }

    async fn renew(self, fetched: watch::Sender<bool>) {
        let mut failures = 0;
        loop {
            let left = self.until_due();
            if !left.is_zero() {
                tokio::time::sleep(left.min(LOOK)).await;
                continue;
            }
            let attempt = tokio::time::timeout(ATTEMPT, self.fetch()).await;
            match attempt.unwrap_or_else(|_| bail_late()) {
                Ok(()) => {
                    failures = 0;
                    self.metrics.count("acme", "fetched");
                    let path = self.files.certificate.display();
                    tracing::info!(%path, "a certificate has been fetched for {}", self.names().join(", "));
                    fetched.send_replace(true);
                }
                Err(error) => {
                    self.metrics.count("acme", "failed");
                    let pause = self.pause(failures);
                    failures += 1;
                    tracing::error!(
                        "no certificate from {}: {error:#}; it is tried again in {} s{}",
                        self.settings.directory,
                        pause.as_secs(),
                        if self.files.certificate.exists() {
                            ", what is in place stays"
                        } else {
                            ""
                        }
                    );
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let names = self.settings.names_for(&self.domain);
        names.iter().map(Domain::to_string).collect()
    }

    /// How long the certificate that is in place will do. One that is missing, does not go with its key or lacks a name does not.
    fn until_due(&self) -> Duration {
        let Ok(Ok(pair)) = self.files.pair() else {
            return Duration::ZERO;
        };
        let (Ok(shown), Ok(validity)) = (pair.shown(), pair.leaf_validity()) else {
            return Duration::ZERO;
        };
        let has = |name: &String| shown.first().is_some_and(|own| own.names.contains(name));
        if !self.names().iter().all(has) {
            return Duration::ZERO;
        }
        let due = due(validity, dice());
        let left = due.0.saturating_sub(clock::now().0);
        Duration::from_millis(left.try_into().unwrap_or(0))
    }

    /// Twice as long after each failure, but no longer than a tenth of what the certificate in place has left.
    fn pause(&self, failures: u32) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
        let left = match self.files.pair() {
            Ok(Ok(pair)) => pair.leaf_validity().ok(),
            _ => None,
        };
        let left = left.map(|validity| validity.until.0.saturating_sub(clock::now().0) / 10);
        let left = left.and_then(|left| left.try_into().ok()).map(Duration::from_millis);
        let pause = left
            .filter(|left| !left.is_zero())
            .map_or(pause, |left| pause.min(left));
        let pause = pause.max(Duration::from_secs(2));
        // Up to a tenth longer, by chance.
        pause + pause.mul_f64(f64::from(dice()) / f64::from(u32::MAX) / 10.0)
    }

    /// One attempt: an order, its challenges, the certificate, the files.
    async fn fetch(&self) -> anyhow::Result<()> {
        let account = self.account().await?;
        let identifiers: Vec<Identifier> = self.names().into_iter().map(Identifier::Dns).collect();
        let order = account.new_order(&NewOrder::new(&identifiers)).await;
        if let Err(instant_acme::Error::Api(problem)) = &order
            && problem
                .r#type
                .as_ref()
                .is_some_and(|kind| kind.ends_with("accountDoesNotExist"))
        {
            // The next attempt makes another.
            let _ = std::fs::remove_file(&self.account);
        }
        let mut order = order.context("the authority takes no order for these names")?;
        // Listens as long as it is there.
        let _door = self.answers.open(&self.settings).await?;
        let proven = self.prove(&mut order).await;
        let proven = match proven {
            Ok(()) => Ok(()),
            Err(error) => Err(refusals(&mut order).await.unwrap_or(error)),
        };
        self.answers.clear();
        proven?;
        self.take(&mut order).await
    }

    /// Shows that the names are ours.
    async fn prove(&self, order: &mut Order) -> anyhow::Result<()> {
        let kind = match self.settings.challenge {
            Challenge::Http01 => ChallengeType::Http01,
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let word = self.settings.challenge.word();
            let challenge = authorization.challenge(kind.clone());
            let mut challenge = challenge.with_context(|| format!("the authority offers no {word} for {name}"))?;
            let answer = challenge.key_authorization();
            match self.settings.challenge {
                Challenge::Http01 => self.answers.page(&challenge.token, answer.as_str()),
                Challenge::TlsAlpn01 => self.answers.handshake(&name.parse()?, answer.digest().as_ref())?,
            }
            challenge.set_ready().await?;
        }
        match order.poll_ready(&RetryPolicy::default().timeout(ATTEMPT / 2)).await? {
            OrderStatus::Ready | OrderStatus::Valid => Ok(()),
            status => bail!("the order is {status:?}"),
        }
    }

    /// Has the certificate made for our key, looks at it, and puts both in place.
    async fn take(&self, order: &mut Order) -> anyhow::Result<()> {
        let names = self.settings.names_for(&self.domain);
        let (first, others) = names.split_first().context("there is no name")?;
        let passphrase = self.files.passphrase()?;
        // The key stays: other servers notice when it changes.
        let old = std::fs::read(&self.files.key).ok();
        let old = old.and_then(|pem| PrivateKey::from_pem(&pem, passphrase.as_deref()).ok());
        let key = match old {
            Some(key) => key,
            None => PrivateKey::generate(KeyKind::BOTH)?,
        };
        order.finalize_csr(&request_der(&key, first, others)?).await?;
        let chain = order
            .poll_certificate(&RetryPolicy::default().timeout(ATTEMPT / 2))
            .await?;
        let key_pem = key.to_pem_with(passphrase.as_deref())?;
        let pair = Pair::from_pem(&key_pem, passphrase.as_deref(), chain.as_bytes())
            .context("what the authority sent is no certificate for our key")?;
        let shown = pair.shown()?;
        let has = |name: &Domain| {
            shown
                .first()
                .is_some_and(|own| own.names.iter().any(|other| other == name.as_str()))
        };
        ensure!(names.iter().all(has), "the authority's certificate lacks a name");
        for path in [&self.files.key, &self.files.certificate] {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            }
        }
        keys::replace(&self.files.key, &key_pem).with_context(|| self.files.key.display().to_string())?;
        keys::replace(&self.files.certificate, &pair.chain_pem()?)
            .with_context(|| self.files.certificate.display().to_string())?;
        Ok(())
    }

    /// The account that is kept, or a new one.
    async fn account(&self) -> anyhow::Result<Account> {
        let builder = || match &self.settings.trust_root {
            Some(root) => Account::builder_with_root(root).with_context(|| root.display().to_string()),
            None => Ok(Account::builder()?),
        };
        let directory = &self.settings.directory;
        let unreachable = || format!("{directory} cannot be used");
        let kept = std::fs::read(&self.account).ok();
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        if let Some(kept) = kept.filter(|kept| kept.directory == *directory) {
            return builder()?
                .from_credentials(kept.credentials)
                .await
                .with_context(unreachable);
        }
        let contact: Vec<&str> = self.settings.contact.as_deref().into_iter().collect();
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let made = builder()?.create(&wanted, directory.clone(), None).await;
        let (account, credentials) = made.with_context(unreachable)?;
        let kept = serde_json::to_vec(&Kept {
            directory: directory.clone(),
            credentials,
        })?;
        if let Some(folder) = self.account.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        keys::replace(&self.account, &kept).with_context(|| self.account.display().to_string())?;
        Ok(account)
    }
}

fn bail_late() -> anyhow::Result<()> {
    bail!("the authority has not finished after {} s", ATTEMPT.as_secs())
}

/// What the authority says about names that it does not believe to be ours.
async fn refusals(order: &mut Order) -> Option<anyhow::Error> {
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let name = authorization.identifier().to_string();
        for challenge in &authorization.challenges {
            if let Some(problem) = &challenge.error {
                said.push(format!("{name}: {problem}"));
            }
        }
    }
    (!said.is_empty()).then(|| {
        anyhow::anyhow!(
            "the authority could not see that the names are ours: {}",
            said.join("; ")
        )
    })
}

/// When a certificate is renewed.
fn due(validity: Validity, dice: u32) -> Timestamp {
    let life = validity.until.0.saturating_sub(validity.from.0).max(0);
    let chance = i128::from(life / CHANCE) * i128::from(dice) / i128::from(u32::MAX);
    let chance = i64::try_from(chance).unwrap_or(0);
    Timestamp(validity.until.0 - life / LEFT - chance)
}

fn dice() -> u32 {
    getrandom::u32().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left_or_a_little_earlier() {
        let day = 86_400_000;
        let validity = Validity {
            from: Timestamp(0),
            until: Timestamp(90 * day),
        };
        assert_eq!(due(validity, 0), Timestamp(60 * day));
        assert_eq!(due(validity, u32::MAX), Timestamp(57 * day));
    }
}
