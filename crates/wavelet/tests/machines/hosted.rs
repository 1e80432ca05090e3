//! The hosted wavelet alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use billow_model::doc::{AnnotationBoundary, AnnotationChange};
use billow_model::{
    Component, Delta, DocOp, DocumentId, HashedVersion, HistoryHash, ParticipantId, Timestamp, Version, WaveletOp,
};
use billow_signing::Verified;
use billow_wavelet::hosted::Applied;
use billow_wavelet::{HostedInput, HostedOutput, HostedWavelet, Record, Refusal, Seal, StoredRecord, Submission};
use billow_wire::exchange::SubmitResponse;
use billow_wire::{Encoded, SignedDelta};

use crate::lab::{START, address, domain, keys, name, notes, verifier};

const NOW: Timestamp = Timestamp(START);

/// A machine whose driver does at once what it is asked, and keeps what came out.
pub(crate) struct Host {
    pub(crate) machine: HostedWavelet,
    pub(crate) records: Vec<StoredRecord>,
    pub(crate) shown: Vec<Arc<Record>>,
    pub(crate) sealed: Vec<(Arc<Seal>, Vec<String>)>,
    pub(crate) answers: Vec<(u64, Result<Applied, Refusal>)>,
    pub(crate) remote_answers: Vec<(u64, Result<SubmitResponse, Refusal>)>,
    pub(crate) digests: Vec<(HashedVersion, [u8; 32])>,
}

impl Host {
    pub(crate) fn empty() -> Self {
        let machine = HostedWavelet::new(name());
        Self {
            machine,
            records: vec![],
            shown: vec![],
            sealed: vec![],
            answers: vec![],
            remote_answers: vec![],
            digests: vec![],
        }
    }

    /// A wavelet with these participants, the first its creator.
    pub(crate) fn with(participants: &[&str]) -> Self {
        let mut host = Self::empty();
        let ops = participants
            .iter()
            .map(|who| WaveletOp::AddParticipant(address(who)))
            .collect();
        host.submit(0, ("s", 1), participants[0], 0, ops);
        host.drive();
        host
    }

    pub(crate) fn submit(
        &mut self,
        ticket: u64,
        submission: (&str, u64),
        author: &str,
        version: u64,
        ops: Vec<WaveletOp>,
    ) {
        let submission = Submission {
            session: submission.0.into(),
            sequence: submission.1,
        };
        let version = Version::new(version);
        self.machine.handle(
            NOW,
            HostedInput::Submit {
                ticket,
                submission,
                author: address(author),
                version,
                ops,
            },
        );
    }

    pub(crate) fn submit_signed(&mut self, ticket: u64, delta: Verified<Encoded<SignedDelta>>) {
        self.machine.handle(NOW, HostedInput::RemoteSubmit { ticket, delta });
    }

    pub(crate) fn drive(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                HostedOutput::Persist(record) => {
                    let upto = record.resulting();
                    self.records.push(StoredRecord { record, seal: None });
                    self.machine.handle(NOW, HostedInput::Persisted { upto });
                }
                HostedOutput::PersistSeal(seal) => {
                    let upto = seal.resulting.version;
                    let stored = self
                        .records
                        .iter_mut()
                        .find(|stored| stored.record.applied_at() == seal.applied_at.version);
                    stored.unwrap().seal = Some(seal);
                    self.machine.handle(NOW, HostedInput::SealPersisted { upto });
                }
                HostedOutput::Sign(delta) => {
                    let delta = keys().signers[0].sign(delta).unwrap();
                    self.machine.handle(NOW, HostedInput::Signed { delta });
                }
                HostedOutput::Show(record) => self.shown.push(record),
                HostedOutput::Sealed { seal, domains } => {
                    self.sealed
                        .push((seal, domains.iter().map(ToString::to_string).collect()));
                }
                HostedOutput::Digest { at, digest, .. } => self.digests.push((at, digest)),
                HostedOutput::Answer { ticket, outcome } => self.answers.push((ticket, outcome)),
                HostedOutput::AnswerRemote { ticket, outcome } => self.remote_answers.push((ticket, outcome)),
            }
        }
    }

    fn reload(&mut self, snapshot: bool) {
        let snapshot = snapshot.then(|| self.machine.snapshot());
        self.machine = HostedWavelet::load(name(), snapshot.as_deref(), self.records.clone()).unwrap();
    }

    pub(crate) fn answer(&mut self) -> Result<Applied, Refusal> {
        self.drive();
        self.answers.pop().unwrap().1
    }

    pub(crate) fn remote_answer(&mut self) -> Result<SubmitResponse, Refusal> {
        self.drive();
        self.remote_answers.pop().unwrap().1
    }

    pub(crate) fn text(&self) -> String {
        self.machine
            .wavelet()
            .document(&notes())
            .map(|(document, _)| document.text())
            .unwrap_or_default()
    }
}

