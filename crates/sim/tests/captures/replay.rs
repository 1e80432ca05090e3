//! A Billow server in the place of one of the recorded ones.
//!
//! It is told what that one was told, at the recorded times; its users do what that one's users did; and what it says is put
//! beside what that one said. The others' recorded answers are given to whoever asked the same. Where it asks what
//! nobody asked in the recording, a stand-in of the other servers answers, from the recorded histories and keys.
//!
//! Two things are done to the recording. Our service is the domain itself and not a component of it, so our addresses are
//! written anew. And a submission reaches us at the moment at which the recorded host applied it, so that both give it
//! the same time: the time is part of what is hashed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use billow_federation::stanza::{history, signer as signers, submit};
use billow_model::{Delta, Domain, HashedVersion, Timestamp, Version, WaveletName};
use billow_signing::TrustRoots;
use billow_sim::{Action, Config, Disk, Event, Node};
use billow_wavelet::{Refusal, Submission};
use billow_wire::exchange::{HistoryResponse, SubmitRequest, SubmitResponse};
use billow_wire::{Encoded, SignedDelta};
use billow_xmpp::disco::{self, Identity, Info};
use billow_xmpp::{Condition, Element, Iq, IqKind, Jid, Stanza, StanzaError, receipts};

use crate::recording::{Happening, Recorded, Recording, What, directory, signer};
use crate::said::{Said, Word, domain, readdress, said};

/// Runs of the clock without anything happening, at most.
const TICKS_MAX: usize = 20_000;
/// How long it goes on after the recording has ended.
const AFTER_MS: i64 = 20 * 60_000;

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Stanzas of the recording that were told or compared.
    pub(crate) stanzas: usize,
    /// What both said.
    pub(crate) equal: BTreeMap<&'static str, usize>,
    /// What only the recorded server said.
    pub(crate) only_theirs: Vec<Said>,
    /// What only ours said.
    pub(crate) only_ours: Vec<Said>,
    /// What our users were refused, and whether the recorded host refused it too or gave no answer.
    pub(crate) refused: Vec<(Refusal, bool)>,
    /// Deltas of the recorded server's users that went in as signed, because they were made against an older version.
    pub(crate) signed_locals: usize,
    /// Those of them that were refused.
    pub(crate) signed_refused: Vec<String>,
    /// Everything that ours said.
    pub(crate) ours: Vec<Said>,
    /// Ours refused a delta of its own user for the rules of a document, so that the histories part here.
    pub(crate) parted: Option<Refusal>,
}

pub(crate) struct Replay<'a> {
    recording: &'a Recording,
    server: Domain,
    /// The host answers each request for history with a single delta, whatever it says of where it was cut (protocol.md T4).
    pub(crate) one_delta_an_answer: bool,
    /// `None` while the server is stopped.
    node: Option<Node>,
    /// The disk of a stopped server.
    disk: Option<Disk>,
    now: Timestamp,
    steps: VecDeque<(Timestamp, Step)>,
    inbox: VecDeque<Element>,
    /// What the recorded server asked, by the id of the stanza.
    asked: HashMap<String, Vec<Said>>,
    /// How often it asked it.
    asks_left: BTreeMap<Said, usize>,
    /// Answers that ours has not asked for yet.
    answers: BTreeMap<Said, VecDeque<Element>>,
    /// Requests and messages of ours without an answer.
    open: Vec<(String, Vec<Said>)>,
    /// What the recorded messages said that were acknowledged, and that came back.
    acknowledged: Vec<Said>,
    bounced: BTreeMap<Said, VecDeque<Element>>,
    bounced_before: Vec<Said>,
    /// What users of this server do to wavelets of others, in order.
    pending: VecDeque<(WaveletName, Encoded<SignedDelta>)>,
    submitted: HashMap<u64, Encoded<SignedDelta>>,
    sequences: BTreeMap<String, u64>,
    tickets: u64,
    seed: u64,
    theirs: Vec<Said>,
    ours: Vec<Said>,
    outcome: Outcome,
}

