//! Answers what peers ask, in the words and by the rules of `billow-server`'s federation.

#[path = "../../../server/src/federation/wording.rs"]
mod wording;

use billow_federation::inbound::{Ask, Updates};
use billow_federation::{Code, FederationError, legacy};
use billow_model::{HashedVersion, Timestamp, Version, WaveletName};
use billow_wavelet::Refusal;
use billow_wavelet::remote::{UpdateRefusal, Verification};
use billow_wire::exchange::{HistoryRequest, HistoryResponse, SignerRequest, SubmitRequest, SubmitResponse};
use billow_wire::{AppliedDelta, Encoded, SignerId, SignerInfo};

use super::{Node, Now, Writer};
use crate::disk::Write;
use wording::{submit_error, update_error};

/// Deltas in such an answer.
const DELTAS_MAX: usize = 1_000;
/// Requests of one peer that are worked on or wait for it, and likewise its updates.
const ADMITTED: usize = 256;

/// The updates of one message, until all are durable or refused.
pub(super) struct Batch {
    updates: Updates,
    peer: billow_xmpp::Domain,
    outcomes: Vec<Option<Result<(), UpdateRefusal>>>,
    too_many: Option<FederationError>,
}

impl Node {
    pub(super) fn updates(&mut self, now: Now, peer: &billow_xmpp::Domain, mut updates: Updates) {
        let batch = self.fresh();
        let all = std::mem::take(&mut updates.updates);
        let under_way = self.batches.values().filter(|batch| batch.peer == *peer);
        let under_way: usize = under_way
            .map(|batch| batch.outcomes.iter().filter(|outcome| outcome.is_none()).count())
            .sum();
        let room = ADMITTED.saturating_sub(under_way);
        let entry = Batch {
            updates,
            peer: peer.clone(),
            outcomes: vec![None; all.len().min(room)],
            too_many: (all.len() > room).then(too_much),
        };
        self.batches.insert(batch, entry);
        for (index, update) in all.into_iter().take(room).enumerate() {
            if let Err(refusal) = self.update(now, update, batch, index) {
                self.settle_update(batch, index, Err(refusal));
            }
        }
        self.answer_batch(batch);
    }

    pub(super) fn answer_update(&mut self, tag: u64, outcome: Result<(), UpdateRefusal>) {
        if let Some((_, _, batch, index)) = self.tags.remove(&tag) {
            self.settle_update(batch, index, outcome);
        }
    }

    pub(super) fn settle_update(&mut self, batch: u64, index: usize, outcome: Result<(), UpdateRefusal>) {
        if let Some(entry) = self.batches.get_mut(&batch) {
            entry.outcomes[index] = Some(outcome);
            self.answer_batch(batch);
        }
    }

    /// The receipt when all are durable, or why some are not.
    fn answer_batch(&mut self, batch: u64) {
        if self
            .batches
            .get(&batch)
            .is_none_or(|batch| batch.outcomes.iter().any(Option::is_none))
        {
            return;
        }
        let Some(Batch {
            updates,
            outcomes,
            too_many,
            ..
        }) = self.batches.remove(&batch)
        else {
            return;
        };
        let mut refusals = outcomes.into_iter().flatten().filter_map(Result::err);
        let failure = too_many.or_else(|| refusals.next().map(|refusal| update_error(&refusal)));
        let answer = match failure {
            None => updates.receipt(),
            Some(error) => updates.refuse(&error),
        };
        if let Some(answer) = answer {
            self.send(answer);
        }
    }