/// Inserts text at an item of a document of so many items.
pub(crate) fn insert(text: &str, at: u32, items: u32) -> WaveletOp {
    let retain = |items: u32| (items > 0).then_some(Component::Retain(items));
    let components = retain(at)
        .into_iter()
        .chain([Component::Characters(text.to_owned())])
        .chain(retain(items - at))
        .collect();
    WaveletOp::MutateDocument {
        id: notes(),
        op: DocOp::new(components).unwrap(),
    }
}

/// Deletes all that the document holds, which is this text.
pub(crate) fn delete_all(text: &str) -> WaveletOp {
    WaveletOp::MutateDocument {
        id: notes(),
        op: DocOp::new(vec![Component::DeleteCharacters(text.to_owned())]).unwrap(),
    }
}

pub(crate) fn verified(author: &str, target: HashedVersion, ops: Vec<WaveletOp>) -> Verified<Encoded<SignedDelta>> {
    let delta = Delta {
        target,
        author: address(author),
        ops,
        address_path: Vec::new(),
    };
    let signer = keys()
        .signers
        .iter()
        .find(|signer| *signer.domain() == address(author).domain())
        .unwrap();
    let mut verifier = verifier();
    verifier.add(signer.info().clone(), NOW).unwrap();
    verifier.verify(signer.sign(Encoded::new(delta)).unwrap(), NOW).unwrap()
}

#[test]
fn r_06_nothing_is_shown_or_answered_before_it_is_persisted() {
    let mut host = Host::with(&["alice@initech.lab"]);
    host.submit(7, ("a", 1), "alice@initech.lab", 1, vec![insert("x", 0, 0)]);
    let Some(HostedOutput::Persist(record)) = host.machine.poll() else {
        panic!("expected a record to persist")
    };
    assert!(host.machine.poll().is_none());
    assert_eq!(host.machine.wavelet().version(), Version::new(1));
    host.machine.handle(
        NOW,
        HostedInput::Persisted {
            upto: record.resulting(),
        },
    );
    assert!(matches!(host.machine.poll(), Some(HostedOutput::Show(shown)) if shown == record));
    assert!(matches!(
        host.machine.poll(),
        Some(HostedOutput::Answer {
            ticket: 7,
            outcome: Ok(Applied::Record(_))
        })
    ));
    assert_eq!(host.machine.wavelet().version(), Version::new(2));
}

#[test]
fn b_140_r_08_a_resend_is_answered_with_its_own_delta_and_two_equal_edits_count_twice() {
    let mut host = Host::with(&["alice@initech.lab"]);
    host.submit(1, ("phone", 1), "alice@initech.lab", 1, vec![insert("x", 0, 0)]);
    host.submit(2, ("phone", 1), "alice@initech.lab", 1, vec![insert("x", 0, 0)]); // before it is persisted
    host.submit(3, ("desk", 1), "alice@initech.lab", 1, vec![insert("x", 0, 0)]);
    host.drive();
    host.reload(true);
    host.submit(4, ("phone", 1), "alice@initech.lab", 1, vec![insert("x", 0, 0)]); // after a restart
    host.drive();
    let answer = |ticket: u64| match &host.answers.iter().find(|(one, _)| *one == ticket).unwrap().1 {
        Ok(Applied::Record(record)) => record.applied_at().number(),
        other => panic!("{other:?}"),
    };
    assert_eq!([1, 2, 3, 4].map(answer), [1, 1, 2, 1]);
    assert_eq!(host.text(), "xx");
}

