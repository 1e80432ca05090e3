//! The sending side: what one peer has of the wavelets that we host, and how it gets the rest (protocol.md §5.9, §6.2, T2).
//!
//! Delivery is a cursor for each wavelet: the version up to which the peer has acknowledged everything. What lies between the cursor and the sealed
//! version is asked of the driver and sent in order, several deltas in a message and, to a Billow server, several messages before the first receipt.
//! Receipts move the cursor. A receipt that never comes blocks nothing: newer deltas are sent all the same, and what is not acknowledged is
//! sent again with growing pauses, and at once when the peer speaks.
//!
//! The cursor says how far the peer is, not what it may see: the driver answers [`Output::NeedDeltas`] only with deltas that the peer may have.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use billow_model::{HashedVersion, Timestamp, Version, WaveletName, planted};
use billow_xmpp::{Condition, Element, Jid, StanzaError};
use bytes::Bytes;

use crate::discovery::{Service, Software};
use crate::ids::Ids;
use crate::legacy;
use crate::stanza::update;
use lane::{Lane, Message, Notice, Trouble};

/// How long a receipt is waited for before the update counts as lost.
pub const RECEIPT_MS: i64 = 30_000;
/// Most messages without receipt to a Billow server, for each wavelet.
pub const WINDOW: usize = 8;
/// The reference handles messages in any order, so it gets the next when it has acknowledged the last.
pub const LEGACY_WINDOW: usize = 1;
/// Most messages without receipt to a peer, over all wavelets.
pub const PEER_WINDOW: usize = 64;
/// Most bytes of deltas in a message; in base64 they are a third more.
pub const MAX_BYTES: usize = 75 * 1024;
/// Most bytes of deltas without receipt to a peer, over all wavelets: what a peer that does not read can make us hold.
pub const PEER_BYTES: usize = 4 * MAX_BYTES;
/// How long a reference server's receipt is waited for before what is newer is sent; it is known not to send some.
pub const LEGACY_RECEIPT_MS: i64 = 5_000;
/// The first pause before something is sent again; each next one is twice as long.
const RETRY_MS: i64 = 15_000;
/// The longest such pause.
const RETRY_MAX_MS: i64 = 10 * 60_000;
/// How often a reference server is told what is committed.
const NOTICE_TRIES: u32 = 3;
/// The longest such pause to a peer that answers, but cannot take it now.
const NOT_NOW_MAX_MS: i64 = 60_000;
/// The first pause after a refusal.
const REFUSED_MS: i64 = 10 * 60_000;
/// The longest pause after a refusal.
const REFUSED_MAX_MS: i64 = 6 * 3_600_000;

/// An applied delta that may leave the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedDelta {
    /// The bytes of the applied delta.
    pub applied: Bytes,
    /// The version after it.
    pub resulting: HashedVersion,
}

