//! Answers what peers ask. Each request is answered once, by a task of its own; updates reach their wavelet in the order
//! in which they came.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::{Duration, Instant};

use billow_federation::inbound::{Ask, Updates};
use billow_federation::stanza::presence::Presence;
use billow_federation::{Code, FederationError, legacy};
use billow_model::{Domain, HashedVersion, Version, WaveletName};
use billow_net::{BounceReason, NetHandle};
use billow_store::StoreError;
use billow_wavelet::Readers;
use billow_wavelet::remote::{UpdateRefusal, Verification};
use billow_wire::exchange::{HistoryRequest, HistoryResponse, SignerRequest, SubmitRequest, SubmitResponse};
use billow_wire::{AppliedDelta, Encoded, Message as _, SignerInfo};
use billow_xmpp::{Element, Iq, IqKind, Jid, Stanza};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::driver::Done;
use super::reach::Reach;
use super::refusals::Refusals;
use super::report;
use super::turns::{Turn, Turns};
use super::wording::{submit_error, update_error};
use crate::clock;
use crate::wavelets::{Wavelets, verify};

/// Bytes of deltas in an answer to a request for history, whatever was asked for. In base64 and with their elements so many
/// bytes and deltas must fit into one stanza of ours, which has 256 KiB at most.
const HISTORY_BYTES_MAX: usize = 130_000;
/// Deltas in such an answer.
const DELTAS_MAX: usize = 500;

/// Requests of one peer that are worked on at once.
const RUNNING: usize = 16;
/// Requests of one peer that are worked on or wait for it.
const ADMITTED: usize = 256;
/// Updates of one peer that are not durable yet; a host of ours has no more than 64 messages under way.
const UPDATES: usize = 256;
/// Updates of one peer under way to wavelets that are not in memory: each costs a task and a look at the disk.
const NOT_LIVE: usize = 64;
/// How long a wavelet that an update was refused for may stay in memory for nothing.
const REFUSED_STAYS: Duration = Duration::from_secs(1);
/// Requests of one peer for the history of one wavelet that are worked on or wait for it; one is worked on.
const HISTORIES: usize = 4;
/// No history is read for a peer that has so many bytes to take in already.
const UNREAD_MAX: usize = 256 * 1024;
/// How long a peer may leave them before its request is refused.
const UNREAD_WAIT: Duration = Duration::from_secs(20);

/// Where the store keeps which domains run the reference.
const LEGACY: &str = "legacy domains";

/// What answering takes.
#[derive(Clone)]
pub(super) struct Serve {
    wavelets: Wavelets,
    net: NetHandle,
    local: billow_xmpp::Domain,
    requests: Turns<billow_xmpp::Domain>,
    updates: Turns<billow_xmpp::Domain>,
    not_live: Turns<billow_xmpp::Domain>,
    histories: Turns<(billow_xmpp::Domain, WaveletName)>,
    /// Pages of history are made for a peer one after the other.
    pages: Turns<billow_xmpp::Domain>,
    refusals: Refusals,
    reach: Reach,
}

/// What an update under way takes of its peer's share.
struct Share {
    _update: Turn<billow_xmpp::Domain>,
    not_live: Option<Turn<billow_xmpp::Domain>>,
}

impl Serve {
    pub(super) fn new(wavelets: Wavelets, net: NetHandle, local: billow_xmpp::Domain) -> Self {
        Self {
            wavelets,
            net,
            local,
            requests: Turns::new(RUNNING, ADMITTED),
            updates: Turns::new(UPDATES, UPDATES),
            not_live: Turns::new(NOT_LIVE, NOT_LIVE),
            histories: Turns::new(1, HISTORIES),
            pages: Turns::new(1, ADMITTED),
            refusals: Refusals::default(),
            reach: Reach::new(),
        }
    }

    /// One line in the log, unless there was one like it a moment ago.
    pub(super) fn log_refused(&self, from: &Jid, what: &str, error: &FederationError) {
        let reason = format!("{what}: {:?}", error.code);
        self.log(from, &reason, &format_args!("refused {what}: {error}"));
    }

    fn log(&self, from: &Jid, reason: &str, line: &dyn Display) {
        if let Some(unlogged) = self.refusals.note(from.domain().as_str(), reason, Instant::now()) {
            tracing::info!(%from, unlogged, "{line}");
        }
    }

