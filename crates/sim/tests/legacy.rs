//! A server whose peer runs the reference, as far as disco tells: text beyond U+FFFF is refused with a reason where the peer takes
//! part, the peer is never told such text, and what is submitted to it has one operation for each document.
//! The peer is one of ours, of whose disco answer the network takes the features of ours away.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::VecDeque;

use billow_federation::stanza::submit;
use billow_federation::{legacy, ns};
use billow_model::{Component, DocOp, DocumentId, Domain, Timestamp, Version, WaveletName, WaveletOp};
use billow_signing::{Authority, Signer, TrustRoots, Validity};
use billow_sim::{Action, Config, Disk, Event, Node};
use billow_wavelet::{Refusal, Submission};
use billow_xmpp::disco::Info;
use billow_xmpp::{Element, IqKind, Stanza};

const START: Timestamp = Timestamp(1_800_000_000_000);
/// The two servers: ours, and the one that is taken for a reference server.
const OURS: usize = 0;
const THEIRS: usize = 1;

struct Lab {
    nodes: [Node; 2],
    now: Timestamp,
    sequence: u64,
    /// What ours has sent.
    sent: Vec<Element>,
}

impl Lab {
    fn start() -> Self {
        let validity = Validity {
            from: Timestamp(START.0 - 1_000_000_000),
            until: Timestamp(START.0 + 100_000_000_000),
        };
        let authority = Authority::new("Lab", validity).unwrap();
        let roots = TrustRoots::none()
            .with_pem(&authority.certificate_pem().unwrap())
            .unwrap();
        let nodes = ["initech.lab", "acme.lab"].map(|name| {
            let domain: Domain = name.parse().unwrap();
            let issued = authority.issue(&domain, &[], validity).unwrap();
            let signer = Signer::from_pem(domain.clone(), &issued.key_pem, &issued.chain_pem).unwrap();
            Node::start(START, Config::new(domain, signer, roots.clone(), 1), Disk::default())
        });
        Self {
            nodes,
            now: START,
            sequence: 0,
            sent: Vec::new(),
        }
    }

    /// Gives an event to a node and carries stanzas to and fro. Gives the answers to submissions.
    fn carry(&mut self, to: usize, event: Event) -> Vec<Result<(), Refusal>> {
        let mut answers = Vec::new();
        let mut events = VecDeque::from([(to, event)]);
        while let Some((to, event)) = events.pop_front() {
            for action in self.nodes[to].run(self.now, event) {
                match action {
                    Action::Send { stanza, .. } => {
                        let peer = self.nodes[to].config().domain.as_str().parse().unwrap();
                        let element = if to == THEIRS { as_the_reference(stanza) } else { stanza };
                        if to == OURS {
                            self.sent.push(element.clone());
                        }
                        events.push_back((1 - to, Event::Stanza { peer, element }));
                    }
                    Action::Answered { outcome, .. } => answers.push(outcome.map(drop)),
                    Action::Dropped { .. } | Action::Damaged { .. } | Action::Quarantined { .. } => {
                        panic!("{action:?}")
                    }
                    _ => {}
                }
            }
        }
        answers
    }

    /// Lets both servers do what they do by themselves for some time.
    fn wait(&mut self, milliseconds: i64) {
        let until = Timestamp(self.now.0 + milliseconds);
        while let Some(next) = self
            .nodes
            .iter()
            .filter_map(Node::deadline)
            .min()
            .filter(|next| *next <= until)
        {
            self.now = self.now.max(next);
            for node in [OURS, THEIRS] {
                self.carry(node, Event::Tick);
            }
        }
        self.now = until;
    }