#[test]
fn somebody_elses_session_name_gives_neither_their_delta_nor_takes_their_number() {
    let mut host = Host::with(&["alice@initech.lab", "bob@initech.lab"]);
    host.submit(1, ("a", 1), "alice@initech.lab", 2, vec![insert("one", 0, 0)]);
    host.drive();
    for snapshot in [None, Some(false), Some(true)] {
        if let Some(snapshot) = snapshot {
            host.reload(snapshot);
        }
        let (version, text) = (host.machine.wavelet().version(), host.text());
        let items = u32::try_from(text.len()).unwrap();
        let sequence = 2 + u64::from(items);
        host.submit(
            2,
            ("a", sequence),
            "bob@initech.lab",
            version.number(),
            vec![insert("x", 0, items)],
        );
        assert!(matches!(host.answer(), Ok(Applied::Record(record)) if record.applied_at() == version));
        host.submit(
            3,
            ("a", sequence),
            "alice@initech.lab",
            version.number(),
            vec![insert("y", items, items)],
        );
        assert!(matches!(host.answer(), Ok(Applied::Record(record)) if record.applied_at() == version.plus(1)));
        assert_eq!(host.text(), format!("x{text}y"));
    }
    let version = host.machine.wavelet().version().number();
    let bob = address("bob@initech.lab");
    host.submit(
        4,
        ("s", 2),
        "alice@initech.lab",
        version,
        vec![WaveletOp::RemoveParticipant(bob.clone())],
    );
    host.drive();
    host.submit(5, ("a", 1), "bob@initech.lab", version, vec![insert("z", 0, 9)]);
    assert_eq!(host.answer(), Err(Refusal::OutOfOrder), "an old number of his own");
    host.submit(6, ("s", 2), "bob@initech.lab", 0, vec![insert("z", 0, 9)]);
    assert_eq!(host.answer(), Err(Refusal::NotParticipant(bob)));
}

#[test]
fn a_wavelet_of_our_own_is_sealed_when_another_domain_joins_and_a_removed_domain_reads_no_further() {
    let mut host = Host::with(&["alice@initech.lab"]);
    let (alice, bob) = ("alice@initech.lab", address("bob@acme.lab"));
    host.submit(1, ("a", 1), alice, 1, vec![insert("x", 0, 0)]);
    host.drive();
    assert_eq!(host.sealed.len(), 0);
    host.submit(2, ("a", 2), alice, 2, vec![WaveletOp::AddParticipant(bob.clone())]);
    host.submit(3, ("a", 3), alice, 2, vec![WaveletOp::RemoveParticipant(bob)]);
    host.drive();
    let third = host.answers.iter().find(|(ticket, _)| *ticket == 3).unwrap();
    assert!(
        matches!(third.1, Err(Refusal::DoesNotApply(_))),
        "removed without having seen that he was added"
    );
    host.submit(
        4,
        ("a", 4),
        alice,
        3,
        vec![WaveletOp::RemoveParticipant(address("bob@acme.lab"))],
    );
    host.submit(5, ("a", 5), alice, 3, vec![insert("y", 0, 1)]);
    host.drive();
    let told: Vec<(u64, Vec<String>)> = host
        .sealed
        .iter()
        .map(|(seal, told)| (seal.resulting.version.number(), told.clone()))
        .collect();
    let acme = || vec!["acme.lab".to_owned()];
    assert_eq!(told, [(1, vec![]), (2, vec![]), (3, acme()), (4, acme()), (5, vec![])]);
    let may_read = |from, to| {
        host.machine
            .readers()
            .may_read(&domain("acme.lab"), Version::new(from), Version::new(to))
    };
    assert!(may_read(0, 4) && !may_read(0, 5) && !may_read(4, 5));
    assert_eq!(
        host.machine.readers().readable(&domain("hooli.lab"), Version::new(5)),
        None
    );
}