    /// Tries to reach the asker, who may ask seldom.
    pub(super) fn reach(&self, ask: Ask) {
        let peer = billow_xmpp::Domain::of(ask.from()).ok();
        let Some(peer) = peer.filter(|peer| self.reach.admits(peer, clock::tick())) else {
            return self.send(ask.refuse(&self.too_much()));
        };
        self.answer(ask, |serve, ask| async move {
            match serve.reach.try_all(&serve.net, &serve.local, &peer).await {
                Some(tried) => ask.reached(&tried),
                None => ask.refuse(&FederationError::new(
                    Code::ResourceConstraint,
                    "this server reaches others over an XMPP server, and cannot try itself",
                )),
            }
        });
    }

    /// Answers a request when it is the peer's turn, by a task of its own; refuses it if the peer asks too much at once.
    fn answer<F>(&self, ask: Ask, work: impl FnOnce(Self, Ask) -> F + Send + 'static)
    where
        F: Future<Output = Element> + Send,
    {
        let turn = billow_xmpp::Domain::of(ask.from())
            .ok()
            .and_then(|peer| self.requests.take(&peer));
        let Some(turn) = turn else {
            return self.send(ask.refuse(&self.too_much()));
        };
        let serve = self.clone();
        tokio::spawn(async move {
            let _running = turn.begin().await;
            let answer = work(serve.clone(), ask).await;
            serve.send(answer);
        });
    }

    /// The refusal of what is beyond a peer's share.
    fn too_much(&self) -> FederationError {
        self.wavelets.shared().metrics.count("refused", "too much at once");
        FederationError::new(Code::ResourceConstraint, "too much is under way for this server")
    }

    /// What an update may take of its peer's share, if there is any left.
    fn share(&self, peer: &billow_xmpp::Domain, name: &WaveletName) -> Option<Share> {
        let not_live = if self.wavelets.is_live(name) {
            None
        } else {
            Some(self.not_live.take(peer)?)
        };
        Some(Share {
            _update: self.updates.take(peer)?,
            not_live,
        })
    }

    /// Gives the updates of a message to their wavelets, and the receipt when all are durable. Never waits.
    pub(super) fn updates(&self, mut updates: Updates) {
        if let Some(refused) = &updates.refused {
            self.count_refused(refused);
            self.log_refused(updates.from(), "an update", refused);
        }
        let peer = billow_xmpp::Domain::of(updates.from()).ok();
        let mut outcomes = Vec::new();
        let mut too_many = None;
        for update in std::mem::take(&mut updates.updates) {
            let bytes = update.get().deltas.iter().map(|delta| delta.bytes().len()).sum();
            if let Err(words) = self.takes(update.get().name.host(), bytes) {
                too_many = Some(words);
                break;
            }
            let Some(share) = peer.as_ref().and_then(|peer| self.share(peer, &update.get().name)) else {
                too_many = Some(self.too_much());
                break;
            };
            let wavelet = self.wavelets.of_peer(&update.get().name);
            outcomes.push((wavelet.name().clone(), wavelet.update(update), share));
        }
        let serve = self.clone();
        tokio::spawn(async move {
            let mut failure = too_many;
            let mut refused = Vec::new();
            for (name, outcome, share) in outcomes {
                if let Err(refusal) = outcome.await.unwrap_or(Err(UpdateRefusal::Unavailable)) {
                    let error = update_error(&refusal);
                    let reason = format!("an update: {:?}", error.code);
                    let line = format_args!("refused an update of {name}: {refusal}");
                    serve.log(updates.from(), &reason, &line);
                    failure.get_or_insert(error);
                    refused.extend(share.not_live);
                }
            }
            let answer = match failure {
                None => updates.receipt(),
                Some(error) => updates.refuse(&error),
            };
            if let Some(answer) = answer {
                serve.send(answer);
            }
            if !refused.is_empty() {
                tokio::time::sleep(REFUSED_STAYS).await;
            }
        });
    }

    /// Whether so many more bytes of a domain are taken.
    fn takes(&self, domain: &Domain, bytes: usize) -> Result<(), FederationError> {
        let shared = self.wavelets.shared();
        shared.policy.bytes(domain, bytes).map_err(|words| self.beyond(words))
    }

    /// The refusal of what is more than the policy takes of a domain now.
    fn beyond(&self, words: String) -> FederationError {
        self.wavelets.shared().metrics.count("refused", "policy");
        FederationError::new(Code::ResourceConstraint, words)
    }

    /// Applies a delta of another server's user.
    pub(super) fn submit(&self, ask: Ask, request: SubmitRequest, speaks_for: BTreeSet<Domain>) {
        self.answer(ask, move |serve, ask| async move {
            match serve.apply(request, &speaks_for).await {
                Ok(response) => ask.submitted(&response),
                Err(error) => {
                    serve.log_refused(ask.from(), "a submission", &error);
                    ask.refuse(&error)
                }
            }
        });
    }

    async fn apply(
        &self,
        request: SubmitRequest,
        speaks_for: &BTreeSet<Domain>,
    ) -> Result<SubmitResponse, FederationError> {
        let SubmitRequest { name, delta } = request;
        let shared = self.wavelets.shared();
        let refuse = |error: FederationError, kind: &'static str| {
            shared.metrics.count("refused", kind);
            error
        };
        if !shared.hosts(&name) {
            return Err(refuse(
                FederationError::bad_request("Non-local wavelet update"),
                "not the host",
            ));
        }
        if delta.delta.target.version == Version::ZERO {
            return Err(refuse(
                FederationError::bad_request("Remote users may not create wavelets."),
                "creates a wavelet",
            ));
        }
        if !speaks_for.contains(&delta.delta.author.domain()) {
            let error = format!(
                "Remote verification failed: this server does not speak for {}",
                delta.delta.author.domain()
            );
            return Err(refuse(FederationError::bad_request(error), "another domain's user"));
        }
        self.takes(&delta.delta.author.domain(), delta.bytes().len())?;
        let now = clock::now();
        let mut verification = verify(shared, delta.clone(), now);
        if let Verification::UnknownSigner(id) = &verification
            && shared.know_signer(id, now).await
        {
            verification = verify(shared, delta, now);
        }
        let verified = match verification {
            Verification::Good(verified) => verified,
            Verification::UnknownSigner(_) => {
                let error = FederationError::new(Code::InternalServerError, "Unknown signer");
                return Err(refuse(error, "unknown signer"));
            }
            Verification::Bad(reason) => {
                let error = FederationError::bad_request(format!("Remote verification failed: {reason}"));
                return Err(refuse(error, "signature"));
            }
        };
        let author = verified.get().delta.author.clone();
        shared.policy.user(&author).map_err(|words| self.beyond(words))?;
        // A wavelet that is not there is told from one that the author is not on by nobody.
        let stranger = || FederationError::bad_request(format!("{author} is not a participant of {}", name.to_uri()));
        match self.wavelets.asked_for(&name).await {
            // The wavelet itself counts what it refuses.
            Ok(Some(wavelet)) => wavelet
                .remote_submit(verified)
                .await
                .map_err(|refusal| submit_error(&refusal, &name)),
            Ok(None) => Err(refuse(stranger(), "not a participant")),
            Err(error) => Err(storage(&error)),
        }
    }

