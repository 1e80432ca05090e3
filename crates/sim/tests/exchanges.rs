//! What another server asks of a host, stanza by stanza, and what it gets: a domain that is added, one that was removed, and a
//! submission for each reason to refuse one.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::VecDeque;

use billow_federation::stanza::{history, signer as signers, submit};
use billow_model::{
    Component, Delta, DocOp, DocumentId, Domain, HashedVersion, HistoryHash, Timestamp, Version, WaveletName, WaveletOp,
};
use billow_signing::{Authority, Signer, TrustRoots, Validity};
use billow_sim::{Action, Config, Disk, Event, Node};
use billow_wavelet::Submission;
use billow_wire::exchange::{HistoryRequest, SignerRequest, SubmitRequest};
use billow_wire::{Encoded, SignedDelta, SignerId};
use billow_xmpp::{Element, Iq, IqKind, Jid, Stanza};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// The servers: the host, one that takes part, and one that has nothing to do with it.
const NAMES: [&str; 3] = ["initech.lab", "acme.lab", "evil.lab"];
const HOST: usize = 0;

struct Lab {
    nodes: Vec<Node>,
    signers: Vec<Signer>,
    sequence: u64,
    /// Who was sent what by the host.
    sent: Vec<(String, Element)>,
    /// Answers to what the test asked by itself.
    answers: Vec<Element>,
}