enum Step {
    Happens(What),
    /// A user of this server changes a wavelet of this server.
    Local(Box<(WaveletName, Recorded)>),
}

impl<'a> Replay<'a> {
    pub(crate) fn new(recording: &'a Recording, server: &Domain) -> Self {
        let deltas = recording
            .histories
            .values()
            .flatten()
            .map(|recorded| recorded.applied.timestamp);
        let happenings = recording.happenings(server).iter().map(|happening| happening.at);
        let start = deltas.chain(happenings).min().unwrap();
        let config = config(server, 1);
        let mut replay = Self {
            recording,
            server: server.clone(),
            one_delta_an_answer: false,
            node: Some(Node::start(start, config, Disk::default())),
            disk: None,
            now: start,
            steps: VecDeque::new(),
            inbox: VecDeque::new(),
            asked: HashMap::new(),
            asks_left: BTreeMap::new(),
            answers: BTreeMap::new(),
            open: Vec::new(),
            acknowledged: Vec::new(),
            bounced: BTreeMap::new(),
            bounced_before: Vec::new(),
            pending: VecDeque::new(),
            submitted: HashMap::new(),
            sequences: BTreeMap::new(),
            tickets: 0,
            seed: 1,
            theirs: Vec::new(),
            ours: Vec::new(),
            outcome: Outcome::default(),
        };
        replay.plan();
        replay
    }

    /// Puts everything into the order in which it is to happen.
    fn plan(&mut self) {
        let applied = self.recording.by_signed_bytes();
        let mut steps: Vec<(Timestamp, u64, Step)> = Vec::new();
        for Happening { at, what } in self.recording.happenings(&self.server) {
            let mut key = (*at, u64::MAX);
            match what {
                What::Told(stanza) => {
                    self.outcome.stanzas += 1;
                    // What the host has applied comes at the moment of that.
                    let [
                        Said {
                            what: Word::Submits(name, signed),
                            ..
                        },
                    ] = &said(stanza)[..]
                    else {
                        steps.push((key.0, key.1, Step::Happens(what.clone())));
                        continue;
                    };
                    if let Some(recorded) = applied.get(&signed[..]).filter(|_| *name.host() == self.server) {
                        key = (recorded.applied.timestamp.max(*at), recorded.resulting.version.number());
                    }
                }
                What::Said(stanza) => {
                    self.outcome.stanzas += 1;
                    self.expect(stanza);
                }
                What::Mark(_) => {}
            }
            steps.push((key.0, key.1, Step::Happens(what.clone())));
        }
        for (name, history) in &self.recording.histories {
            let own = |recorded: &&Recorded| recorded.applied.signed.delta.author.domain() == self.server;
            for recorded in history.iter().filter(own).filter(|_| *name.host() == self.server) {
                let step = Step::Local(Box::new((name.clone(), recorded.clone())));
                steps.push((recorded.applied.timestamp, recorded.resulting.version.number(), step));
            }
        }
        steps.sort_by_key(|(at, version, _)| (*at, *version));
        self.steps = steps.into_iter().map(|(at, _, step)| (at, step)).collect();
    }

    /// Takes note of what the recorded server says.
    fn expect(&mut self, stanza: &Element) {
        let words = said(stanza);
        let id = stanza.attr("id").unwrap_or_default().to_owned();
        for word in &words {
            if let Word::Submits(name, signed) = &word.what
                && !self.refused_there(&id)
            {
                let signed = Encoded::decode(signed.clone()).unwrap();
                self.pending.push_back((name.clone(), signed));
            }
            *self.asks_left.entry(word.clone()).or_default() += 1;
        }
        self.asked.insert(id, words);
    }

    /// Whether the recorded host found this submission not to fit where it was made. Ours would make it anew at the newest version, which
    /// the recorded host was never asked.
    fn refused_there(&self, id: &str) -> bool {
        const UNFIT: [&str; 3] = ["Mismatched hash", "Only applied", "Transformation"];
        let happenings = self.recording.happenings(&self.server).iter();
        let answers = happenings.filter_map(|happening| match &happening.what {
            What::Told(stanza) if stanza.attr("id") == Some(id) && stanza.attr("type") == Some("error") => {
                StanzaError::of(stanza).text
            }
            _ => None,
        });
        answers
            .into_iter()
            .any(|text| UNFIT.iter().any(|unfit| text.contains(unfit)))
    }