#[test]
fn seals_follow_one_another_and_name_the_author_and_the_version_applied_at() {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    for sequence in 1..4 {
        host.submit(
            sequence,
            ("a", sequence),
            "alice@initech.lab",
            2,
            vec![insert("x", 0, 0)],
        );
    }
    host.drive();
    let mut at = HashedVersion::zero(&name());
    for (seal, _) in &host.sealed {
        assert_eq!(seal.applied_at, at);
        assert_eq!(seal.applied.applied_at, Some(at.clone()));
        assert_eq!(seal.applied.signed.delta.target, at);
        at = seal.resulting.clone();
    }
    assert_eq!(*host.machine.sealed(), at);
    assert_eq!(at.version, Version::new(5));
}

#[test]
fn a_restart_before_the_seal_gives_the_same_seal() {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    host.submit(1, ("a", 1), "alice@initech.lab", 2, vec![insert("x", 0, 0)]);
    host.drive();
    let sealed = host.machine.sealed().clone();
    host.records.last_mut().unwrap().seal = None;
    host.reload(false);
    assert_eq!(host.machine.sealed().version, Version::new(2));
    host.drive();
    assert_eq!(*host.machine.sealed(), sealed);
}

#[test]
fn what_a_user_may_not_do_is_refused_with_its_reason() {
    let alice = "alice@initech.lab";
    let case = |author: &str, version: u64, ops: Vec<WaveletOp>| {
        let mut host = Host::with(&[alice, "bob@acme.lab"]);
        host.submit(1, ("a", 1), alice, 2, vec![insert("x", 0, 0)]);
        host.drive();
        host.answers.clear();
        host.submit(2, ("b", 1), author, version, ops);
        let answer = host.answer();
        assert_eq!(host.machine.wavelet().version().number(), 3 + u64::from(answer.is_ok()));
        answer.map(drop)
    };
    let blip = |op: Component| WaveletOp::MutateDocument {
        id: DocumentId::new("b+1").unwrap(),
        op: DocOp::new(vec![op]).unwrap(),
    };
    assert_eq!(
        case("mallory@initech.lab", 3, vec![WaveletOp::NoOp]),
        Err(Refusal::NotParticipant(address("mallory@initech.lab")))
    );
    assert_eq!(case(alice, 3, vec![WaveletOp::NoOp]), Ok(()));
    assert_eq!(case(alice, 3, vec![]), Err(Refusal::NoOperations));
    assert_eq!(case(alice, 4, vec![WaveletOp::NoOp]), Err(Refusal::UnknownVersion));
    assert_eq!(
        case(alice, 1, vec![WaveletOp::NoOp]),
        Err(Refusal::UnknownVersion),
        "within a delta"
    );
    assert!(matches!(
        case(alice, 3, vec![insert("y", 0, 2)]),
        Err(Refusal::DoesNotApply(_))
    ));
    assert!(matches!(
        case(alice, 3, vec![blip(Component::Characters("bare".to_owned()))]),
        Err(Refusal::Schema(_))
    ));
    assert!(matches!(
        case(alice, 3, vec![WaveletOp::NoOp; 1_001]),
        Err(Refusal::TooLarge(_))
    ));
    assert!(matches!(
        case(alice, 3, vec![insert(&"y".repeat(70_000), 0, 1)]),
        Err(Refusal::TooLarge(_))
    ));
    let mut host = Host::empty();
    host.submit(
        1,
        ("a", 1),
        alice,
        0,
        vec![WaveletOp::AddParticipant(address("bob@acme.lab"))],
    );
    assert_eq!(host.answer(), Err(Refusal::FirstAddsAuthor));
}

