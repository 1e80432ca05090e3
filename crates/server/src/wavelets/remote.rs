//! Does what the machine of a wavelet hosted elsewhere wants done.

use std::sync::{Arc, PoisonError};

use billow_model::{HashedVersion, Timestamp, Version};
use billow_signing::{ChainError, VerifyError};
use billow_store::{Outgoing, StoreError, WaveletWrite};
use billow_wavelet::remote::{HostState, UpdateRefusal, Verification};
use billow_wavelet::{RemoteInput, RemoteOutput, RemoteWavelet, Standing, StoredRecord, Written};
use billow_wire::{Encoded, Message as _, SignedDelta, SignerId};

use super::keeper::{Done, Keeper};
use super::{Shared, aside_if, stored};
use crate::clock;
use crate::web::messages::{DeliveryState, PeerDelivery};

/// Bytes of older records that are read at once.
const OLDER_BYTES: usize = 4 * 1024 * 1024;

/// Asks the machine until it wants nothing more. What is to be stored is stored in one write, or in two where a history
/// takes the place of another; how many writes there are. `much`: there are many deltas to be verified and applied, and
/// other tasks should not wait for that.
pub(super) async fn drive(machine: &mut RemoteWavelet, keeper: &mut Keeper, much: bool) -> usize {
    let writes = aside_if(much, || work_through(machine, keeper));
    keeper.tell_inbox();
    let count = writes.len();
    for (write, written) in writes {
        keeper.store(write, written).await;
    }
    count
}

fn work_through(machine: &mut RemoteWavelet, keeper: &mut Keeper) -> Vec<(WaveletWrite, Written)> {
    let mut write = WaveletWrite::new(keeper.name.clone());
    write.quota = Some(keeper.shared.unopened);
    let mut written = Written::default();
    let mut writes = Vec::new();
    let mut standing = false;
    while let Some(output) = machine.poll() {
        match output {
            RemoteOutput::Verify { check, delta, at } => {
                let outcome = verify(&keeper.shared, delta, at);
                machine.handle(clock::steady(), RemoteInput::Verified { check, outcome });
            }
            RemoteOutput::Persist { record, seal, outgoing } => {
                stored::add_record(&mut write, &record, Some(&seal));
                keeper.shared.requests.note(&mut write, &record);
                write.settled.extend(outgoing.as_ref().map(stored::to_stored));
                written.records_upto = Some(record.resulting());
            }
            RemoteOutput::PersistOutgoing(outgoing) => {
                write.sent.push(Outgoing {
                    submission: stored::to_stored(&outgoing.submission),
                    author: outgoing.signed.delta.author.clone(),
                    signed: outgoing.signed.bytes().clone(),
                });
                written.outgoing = true;
            }
            RemoteOutput::DropOutgoing(submission) => {
                write.settled.push(stored::to_stored(&submission));
                written.outgoing = true;
            }
            RemoteOutput::Show(record) => keeper.show(machine.wavelet(), &record),
            RemoteOutput::Answer { ticket, outcome } => keeper.answer(ticket, outcome),
            RemoteOutput::Sign(delta) => keeper.sign(delta),
            RemoteOutput::Receipt { tag } => answer_update(keeper, tag, Ok(())),
            RemoteOutput::Refuse { tag, reason } => answer_update(keeper, tag, Err(reason)),
            RemoteOutput::FetchSigner { id, at, time } => fetch_signer(keeper, id, at, time),
            RemoteOutput::FetchHistory {
                request,
                from,
                to,
                limit,
            } => fetch_history(keeper, request, from, to, limit),
            RemoteOutput::LoadOlder { from, to } => load_older(keeper, from, to),
            RemoteOutput::Submit { attempt, delta } => submit(keeper, attempt, delta),
            // What there is to say about it is asked for after each round.
            RemoteOutput::HostState(_) => {}
            RemoteOutput::PersistStanding(now) => {
                write.standing = Some(stored::to_stored_standing(&now));
                standing = true;
            }
            RemoteOutput::Replace { records } => {
                // What was handed out before belongs to the old history.
                let now = write.standing.take();
                if written.records_upto.is_some() || written.outgoing {
                    let before = std::mem::replace(&mut write, WaveletWrite::new(keeper.name.clone()));
                    write.quota = before.quota;
                    writes.push((before, written));
                }
                write.standing = now;
                write.replaces = true;
                for (record, seal) in &records {
                    stored::add_record(&mut write, record, Some(seal));
                    keeper.shared.requests.note(&mut write, record);
                }
                written = Written {
                    replaced: true,
                    ..Written::default()
                };
            }
            RemoteOutput::Reset => {
                tracing::warn!("{} has been fetched again, and is mended", keeper.name);
                keeper.reset(machine.wavelet());
            }
            RemoteOutput::Diverged(evidence) => {
                keeper.shared.metrics.count("diverged", evidence.kind());
                let (name, ours) = (&keeper.name, &evidence.ours);
                tracing::error!(wavelet = %name, %ours, kind = evidence.kind(), "is fetched again: {}", evidence.contradiction);
            }
            RemoteOutput::Quarantined(evidence) => {
                keeper.shared.metrics.count("quarantined", "contradiction");
                keeper.shared.metrics.add("wavelets", "in quarantine", 1);
                let (name, ours) = (&keeper.name, &evidence.ours);
                tracing::error!(wavelet = %name, %ours, kind = evidence.kind(), "in quarantine: {}", evidence.contradiction);
            }
        }
    }
    if written.records_upto.is_some() || written.outgoing || written.replaced || standing {
        writes.push((write, written));
    }
    writes
}

