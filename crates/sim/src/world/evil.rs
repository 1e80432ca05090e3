//! A hostile server: it has a key of its own, users that others trust, and a library of moves.
//!
//! Underneath it is an honest node. Its moves change, drop, delay and repeat what that node says, keep from it what it
//! should hear, and send things that no node would.

use billow_federation::ns;
use billow_federation::stanza::{history, signer, submit, update};
use billow_model::{
    Component, Delta, DocOp, DocumentId, HashedVersion, HistoryHash, ParticipantId, Timestamp, Version, WaveletName,
    WaveletOp,
};
use billow_wire::exchange::{HistoryRequest, HistoryResponse, SignerRequest, SubmitRequest};
use billow_wire::{AppliedDelta, Encoded, Signature, SignedDelta};
use billow_xmpp::{Element, Iq, IqKind, Message, Stanza, disco, element, receipts};
use bytes::Bytes;

use super::{Happening, START, World};
use crate::keys;

/// All moves.
pub(super) const KINDS: [&str; 26] = [
    "equivocate",
    "withhold",
    "reorder",
    "forge_author",
    "forge_signature",
    "replay_elsewhere",
    "wrong_count",
    "wrong_time",
    "version_jump",
    "poison",
    "history_lies",
    "history_short",
    "history_empty",
    "signer_lie",
    "commit_ahead",
    "flood",
    "slow",
    "ack_unapplied",
    "no_ack",
    "double_ack",
    "spoofed_from",
    "disco_theft",
    "ex_participant",
    "oversized",
    "garbage",
    "removed_author",
];

/// The hostile server's memory.
pub(super) struct Evil {
    pub(super) server: usize,
    /// Deltas that others have signed.
    signed: Vec<(WaveletName, Encoded<SignedDelta>)>,
    ids: u64,
}

impl Evil {
    pub(super) fn new(server: usize) -> Self {
        Self {
            server,
            signed: Vec::new(),
            ids: 0,
        }
    }
}

impl World {
    /// Whether the hostile server makes this move now.
    fn makes(&mut self, kind: &'static str, percent: usize) -> bool {
        let makes = self.healed_at.is_none() && self.mix.moves.contains(&kind) && self.dice.percent(percent);
        if makes {
            self.count(kind);
            self.count("evil_moves");
            self.say(|| format!("move: {kind}"));
        }
        makes
    }

    fn fresh_id(&mut self) -> String {
        let evil = self.evil.as_mut().expect("it is the hostile one's move");
        evil.ids += 1;
        format!("evil{}", evil.ids)
    }

    fn mallory(&self) -> ParticipantId {
        format!("user0@{}", keys::DOMAINS[keys::EVIL])
            .parse()
            .expect("it is an address")
    }

    /// What the node under the hostile server says.
    pub(super) fn tamper(&mut self, to: usize, stanza: Element) {
        if self.makes("slow", 6) {
            let delay = self.dice.between(5_000, 60_000);
            return self.after(delay, Happening::Tampered { to, stanza });
        }
        let from = self.evil.as_ref().map_or(0, |evil| evil.server);
        let stanzas = match Stanza::parse(&stanza) {
            Ok(Stanza::Message(message)) => self.tamper_message(to, message, stanza),
            Ok(Stanza::Iq(iq)) => self.tamper_iq(iq, stanza),
            _ => vec![stanza],
        };
        for stanza in stanzas {
            self.transmit(from, to, stanza);
        }
    }