#[test]
fn an_annotation_without_a_key_is_refused_for_no_server_reads_it() {
    let mut host = Host::with(&["alice@initech.lab"]);
    let boundary = |ends: &[&str], key: Option<&str>| {
        let change = |key: &str| AnnotationChange {
            key: key.into(),
            old: None,
            new: Some("v".into()),
        };
        Component::AnnotationBoundary(AnnotationBoundary {
            ends: ends.iter().map(|key| (*key).into()).collect(),
            changes: key.map(change).into_iter().collect(),
        })
    };
    let annotate = |key: &str| {
        let components = vec![
            boundary(&[], Some(key)),
            Component::Characters("x".into()),
            boundary(&[key], None),
        ];
        let op = DocOp::new(components).unwrap();
        let id = DocumentId::new("notes").unwrap();
        vec![WaveletOp::MutateDocument { id, op }]
    };
    host.submit(1, ("a", 1), "alice@initech.lab", 1, annotate(""));
    assert_eq!(
        host.answer(),
        Err(Refusal::DoesNotApply("an annotation key is not empty".to_owned()))
    );
    host.submit(2, ("a", 2), "alice@initech.lab", 1, annotate("k"));
    assert!(host.answer().is_ok());
}

#[test]
fn a_legacy_peer_is_spared_text_beyond_the_basic_plane() {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    host.machine.handle(
        NOW,
        HostedInput::LegacyDomains(BTreeSet::from([domain("acme.lab"), domain("hooli.lab")])),
    );
    host.submit(1, ("a", 1), "alice@initech.lab", 2, vec![insert("😀", 0, 0)]);
    assert_eq!(host.answer(), Err(Refusal::LegacyPeer(domain("acme.lab"))));
    host.submit(
        2,
        ("a", 2),
        "alice@initech.lab",
        2,
        vec![WaveletOp::RemoveParticipant(address("bob@acme.lab"))],
    );
    host.submit(3, ("a", 3), "alice@initech.lab", 2, vec![insert("😀", 0, 0)]);
    assert!(host.answer().is_ok());
    host.reload(true);
    host.machine
        .handle(NOW, HostedInput::LegacyDomains(BTreeSet::from([domain("hooli.lab")])));
    host.submit(
        4,
        ("a", 4),
        "alice@initech.lab",
        4,
        vec![WaveletOp::AddParticipant(address("carol@hooli.lab"))],
    );
    assert_eq!(host.answer(), Err(Refusal::LegacyPeer(domain("hooli.lab"))));
}

#[test]
fn what_another_server_may_not_submit_is_refused_with_its_reason() {
    let participants = ["alice@initech.lab", "bob@acme.lab"];
    let mut host = Host::with(&participants);
    host.submit(1, ("a", 1), "alice@initech.lab", 2, vec![insert("ab", 0, 0)]);
    host.drive();
    let base = host.machine.sealed().clone();
    host.submit(2, ("a", 2), "alice@initech.lab", 3, vec![insert("c", 1, 2)]);
    host.drive();
    let head = host.machine.sealed().clone();
    let mut case = |author: &str, target: HashedVersion, ops: Vec<WaveletOp>| {
        host.submit_signed(9, verified(author, target, ops));
        host.remote_answer().map(drop)
    };
    let bob = "bob@acme.lab";
    let hash = |version: u64, byte: u8| HashedVersion {
        version: Version::new(version),
        hash: HistoryHash::from_bytes(&[byte; 20]),
    };
    assert_eq!(
        case(bob, HashedVersion::zero(&name()), vec![WaveletOp::NoOp]),
        Err(Refusal::CreatesWavelet)
    );
    assert_eq!(
        case("carol@hooli.lab", head.clone(), vec![WaveletOp::NoOp]),
        Err(Refusal::NotParticipant(address("carol@hooli.lab")))
    );
    assert_eq!(
        case(bob, hash(4, 1), vec![WaveletOp::NoOp]),
        Err(Refusal::InvalidHash(hash(4, 1)))
    );
    for target in [hash(3, 1), hash(1, 1), hash(5, 1), hash(1 << 52, 1)] {
        assert_eq!(case(bob, target, vec![WaveletOp::NoOp]), Err(Refusal::UnknownVersion));
    }
    assert_eq!(case(bob, head.clone(), vec![]), Err(Refusal::NoOperations));
    assert!(matches!(
        case(bob, head, vec![insert("y", 0, 9)]),
        Err(Refusal::DoesNotApply(_))
    ));
    // Two operations on one document, of which the reference would transform the second wrongly (decision 7).
    assert_eq!(
        case(bob, base, vec![insert("x", 0, 2), insert("y", 3, 3)]),
        Err(Refusal::Rebase)
    );
    assert_eq!(host.machine.wavelet().version(), Version::new(4));
}