    /// Somebody changes the newest version that there is.
    fn submit(&mut self, wavelet: &WaveletName, author: &str, ops: Vec<WaveletOp>) -> Result<(), Refusal> {
        let at = usize::from(author.ends_with("@acme.lab"));
        self.sequence += 1;
        self.nodes[at].open(self.now, wavelet);
        let version = self.nodes[at]
            .wavelet(wavelet)
            .map_or(Version::ZERO, |shown| shown.version());
        let event = Event::Submit {
            ticket: self.sequence,
            wavelet: wavelet.clone(),
            author: author.parse().unwrap(),
            submission: Submission {
                session: author.into(),
                sequence: self.sequence,
            },
            version,
            ops,
        };
        self.carry(at, event).pop().expect("an answer")
    }

    fn text(&mut self, at: usize, wavelet: &WaveletName) -> String {
        self.nodes[at].open(self.now, wavelet);
        let shown = self.nodes[at].wavelet(wavelet).unwrap();
        let document = shown.document(&DocumentId::new("notes").unwrap());
        document.map(|(document, _)| document.text()).unwrap_or_default()
    }
}

/// A disco answer that announces what the reference announces.
fn as_the_reference(stanza: Element) -> Element {
    let Ok(Stanza::Iq(mut iq)) = Stanza::parse(&stanza) else {
        return stanza;
    };
    let IqKind::Result(Some(payload)) = &iq.kind else {
        return stanza;
    };
    let Some(mut info) = Info::parse(payload).filter(|info| info.has(ns::WAVE)) else {
        return stanza;
    };
    info.features.retain(|feature| feature == ns::WAVE);
    iq.kind = IqKind::Result(Some(info.to_element()));
    iq.to_element()
}

fn insert(text: &str, before: u32, after: u32) -> WaveletOp {
    let retain = |count: u32| (count > 0).then_some(Component::Retain(count));
    let components = retain(before)
        .into_iter()
        .chain([Component::Characters(text.into())])
        .chain(retain(after));
    let op = DocOp::new(components.collect()).unwrap();
    let id = DocumentId::new("notes").unwrap();
    WaveletOp::MutateDocument { id, op }
}

fn add(who: &str) -> WaveletOp {
    WaveletOp::AddParticipant(who.parse().unwrap())
}

fn remove(who: &str) -> WaveletOp {
    WaveletOp::RemoveParticipant(who.parse().unwrap())
}

fn wavelet(at: &str) -> WaveletName {
    format!("{at}.lab/w+a/~/conv+root").parse().unwrap()
}

#[test]
fn text_that_a_peer_cannot_take_is_refused_with_a_reason_and_so_is_adding_it_to_such_text() {
    let (mut lab, name) = (Lab::start(), wavelet("initech"));
    let (alice, bob) = ("alice@initech.lab", "bob@acme.lab");
    lab.submit(&name, alice, vec![add(alice), insert("plain ", 0, 0), add(bob)])
        .unwrap();
    assert_eq!(lab.text(THEIRS, &name), "plain ");
    let before = lab.nodes.each_ref().map(|node| node.wavelet(&name).unwrap().digest());

    let refusal = lab.submit(&name, alice, vec![insert("😀", 6, 0)]).unwrap_err();
    assert_eq!(refusal, Refusal::LegacyPeer("acme.lab".parse().unwrap()));
    let words = refusal.to_string();
    assert!(words.contains("acme.lab") && words.contains("emoji"), "{words}");
    // From the other side as well, where nobody minds; the host's words come back.
    let refusal = lab.submit(&name, bob, vec![insert("😀", 6, 0)]).unwrap_err();
    assert_eq!(refusal, Refusal::HostRefused(words));
    let after = lab.nodes.each_ref().map(|node| node.wavelet(&name).unwrap().digest());
    assert_eq!(before, after, "refused, and nothing has changed");
    // Everything up to U+FFFF is welcome.
    lab.submit(&name, bob, vec![insert("\u{fffd}ש中", 6, 0)]).unwrap();

    // Nobody of that domain, no such rule; but then nobody of it can be added any more.
    lab.submit(&name, alice, vec![remove(bob)]).unwrap();
    lab.submit(&name, alice, vec![insert("😀", 9, 0)]).unwrap();
    let refusal = lab.submit(&name, alice, vec![add("carol@acme.lab")]).unwrap_err();
    assert_eq!(refusal, Refusal::LegacyPeer("acme.lab".parse().unwrap()));
    assert_eq!(lab.text(OURS, &name), "plain \u{fffd}ש中😀");
    assert_eq!(
        lab.text(THEIRS, &name),
        "plain \u{fffd}ש中",
        "it has what it had, and its removal"
    );
    let smile = lab.sent.iter().any(tells_of_a_smile);
    assert!(!smile, "and was never told of the rest");
}