/// What clients are told about the host of the wavelet.
pub(super) fn delivery(machine: &RemoteWavelet, before: &[PeerDelivery], refused: Option<String>) -> Vec<PeerDelivery> {
    let pending = u32::try_from(machine.waiting()).unwrap_or(u32::MAX);
    let (state, since, next_try, reason) = match refused {
        Some(words) => (DeliveryState::Blocked, None, None, Some(words)),
        None => state_of(machine, pending),
    };
    let same = before
        .first()
        .filter(|before| before.state == state)
        .map(|before| before.since);
    vec![PeerDelivery {
        domain: machine.name().host().to_string(),
        state,
        version: machine.wavelet().version().number(),
        pending,
        since: since.map(|since| since.0).or(same).unwrap_or_else(|| clock::now().0),
        next_try: next_try.map(|next_try| next_try.0),
        reason,
        host: true,
        legacy: false,
    }]
}

/// In one word, since when, until when, and in a sentence.
fn state_of(
    machine: &RemoteWavelet,
    pending: u32,
) -> (DeliveryState, Option<Timestamp>, Option<Timestamp>, Option<String>) {
    let host = machine.name().host();
    match (machine.standing(), machine.host_state()) {
        (Standing::Quarantined(evidence), _) => {
            let words = format!(
                "What {host} says contradicts what it said before: {}.",
                evidence.contradiction
            );
            (DeliveryState::Quarantined, Some(evidence.found), None, Some(words))
        }
        (
            _,
            HostState::Waiting {
                since,
                next_try,
                reason,
            },
        ) => (
            DeliveryState::Waiting,
            Some(*since),
            Some(*next_try),
            Some(reason.clone()),
        ),
        (Standing::Refetching(evidence), _) => (
            DeliveryState::Refetching,
            Some(evidence.found),
            None,
            Some(format!("{}.", evidence.contradiction)),
        ),
        (
            _,
            HostState::Stale {
                since,
                next_try,
                ahead,
                reason,
            },
        ) => {
            let words = format!("{host} says that there is a version {ahead}, and does not give it: {reason}.");
            (DeliveryState::Stale, Some(*since), Some(*next_try), Some(words))
        }
        (_, HostState::Reachable) if pending > 0 => (DeliveryState::Sending, None, None, None),
        (_, HostState::Reachable) => (DeliveryState::Delivered, None, None, None),
    }
}

fn answer_update(keeper: &mut Keeper, tag: u64, outcome: Result<(), UpdateRefusal>) {
    if let Err(refusal) = &outcome {
        let kind = match refusal {
            UpdateRefusal::BadSignature(_) => "signature",
            UpdateRefusal::UnknownSigner(_) => "unknown signer",
            UpdateRefusal::NoLocalParticipant => "no local participant",
            UpdateRefusal::UserData => "user data",
            UpdateRefusal::TooManyPending => "out of order",
            UpdateRefusal::Contradiction(_) => "contradiction",
            UpdateRefusal::Quarantined => "quarantined",
            UpdateRefusal::TooMuch(_) => "policy",
            UpdateRefusal::Unavailable => "unavailable",
        };
        keeper.shared.metrics.count("refused", kind);
    }
    if let Some(reply) = keeper.update_answers.remove(&tag) {
        // The federation may be stopping.
        let _ = reply.send(outcome);
    }
}

/// Two hundredths of a millisecond: less than a change of thread.
pub(crate) fn verify(shared: &Shared, delta: Encoded<SignedDelta>, at: Timestamp) -> Verification {
    match shared
        .verifier
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .verify(delta, at)
    {
        Ok(verified) => Verification::Good(verified),
        Err(VerifyError::UnknownSigner(id)) => Verification::UnknownSigner(id),
        Err(error) => Verification::Bad(error.to_string()),
    }
}