#[test]
fn b_114_the_same_signed_bytes_get_the_same_answer_also_after_a_restart() {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    let delta = verified("bob@acme.lab", host.machine.sealed().clone(), vec![insert("x", 0, 0)]);
    let mut answers = Vec::new();
    for time in 0..1_000 {
        if time % 250 == 249 {
            host.reload(time % 500 == 249);
        }
        host.submit_signed(1, delta.clone());
        answers.push(host.remote_answer().unwrap());
    }
    host.reload(false);
    host.submit_signed(1, delta);
    answers.push(host.remote_answer().unwrap());
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(
        (answers[0].operations_applied, &answers[0].resulting),
        (1, host.machine.sealed())
    );
    assert_eq!(host.records.len(), 2);
    assert_eq!(host.text(), "x");
}

#[test]
fn b_111_an_author_removed_meanwhile_is_told_so() {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab", "@acme.lab"]);
    let target = host.machine.sealed().clone();
    host.submit(
        1,
        ("a", 1),
        "alice@initech.lab",
        3,
        vec![WaveletOp::RemoveParticipant(address("bob@acme.lab"))],
    );
    host.drive();
    host.submit_signed(2, verified("bob@acme.lab", target, vec![WaveletOp::NoOp]));
    assert_eq!(
        host.remote_answer(),
        Err(Refusal::AuthorRemoved(address("bob@acme.lab")))
    );
}

#[test]
fn a_full_disk_answers_everybody_and_applies_nothing() {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    let target = host.machine.sealed().clone();
    host.submit(1, ("a", 1), "alice@initech.lab", 2, vec![insert("x", 0, 0)]);
    host.submit_signed(2, verified("bob@acme.lab", target, vec![insert("y", 0, 0)]));
    host.machine.handle(NOW, HostedInput::PersistFailed);
    host.submit(3, ("a", 2), "alice@initech.lab", 2, vec![insert("x", 0, 0)]);
    host.answers.clear();
    host.drive();
    assert!(host.machine.failed());
    assert_eq!(
        host.answers,
        [(1, Err(Refusal::Unavailable)), (3, Err(Refusal::Unavailable))]
    );
    assert_eq!(host.remote_answers, [(2, Err(Refusal::Unavailable))]);
    assert_eq!(host.machine.wavelet().version(), Version::new(2));
}

#[test]
fn a_snapshot_and_the_records_after_it_make_the_same_wavelet() {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    let mut snapshot = None;
    for sequence in 1..40 {
        let version = host.machine.wavelet().version().number();
        let items = u32::try_from(host.text().len()).unwrap();
        host.submit(
            sequence,
            ("a", sequence),
            "alice@initech.lab",
            version,
            vec![insert("xy", items / 2, items)],
        );
        host.drive();
        if sequence == 20 {
            snapshot = Some((host.machine.snapshot(), host.records.len()));
        }
    }
    let (snapshot, length) = snapshot.unwrap();
    let loaded = HostedWavelet::load(name(), Some(&snapshot), host.records[length..].to_vec()).unwrap();
    assert_eq!(loaded.sealed(), host.machine.sealed());
    assert_eq!(loaded.wavelet().digest(), host.machine.wavelet().digest());
    assert_eq!(loaded.wavelet().creator(), Some(&address("alice@initech.lab")));
    assert_eq!(loaded.readers(), host.machine.readers());
    assert_eq!(loaded.snapshot().len(), host.machine.snapshot().len());
    assert!(
        HostedWavelet::load(name(), Some(&snapshot), host.records[length + 1..].to_vec()).is_err(),
        "a gap"
    );
    for cut in 0..snapshot.len() {
        let _ = HostedWavelet::load(name(), Some(&snapshot[..cut]), Vec::new()); // an error or a wavelet, never a panic
    }
}