#[test]
fn a_peer_that_turns_out_to_run_the_reference_is_not_told_what_it_cannot_take() {
    let (mut lab, name) = (Lab::start(), wavelet("initech"));
    let (alice, bob) = ("alice@initech.lab", "bob@acme.lab");
    lab.submit(&name, alice, vec![add(alice), insert("😀", 0, 0)]).unwrap();
    // Nobody knows yet what acme runs.
    lab.submit(&name, alice, vec![add(bob)]).unwrap();
    lab.wait(3_600_000);
    assert!(
        lab.sent.iter().any(|stanza| stanza.attr("to") == Some("acme.lab")),
        "it was found"
    );
    assert!(
        !lab.sent.iter().any(tells_of_a_smile),
        "neither by an update nor by history"
    );
    let refused = lab
        .sent
        .iter()
        .any(|stanza| String::from(stanza).contains(legacy::REASON));
    assert!(refused, "who asks for the history is told why there is none");
    // The wavelet goes on for the others.
    lab.submit(&name, alice, vec![remove(bob)]).unwrap();
    lab.submit(&name, alice, vec![insert("!", 1, 0)]).unwrap();
    assert_eq!(lab.text(OURS, &name), "😀!");
}

#[test]
fn a_host_that_runs_the_reference_gets_one_operation_for_each_document() {
    let (mut lab, name) = (Lab::start(), wavelet("acme"));
    let (alice, bob) = ("alice@initech.lab", "bob@acme.lab");
    lab.submit(&name, bob, vec![add(bob), add(alice)]).unwrap();
    let ops = vec![
        insert("one", 0, 0),
        add("carol@initech.lab"),
        insert(" two", 3, 0),
        insert("zero ", 0, 7),
    ];
    lab.submit(&name, alice, ops).unwrap();
    let submitted: Vec<usize> = lab.sent.iter().filter_map(operations_submitted).collect();
    assert_eq!(
        submitted,
        [2],
        "the three on the document are one, and there is the participant"
    );
    assert_eq!(lab.text(OURS, &name), "zero one two");
    assert_eq!(lab.text(THEIRS, &name), "zero one two");
    let digests = lab.nodes.each_ref().map(|node| node.wavelet(&name).unwrap().digest());
    assert_eq!(digests[OURS], digests[THEIRS]);
}

/// How many operations a stanza submits, if it submits any.
fn operations_submitted(stanza: &Element) -> Option<usize> {
    let Ok(Stanza::Iq(iq)) = Stanza::parse(stanza) else {
        return None;
    };
    let IqKind::Set(payload) = &iq.kind else { return None };
    submit::parse_request(payload)
        .ok()
        .map(|request| request.delta.delta.ops.len())
}

/// Whether a stanza has, in an update or in an answer, a delta with the smile.
fn tells_of_a_smile(stanza: &Element) -> bool {
    use base64::Engine as _;
    fn texts(element: &Element) -> Vec<String> {
        let own = element.text();
        element.children().flat_map(texts).chain([own]).collect()
    }
    let smile = "😀".as_bytes();
    texts(stanza).iter().any(|text| {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text.trim())
            .unwrap_or_default();
        bytes.windows(smile.len()).any(|window| window == smile)
    })
}