/// What the machine is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// After a start: a cursor from the disk, and how far the wavelet is sealed.
    Resume {
        /// Which wavelet.
        wavelet: WaveletName,
        /// The peer has everything before this version.
        acknowledged: Version,
        /// Nothing from this version on is for it.
        until: Option<Version>,
        /// How far the wavelet is sealed.
        sealed: Version,
    },
    /// A delta for this peer is sealed. The first one makes the peer's cursor, before that delta: it is the one that added the peer's first
    /// participant, and the peer asks for what was before.
    Sealed {
        /// Which wavelet.
        wavelet: WaveletName,
        /// The version before the delta.
        applied_at: Version,
        /// The version after it.
        resulting: Version,
        /// The digest of the documents at that version, if somebody has computed it.
        digest: Option<[u8; 32]>,
    },
    /// The digest of the documents at a sealed version. A Billow server gets it with the commit notice of that version: in the
    /// message of its last delta if that is still to be sent, or by itself.
    Digest {
        /// Which wavelet.
        wavelet: WaveletName,
        /// The version.
        at: HashedVersion,
        /// The digest.
        digest: [u8; 32],
    },
    /// The deltas from this version on are not for this peer any more: its last participant was removed before.
    Left {
        /// Which wavelet.
        wavelet: WaveletName,
        /// The version after the last delta that the peer gets.
        at: Version,
    },
    /// The answer to [`Output::NeedDeltas`]: contiguous from there, at least one, as many as fit.
    Deltas {
        /// Which wavelet.
        wavelet: WaveletName,
        /// The version that was asked for.
        from: Version,
        /// The deltas.
        deltas: Vec<SealedDelta>,
    },
    /// The other answer to [`Output::NeedDeltas`]: they could not be read now.
    NoDeltas {
        /// Which wavelet.
        wavelet: WaveletName,
        /// The version that was asked for.
        from: Version,
        /// For people.
        reason: String,
    },
    /// The answer to [`Output::Discover`]: here is the peer.
    Service(Service),
    /// The other answer to [`Output::Discover`]: no service.
    NoService {
        /// For people.
        reason: String,
        /// When asking again makes sense.
        retry_at: Timestamp,
    },
    /// A receipt came from this address.
    Receipt {
        /// Who says so.
        from: Jid,
        /// For which message.
        id: String,
    },
    /// A message came back, from the peer or from our own net (then `from` is whom it was for).
    Bounced {
        /// Who says so.
        from: Jid,
        /// Which message.
        id: String,
        /// Why.
        error: StanzaError,
    },
    /// The net cannot reach the peer.
    Unreachable {
        /// For people.
        reason: String,
        /// When the net tries again.
        retry_at: Timestamp,
    },
    /// The peer is there: our stream to it is up, or it spoke to us.
    Reachable,
    /// The time that [`Host::deadline`] named has come.
    Tick,
}

/// What the machine wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Find the peer's service; then tell [`Input::Service`] or [`Input::NoService`].
    Discover,
    /// Read sealed deltas; then tell [`Input::Deltas`] or [`Input::NoDeltas`]. At most one is under way for each wavelet.
    NeedDeltas {
        /// Which wavelet.
        wavelet: WaveletName,
        /// From this version on.
        from: Version,
        /// Not beyond this version.
        to: Version,
        /// Not more bytes than this, but at least one delta.
        max_bytes: usize,
    },
    /// Send this stanza to the peer.
    Send(Element),
    /// Keep the cursor on disk. It may be late, but not lost: what is sent again because of that is harmless.
    PersistCursor {
        /// Which wavelet.
        wavelet: WaveletName,
        /// The peer has everything before this version.
        acknowledged: Version,
        /// Nothing from this version on is for it.
        until: Option<Version>,
    },
    /// What people are told about the wavelet and this peer has changed.
    Changed {
        /// Which wavelet.
        wavelet: WaveletName,
        /// The news.
        delivery: Delivery,
    },
}

/// How far a peer is with a wavelet, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The peer has everything before this version.
    pub acknowledged: Version,
    /// How many operations it lacks.
    pub pending: u64,
    /// What is being done about it.
    pub state: DeliveryState,
}

/// What is being done so that a peer gets what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryState {
    /// It lacks nothing.
    Delivered,
    /// It is being sent.
    Sending,
    /// The peer does not answer now.
    Waiting(Hindrance),
    /// The peer has never answered.
    NeverReached(Hindrance),
    /// The peer does not want it.
    Refused(Hindrance),
}

/// Why something is not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    /// Since when.
    pub since: Timestamp,
    /// When it is tried again.
    pub next_try: Timestamp,
    /// For people.
    pub reason: String,
}