    /// Applies a delta of another server's user.
    pub(super) fn remote_submit(&mut self, now: Now, ask: Ask, request: SubmitRequest) {
        let peer = billow_xmpp::Domain::of(ask.from()).ok();
        let admitted = self
            .asks
            .values()
            .filter(|(_, _, one)| billow_xmpp::Domain::of(one.from()).ok() == peer);
        if admitted.count() >= ADMITTED {
            return self.send(ask.refuse(&too_much()));
        }
        let SubmitRequest { name, delta } = request;
        let author = delta.delta.author.clone();
        let refusal = if !self.hosts(&name) {
            Some(FederationError::bad_request("Non-local wavelet update"))
        } else if delta.delta.target.version == Version::ZERO {
            Some(FederationError::bad_request("Remote users may not create wavelets."))
        } else if !self.domains_of(ask.from()).contains(&author.domain()) {
            let domain = author.domain();
            let error = format!("Remote verification failed: this server does not speak for {domain}");
            Some(FederationError::bad_request(error))
        } else {
            None
        };
        if let Some(error) = refusal {
            return self.send(ask.refuse(&error));
        }
        let mut verification = self.verify(delta.clone(), now.wall);
        if let Verification::UnknownSigner(id) = &verification
            && self.know_signer(id, now.wall)
        {
            verification = self.verify(delta, now.wall);
        }
        let error = match verification {
            Verification::Good(verified) => {
                if self.submit_signed(now, &name, &ask, verified) {
                    return;
                }
                // A wavelet that is not there is told from one that the author is not on by nobody.
                FederationError::bad_request(format!("{author} is not a participant of {}", name.to_uri()))
            }
            Verification::UnknownSigner(_) => FederationError::new(Code::InternalServerError, "Unknown signer"),
            Verification::Bad(reason) => FederationError::bad_request(format!("Remote verification failed: {reason}")),
        };
        self.send(ask.refuse(&error));
    }

    pub(super) fn answer_remote(&mut self, ticket: u64, outcome: Result<SubmitResponse, Refusal>) {
        let Some((name, _, ask)) = self.asks.remove(&ticket) else {
            return;
        };
        match outcome {
            Ok(response) => self.send(ask.submitted(&response)),
            Err(refusal) => self.refuse_submission(&ask, &name, &refusal),
        }
    }

    pub(super) fn refuse_submission(&mut self, ask: &Ask, name: &WaveletName, refusal: &Refusal) {
        self.send(ask.refuse(&submit_error(refusal, name)));
    }

    /// Gives history to who may have it.
    pub(super) fn history(&mut self, now: Now, ask: &Ask, request: &HistoryRequest) {
        let answer = match self.read_history(now, ask, request) {
            Ok(response) => ask.history(&response),
            Err(error) => ask.refuse(&error),
        };
        self.send(answer);
    }