    /// Runs the recording to its end and on, until nothing more is to be expected.
    pub(crate) fn run(mut self) -> (Outcome, Option<Node>) {
        while let Some((at, step)) = self.steps.pop_front() {
            if self.outcome.parted.is_some() {
                return (self.compare(), self.node);
            }
            self.advance(at);
            match step {
                Step::Happens(What::Told(stanza)) => self.told(stanza),
                Step::Happens(What::Said(stanza)) => self.said_there(&stanza),
                Step::Happens(What::Mark(text)) => self.mark(&text),
                Step::Local(local) => self.local(&local.0, &local.1),
            }
        }
        self.advance(Timestamp(self.now.0 + AFTER_MS));
        (self.compare(), self.node)
    }

    fn advance(&mut self, to: Timestamp) {
        for _ in 0..TICKS_MAX {
            let Some(at) = self.node.as_ref().and_then(Node::deadline).filter(|at| *at <= to) else {
                self.now = self.now.max(to);
                return;
            };
            self.now = self.now.max(at);
            self.tell(Event::Tick);
        }
        panic!("{}: the clock is asked for without end", self.recording.name);
    }

    /// Stops and starts, as the driver did.
    fn mark(&mut self, text: &str) {
        let name = self.server.as_str().strip_suffix(".test").unwrap();
        if !text.starts_with(name) {
            return;
        }
        if let Some(node) = self.node.take() {
            self.disk = Some(node.into_disk().crash(0));
            self.open.clear();
        }
        if !text.ends_with("stops") {
            self.seed += 1;
            let disk = self.disk.take().unwrap();
            self.node = Some(Node::start(self.now, config(&self.server, self.seed), disk));
            self.tell(Event::Tick);
        }
    }

    /// Something of the recording comes in.
    fn told(&mut self, stanza: Element) {
        let id = stanza.attr("id").unwrap_or_default();
        let asked = self.asked.get(id).cloned();
        let is_error = stanza.attr("type") == Some("error");
        let is_answer = is_error
            || stanza.attr("type") == Some("result")
            || matches!(
                said(&stanza)[..],
                [Said {
                    what: Word::Receipt(_),
                    ..
                }]
            );
        let Some(asked) = asked.filter(|_| is_answer) else {
            self.submit_before(&stanza);
            return self.deliver(&stanza);
        };
        match (stanza.name(), is_error) {
            ("message", false) => self.acknowledged.extend(asked),
            ("message", true) => {
                for word in asked {
                    self.bounced.entry(word).or_default().push_back(stanza.clone());
                }
            }
            _ => self.answers.entry(asked[0].clone()).or_default().push_back(stanza),
        }
        self.settle();
    }

    /// A user of this server makes a delta against what it has now. Once this stanza is in, that is not the newest any more.
    fn submit_before(&mut self, stanza: &Element) {
        for word in said(stanza) {
            if let Word::Delta(name, ..) = word.what {
                self.submit_pending(&name, None);
            }
        }
    }

    /// Submits what is made against exactly what this server has.
    fn submit_pending(&mut self, name: &WaveletName, only: Option<&[u8]>) {
        loop {
            let head = self.head(name);
            let Some(index) = self.pending.iter().position(|(wavelet, signed)| {
                wavelet == name
                    && Some(&signed.delta.target) == head.as_ref()
                    && only.is_none_or(|only| signed.bytes()[..] == *only)
            }) else {
                return;
            };
            // Nobody overtakes an earlier one.
            let first = self.pending.iter().position(|(wavelet, _)| wavelet == name);
            if first != Some(index) {
                return;
            }
            let (_, signed) = self.pending.remove(index).unwrap();
            self.submit(name, signed.delta.value(), &signed);
        }
    }