#[test]
fn participants_of_a_domain_are_its_users() {
    let alice: ParticipantId = address("alice@initech.lab");
    let may = billow_wavelet::access::may_write;
    assert!(may(std::slice::from_ref(&alice), &alice));
    assert!(may(&[address("@initech.lab")], &alice));
    assert!(!may(&[address("@acme.lab")], &alice));
    assert!(
        !may(&[address("@initech.lab")], &address("@initech.lab")),
        "the shared address is nobody's"
    );
}

#[test]
fn a_digest_is_told_about_once_a_second_and_at_last_of_the_newest_version() {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    assert_eq!(host.digests.len(), 1, "the first is due at once");
    for sequence in 1..=5 {
        let items = u32::try_from(sequence - 1).unwrap();
        host.submit(
            sequence,
            ("a", sequence),
            "alice@initech.lab",
            1 + sequence,
            vec![insert("x", 0, items)],
        );
        host.drive();
    }
    assert_eq!(host.digests.len(), 1, "not one a letter");
    let due = host.machine.deadline().unwrap();
    assert_eq!(due, Timestamp(NOW.0 + 1_000));
    host.machine.handle(due, HostedInput::Tick);
    host.drive();
    let (at, digest) = host.digests.pop().unwrap();
    assert_eq!((&at, digest), (host.machine.sealed(), host.machine.wavelet().digest()));
    assert_eq!(host.machine.deadline(), None, "and no more while nothing happens");
    // Where nobody else takes part nobody compares.
    let mut alone = Host::with(&["alice@initech.lab"]);
    alone.machine.handle(NOW, HostedInput::SealNow);
    alone.drive();
    assert!(alone.digests.is_empty() && alone.machine.deadline().is_none());
}

#[test]
fn what_cannot_be_signed_is_tried_again() {
    let mut host = Host::empty();
    let ops = ["alice@initech.lab", "bob@acme.lab"].map(|who| WaveletOp::AddParticipant(address(who)));
    host.submit(0, ("s", 1), "alice@initech.lab", 0, ops.to_vec());
    let Some(HostedOutput::Persist(record)) = host.machine.poll() else {
        panic!("nothing to store")
    };
    let upto = record.resulting();
    host.records.push(StoredRecord { record, seal: None });
    host.machine.handle(NOW, HostedInput::Persisted { upto });
    let signing = std::iter::from_fn(|| host.machine.poll()).any(|output| matches!(output, HostedOutput::Sign(_)));
    assert!(signing);
    host.machine.handle(NOW, HostedInput::SignFailed);
    host.drive();
    assert!(host.sealed.is_empty());
    let again = host.machine.deadline().unwrap();
    assert!(again > NOW);
    host.machine.handle(again, HostedInput::Tick);
    host.drive();
    assert_eq!(host.sealed.len(), 1);
}