    fn tamper_message(&mut self, to: usize, message: Message, stanza: Element) -> Vec<Element> {
        if receipts::acknowledged(&message).is_some() {
            if self.makes("no_ack", 30) {
                return Vec::new();
            }
            if self.makes("double_ack", 20) {
                return vec![stanza.clone(), stanza];
            }
            return vec![stanza];
        }
        let Some(parsed) = update::event(&message).map(update::parse) else {
            return vec![stanza];
        };
        let Some(Ok(sent)) = parsed.ok().and_then(|mut all| all.pop()) else {
            return vec![stanza];
        };
        if self.makes("withhold", 15) {
            return Vec::new();
        }
        if self.makes("reorder", 15) {
            let delay = self.dice.between(10, 5_000);
            self.after(delay, Happening::Tampered { to, stanza });
            return Vec::new();
        }
        let mut deltas: Vec<Bytes> = sent.deltas.iter().map(|delta| delta.bytes().clone()).collect();
        let mut commit = sent.commit.and_then(|commit| {
            let (version, hash) = (commit.version, commit.hash?);
            Some(HashedVersion { version, hash })
        });
        let Some(last) = sent.deltas.last() else {
            return vec![stanza];
        };
        if let Some(lie) = self.lie(&sent.name, last) {
            deltas.pop();
            // Half of the lies are at least consistent in themselves.
            if self.dice.percent(50) {
                commit = None;
            } else if let Ok(lie) = Encoded::<AppliedDelta>::decode(lie.clone()) {
                commit = Some(lie.applied_at().next(lie.bytes(), u64::from(lie.operations_applied)));
            }
            deltas.push(lie);
        }
        if self.makes("commit_ahead", 6) {
            commit = commit.map(|commit| HashedVersion {
                version: commit.version.plus(1 + self.dice.roll() % 50),
                hash: HistoryHash::from_bytes(&[7; 20]),
            });
        }
        let outgoing = update::Outgoing {
            name: &sent.name,
            deltas: &deltas,
            commit: commit.as_ref(),
            digest: None,
        };
        let id = message.id.clone().unwrap_or_default();
        vec![update::message(message.from, message.to, id, &outgoing).to_element()]
    }

    /// Another delta in the place of this one.
    fn lie(&mut self, name: &WaveletName, true_one: &Encoded<AppliedDelta>) -> Option<Bytes> {
        let mut applied = true_one.value().clone();
        let at = applied.applied_at().clone();
        let author = self.mallory();
        let delta = |ops: Vec<WaveletOp>, author: ParticipantId| {
            Encoded::new(Delta {
                target: at.clone(),
                author,
                ops,
                address_path: Vec::new(),
            })
        };
        let same_length = vec![WaveletOp::NoOp; applied.operations_applied as usize];
        if self.makes("equivocate", 12) {
            applied.signed = self.sign(delta(same_length, author));
        } else if self.makes("forge_author", 12) {
            let victim = self.victim();
            applied.signed = self.sign_falsely(delta(same_length, victim), None);
        } else if self.makes("forge_signature", 14) {
            let victim = self.victim();
            let signer = keys::signer(self.index_in_keys(victim.domain().as_str()));
            applied.signed = self.sign_falsely(delta(same_length, victim), Some(signer.id().clone()));
        } else if self.makes("replay_elsewhere", 14) {
            let others: Vec<_> = self.stolen().into_iter().filter(|(of, _)| of != name).collect();
            let (_, stolen) = self.dice.pick(&others).cloned()?;
            applied.operations_applied = u32::try_from(stolen.delta.ops.len()).unwrap_or(1);
            applied.signed = stolen;
        } else if self.makes("wrong_count", 8) {
            applied.operations_applied = if self.dice.percent(30) {
                0
            } else {
                applied.operations_applied + 1
            };
        } else if self.makes("wrong_time", 8) {
            applied.timestamp = *self
                .dice
                .pick(&[Timestamp(-1), Timestamp(i64::MAX), Timestamp(START + 1)])?;
        } else if self.makes("version_jump", 8) {
            let far = *self
                .dice
                .pick(&[(1_u64 << 52) - 1, 1 << 53, at.version.number() + 1_000])?;
            applied.applied_at = Some(HashedVersion {
                version: Version::new(far),
                hash: at.hash.clone(),
            });
        } else if self.makes("poison", 8) {
            applied.signed = self.sign(delta(vec![poison()], author));
            applied.operations_applied = 1;
        } else if self.makes("garbage", 4) {
            let junk: Vec<u8> = (0..60).map(|_| self.dice.roll().to_le_bytes()[0]).collect();
            return Some(junk.into());
        } else {
            return None;
        }
        Some(Encoded::new(applied).bytes().clone())
    }

