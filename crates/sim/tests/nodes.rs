//! Two servers put together from the machines, on perfect disks and a perfect network.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::VecDeque;

use billow_model::{Component, DocOp, DocumentId, Domain, Timestamp, Version, WaveletName, WaveletOp};
use billow_signing::{Authority, Signer, TrustRoots, Validity};
use billow_sim::{Action, Config, Disk, Event, Node};
use billow_wavelet::Submission;

const START: Timestamp = Timestamp(1_800_000_000_000);

fn nodes() -> [Node; 2] {
    let validity = Validity {
        from: Timestamp(START.0 - 1_000_000_000),
        until: Timestamp(START.0 + 100_000_000_000),
    };
    let authority = Authority::new("Lab", validity).unwrap();
    let roots = TrustRoots::none()
        .with_pem(&authority.certificate_pem().unwrap())
        .unwrap();
    ["initech.lab", "acme.lab"].map(|name| {
        let domain: Domain = name.parse().unwrap();
        let issued = authority.issue(&domain, &[], validity).unwrap();
        let signer = Signer::from_pem(domain.clone(), &issued.key_pem, &issued.chain_pem).unwrap();
        Node::start(START, Config::new(domain, signer, roots.clone(), 1), Disk::default())
    })
}

/// Gives an event to a node and carries stanzas to and fro until there are none. Gives the answers to submissions.
fn carry(nodes: &mut [Node; 2], to: usize, event: Event) -> Vec<String> {
    let mut answers = Vec::new();
    let mut events = VecDeque::from([(to, event)]);
    while let Some((to, event)) = events.pop_front() {
        for action in nodes[to].run(START, event) {
            match action {
                Action::Send { stanza, .. } => {
                    let peer = nodes[to].config().domain.as_str().parse().unwrap();
                    events.push_back((1 - to, Event::Stanza { peer, element: stanza }));
                }
                Action::Answered { outcome, .. } => answers.push(format!("{outcome:?}")),
                Action::Dropped { .. } | Action::Damaged { .. } | Action::Quarantined { .. } => panic!("{action:?}"),
                Action::Shown { .. } | Action::Hurry(_) => {}
                Action::Written(_) | Action::Sign { .. } => unreachable!("done by the node"),
            }
        }
    }
    answers
}

fn submit(wavelet: &WaveletName, author: &str, sequence: u64, version: u64, ops: Vec<WaveletOp>) -> Event {
    Event::Submit {
        ticket: sequence,
        wavelet: wavelet.clone(),
        author: author.parse().unwrap(),
        submission: Submission {
            session: author.into(),
            sequence,
        },
        version: Version::new(version),
        ops,
    }
}

fn text(text: &str, before: u32) -> WaveletOp {
    let retain = (before > 0).then_some(Component::Retain(before));
    let op = DocOp::new(retain.into_iter().chain([Component::Characters(text.into())]).collect()).unwrap();
    let id = DocumentId::new("notes").unwrap();
    WaveletOp::MutateDocument { id, op }
}

#[test]
fn a_wave_is_shared_edited_on_both_sides_and_survives_a_restart() {
    let mut nodes = nodes();
    let name: WaveletName = "initech.lab/w+a/~/conv+root".parse().unwrap();
    let people = ["alice@initech.lab", "bob@acme.lab"].map(|who| WaveletOp::AddParticipant(who.parse().unwrap()));
    let answers = carry(&mut nodes, 0, submit(&name, "alice@initech.lab", 1, 0, people.to_vec()));
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(nodes[1].wavelet(&name).unwrap().participants().len(), 2);

    let answers = carry(
        &mut nodes,
        1,
        submit(&name, "bob@acme.lab", 1, 2, vec![text("hello", 0)]),
    );
    assert!(answers[0].starts_with("Ok"), "{answers:?}");
    let [host, remote] = nodes;
    assert_eq!(
        host.wavelet(&name).unwrap().digest(),
        remote.wavelet(&name).unwrap().digest()
    );

    let mut nodes = [host, remote].map(|node| {
        let config = node.config().clone();
        let mut node = Node::start(START, config, node.into_disk().crash(0));
        node.open(START, &name);
        node
    });
    let answers = carry(&mut nodes, 1, submit(&name, "bob@acme.lab", 2, 3, vec![text(" 😀", 5)]));
    assert!(answers[0].starts_with("Ok"), "{answers:?}");
    let hashes = nodes
        .each_ref()
        .map(|node| node.disk().seals(&name).last().unwrap().1.clone());
    assert_eq!(hashes[0], hashes[1]);
    assert_eq!(hashes[0].version, Version::new(4));
    assert_eq!(
        nodes[0].wavelet(&name).unwrap().digest(),
        nodes[1].wavelet(&name).unwrap().digest()
    );
}