#[test]
fn b_105_ten_thousand_deltas_with_one_target_are_serialised_and_what_is_older_is_refused() {
    const DELTAS: usize = 10_000;
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    let target = host.machine.sealed().clone();
    let signer = &keys().signers[1];
    let mut verifier = verifier();
    verifier.add(signer.info().clone(), NOW).unwrap();
    // A hundred documents, so that each meets a hundredth of the others.
    let writes = |number: usize| WaveletOp::MutateDocument {
        id: DocumentId::new(&format!("d{}", number % 100)).unwrap(),
        op: DocOp::new(vec![Component::Characters(format!("{number}"))]).unwrap(),
    };
    let sign = |number: usize| {
        let delta = Delta {
            target: target.clone(),
            author: address("bob@acme.lab"),
            ops: vec![writes(number)],
            address_path: Vec::new(),
        };
        verifier.verify(signer.sign(Encoded::new(delta)).unwrap(), NOW).unwrap()
    };
    for number in 0..DELTAS {
        host.submit_signed(number as u64, sign(number));
        host.drive();
    }
    // As far as the records in memory reach back, each is carried past all before it; those that come later are too old.
    let taken = host
        .remote_answers
        .iter()
        .take_while(|(_, outcome)| outcome.is_ok())
        .count();
    assert!((1_000..=DELTAS).contains(&taken), "{taken}");
    for (number, (_, outcome)) in host.remote_answers.iter().enumerate() {
        match outcome {
            Ok(response) => assert_eq!(
                response.resulting.version,
                Version::new(3 + number as u64),
                "one after the other"
            ),
            Err(refusal) => assert!(number >= taken && *refusal == Refusal::UnknownVersion, "{refusal}"),
        }
    }
    let digest = host.machine.wavelet().digest();
    host.submit_signed(2, sign(DELTAS));
    let refusal = host.remote_answer().unwrap_err();
    assert_eq!(refusal, Refusal::UnknownVersion);
    assert!(refusal.to_string().starts_with("too-old"), "{refusal}");
    host.submit(3, ("a", 1), "alice@initech.lab", 2, vec![WaveletOp::NoOp]);
    assert_eq!(host.answer(), Err(Refusal::UnknownVersion));
    assert_eq!(host.machine.wavelet().digest(), digest);
    // At the newest version both go on.
    let head = host.machine.sealed().clone();
    host.submit_signed(4, verified("bob@acme.lab", head.clone(), vec![WaveletOp::NoOp]));
    assert!(host.remote_answer().is_ok());
    host.submit(
        5,
        ("a", 1),
        "alice@initech.lab",
        head.version.number(),
        vec![WaveletOp::NoOp],
    );
    assert!(host.answer().is_ok());
}

#[test]
fn b_105_a_delta_that_costs_too_much_to_carry_is_refused_as_too_old() {
    const LETTERS: u32 = 4_500;
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    let text = "x".repeat(LETTERS as usize);
    host.submit(1, ("a", 1), "alice@initech.lab", 2, vec![insert(&text, 0, 0)]);
    host.drive();
    let target = host.machine.sealed().clone();
    let edits = 700;
    for edit in 0..edits {
        let sequence = u64::from(edit) + 2;
        let ops = vec![insert("y", 0, LETTERS + edit)];
        host.submit(sequence, ("a", sequence), "alice@initech.lab", 3 + u64::from(edit), ops);
        host.drive();
    }
    // Between any two letters another one: as many components as a delta may have.
    let components = (0..LETTERS).flat_map(|_| [Component::Retain(1), Component::Characters("z".into())]);
    let everywhere = WaveletOp::MutateDocument {
        id: notes(),
        op: DocOp::new(components.collect()).unwrap(),
    };
    let digest = host.machine.wavelet().digest();
    host.submit_signed(1, verified("bob@acme.lab", target, vec![everywhere.clone()]));
    assert_eq!(host.remote_answer(), Err(Refusal::UnknownVersion));
    host.submit(2, ("b", 1), "alice@initech.lab", 3, vec![everywhere.clone()]);
    assert_eq!(host.answer(), Err(Refusal::UnknownVersion));
    assert_eq!(host.machine.wavelet().digest(), digest);
    // From a version not so long ago it is taken: the letters that came first are just retained.
    let at = u64::from(edits) + 3 - 50;
    let older = u32::try_from(at).unwrap() - 3;
    let mut components = vec![Component::Retain(older)];
    components.extend((0..LETTERS).flat_map(|_| [Component::Characters("z".into()), Component::Retain(1)]));
    let everywhere = WaveletOp::MutateDocument {
        id: notes(),
        op: DocOp::new(components).unwrap(),
    };
    host.submit(3, ("b", 1), "alice@initech.lab", at, vec![everywhere]);
    assert!(host.answer().is_ok());
}