    fn tamper_iq(&mut self, iq: Iq, stanza: Element) -> Vec<Element> {
        let IqKind::Result(Some(payload)) = &iq.kind else {
            return vec![stanza];
        };
        let answer = |payload: Element| {
            let kind = IqKind::Result(Some(payload));
            vec![Iq { kind, ..iq.clone() }.to_element()]
        };
        if let Ok(HistoryResponse {
            mut deltas, committed, ..
        }) = history::parse_response(payload)
            && !deltas.is_empty()
        {
            if self.makes("history_empty", 25) {
                let truncated = None;
                deltas.clear();
                return answer(history::response(&HistoryResponse {
                    deltas,
                    committed,
                    truncated,
                }));
            }
            if self.makes("history_short", 25) {
                deltas.truncate(1 + deltas.len() / 2);
                let truncated = self.dice.percent(50).then(|| Version::new(self.dice.roll() % 1_000));
                return answer(history::response(&HistoryResponse {
                    deltas,
                    committed,
                    truncated,
                }));
            }
            if self.makes("history_lies", 25) {
                let last = deltas.pop().expect("there is one");
                let mut lie = last.value().clone();
                lie.timestamp = Timestamp(lie.timestamp.0 + 1);
                if self.dice.percent(50) {
                    deltas.insert(0, Encoded::new(lie));
                } else {
                    deltas.push(Encoded::new(lie));
                }
                let truncated = None;
                return answer(history::response(&HistoryResponse {
                    deltas,
                    committed,
                    truncated,
                }));
            }
        }
        if signer::parse_get_response(payload).is_ok() && self.makes("signer_lie", 40) {
            let other = keys::signer(self.dice.below(keys::DOMAINS.len()));
            return answer(signer::get_response(other.info()));
        }
        if disco::parse_items(payload).is_some() && payload.name() == "query" && self.makes("disco_theft", 60) {
            let victim = self.dice.below(self.servers.len());
            let jid = self.jid(victim);
            return answer(disco::items_element(&[jid]));
        }
        vec![stanza]
    }

    /// What comes to the hostile server: it remembers what others have signed, and may keep it from its node.
    pub(super) fn swallow(&mut self, from: usize, to: usize, stanza: Element) -> Option<Element> {
        if !self.is_evil(to) {
            return Some(stanza);
        }
        let parsed = Stanza::parse(&stanza);
        match &parsed {
            Ok(Stanza::Message(message)) => {
                let updates = update::event(message).and_then(|event| update::parse(event).ok());
                for update in updates.into_iter().flatten().flatten() {
                    for delta in update.deltas {
                        self.steal(&update.name, &delta.signed);
                    }
                }
                if update::event(message).is_some()
                    && self.makes("ack_unapplied", 15)
                    && let Some(receipt) = receipts::receipt_for(message)
                {
                    self.transmit(to, from, receipt.to_element());
                    return None;
                }
            }
            Ok(Stanza::Iq(iq)) => {
                if let IqKind::Set(payload) = &iq.kind
                    && let Ok(request) = submit::parse_request(payload)
                {
                    self.steal(&request.name, &request.delta);
                }
            }
            _ => {}
        }
        Some(stanza)
    }

    fn steal(&mut self, name: &WaveletName, signed: &Encoded<SignedDelta>) {
        if let Some(evil) = &mut self.evil
            && evil.signed.len() < 200
            && signed.delta.author.domain().as_str() != keys::DOMAINS[keys::EVIL]
        {
            evil.signed.push((name.clone(), signed.clone()));
        }
    }

    fn stolen(&self) -> Vec<(WaveletName, Encoded<SignedDelta>)> {
        self.evil.as_ref().map(|evil| evil.signed.clone()).unwrap_or_default()
    }

    /// Something that no node would do.
    pub(super) fn evil_move(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        let pause = self.dice.between(200, 8_000);
        self.after(pause, Happening::Move);
        let Some(from) = self.evil.as_ref().map(|evil| evil.server) else {
            return;
        };
        let to = self.dice.below(from);
        if let Some(kind) = self.dice.pick(&self.mix.moves).copied()
            && let Some(stanzas) = self.made(kind, to)
        {
            self.makes(kind, 100);
            for stanza in stanzas {
                self.transmit(from, to, stanza);
            }
        }
    }