    fn head(&self, name: &WaveletName) -> Option<HashedVersion> {
        let node = self.node.as_ref()?;
        node.disk().seals(name).last().map(|(_, resulting)| resulting.clone())
    }

    /// The recorded server says something at this moment: its user has submitted by now.
    fn said_there(&mut self, stanza: &Element) {
        self.theirs.extend(said(stanza));
        for word in said(stanza) {
            if let Word::Submits(name, bytes) = word.what {
                self.submit_pending(&name, Some(&bytes));
                // Made against something else than the newest here: submitted all the same.
                let still = self.pending.iter().position(|(_, signed)| signed.bytes() == &bytes);
                if let Some((_, signed)) = still.and_then(|index| self.pending.remove(index)) {
                    self.submit(&name, signed.delta.value(), &signed);
                }
            }
        }
    }

    fn submit(&mut self, name: &WaveletName, delta: &Delta, signed: &Encoded<SignedDelta>) {
        let session = format!("recorded {}", delta.author);
        let sequence = self.sequences.entry(format!("{session} {name}")).or_default();
        *sequence += 1;
        self.tickets += 1;
        self.submitted.insert(self.tickets, signed.clone());
        let event = Event::Submit {
            ticket: self.tickets,
            wavelet: name.clone(),
            author: delta.author.clone(),
            submission: Submission {
                session: session.as_str().into(),
                sequence: *sequence,
            },
            version: delta.target.version,
            ops: delta.ops.clone(),
        };
        self.tell(event);
    }

    /// A user of this server changes a wavelet that it hosts.
    fn local(&mut self, name: &WaveletName, recorded: &Recorded) {
        let signed = recorded.applied.signed.clone();
        let delta = signed.delta.value().clone();
        if delta.target == *recorded.applied.applied_at() {
            return self.submit(name, &delta, &signed);
        }
        // Ours would be signed as it lands, and then nothing that follows could be compared. The original goes in signed.
        self.outcome.signed_locals += 1;
        let own = Jid::new(self.server.as_str()).unwrap();
        let info = signer(self.server.as_str()).info().clone();
        let post = Iq::set(own.clone(), own.clone(), "own chain", signers::post(&info));
        let request = SubmitRequest {
            name: name.clone(),
            delta: signed,
        };
        let submission = Iq::set(own.clone(), own, "own delta", submit::request(&request));
        for iq in [post, submission] {
            self.deliver(&iq.to_element());
        }
    }

    fn deliver(&mut self, stanza: &Element) {
        let component = format!("wave.{}", self.server);
        let own = self.server.to_string();
        let stanza = readdress(
            stanza,
            |jid| if jid == component { own.clone() } else { jid.to_owned() },
        );
        let peer = domain(stanza.attr("from").unwrap());
        self.tell(Event::Stanza { peer, element: stanza });
    }