    /// Gives history to who may have it.
    pub(super) fn history(&self, ask: Ask, request: HistoryRequest, domains: BTreeSet<Domain>, legacy: bool) {
        let turns = billow_xmpp::Domain::of(ask.from()).ok().and_then(|peer| {
            let wavelet = self.histories.take(&(peer.clone(), request.name.clone()))?;
            Some((wavelet, self.pages.take(&peer)?, peer))
        });
        let Some((wavelet, page, peer)) = turns else {
            return self.send(ask.refuse(&self.too_much()));
        };
        self.answer(ask, move |serve, ask| async move {
            let _only_one = wavelet.begin().await;
            let _next_page = page.begin().await;
            let read = match serve.wait_for_reader(&peer).await {
                Ok(()) => serve.read_history(&request, &domains, legacy).await,
                Err(error) => Err(error),
            };
            match read {
                Ok(response) => ask.history(&response),
                Err(error) => {
                    serve.log_refused(ask.from(), "history", &error);
                    serve.count_refused(&error);
                    ask.refuse(&error)
                }
            }
        });
    }

    /// Waits until a peer has read most of what was sent to it; one that does not read gets nothing more made for it.
    async fn wait_for_reader(&self, peer: &billow_xmpp::Domain) -> Result<(), FederationError> {
        let give_up = Instant::now() + UNREAD_WAIT;
        while self.net.unsent(&self.local, peer) > UNREAD_MAX {
            if Instant::now() > give_up {
                return Err(self.too_much());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn read_history(
        &self,
        request: &HistoryRequest,
        domains: &BTreeSet<Domain>,
        legacy: bool,
    ) -> Result<HistoryResponse, FederationError> {
        let HistoryRequest { name, from, to, limit } = request;
        let sealed = self.readable(name, domains, from.version, to.version).await?;
        let boundaries = self.is_boundary(name, from).await? && self.is_boundary(name, to).await?;
        if from.version >= to.version || to.version > sealed || !boundaries {
            return Err(FederationError::bad_request(
                "Server error while retrieving wavelet history.",
            ));
        }
        let limit = limit
            .map_or(HISTORY_BYTES_MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
            .min(HISTORY_BYTES_MAX);
        let store = &self.wavelets.shared().store;
        let mut stored = store
            .sealed(name, from.version, Some(to.version), limit, DELTAS_MAX)
            .await
            .map_err(|error| storage(&error))?;
        if legacy {
            let tellable = legacy::tellable(stored.iter().map(|seal| &seal.applied));
            if tellable == 0 {
                return Err(FederationError::new(Code::NotAuthorized, legacy::REASON));
            }
            stored.truncate(tellable);
        }
        let end = stored.last().map(|last| last.resulting.version);
        let deltas = stored.into_iter().map(|seal| Encoded::decode(seal.applied));
        let deltas = deltas
            .collect::<Result<_, _>>()
            .map_err(|error| storage(&StoreError::Damaged(error.to_string())))?;
        Ok(HistoryResponse {
            deltas,
            committed: Some(sealed),
            truncated: end.filter(|end| *end < to.version),
        })
    }

    /// Whether one of the domains may read this part of a wavelet of ours; how far it is sealed, as far as they may know.
    async fn readable(
        &self,
        name: &WaveletName,
        domains: &BTreeSet<Domain>,
        from: Version,
        to: Version,
    ) -> Result<Version, FederationError> {
        if !self.wavelets.hosts(name) {
            return Err(FederationError::bad_request("Wavelet not hosted here."));
        }
        let there = match self.wavelets.asked_for(name).await.map_err(|error| storage(&error))? {
            Some(wavelet) => wavelet.readers().await,
            None => None,
        };
        // Not there and not theirs are one and the same to a stranger.
        let absent = || FederationError::new(Code::ItemNotFound, "Wavelet does not exist");
        let (readers, sealed): (Readers, HashedVersion) = there.ok_or_else(absent)?;
        readers.reach(domains, (from, to), sealed.version).ok_or_else(absent)
    }

    async fn is_boundary(&self, name: &WaveletName, at: &HashedVersion) -> Result<bool, FederationError> {
        if at.version == Version::ZERO {
            return Ok(*at == HashedVersion::zero(name));
        }
        let hash = self
            .wavelets
            .shared()
            .store
            .hash_at(name, at.version)
            .await
            .map_err(|error| storage(&error))?;
        Ok(hash.as_ref() == Some(&at.hash))
    }

    /// Gives a signer's chain to who may read the wavelet that has its signatures.
    pub(super) fn signer(&self, ask: Ask, request: SignerRequest, domains: BTreeSet<Domain>) {
        self.answer(ask, move |serve, ask| async move {
            match serve.find_signer(&request, &domains).await {
                Ok(info) => ask.signer(&info),
                Err(error) => {
                    serve.log_refused(ask.from(), "a signer", &error);
                    serve.count_refused(&error);
                    ask.refuse(&error)
                }
            }
        });
    }

    async fn find_signer(
        &self,
        request: &SignerRequest,
        domains: &BTreeSet<Domain>,
    ) -> Result<SignerInfo, FederationError> {
        let SignerRequest { name, signer, at } = request;
        self.readable(name, domains, at.version, at.version).await?;
        let shared = self.wavelets.shared();
        let ending = shared
            .store
            .seal_to(name, at.version)
            .await
            .map_err(|error| storage(&error))?
            .filter(|seal| seal.resulting == *at);
        let applied: Option<Encoded<AppliedDelta>> = ending
            .map(|seal| Encoded::decode(seal.applied))
            .transpose()
            .map_err(|error| storage(&StoreError::Damaged(error.to_string())))?;
        if !applied.is_some_and(|applied| applied.signed.is_signed_by(signer)) {
            return Err(FederationError::bad_request("Not authorised to get signer info"));
        }
        let own = shared.own_chain();
        if own.id() == *signer {
            return Ok(own.clone());
        }
        let stored = shared
            .store
            .signer(signer.as_bytes())
            .await
            .map_err(|error| storage(&error))?;
        let unknown = || FederationError::bad_request("Unknown signer info");
        SignerInfo::decode(&stored.ok_or_else(unknown)?)
            .map_err(|error| storage(&StoreError::Damaged(error.to_string())))
    }

    /// Keeps a chain that a peer announces: its own, for others' there is no reason.
    pub(super) fn posted_signer(&self, ask: Ask, info: SignerInfo, speaks_for: &BTreeSet<Domain>) {
        let own = speaks_for.contains(&info.domain);
        self.answer(ask, move |serve, ask| async move {
            let domain = info.domain.clone();
            let kept = if own {
                serve.wavelets.shared().post_signer(info, clock::now()).await
            } else {
                Err("it is posted by another domain".to_owned())
            };
            match kept {
                Ok(()) => ask.signer_stored(),
                Err(reason) => {
                    let line = format_args!("refused the signer of {domain}: {reason}");
                    serve.log(ask.from(), "a posted signer", &line);
                    serve.wavelets.shared().metrics.count("refused", "signer chain");
                    ask.refuse(&FederationError::bad_request(format!(
                        "verification failure from domain {domain}: {reason}"
                    )))
                }
            }
        });
    }

    /// Shows a caret from elsewhere: as a host of a user of the sender, otherwise of anybody that the host speaks of.
    pub(super) fn presence(&self, presence: Presence, domains: &BTreeSet<Domain>) {
        let speaker = if self.wavelets.hosts(&presence.name) {
            presence.address.domain()
        } else {
            presence.name.host().clone()
        };
        if domains.contains(&speaker) {
            self.wavelets
                .remote_caret(&presence.name, speaker, report::from_presence(&presence));
        } else {
            self.wavelets.shared().metrics.count("refused", "caret");
        }
    }

    /// Reads sealed deltas that a peer may have, for [`billow_federation::host::Output::NeedDeltas`].
    pub(super) fn read_deltas(
        &self,
        done: mpsc::UnboundedSender<Done>,
        peer: Domain,
        wavelet: WaveletName,
        from: Version,
        to: Version,
        bytes_max: usize,
    ) {
        let wavelets = self.wavelets.clone();
        tokio::spawn(async move {
            let news = match wavelets
                .of_peer(&wavelet)
                .seals(peer.clone(), from, to, bytes_max)
                .await
            {
                Some(Ok(deltas)) => Done::Deltas {
                    peer,
                    wavelet,
                    from,
                    outcome: Ok(deltas),
                },
                Some(Err(at)) => Done::Left {
                    peer,
                    wavelet,
                    from,
                    at,
                },
                None => Done::Deltas {
                    peer,
                    wavelet,
                    from,
                    outcome: Err("the wavelet cannot be read now".to_owned()),
                },
            };
            // The driver may have ended.
            let _ = done.send(news);
        });
    }

    /// Keeps which domains run the reference; may be late, for it is found out again.
    pub(super) fn keep_legacy(&self, domains: &BTreeSet<Domain>) {
        let list: Vec<&str> = domains.iter().map(Domain::as_str).collect();
        let (store, list) = (self.wavelets.shared().store.clone(), Bytes::from(list.join("\n")));
        tokio::spawn(async move {
            if let Err(error) = store.set_value(LEGACY, list).await {
                tracing::warn!("what other servers run cannot be kept now: {error}");
            }
        });
    }

    /// Which domains ran the reference when it was last found out.
    pub(super) async fn kept_legacy(&self) -> Result<BTreeSet<Domain>, StoreError> {
        let list = self.wavelets.shared().store.value(LEGACY).await?.unwrap_or_default();
        let list = String::from_utf8_lossy(&list);
        Ok(list.lines().filter_map(|domain| domain.parse().ok()).collect())
    }

    fn count_refused(&self, error: &FederationError) {
        let kind = match error.code {
            Code::NotAuthorized => "not the host",
            Code::ItemNotFound => "not a reader",
            Code::BadRequest => "bad request",
            _ => "other",
        };
        self.wavelets.shared().metrics.count("refused", kind);
    }

    fn send(&self, answer: Element) {
        let to = answer.attr("to").and_then(|to| Jid::new(to).ok());
        let Some(peer) = to.and_then(|to| billow_xmpp::Domain::of(&to).ok()) else {
            return;
        };
        let Err(error) = self.net.send(&self.local, &peer, answer) else {
            return;
        };
        tracing::debug!(%peer, "an answer is not sent: {error}");
        // Whoever asked asks again, but not for what cannot be written whenever it is asked for.
        if let (BounceReason::NotSendable(reason), Ok(Stanza::Iq(answer))) =
            (&error.reason, Stanza::parse(&error.stanza))
        {
            let refused = FederationError::new(
                Code::ResourceConstraint,
                format!("the answer cannot be written: {reason}"),
            );
            let refused = Iq {
                kind: IqKind::Error(refused.to_stanza()),
                ..answer
            };
            // What is said here is short.
            let _ = self.net.send(&self.local, &peer, refused.to_element());
        }
    }
}

fn storage(error: &StoreError) -> FederationError {
    tracing::error!("the store: {error}");
    FederationError::new(Code::InternalServerError, "Storage access failure")
}