    /// The stanzas of a move out of nothing; `None`: this one needs something to change.
    fn made(&mut self, kind: &'static str, to: usize) -> Option<Vec<Element>> {
        let waves: Vec<WaveletName> = self.users.waves.iter().cloned().collect();
        let (own, theirs) = (self.jid(self.evil.as_ref()?.server), self.jid(to));
        let of_theirs: Vec<WaveletName> = waves
            .iter()
            .filter(|name| *name.host() == self.servers[to].config.domain)
            .cloned()
            .collect();
        let id = self.fresh_id();
        let set = |payload: Element| vec![Iq::set(own.clone(), theirs.clone(), id.clone(), payload).to_element()];
        let get = |payload: Element| vec![Iq::get(own.clone(), theirs.clone(), id.clone(), payload).to_element()];
        match kind {
            "forge_author" | "forge_signature" | "poison" | "version_jump" | "removed_author" | "oversized" => {
                let name = self.dice.pick(&of_theirs).cloned()?;
                let delta = self.bad_submission(kind, &name)?;
                Some(set(submit::request(&SubmitRequest { name, delta })))
            }
            "replay_elsewhere" => {
                let name = self.dice.pick(&of_theirs).cloned()?;
                let (_, delta) = self.dice.pick(&self.stolen()).cloned()?;
                Some(set(submit::request(&SubmitRequest { name, delta })))
            }
            "ex_participant" => {
                let name = self.dice.pick(&of_theirs).cloned()?;
                let to = self.oracle.head(&name)?.clone();
                if self.dice.percent(30) {
                    let signer = keys::signer(self.dice.below(keys::DOMAINS.len())).id().clone();
                    return Some(get(signer::get(&SignerRequest { name, signer, at: to })));
                }
                let from = HashedVersion::zero(&name);
                let limit = Some(1_000_000);
                Some(get(history::request(&HistoryRequest { name, from, to, limit })))
            }
            "signer_lie" => {
                let other = keys::signer(self.dice.below(keys::DOMAINS.len()));
                Some(set(signer::post(other.info())))
            }
            "double_ack" => {
                let mut receipt = Message::new(own, theirs, id.clone());
                receipt = receipt.with(element("received", billow_xmpp::ns::RECEIPTS).attr("id", "no such message"));
                Some(vec![receipt.to_element()])
            }
            "spoofed_from" | "disco_theft" | "garbage" => {
                // What is about another's wavelet; of its own a server believes nobody anything.
                let others: Vec<_> = waves.into_iter().filter(|name| !of_theirs.contains(name)).collect();
                let name = self.dice.pick(&others).cloned()?;
                let head = self
                    .oracle
                    .head(&name)
                    .cloned()
                    .unwrap_or_else(|| HashedVersion::zero(&name));
                let from = if kind == "spoofed_from" {
                    self.jid(self.index_of(name.host().as_str())?)
                } else {
                    own
                };
                let deltas: Vec<Bytes> = if kind == "garbage" {
                    vec![Bytes::from_static(b"\x0a\x03abc")]
                } else {
                    vec![self.forged(&head)?]
                };
                let outgoing = update::Outgoing {
                    name: &name,
                    deltas: &deltas,
                    commit: None,
                    digest: None,
                };
                Some(vec![update::message(from, theirs, id, &outgoing).to_element()])
            }
            "commit_ahead" => {
                let evil = keys::DOMAINS[keys::EVIL];
                let own_waves: Vec<_> = waves.into_iter().filter(|name| name.host().as_str() == evil).collect();
                let name = self.dice.pick(&own_waves).cloned()?;
                let commit = HashedVersion {
                    version: Version::new(self.dice.roll() % 200),
                    hash: HistoryHash::from_bytes(&[9; 20]),
                };
                let outgoing = update::Outgoing {
                    name: &name,
                    deltas: &[],
                    commit: Some(&commit),
                    digest: None,
                };
                Some(vec![update::message(own, theirs, id, &outgoing).to_element()])
            }
            "flood" => Some(self.flood(to)),
            _ => None,
        }
    }

    fn flood(&mut self, to: usize) -> Vec<Element> {
        let (own, theirs) = (self.jid(self.evil.as_ref().map_or(0, |evil| evil.server)), self.jid(to));
        let waves: Vec<WaveletName> = self.users.waves.iter().cloned().collect();
        let mut stanzas = Vec::new();
        for _ in 0..100 + self.dice.below(300) {
            let id = self.fresh_id();
            stanzas.push(match (self.dice.below(4), self.dice.pick(&waves).cloned()) {
                (0, Some(name)) => {
                    let from = HashedVersion::zero(&name);
                    let to = HashedVersion {
                        version: Version::new(self.dice.roll() % 100),
                        hash: HistoryHash::from_bytes(&[1; 20]),
                    };
                    let limit = None;
                    Iq::get(
                        own.clone(),
                        theirs.clone(),
                        id,
                        history::request(&HistoryRequest { name, from, to, limit }),
                    )
                    .to_element()
                }
                (1, _) => {
                    let name = format!("{}/w+{id}/~/conv+root", keys::DOMAINS[keys::EVIL]);
                    let name: WaveletName = name.parse().expect("it is a name");
                    let head = HashedVersion::zero(&name);
                    let deltas: Vec<Bytes> = self.forged(&head).into_iter().collect();
                    let outgoing = update::Outgoing {
                        name: &name,
                        deltas: &deltas,
                        commit: None,
                        digest: None,
                    };
                    update::message(own.clone(), theirs.clone(), id, &outgoing).to_element()
                }
                (2, _) => Message::new(own.clone(), theirs.clone(), id)
                    .with(element("nonsense", ns::WAVE))
                    .to_element(),
                _ => Iq::get(own.clone(), theirs.clone(), id, disco::info_request()).to_element(),
            });
        }
        stanzas
    }

