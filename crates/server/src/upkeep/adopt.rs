//! A history of ours, taken back from a server that has kept what we have forgotten.
//!
//! After a restore, or on a copy of old data, other servers may have deltas of our wavelets that we have not. They are ours all
//! the same: they continue our hashes, and their authors' servers, ours among them, have signed them. So the machine of a
//! remote wavelet can read them: it takes nothing on trust. What it makes of them takes the place of our history.

use std::collections::VecDeque;

use anyhow::{Context as _, ensure};
use billow_model::{HashedVersion, Version, WaveletName};
use billow_signing::{Verifier, VerifyError};
use billow_store::{Store, WaveletWrite};
use billow_wavelet::remote::{Contradiction, HistoryFailure, Verification};
use billow_wavelet::{Evidence, RemoteInput, RemoteOutput, RemoteWavelet, Standing};
use billow_wire::{AppliedDelta, Encoded, Message as _, SignerInfo};
use bytes::Bytes;

use crate::clock;
use crate::config::Config;
use crate::federation::Trust;
use crate::wavelets::stored;

/// Bytes of history that the machine is given at once.
const PART: usize = 1024 * 1024;

/// What was adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Where our sealed history ended.
    pub before: Version,
    /// Where it ends now.
    pub after: Version,
}

/// Puts a history from its first delta on in the place of ours, which it must continue, and lets the wavelet be changed again.
/// Nobody else may have the store.
pub async fn adopt(config: &Config, name: &WaveletName, applied: Vec<Bytes>) -> anyhow::Result<Adopted> {
    ensure!(
        *name.host() == config.domain,
        "{name} is not hosted by {}; its host gives it again by itself",
        config.domain
    );
    let store = Store::open(&config.data_dir)?;
    let ours = store
        .load(name)
        .await?
        .with_context(|| format!("there is no {name} here"))?;
    let ours = ours.sealed.unwrap_or_else(|| HashedVersion::zero(name));
    let (deltas, end) = chain(name, applied, &ours)?;
    let roots = Trust::read(config)?.signers;
    let write = verify(&store, Verifier::new(roots), name, deltas, &end).await?;
    store.append(write).await?;
    store.remove_fence(name).await?;
    Ok(Adopted {
        before: ours.version,
        after: end.version,
    })
}

/// Decides that our own history counts, whatever other servers have: the wavelet may be changed again. Whether it might not.
pub async fn keep_own(config: &Config, name: &WaveletName) -> anyhow::Result<bool> {
    Ok(Store::open(&config.data_dir)?.remove_fence(name).await?)
}

/// The deltas, if they are one chain that goes through our end; and its end.
fn chain(
    name: &WaveletName,
    applied: Vec<Bytes>,
    ours: &HashedVersion,
) -> anyhow::Result<(VecDeque<Encoded<AppliedDelta>>, HashedVersion)> {
    let (mut deltas, mut end) = (VecDeque::new(), HashedVersion::zero(name));
    let mut meets = end == *ours;
    for bytes in applied {
        let delta: Encoded<AppliedDelta> = Encoded::decode(bytes)?;
        ensure!(
            *delta.applied_at() == end,
            "expected a delta applied at {end}, found one at {}",
            delta.applied_at()
        );
        end = end.next(delta.bytes(), u64::from(delta.operations_applied));
        meets |= end == *ours;
        deltas.push_back(delta);
    }
    ensure!(
        meets,
        "this history does not go through {ours}, where ours ends: it is another one, and cannot be adopted"
    );
    Ok((deltas, end))
}

/// Has the machine of a remote wavelet read the history; what it would store.
async fn verify(
    store: &Store,
    mut verifier: Verifier,
    name: &WaveletName,
    mut deltas: VecDeque<Encoded<AppliedDelta>>,
    end: &HashedVersion,
) -> anyhow::Result<WaveletWrite> {
    let mut machine = RemoteWavelet::new(name.clone(), [name.host().clone()].into(), 1);
    let evidence = Evidence {
        contradiction: Contradiction::Noted("it is adopted".to_owned()),
        found: clock::now(),
        ours: end.clone(),
        theirs: None,
        digests: None,
        kept: Bytes::new(),
        applied: Bytes::new(),
    };
    machine.restore(clock::now(), Standing::Dropped(Box::new(evidence)));
    let mut write = WaveletWrite::new(name.clone());
    write.replaces = true;
    while let Some(output) = machine.poll() {
        match output {
            RemoteOutput::FetchHistory { request, .. } => {
                let outcome = match part(&mut deltas) {
                    part if part.is_empty() => Err(HistoryFailure::Refused("there is no more of it".to_owned())),
                    part => Ok(part),
                };
                machine.handle(clock::now(), RemoteInput::History { request, outcome });
            }
            RemoteOutput::Verify { check, delta, at } => {
                let outcome = match verifier.verify(delta, at) {
                    Ok(verified) => Verification::Good(verified),
                    Err(VerifyError::UnknownSigner(id)) => Verification::UnknownSigner(id),
                    Err(error) => Verification::Bad(error.to_string()),
                };
                machine.handle(clock::now(), RemoteInput::Verified { check, outcome });
            }
            RemoteOutput::FetchSigner { id, time, .. } => {
                let stored = store.signer(id.as_bytes()).await?;
                let outcome = match stored.map(|bytes| SignerInfo::decode(&bytes)) {
                    Some(Ok(info)) => verifier.add(info, time).map(|_| ()).map_err(|error| error.to_string()),
                    _ => Err("its chain is not known here".to_owned()),
                };
                machine.handle(clock::now(), RemoteInput::SignerFetched { id, outcome });
            }
            RemoteOutput::Persist { record, seal, .. } => {
                stored::add_record(&mut write, &record, Some(&seal));
                let upto = record.resulting();
                machine.handle(clock::now(), RemoteInput::Persisted { upto });
            }
            RemoteOutput::Diverged(evidence) | RemoteOutput::Quarantined(evidence) => {
                anyhow::bail!("it does not verify: {}", evidence.contradiction)
            }
            _ => {}
        }
    }
    let reached = machine.wavelet().version();
    ensure!(
        reached == end.version,
        "of the history up to {}, only the part up to {reached} verifies",
        end.version
    );
    let others = machine
        .readers()
        .domains()
        .filter(|(domain, until)| *domain != name.host() && until.is_none());
    // Who is told of it already goes on from where it is.
    write.reached = others.map(|(domain, _)| (domain.clone(), Version::ZERO)).collect();
    Ok(write)
}

fn part(deltas: &mut VecDeque<Encoded<AppliedDelta>>) -> Vec<Encoded<AppliedDelta>> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    while bytes < PART
        && let Some(delta) = deltas.pop_front()
    {
        bytes += delta.bytes().len();
        part.push(delta);
    }
    part
}