/// The machine for one of our domains and one peer.
#[derive(Debug)]
pub struct Host {
    own: Jid,
    ids: Ids,
    service: Option<Service>,
    discovering: bool,
    /// The peer as a whole cannot be reached.
    away: Option<Away>,
    reached: bool,
    lanes: BTreeMap<WaveletName, Lane>,
    /// The wavelets with something to send.
    due: BTreeSet<WaveletName>,
    /// The wavelets that wait for something: an answer, a receipt, a time.
    active: BTreeSet<WaveletName>,
    /// The wavelets about which there may be news for people.
    touched: BTreeSet<WaveletName>,
    /// Messages whose receipts are still recognised.
    sent: HashMap<String, WaveletName>,
    /// Where the next turn begins, so that no wavelet waits for ever.
    turn: Option<WaveletName>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Away {
    hindrance: Hindrance,
    attempts: u32,
}

impl Host {
    /// A machine without wavelets. `own` is the address that our stanzas come from; `reached` tells whether the peer has ever acknowledged anything.
    #[must_use]
    pub fn new(own: Jid, reached: bool, ids: Ids) -> Self {
        Self {
            own,
            ids,
            service: None,
            discovering: false,
            away: None,
            reached,
            lanes: BTreeMap::new(),
            due: BTreeSet::new(),
            active: BTreeSet::new(),
            touched: BTreeSet::new(),
            sent: HashMap::new(),
            turn: None,
            outputs: VecDeque::new(),
        }
    }