    /// A delta by a user of the hostile server, applied there.
    fn forged(&mut self, at: &HashedVersion) -> Option<Bytes> {
        let author = self.mallory();
        let op = if at.version == Version::ZERO {
            WaveletOp::AddParticipant(author.clone())
        } else {
            WaveletOp::NoOp
        };
        let delta = Delta {
            target: at.clone(),
            author,
            ops: vec![op],
            address_path: Vec::new(),
        };
        let applied = AppliedDelta {
            signed: self.sign(Encoded::new(delta)),
            applied_at: Some(at.clone()),
            operations_applied: 1,
            timestamp: Timestamp(START + self.now),
        };
        Some(Encoded::new(applied).bytes().clone())
    }

    fn bad_submission(&mut self, kind: &'static str, name: &WaveletName) -> Option<Encoded<SignedDelta>> {
        let head = self.oracle.head(name)?.clone();
        let text = |len: usize| {
            let op = DocOp::new(vec![Component::Characters("x".repeat(len))]).expect("it is well-formed");
            let id = DocumentId::new("evil").expect("it is a name");
            WaveletOp::MutateDocument { id, op }
        };
        let mut delta = Delta {
            target: head,
            author: self.mallory(),
            ops: vec![WaveletOp::NoOp],
            address_path: Vec::new(),
        };
        match kind {
            "forge_author" | "forge_signature" => {
                delta.author = self.victim();
                let signer = keys::signer(self.index_in_keys(delta.author.domain().as_str()));
                let signer = (kind == "forge_signature").then(|| signer.id().clone());
                return Some(self.sign_falsely(Encoded::new(delta), signer));
            }
            "poison" => delta.ops = vec![poison()],
            "version_jump" => delta.target.version = Version::new(*self.dice.pick(&[1 << 52, 1 << 62, 0])?),
            "oversized" => delta.ops = vec![text(100_000)],
            // By somebody who may no longer, or may never have been on it.
            _ => {}
        }
        Some(self.sign(Encoded::new(delta)))
    }

    /// Somebody honest.
    fn victim(&mut self) -> ParticipantId {
        let honest: Vec<ParticipantId> = self
            .users
            .all
            .iter()
            .filter(|user| !self.is_evil(user.server))
            .map(|user| user.author.clone())
            .collect();
        self.dice.pick(&honest).cloned().expect("the first server has users")
    }

    fn index_in_keys(&self, domain: &str) -> usize {
        keys::DOMAINS.iter().position(|one| *one == domain).unwrap_or(0)
    }

    fn sign(&mut self, delta: Encoded<Delta>) -> Encoded<SignedDelta> {
        keys::signer(keys::EVIL)
            .sign(delta)
            .expect("it is a delta of its own user")
    }

    /// Somebody else's delta with a signature of the hostile server's key, in its own name or in another's. Half of the
    /// signatures in another's name are over other bytes.
    fn sign_falsely(&mut self, delta: Encoded<Delta>, signer: Option<billow_wire::SignerId>) -> Encoded<SignedDelta> {
        let mut signed = delta.bytes().to_vec();
        if signer.is_some() && self.dice.percent(50) {
            signed.push(0);
        }
        let signer = signer.unwrap_or_else(|| keys::signer(keys::EVIL).id().clone());
        let bytes = keys::sign_with_the_hostile_key(&signed).into();
        Encoded::new(SignedDelta {
            delta,
            signatures: vec![Signature { bytes, signer }],
        })
    }
}

/// An operation that fits no document.
fn poison() -> WaveletOp {
    let op = DocOp::new(vec![Component::Retain(99_999), Component::Characters("!".to_owned())]);
    WaveletOp::MutateDocument {
        id: DocumentId::new("notes").expect("it is a name"),
        op: op.expect("it is well-formed"),
    }
}