    fn read_history(
        &mut self,
        now: Now,
        ask: &Ask,
        request: &HistoryRequest,
    ) -> Result<HistoryResponse, FederationError> {
        let HistoryRequest { name, from, to, limit } = request;
        let sealed = self.readable(now, ask, name, from.version, to.version)?;
        let boundaries = self.is_boundary(name, from) && self.is_boundary(name, to);
        if from.version >= to.version || to.version > sealed || !boundaries {
            return Err(FederationError::bad_request(
                "Server error while retrieving wavelet history.",
            ));
        }
        let most = self.config.history_bytes;
        let limit = limit
            .map_or(most, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
            .min(most);
        let mut stored = self
            .disk
            .sealed_deltas(name, from.version, to.version, limit, DELTAS_MAX);
        if self
            .domains_of(ask.from())
            .iter()
            .any(|domain| self.legacy.contains(domain))
        {
            let tellable = legacy::tellable(stored.iter().map(|(_, applied)| applied));
            if tellable == 0 {
                return Err(FederationError::new(Code::NotAuthorized, legacy::REASON));
            }
            stored.truncate(tellable);
        }
        let end = stored.last().map(|(resulting, _)| resulting.version);
        let deltas = stored
            .into_iter()
            .map(|(_, applied)| Encoded::decode(applied).expect("what was written reads"));
        Ok(HistoryResponse {
            deltas: deltas.collect(),
            committed: Some(sealed),
            truncated: end.filter(|end| *end < to.version),
        })
    }

    /// Whether the asker may read this part of a wavelet of ours; how far it is sealed, as far as they may know.
    fn readable(
        &mut self,
        now: Now,
        ask: &Ask,
        name: &WaveletName,
        from: Version,
        to: Version,
    ) -> Result<Version, FederationError> {
        if !self.hosts(name) {
            return Err(FederationError::bad_request("Wavelet not hosted here."));
        }
        let domains = self.domains_of(ask.from());
        // Not there and not theirs are one and the same to a stranger.
        let absent = || FederationError::new(Code::ItemNotFound, "Wavelet does not exist");
        let live = self.asked_for(now, name).ok_or_else(absent)?;
        let sealed = live.machine.sealed().version;
        live.machine
            .readers()
            .reach(&domains, (from, to), sealed)
            .ok_or_else(absent)
    }

    fn is_boundary(&self, name: &WaveletName, at: &HashedVersion) -> bool {
        if at.version == Version::ZERO {
            return *at == HashedVersion::zero(name);
        }
        self.disk.hash_at(name, at.version) == Some(&at.hash)
    }

    /// Gives a signer's chain to who may read the wavelet that has its signatures.
    pub(super) fn get_signer(&mut self, now: Now, ask: &Ask, request: &SignerRequest) {
        let SignerRequest { name, signer, at } = request;
        let readable = self.readable(now, ask, name, at.version, at.version);
        let ending = self.disk.seals(name).find(|(_, resulting)| *resulting == at);
        let signed_it = ending.is_some_and(|(applied, _)| {
            Encoded::<AppliedDelta>::decode(applied.clone()).is_ok_and(|applied| applied.signed.is_signed_by(signer))
        });
        let answer = match readable {
            Ok(_) if !signed_it => ask.refuse(&FederationError::bad_request("Not authorised to get signer info")),
            Ok(_) if self.config.signer.id() == signer => ask.signer(self.config.signer.info()),
            Ok(_) => match self.disk.signer(signer) {
                Some(info) => ask.signer(&info),
                None => ask.refuse(&FederationError::bad_request("Unknown signer info")),
            },
            Err(error) => ask.refuse(&error),
        };
        self.send(answer);
    }

    /// Keeps a chain that a peer announces: its own, for others' there is no reason.
    pub(super) fn posted_signer(&mut self, now: Now, ask: Ask, info: SignerInfo) {
        let domain = info.domain.clone();
        let kept = if self.domains_of(ask.from()).contains(&domain) {
            self.verifier
                .check_post(&info, now.wall)
                .map_err(|error| error.to_string())
        } else {
            Err("it is posted by another domain".to_owned())
        };
        match kept {
            Ok(_) => self.write(now, Write::Signer(info.clone()), Writer::Posted(ask, info, now.wall)),
            Err(reason) => {
                let error = format!("verification failure from domain {domain}: {reason}");
                self.send(ask.refuse(&FederationError::bad_request(error)));
            }
        }
    }

    pub(super) fn signer_kept(&mut self, ask: &Ask, info: SignerInfo, at: Timestamp, taken: bool) {
        let domain = info.domain.clone();
        let kept = taken && self.verifier.post(info, at).is_ok();
        let error = format!("verification failure from domain {domain}: it cannot be stored");
        self.send(if kept {
            ask.signer_stored()
        } else {
            ask.refuse(&FederationError::bad_request(error))
        });
    }

    /// Whether the chain of a signer is known to the verifier as of a time; if the disk has it, it is from now on.
    pub(super) fn know_signer(&mut self, id: &SignerId, time: Timestamp) -> bool {
        self.disk
            .signer(id)
            .is_some_and(|info| info.id() == *id && self.verifier.add(info, time).is_ok())
    }
}

fn too_much() -> FederationError {
    FederationError::new(Code::ResourceConstraint, "too much is under way for this server")
}