impl Lab {
    fn start() -> Self {
        let validity = Validity {
            from: Timestamp(NOW.0 - 1_000_000_000),
            until: Timestamp(NOW.0 + 100_000_000_000),
        };
        let authority = Authority::new("Lab", validity).unwrap();
        let roots = TrustRoots::none()
            .with_pem(&authority.certificate_pem().unwrap())
            .unwrap();
        let signers = NAMES.map(|name| {
            let domain: Domain = name.parse().unwrap();
            let issued = authority.issue(&domain, &[], validity).unwrap();
            Signer::from_pem(domain, &issued.key_pem, &issued.chain_pem).unwrap()
        });
        let node = |signer: &Signer| {
            let config = Config::new(signer.domain().clone(), signer.clone(), roots.clone(), 1);
            Node::start(NOW, config, Disk::default())
        };
        Self {
            nodes: signers.iter().map(node).collect(),
            signers: signers.to_vec(),
            sequence: 0,
            sent: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn carry(&mut self, to: usize, event: Event) {
        let mut events = VecDeque::from([(to, event)]);
        while let Some((from, event)) = events.pop_front() {
            for action in self.nodes[from].run(NOW, event) {
                match action {
                    Action::Send { peer, stanza } => {
                        if from == HOST {
                            self.sent.push((peer.to_string(), stanza.clone()));
                        }
                        if stanza.attr("id").is_some_and(|id| id.starts_with("test ")) {
                            self.answers.push(stanza);
                            continue;
                        }
                        let to = NAMES.iter().position(|name| *name == peer.as_str()).unwrap();
                        let peer = NAMES[from].parse().unwrap();
                        events.push_back((to, Event::Stanza { peer, element: stanza }));
                    }
                    Action::Answered { outcome, .. } => drop(outcome.unwrap()),
                    Action::Dropped { .. } | Action::Damaged { .. } | Action::Quarantined { .. } => {
                        panic!("{action:?}")
                    }
                    _ => {}
                }
            }
        }
    }

    /// Somebody at the host changes the newest version.
    fn change(&mut self, author: &str, ops: Vec<WaveletOp>) -> HashedVersion {
        self.sequence += 1;
        let shown = self.nodes[HOST].wavelet(&name());
        let event = Event::Submit {
            ticket: self.sequence,
            wavelet: name(),
            author: author.parse().unwrap(),
            submission: Submission {
                session: author.into(),
                sequence: self.sequence,
            },
            version: shown.map_or(Version::ZERO, |shown| shown.version()),
            ops,
        };
        self.carry(HOST, event);
        self.carry(HOST, Event::Seal(name()));
        self.head(HOST)
    }

    fn head(&self, at: usize) -> HashedVersion {
        let last = self.nodes[at].disk().seals(&name()).last();
        last.map_or_else(|| HashedVersion::zero(&name()), |(_, version)| version.clone())
    }

    /// Asks the host something and gives the answer: the payload, or the condition and the reason.
    fn ask(&mut self, from: usize, request: impl FnOnce(Jid, Jid, String) -> Iq) -> Result<Element, (String, String)> {
        self.sequence += 1;
        let jid = |name: &str| Jid::new(name).unwrap();
        let iq = request(jid(NAMES[from]), jid(NAMES[HOST]), format!("test {}", self.sequence));
        let peer = NAMES[from].parse().unwrap();
        let element = iq.to_element();
        self.carry(HOST, Event::Stanza { peer, element });
        let Ok(Stanza::Iq(answer)) = Stanza::parse(&self.answers.pop().expect("an answer")) else {
            panic!("an iq")
        };
        assert_eq!(answer.id, iq.id);
        match answer.kind {
            IqKind::Result(payload) => Ok(payload.unwrap()),
            IqKind::Error(error) => Err((error.condition.name().to_owned(), error.text.unwrap_or_default())),
            other => panic!("{other:?}"),
        }
    }

    /// How many deltas of a range come back.
    fn history(&mut self, from: usize, range: [&HashedVersion; 2], limit: Option<u64>) -> Result<usize, String> {
        let request = HistoryRequest {
            name: name(),
            from: range[0].clone(),
            to: range[1].clone(),
            limit,
        };
        let answer = self.ask(from, |own, to, id| Iq::get(own, to, id, history::request(&request)));
        let payload = answer.map_err(|(condition, _)| condition)?;
        let response = history::parse_response(&payload).unwrap();
        assert_eq!(
            response.deltas[0].applied_at(),
            range[0],
            "it begins where it was asked to"
        );
        Ok(response.deltas.len())
    }

    fn signer(&mut self, from: usize, signer: &SignerId, at: &HashedVersion) -> Result<SignerId, String> {
        let request = SignerRequest {
            name: name(),
            signer: signer.clone(),
            at: at.clone(),
        };
        let answer = self.ask(from, |own, to, id| Iq::get(own, to, id, signers::get(&request)));
        let payload = answer.map_err(|(condition, _)| condition)?;
        Ok(signers::parse_get_response(&payload).unwrap().id())
    }

    fn submit(
        &mut self,
        from: usize,
        wavelet: &WaveletName,
        delta: Encoded<SignedDelta>,
    ) -> Result<Element, (String, String)> {
        let request = SubmitRequest {
            name: wavelet.clone(),
            delta,
        };
        self.ask(from, |own, to, id| Iq::set(own, to, id, submit::request(&request)))
    }

    fn signed(&self, by: usize, author: &str, target: &HashedVersion, ops: Vec<WaveletOp>) -> Encoded<SignedDelta> {
        let delta = Delta {
            target: target.clone(),
            author: author.parse().unwrap(),
            ops,
            address_path: Vec::new(),
        };
        let delta = Encoded::new(delta);
        self.signers[by].sign(delta.clone()).unwrap_or_else(|_| {
            // Nobody signs in another's name; whoever does it all the same has some signature of their own.
            let own = format!("x@{}", self.signers[by].domain());
            let signatures = self.signed(by, &own, target, vec![WaveletOp::NoOp]).signatures.clone();
            Encoded::new(SignedDelta { delta, signatures })
        })
    }
}

fn name() -> WaveletName {
    "initech.lab/w+a/~/conv+root".parse().unwrap()
}

fn insert(text: &str, before: u32) -> WaveletOp {
    let retain = (before > 0).then_some(Component::Retain(before));
    let components = retain.into_iter().chain([Component::Characters(text.into())]);
    WaveletOp::MutateDocument {
        id: DocumentId::new("notes").unwrap(),
        op: DocOp::new(components.collect()).unwrap(),
    }
}

fn add(who: &str) -> WaveletOp {
    WaveletOp::AddParticipant(who.parse().unwrap())
}

fn remove(who: &str) -> WaveletOp {
    WaveletOp::RemoveParticipant(who.parse().unwrap())
}

const ALICE: &str = "alice@initech.lab";
const BOB: &str = "bob@acme.lab";

#[test]
fn s_26_a_domain_that_is_added_gets_everything_and_one_that_is_removed_nothing_more() {
    let mut lab = Lab::start();
    let zero = HashedVersion::zero(&name());
    let mut versions = vec![lab.change(ALICE, vec![add(ALICE)])];
    for at in 0..5 {
        versions.push(lab.change(ALICE, vec![insert("x", at)]));
    }
    let own = lab.signers[HOST].id().clone();
    assert_eq!(
        lab.history(1, [&zero, &versions[2]], None),
        Err("item-not-found".into()),
        "it is not there yet"
    );
    versions.push(lab.change(ALICE, vec![add(BOB)]));
    assert_eq!(
        lab.head(1),
        *versions.last().unwrap(),
        "everything from version 0 on is there"
    );

    let removal = lab.change(ALICE, vec![remove(BOB)]);
    assert_eq!(lab.head(1), removal, "it gets its removal");
    lab.sent.clear();
    let after = lab.change(ALICE, vec![insert("secret", 5)]);
    assert_eq!(lab.sent, [], "and nothing that comes after");
    assert_eq!(lab.head(1), removal);
    // It may fetch what it could have: up to its removal.
    assert_eq!(lab.history(1, [&zero, &removal], None), Ok(8));
    assert_eq!(lab.history(1, [&versions[5], &removal], None), Ok(2));
    assert_eq!(lab.signer(1, &own, &removal), Ok(own.clone()));
    for range in [[&zero, &after], [&removal, &after]] {
        assert_eq!(lab.history(1, range, None), Err("item-not-found".into()));
    }
    assert_eq!(lab.signer(1, &own, &after), Err("item-not-found".into()));
    assert_eq!(
        lab.history(2, [&zero, &removal], None),
        Err("item-not-found".into()),
        "a stranger gets nothing"
    );

    // Added again it gets all that it has missed.
    let again = lab.change(ALICE, vec![add(BOB)]);
    assert_eq!(lab.head(1), again);
    assert_eq!(lab.history(1, [&removal, &again], None), Ok(2));
}

#[test]
fn history_comes_in_answers_of_the_wanted_size() {
    let mut lab = Lab::start();
    let zero = HashedVersion::zero(&name());
    lab.change(ALICE, vec![add(ALICE), add(BOB)]);
    for at in 0..9 {
        lab.change(ALICE, vec![insert("x", at)]);
    }
    let head = lab.head(HOST);
    assert_eq!(
        lab.history(1, [&zero, &head], None),
        Ok(10),
        "without a limit, as much as fits"
    );
    assert_eq!(lab.history(1, [&zero, &head], Some(1)), Ok(1), "at least one");
    let two = lab.history(1, [&zero, &head], Some(1_200)).unwrap();
    assert!((2..10).contains(&two), "{two}");
    // What is no limit: as the reference writes it, or nearly.
    for (text, expected) in [
        ("0", Ok(10)),
        ("-1", Ok(10)),
        ("-300000", Ok(10)),
        ("x", Err("bad-request".to_owned())),
    ] {
        let request = HistoryRequest {
            name: name(),
            from: zero.clone(),
            to: head.clone(),
            limit: Some(77),
        };
        let answer = lab.ask(1, |own, to, id| {
            let payload = String::from(&history::request(&request)).replace("'77'", &format!("'{text}'"));
            let payload = payload.replace("\"77\"", &format!("\"{text}\""));
            Iq::get(own, to, id, payload.parse::<Element>().unwrap())
        });
        let deltas = answer.map(|payload| history::parse_response(&payload).unwrap().deltas.len());
        assert_eq!(deltas.map_err(|(condition, _)| condition), expected, "{text}");
    }
}

#[test]
fn a_submission_is_refused_for_each_reason_in_the_references_words_where_it_has_any() {
    let mut lab = Lab::start();
    let zero = HashedVersion::zero(&name());
    lab.change(ALICE, vec![add(ALICE), add(BOB), insert("hello", 0)]);
    let old = lab.head(HOST);
    lab.change(ALICE, vec![insert("!", 5)]);
    let head = lab.head(HOST);
    let wrong = |version: &HashedVersion| HashedVersion {
        version: version.version,
        hash: HistoryHash::from_bytes(&[7; 20]),
    };
    let future = HashedVersion {
        version: Version::new(99),
        ..wrong(&head)
    };
    let inside = HashedVersion {
        version: Version::new(2),
        ..wrong(&head)
    };
    let fits = || vec![insert("?", 6)];
    let elsewhere: WaveletName = "acme.lab/w+a/~/conv+root".parse().unwrap();
    let absent: WaveletName = "initech.lab/w+absent/~/conv+root".parse().unwrap();
    let changed = {
        let signed = lab.signed(1, BOB, &head, fits());
        let mut bytes = signed.delta.bytes().to_vec();
        let at = bytes.iter().rposition(|byte| *byte == b'?').unwrap();
        bytes[at] = b'!';
        Encoded::new(SignedDelta {
            delta: Encoded::decode(bytes.into()).unwrap(),
            signatures: signed.signatures.clone(),
        })
    };
    let by = |author: &str, target: &HashedVersion, ops| lab.signed(1, author, target, ops);
    let cases: Vec<(&str, WaveletName, Encoded<SignedDelta>, &str, &str)> = vec![
        (
            "another host's",
            elsewhere,
            by(BOB, &head, fits()),
            "bad-request",
            "Non-local wavelet update",
        ),
        (
            "at version 0",
            name(),
            by(BOB, &zero, vec![add(BOB)]),
            "bad-request",
            "Remote users may not create wavelets.",
        ),
        (
            "unknown signer",
            name(),
            by(BOB, &head, fits()),
            "internal-server-error",
            "Unknown signer",
        ),
        ("changed", name(), changed, "bad-request", "Remote verification failed"),
        (
            "in another's name",
            name(),
            by(ALICE, &head, fits()),
            "bad-request",
            "Remote verification failed",
        ),
        (
            "of a wavelet that is not there",
            absent,
            by(BOB, &head, fits()),
            "bad-request",
            "is not a participant of",
        ),
        (
            "not a participant",
            name(),
            by("eve@acme.lab", &head, fits()),
            "bad-request",
            "eve@acme.lab is not a participant of wave://initech.lab/w+a/conv+root",
        ),
        (
            "no operations",
            name(),
            by(BOB, &head, vec![]),
            "bad-request",
            "at least one operation",
        ),
        (
            "newest version, wrong hash",
            name(),
            by(BOB, &wrong(&head), fits()),
            "bad-request",
            "Mismatched hash at version 4: 4:",
        ),
        (
            "old version, wrong hash",
            name(),
            by(BOB, &wrong(&old), fits()),
            "not-acceptable",
            "not known",
        ),
        (
            "no boundary",
            name(),
            by(BOB, &inside, fits()),
            "not-acceptable",
            "not known",
        ),
        (
            "in the future",
            name(),
            by(BOB, &future, fits()),
            "not-acceptable",
            "not known",
        ),
        (
            "does not fit",
            name(),
            by(BOB, &head, vec![insert("?", 60)]),
            "bad-request",
            "does not apply",
        ),
        (
            "adds who is there",
            name(),
            by(BOB, &head, vec![add(ALICE)]),
            "bad-request",
            "does not apply",
        ),
        (
            "removes who is not there",
            name(),
            by(BOB, &head, vec![remove("eve@acme.lab")]),
            "bad-request",
            "does not apply",
        ),
    ];
    let mut known = false;
    for (what, wavelet, delta, condition, reason) in cases {
        if what == "changed" && !known {
            // From here on the host knows acme's chain.
            known = true;
            let info = lab.signers[1].info().clone();
            lab.ask(1, |own, to, id| Iq::set(own, to, id, signers::post(&info)))
                .unwrap();
        }
        let (got, text) = lab.submit(1, &wavelet, delta).unwrap_err();
        assert!(got == condition && text.contains(reason), "{what}: {got}, {text}");
        assert_eq!(lab.head(HOST), head, "{what} changes nothing");
    }
    // Somebody else carries it here: the host takes a delta from its author's own server.
    let carried = lab.signed(1, BOB, &head, fits());
    let (condition, _) = lab.submit(2, &name(), carried.clone()).unwrap_err();
    assert_eq!(condition, "bad-request");
    assert_eq!(lab.head(HOST), head);

    // And one is taken, and taken once: again it has the first result, also when the wavelet has gone on.
    let first = lab.submit(1, &name(), carried.clone()).unwrap();
    lab.change(ALICE, vec![insert("…", 7)]);
    let newest = lab.head(HOST);
    assert_eq!(lab.submit(1, &name(), carried).unwrap(), first);
    assert_eq!(lab.head(HOST), newest);
    // One that its author was removed before.
    let late = lab.signed(1, BOB, &newest, vec![insert("x", 8)]);
    lab.change(ALICE, vec![remove(BOB)]);
    let (condition, text) = lab.submit(1, &name(), late).unwrap_err();
    assert!(
        condition == "bad-request" && text.contains("is not a participant of"),
        "{condition}, {text}"
    );
}