fn fetch_signer(keeper: &Keeper, id: SignerId, at: HashedVersion, time: Timestamp) {
    let (shared, done, name) = (Arc::clone(&keeper.shared), keeper.done.clone(), keeper.name.clone());
    tokio::spawn(async move {
        let outcome = if shared.know_signer(&id, time).await {
            Ok(())
        } else {
            match shared.federation.signer(&name, id.clone(), at).await {
                Ok(info) if info.id() != id => Err("the host gave another signer's chain".to_owned()),
                Ok(info) => shared.add_signer(info, time).await,
                Err(reason) => Err(reason),
            }
        };
        let _ = done.send(Done::Remote(RemoteInput::SignerFetched { id, outcome }));
    });
}

fn fetch_history(keeper: &Keeper, request: u64, from: HashedVersion, to: HashedVersion, limit: u64) {
    let (shared, done, name) = (Arc::clone(&keeper.shared), keeper.done.clone(), keeper.name.clone());
    tokio::spawn(async move {
        let outcome = shared.federation.history(&name, from, to, limit).await;
        let _ = done.send(Done::Remote(RemoteInput::History { request, outcome }));
    });
}

fn submit(keeper: &Keeper, attempt: u64, delta: Encoded<SignedDelta>) {
    let (shared, done, name) = (Arc::clone(&keeper.shared), keeper.done.clone(), keeper.name.clone());
    tokio::spawn(async move {
        let outcome = shared.federation.submit(&name, delta).await;
        let _ = done.send(Done::Remote(RemoteInput::SubmitAnswered { attempt, outcome }));
    });
}

fn load_older(keeper: &Keeper, from: Version, to: Version) {
    let (shared, done, name) = (Arc::clone(&keeper.shared), keeper.done.clone(), keeper.name.clone());
    tokio::spawn(async move {
        let records = shared
            .older(&name, from, to, OLDER_BYTES)
            .await
            .unwrap_or_else(|error| {
                tracing::error!("older deltas of {name} cannot be read: {error}");
                Vec::new()
            });
        let _ = done.send(Done::Remote(RemoteInput::Older { records }));
    });
}

impl Shared {
    /// Counts the wavelets in quarantine; gives those that are to be fetched again.
    pub(crate) async fn take_up_standings(&self) -> Result<Vec<billow_model::WaveletName>, StoreError> {
        let mut unfinished = Vec::new();
        for (name, stored) in self.store.standings().await? {
            match stored::standing(&stored) {
                Ok(Standing::Quarantined(_)) => self.metrics.add("wavelets", "in quarantine", 1),
                Ok(Standing::Refetching(_) | Standing::Dropped(_)) => unfinished.push(name),
                Ok(Standing::Following | Standing::Refetched(_)) => {}
                Err(error) => tracing::error!("{name}: {error}"),
            }
        }
        Ok(unfinished)
    }

    /// The stored records from the one at or before `from` up to `to`, or up to about so many bytes.
    pub(super) async fn older(
        &self,
        name: &billow_model::WaveletName,
        from: Version,
        to: Version,
        bytes_max: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let stored = self.store.deltas(name, from, to, bytes_max).await?;
        stored.into_iter().map(stored::record).collect()
    }

    /// Whether the chain of a signer is known to the verifier as of a time; if the store has it, it is from now on.
    pub(crate) async fn know_signer(&self, id: &SignerId, time: Timestamp) -> bool {
        let Ok(Some(bytes)) = self.store.signer(id.as_bytes()).await else {
            return false;
        };
        let Ok(info) = billow_wire::SignerInfo::decode(&bytes) else {
            return false;
        };
        info.id() == *id
            && self
                .verifier
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .add(info, time)
                .is_ok()
    }

    /// Checks a chain as of a time, keeps it and gives it to the verifier. In this order: deltas that it vouches for are
    /// stored for ever, and others will ask for the chain.
    pub(crate) async fn add_signer(&self, info: billow_wire::SignerInfo, time: Timestamp) -> Result<(), String> {
        let checked = self
            .verifier
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .check(&info, time);
        self.keep_signer(checked, &info).await?;
        let mut verifier = self.verifier.write().unwrap_or_else(PoisonError::into_inner);
        verifier.add(info, time).map(drop).map_err(|error| error.to_string())
    }

    /// Likewise for a chain that its own domain posted, of which there may be only so many.
    pub(crate) async fn post_signer(&self, info: billow_wire::SignerInfo, now: Timestamp) -> Result<(), String> {
        let checked = self
            .verifier
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .check_post(&info, now);
        self.keep_signer(checked, &info).await?;
        let mut verifier = self.verifier.write().unwrap_or_else(PoisonError::into_inner);
        verifier.post(info, now).map(drop).map_err(|error| error.to_string())
    }

    async fn keep_signer(
        &self,
        checked: Result<SignerId, ChainError>,
        info: &billow_wire::SignerInfo,
    ) -> Result<(), String> {
        let id = checked.map_err(|error| error.to_string())?;
        let id = bytes::Bytes::copy_from_slice(id.as_bytes());
        let kept = self.store.keep_signer(id, &info.domain, info.encode()).await;
        kept.map_err(|error| error.to_string())
    }
}