    /// Tells the machine something.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Resume {
                wavelet,
                acknowledged,
                until,
                sealed,
            } => {
                let acknowledged = if planted::is("the cursor is lost at a restart") {
                    sealed
                } else {
                    acknowledged
                };
                self.lanes
                    .insert(wavelet.clone(), Lane::new(acknowledged, until, sealed));
                self.touch(&wavelet);
            }
            Input::Sealed {
                wavelet,
                applied_at,
                resulting,
                digest,
            } => self.sealed(wavelet, applied_at, resulting, digest),
            Input::Digest { wavelet, at, digest } => self.digest(&wavelet, at, digest),
            Input::Left { wavelet, at } => self.left(&wavelet, at),
            Input::Deltas { wavelet, from, deltas } => self.deltas(now, &wavelet, from, &deltas),
            Input::NoDeltas { wavelet, from, reason } => {
                if self.lanes.get_mut(&wavelet).is_some_and(|lane| lane.answered(from)) {
                    self.trouble(now, &wavelet, &reason, false);
                }
            }
            Input::Service(service) => {
                self.discovering = false;
                self.service = Some(service);
                if let Some(away) = &mut self.away {
                    away.hindrance.next_try = away.hindrance.next_try.min(now);
                }
            }
            Input::NoService { reason, retry_at } => {
                self.discovering = false;
                self.service = None;
                self.unreachable(now, reason, retry_at);
            }
            Input::Receipt { from, id } => self.receipt(now, &from, &id),
            Input::Bounced { from, id, error } => self.bounced(now, &from, &id, &error),
            Input::Unreachable { reason, retry_at } => self.unreachable(now, reason, retry_at),
            Input::Reachable => self.reachable(now),
            Input::Tick => self.tick(now),
        }
        self.pump(now);
        self.report();
    }

    /// Asks for the next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the machine wants an [`Input::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let lanes = self.active.iter().filter_map(|name| self.lanes.get(name)?.deadline());
        let away = self
            .away
            .as_ref()
            .filter(|_| !self.due.is_empty())
            .map(|away| away.hindrance.next_try);
        lanes.chain(away).min()
    }

    /// How far the peer is with a wavelet.
    #[must_use]
    pub fn delivery(&self, wavelet: &WaveletName) -> Option<Delivery> {
        self.lanes.get(wavelet).map(|lane| self.delivery_of(lane))
    }

    /// How far the peer is with each wavelet.
    pub fn deliveries(&self) -> impl Iterator<Item = (&WaveletName, Delivery)> {
        self.lanes.iter().map(|(name, lane)| (name, self.delivery_of(lane)))
    }

    fn delivery_of(&self, lane: &Lane) -> Delivery {
        let state = match (lane.pending(), &lane.trouble, &self.away) {
            (0, ..) => DeliveryState::Delivered,
            (
                _,
                Some(Trouble {
                    refused: true,
                    hindrance,
                    ..
                }),
                _,
            ) => DeliveryState::Refused(hindrance.clone()),
            (_, _, Some(Away { hindrance, .. })) | (_, Some(Trouble { hindrance, .. }), None) if self.reached => {
                DeliveryState::Waiting(hindrance.clone())
            }
            (_, _, Some(Away { hindrance, .. })) | (_, Some(Trouble { hindrance, .. }), None) => {
                DeliveryState::NeverReached(hindrance.clone())
            }
            (_, None, None) => DeliveryState::Sending,
        };
        Delivery {
            acknowledged: lane.acknowledged,
            pending: lane.pending(),
            state,
        }
    }

    fn sealed(&mut self, wavelet: WaveletName, applied_at: Version, resulting: Version, digest: Option<[u8; 32]>) {
        let known = self.lanes.contains_key(&wavelet);
        let lane = self
            .lanes
            .entry(wavelet.clone())
            .or_insert_with(|| Lane::new(applied_at, None, resulting));
        if planted::is("who joins again is not told") && lane.until.is_some() {
            return;
        }
        let rejoined = lane.until.take().is_some();
        lane.sealed = lane.sealed.max(resulting);
        lane.newest = lane.newest.max(Some(applied_at));
        if let Some(digest) = digest {
            lane.digest = Some((resulting, digest));
        }
        if rejoined || !known {
            self.persist(&wavelet);
        }
        self.touch(&wavelet);
    }

    fn digest(&mut self, wavelet: &WaveletName, at: HashedVersion, digest: [u8; 32]) {
        let Some(lane) = self.lanes.get_mut(wavelet) else {
            return;
        };
        lane.digest = Some((at.version, digest));
        if lane.has_sent(at.version) {
            self.notice(wavelet, &at, digest);
        }
    }

    /// Tells a peer that has been sent a version what its documents look like there. Not waited for: there will be another one.
    fn notice(&mut self, wavelet: &WaveletName, at: &HashedVersion, digest: [u8; 32]) {
        let Some(service) = self.service.as_ref().filter(|_| self.away.is_none()) else {
            return;
        };
        if !matches!(service.software, Software::Billow { digest: true, .. }) {
            return;
        }
        let update = update::Outgoing {
            name: wavelet,
            deltas: &[],
            commit: Some(at),
            digest: Some(digest),
        };
        let message = update::message(self.own.clone(), service.jid.clone(), self.ids.fresh(), &update);
        self.outputs.push_back(Output::Send(message.to_element()));
    }

    fn left(&mut self, wavelet: &WaveletName, at: Version) {
        let Some(lane) = self.lanes.get_mut(wavelet) else {
            return;
        };
        // Somebody looked before the delta that added the peer again.
        let stale = lane.newest.is_some_and(|newest| at <= newest);
        if !stale && lane.until.is_none_or(|until| at < until) {
            lane.until = Some(at);
            self.persist(wavelet);
            self.touch(wavelet);
        }
    }

    fn deltas(&mut self, now: Timestamp, wavelet: &WaveletName, from: Version, deltas: &[SealedDelta]) {
        let Some(lane) = self.lanes.get_mut(wavelet).filter(|lane| lane.asked == Some(from)) else {
            return;
        };
        lane.asked = None;
        let Some((service, last)) = self.service.as_ref().zip(deltas.last()) else {
            return;
        };
        if last.resulting.version <= from {
            return;
        }
        let tellable = match service.software {
            Software::Billow { .. } => deltas.len(),
            Software::Legacy => legacy::tellable(deltas.iter().map(|delta| &delta.applied)),
        };
        let deltas = &deltas[..tellable];
        let Some(last) = deltas.last() else {
            return self.trouble(now, wavelet, legacy::REASON, true);
        };
        let id = self.ids.fresh();
        let bytes: Vec<Bytes> = deltas.iter().map(|delta| delta.applied.clone()).collect();
        let size = bytes.iter().map(Bytes::len).sum();
        let patience = if service.software.is_billow() {
            RECEIPT_MS
        } else {
            LEGACY_RECEIPT_MS
        };
        let digest = match service.software {
            Software::Billow { digest: true, .. } => lane.digest.filter(|(at, _)| *at == last.resulting.version),
            _ => None,
        };
        let commit = service.software.is_billow().then_some(&last.resulting);
        let update = update::Outgoing {
            name: wavelet,
            deltas: &bytes,
            commit,
            digest: digest.map(|(_, digest)| digest),
        };
        let message = update::message(self.own.clone(), service.jid.clone(), id.clone(), &update);
        self.outputs.push_back(Output::Send(message.to_element()));
        self.sent.insert(id.clone(), wavelet.clone());
        if planted::is("the cursor moves without a receipt") {
            lane.acknowledged = last.resulting.version;
        }
        let message = Message {
            from,
            to: last.resulting.clone(),
            deltas: deltas.len(),
            bytes: size,
        };
        let forgotten = lane.sent(id, message, now.later(patience));
        self.forget(forgotten);
        self.touch(wavelet);
    }

    fn receipt(&mut self, now: Timestamp, from: &Jid, id: &str) {
        let Some(service) = self.service.as_ref().filter(|service| service.jid == *from) else {
            return;
        };
        let Some(wavelet) = self.sent.get(id).cloned() else {
            return;
        };
        let billow = service.software.is_billow();
        self.back();
        let Some(lane) = self.lanes.get_mut(&wavelet) else {
            return;
        };
        if lane.notice_acknowledged(id) {
            self.sent.remove(id);
            self.persist(&wavelet);
            return self.touch(&wavelet);
        }
        let (moved, forgotten) = lane.acknowledge(id, billow);
        let committed = (!billow).then(|| lane.committed.take()).flatten();
        self.forget(forgotten);
        match committed {
            Some(version) => self.notify(now, &wavelet, version, 1),
            None if moved => self.persist(&wavelet),
            None => {}
        }
        self.touch(&wavelet);
    }

    /// Tells a reference server what is committed. It stores nothing else, and reads the notice only in a message of its own; so the
    /// cursor on our disk stays before what is in the notice until that is acknowledged as well.
    fn notify(&mut self, now: Timestamp, wavelet: &WaveletName, version: HashedVersion, tries: u32) {
        let Some((lane, service)) = self.lanes.get_mut(wavelet).zip(self.service.as_ref()) else {
            return;
        };
        let update = update::Outgoing {
            name: wavelet,
            deltas: &[],
            commit: Some(&version),
            digest: None,
        };
        let id = self.ids.fresh();
        let message = update::message(self.own.clone(), service.jid.clone(), id.clone(), &update);
        self.outputs.push_back(Output::Send(message.to_element()));
        self.sent.insert(id.clone(), wavelet.clone());
        let before = lane.notice.replace(Notice {
            version,
            id,
            by: now.later(RECEIPT_MS),
            tries,
        });
        if let Some(before) = before {
            self.sent.remove(&before.id);
        }
    }

    fn bounced(&mut self, now: Timestamp, from: &Jid, id: &str, error: &StanzaError) {
        if self.service.as_ref().is_none_or(|service| service.jid != *from) {
            return;
        }
        let Some(wavelet) = self.sent.get(id).cloned() else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(&wavelet) else {
            return;
        };
        let Some((from, deltas)) = lane.live(id) else { return };
        let first = from <= lane.acknowledged || planted::is("a refusal of what follows counts for all");
        let reason = error.text.clone().unwrap_or_else(|| error.condition.name().to_owned());
        match error.condition {
            // Too big for the peer: smaller messages, unless it was a single delta already (B-069).
            Condition::PolicyViolation if deltas > 1 => {
                lane.max_bytes = (lane.max_bytes / 2).max(1);
                lane.restart();
            }
            Condition::RemoteServerTimeout
            | Condition::RemoteServerNotFound
            | Condition::RecipientUnavailable
            | Condition::ServiceUnavailable
            | Condition::Gone => {
                // The service may have moved: it is looked for anew.
                self.service = None;
                let retry_at = now.later(pause(&mut self.ids, RETRY_MS, RETRY_MAX_MS, 1));
                self.unreachable(now, reason, retry_at);
            }
            Condition::ResourceConstraint
            | Condition::InternalServerError
            | Condition::UndefinedCondition
            | Condition::UnexpectedRequest => {
                self.back();
                self.trouble(now, &wavelet, &reason, false);
            }
            // Of a message that follows others it only says that those are not there: the peer has lost them, or has not had
            // them yet. What comes first is sent again, and its refusal counts.
            _ => {
                self.back();
                self.trouble(now, &wavelet, &reason, first);
            }
        }
        self.touch(&wavelet);
    }

    /// A wavelet is held up; everything after its cursor is sent again later.
    fn trouble(&mut self, now: Timestamp, wavelet: &WaveletName, reason: &str, refused: bool) {
        let Some(lane) = self.lanes.get_mut(wavelet) else {
            return;
        };
        let (first, longest) = if refused {
            (REFUSED_MS, REFUSED_MAX_MS)
        } else {
            (RETRY_MS, NOT_NOW_MAX_MS)
        };
        let next_try = now.later(pause(&mut self.ids, first, longest, lane.attempts() + 1));
        lane.restart();
        lane.hold(now, next_try, reason, true, refused);
        self.touch(wavelet);
    }

    fn unreachable(&mut self, now: Timestamp, reason: String, retry_at: Timestamp) {
        let (since, attempts) = self
            .away
            .take()
            .map_or((now, 0), |away| (away.hindrance.since, away.attempts));
        let next_try = retry_at.max(now.later(1_000));
        self.away = Some(Away {
            hindrance: Hindrance {
                since,
                next_try,
                reason,
            },
            attempts,
        });
        for name in std::mem::take(&mut self.active) {
            if let Some(lane) = self.lanes.get_mut(&name) {
                lane.restart();
            }
            self.touch(&name);
        }
        self.touched.extend(self.due.iter().cloned());
    }

    /// The peer answers.
    fn back(&mut self) {
        self.reached = true;
        if self.away.take().is_some() {
            self.touched.extend(self.due.iter().cloned());
        }
    }

    /// The peer is there: what waits for it is tried now.
    fn reachable(&mut self, now: Timestamp) {
        self.back();
        for name in self.active.clone() {
            if let Some(lane) = self.lanes.get_mut(&name) {
                lane.hurry(now);
            }
        }
        self.tick(now);
    }

    fn tick(&mut self, now: Timestamp) {
        let legacy = self
            .service
            .as_ref()
            .is_none_or(|service| !service.software.is_billow());
        for name in self.active.clone() {
            let Some(lane) = self.lanes.get_mut(&name) else {
                continue;
            };
            if lane.expire(now)
                && lane
                    .trouble
                    .as_ref()
                    .is_none_or(|trouble| trouble.hindrance.next_try <= now)
            {
                let next_try = now.later(pause(&mut self.ids, RETRY_MS, RETRY_MAX_MS, lane.attempts() + 1));
                lane.hold(now, next_try, "no receipt in time", false, false);
            }
            let moved = lane.retry(now, legacy);
            let committed = legacy.then(|| lane.committed.take()).flatten();
            let late = lane.late_notice(now, self.away.is_some());
            match (committed, late) {
                (Some(version), _) => self.notify(now, &name, version, 1),
                (None, Some(Notice { version, tries, .. })) if tries < NOTICE_TRIES => {
                    self.notify(now, &name, version, tries + 1);
                }
                (None, Some(given_up)) => {
                    self.sent.remove(&given_up.id);
                    self.persist(&name);
                }
                (None, None) if moved => self.persist(&name),
                (None, None) => {}
            }
            self.touch(&name);
        }
    }

    /// Asks for deltas wherever they may be sent, a wavelet after the other. A peer that was away gets a single message first.
    fn pump(&mut self, now: Timestamp) {
        if self.due.is_empty() || self.away.as_ref().is_some_and(|away| now < away.hindrance.next_try) {
            return;
        }
        if let Some(away) = &mut self.away {
            away.attempts += 1;
            away.hindrance.next_try = now.later(pause(&mut self.ids, 2 * RECEIPT_MS, RETRY_MAX_MS, away.attempts));
            self.touched.extend(self.due.iter().cloned());
        }
        let Some(service) = &self.service else {
            if !std::mem::replace(&mut self.discovering, true) {
                self.outputs.push_back(Output::Discover);
            }
            return;
        };
        let (window, total) = match (&self.away, service.software) {
            (Some(_), _) => (1, 1),
            (None, Software::Billow { .. }) => (WINDOW, PEER_WINDOW),
            (None, Software::Legacy) => (LEGACY_WINDOW, PEER_WINDOW),
        };
        let active = self.active.iter().filter_map(|name| self.lanes.get(name));
        let (mut busy, mut bytes) =
            active.fold((0, 0), |(busy, bytes), lane| (busy + lane.busy(), bytes + lane.bytes()));
        let after = self.turn.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let turn = self
            .due
            .range((after, Bound::Unbounded))
            .chain(&self.due)
            .take(self.due.len());
        for wavelet in turn {
            if busy >= total || bytes >= PEER_BYTES {
                break;
            }
            let Some(lane) = self.lanes.get_mut(wavelet) else {
                continue;
            };
            if let Some((from, to)) = lane.ask(window) {
                busy += 1;
                bytes += lane.max_bytes;
                let (wavelet, max_bytes) = (wavelet.clone(), lane.max_bytes);
                self.turn = Some(wavelet.clone());
                self.active.insert(wavelet.clone());
                self.outputs.push_back(Output::NeedDeltas {
                    wavelet,
                    from,
                    to,
                    max_bytes,
                });
            }
        }
    }

    fn persist(&mut self, wavelet: &WaveletName) {
        if let Some(lane) = self.lanes.get(wavelet) {
            let (mut acknowledged, until) = (lane.kept(), lane.until);
            if planted::is("the cursor is kept ahead of the receipts") {
                acknowledged = lane.sealed;
            }
            self.outputs.push_back(Output::PersistCursor {
                wavelet: wavelet.clone(),
                acknowledged,
                until,
            });
        }
    }

    fn forget(&mut self, ids: Vec<String>) {
        for id in ids {
            self.sent.remove(&id);
        }
    }

    /// Notes whether a wavelet has something to send, waits for something, or has news for people.
    fn touch(&mut self, wavelet: &WaveletName) {
        let Some(lane) = self.lanes.get(wavelet) else { return };
        note(&mut self.due, wavelet, lane.pending() > 0);
        note(
            &mut self.active,
            wavelet,
            lane.deadline().is_some() || lane.asked.is_some(),
        );
        self.touched.insert(wavelet.clone());
    }

    /// Tells what has changed for people since the last time.
    fn report(&mut self) {
        for wavelet in std::mem::take(&mut self.touched) {
            let Some(delivery) = self.delivery(&wavelet) else {
                continue;
            };
            let Some(lane) = self.lanes.get_mut(&wavelet) else {
                continue;
            };
            if lane.told.as_ref() != Some(&delivery) {
                lane.told = Some(delivery.clone());
                self.outputs.push_back(Output::Changed { wavelet, delivery });
            }
        }
    }
}

fn note(set: &mut BTreeSet<WaveletName>, wavelet: &WaveletName, is_in: bool) {
    if !is_in {
        set.remove(wavelet);
    } else if !set.contains(wavelet) {
        set.insert(wavelet.clone());
    }
}

/// A pause that doubles with each attempt, somewhere between a half and the whole of it, so that not all come at once.
fn pause(ids: &mut Ids, first: i64, longest: i64, attempts: u32) -> i64 {
    let full = first
        .saturating_mul(1 << attempts.saturating_sub(1).min(16))
        .min(longest);
    full / 2 + ids.below(full / 2)
}