    fn tell(&mut self, event: Event) {
        let Some(node) = &mut self.node else { return };
        for action in node.run(self.now, event) {
            self.act(action);
        }
        while let Some(stanza) = self.inbox.pop_front() {
            let peer = domain(stanza.attr("from").unwrap());
            let Some(node) = &mut self.node else { return };
            for action in node.run(self.now, Event::Stanza { peer, element: stanza }) {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { stanza, .. } => self.sent(&stanza),
            Action::Answered { ticket, outcome } => {
                if let Err(refusal) = outcome {
                    self.refused(ticket, refusal);
                }
            }
            Action::Quarantined { wavelet, evidence } => panic!("{wavelet} in quarantine: {evidence:?}"),
            Action::Damaged { wavelet, reason } => panic!("{wavelet} is damaged: {reason}"),
            // Of a wavelet that is not there.
            Action::Dropped { ticket } => self.refused(ticket, Refusal::Unavailable),
            Action::Shown { .. } | Action::Hurry(_) | Action::Written(_) | Action::Sign { .. } => {}
        }
    }

    fn refused(&mut self, ticket: u64, refusal: Refusal) {
        let signed = self.submitted.remove(&ticket).unwrap();
        let applied = self.recording.by_signed_bytes().contains_key(&signed.bytes()[..]);
        if applied && matches!(refusal, Refusal::Schema(_)) {
            self.outcome.parted = Some(refusal);
        } else {
            self.outcome.refused.push((refusal, !applied));
        }
    }

    /// Ours says something.
    fn sent(&mut self, stanza: &Element) {
        let component = format!("wave.{}", self.server);
        let own = self.server.to_string();
        // What goes to ourselves is part of how signed deltas of our own users go in.
        if stanza.attr("to") == Some(&own) {
            if stanza.attr("type") != Some("result") {
                let error = StanzaError::of(stanza);
                self.outcome.signed_refused.push(error.to_string());
            }
            return;
        }
        let stanza = readdress(
            stanza,
            |jid| if jid == own { component.clone() } else { jid.to_owned() },
        );
        let words = said(&stanza);
        self.ours.extend(words.iter().cloned());
        let wants_answer = match Stanza::parse(&stanza) {
            Ok(Stanza::Iq(iq)) => matches!(iq.kind, IqKind::Get(_) | IqKind::Set(_)),
            Ok(Stanza::Message(message)) => receipts::is_requested(&message),
            _ => false,
        };
        if !wants_answer {
            return;
        }
        let id = stanza.attr("id").unwrap().to_owned();
        self.open.push((id.clone(), words.clone()));
        let left = self.asks_left.entry(words[0].clone()).or_default();
        let asked_there = *left > 0;
        *left = left.saturating_sub(1);
        self.settle();
        // A server that has started again asks sooner than its memory ends.
        let one_by_one = self.one_delta_an_answer && matches!(words[0].what, Word::AsksHistory(..));
        let asked_there =
            asked_there && !one_by_one && !(self.seed > 1 && matches!(words[0].what, Word::AsksItems | Word::AsksInfo));
        if stanza.name() == "iq" && !asked_there && self.open.iter().any(|(open, _)| *open == id) {
            self.stand_in(&stanza, &words[0]);
        }
    }

    /// Gives ours what the recorded servers have answered to the same.
    fn settle(&mut self) {
        let mut still = Vec::new();
        for (id, words) in std::mem::take(&mut self.open) {
            let last = words.last().unwrap().clone();
            let answer = self.answers.get_mut(&last).and_then(VecDeque::pop_front);
            let answer = answer.or_else(|| {
                let bounced = self.bounced.get_mut(&last).and_then(VecDeque::pop_front)?;
                self.bounced_before.push(last.clone());
                Some(bounced)
            });
            // What came back and is sent again arrives, for by then the server is there.
            let arrives = self.acknowledged.contains(&last) || self.bounced_before.contains(&last);
            match answer {
                Some(answer) => self.answer(&id, answer),
                None if matches!(last.what, Word::Delta(..) | Word::Commit(..)) && arrives => {
                    let receipt = billow_xmpp::element("message", "jabber:client")
                        .attr("from", &last.to)
                        .attr("to", self.server.as_str())
                        .child(Element::bare("received", "urn:xmpp:receipts"))
                        .done();
                    self.answer(&id, receipt);
                }
                None => still.push((id, words)),
            }
        }
        self.open.extend(still);
        if !self.inbox.is_empty() {
            self.tell(Event::Tick);
        }
    }

    fn answer(&mut self, id: &str, mut answer: Element) {
        billow_xmpp::element::set_attr(&mut answer, "id", id);
        let component = format!("wave.{}", self.server);
        let own = self.server.to_string();
        self.inbox.push_back(readdress(&answer, |jid| {
            if jid == component { own.clone() } else { jid.to_owned() }
        }));
    }

    /// Answers what nobody asked in the recording, as the recorded servers would have.
    fn stand_in(&mut self, stanza: &Element, word: &Said) {
        let Ok(Stanza::Iq(iq)) = Stanza::parse(stanza) else {
            return;
        };
        let is_server = |name: &str| ["alpha.test", "beta.test", "gamma.test"].contains(&name);
        let payload = match &word.what {
            Word::AsksItems if is_server(&word.to) => {
                Ok(disco::items_element(&[Jid::new(&format!("wave.{}", word.to)).unwrap()]))
            }
            Word::AsksInfo if is_server(&word.to) => Ok(info("server", "im", &[])),
            Word::AsksInfo if word.to.strip_prefix("wave.").is_some_and(is_server) => {
                Ok(info("collaboration", "google-wave", &[billow_federation::ns::WAVE]))
            }
            Word::AsksItems | Word::AsksInfo => Err(Condition::RemoteServerNotFound),
            Word::AsksSigner(.., id) => ["alpha.test", "beta.test", "gamma.test"]
                .map(signer)
                .iter()
                .find(|signer| signer.id() == id)
                .map(|signer| signers::get_response(signer.info()))
                .ok_or(Condition::BadRequest),
            Word::AsksHistory(name, from, _, to, _) => Ok(self.history(name, *from, *to)),
            Word::Posts(_) => Ok(signers::post_response()),
            Word::Submits(_, signed) => self.submitted_before(signed).ok_or(Condition::BadRequest),
            _ => return,
        };
        let answer = match payload {
            Ok(payload) => iq.result(Some(payload)),
            Err(condition) => iq.error(StanzaError::new(condition, "Malformed: the recording does not have it")),
        };
        let id = iq.id.clone();
        self.open.retain(|(open, _)| *open != id);
        self.answer(&id, answer.to_element());
    }

    fn history(&self, name: &WaveletName, from: Version, to: Version) -> Element {
        let all = self.recording.histories.get(name).into_iter().flatten();
        let range = all.filter(|recorded| (from..to).contains(&recorded.applied.applied_at().version));
        let range = range.take(if self.one_delta_an_answer { 1 } else { usize::MAX });
        history::response(&HistoryResponse {
            deltas: range.map(|recorded| recorded.applied.clone()).collect(),
            committed: Some(to),
            truncated: Some(to),
        })
    }

    fn submitted_before(&self, signed: &[u8]) -> Option<Element> {
        let applied = self.recording.by_signed_bytes();
        let recorded = applied.get(signed)?;
        Some(submit::response(&SubmitResponse {
            operations_applied: recorded.applied.operations_applied,
            resulting: recorded.resulting.clone(),
            timestamp: recorded.applied.timestamp,
        }))
    }

    /// Puts what ours said beside what they said.
    fn compare(&mut self) -> Outcome {
        let mut outcome = std::mem::take(&mut self.outcome);
        let mut ours: BTreeMap<Said, usize> = BTreeMap::new();
        for said in &self.ours {
            *ours.entry(said.meaning()).or_default() += 1;
        }
        for said in std::mem::take(&mut self.theirs) {
            match ours.get_mut(&said.meaning()).filter(|left| **left > 0) {
                Some(left) => {
                    *left -= 1;
                    *outcome.equal.entry(said.what.kind()).or_default() += 1;
                }
                None => outcome.only_theirs.push(said),
            }
        }
        outcome.ours.clone_from(&self.ours);
        for said in &self.ours {
            if let Some(left) = ours.get_mut(&said.meaning()).filter(|left| **left > 0) {
                *left -= 1;
                outcome.only_ours.push(said.clone());
            }
        }
        outcome
    }
}

fn config(server: &Domain, seed: u64) -> Config {
    let authority = std::fs::read(directory().join("keys/ca.pem")).unwrap();
    let roots = TrustRoots::none().with_pem(&authority).unwrap();
    Config::new(server.clone(), signer(server.as_str()), roots, seed)
}

fn info(category: &str, kind: &str, features: &[&str]) -> Element {
    let identity = Identity {
        category: category.to_owned(),
        kind: kind.to_owned(),
        name: None,
    };
    let info = Info {
        identities: vec![identity],
        features: features.iter().map(|feature| (*feature).to_owned()).collect(),
    };
    info.to_element()
}
