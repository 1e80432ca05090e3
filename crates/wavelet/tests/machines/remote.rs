//! The remote wavelet alone; what the host says comes from a hosted wavelet.

use billow_model::{Timestamp, Version, WaveletName, WaveletOp};
use billow_signing::{Verifier, VerifyError};
use billow_wavelet::hosted::Applied;
use billow_wavelet::remote::{
    Contradiction, HistoryFailure, HostState, Outgoing, SubmitFailure, UpdateRefusal, Verification,
};
use billow_wavelet::{
    Evidence, HostedInput, Refusal, RemoteInput, RemoteOutput, RemoteWavelet, Standing, StoredRecord, Submission,
};
use billow_wire::exchange::{CommitNotice, SubmitResponse, WaveletUpdate};
use billow_wire::{AppliedDelta, Encoded, FromHost, Signature, SignedDelta};

use crate::hosted::{Host, delete_all, insert};
use crate::lab::{DOMAINS, START, address, domain, keys, local, name, verifier};

/// A machine whose driver verifies, signs and stores at once; everything else it wants is kept.
pub(crate) struct Remote {
    pub(crate) machine: RemoteWavelet,
    verifier: Verifier,
    now: Timestamp,
    records: Vec<StoredRecord>,
    outgoing: Option<Outgoing>,
    standing: Standing,
    tag: u64,
}

impl Remote {
    fn new() -> Self {
        let mut verifier = verifier();
        keys()
            .signers
            .iter()
            .for_each(|signer| drop(verifier.add(signer.info().clone(), Timestamp(START)).unwrap()));
        let machine = RemoteWavelet::new(name(), local(1), 1);
        Self {
            machine,
            verifier,
            now: Timestamp(START),
            records: vec![],
            outgoing: None,
            standing: Standing::Following,
            tag: 0,
        }
    }

    /// A copy of all that the host has sealed.
    pub(crate) fn following(host: &Host) -> Self {
        let mut remote = Self::new();
        assert_eq!(remote.update(deltas(host)), ["receipt 1"]);
        remote
    }

    /// Hands in an update and gives what became of it, in words.
    pub(crate) fn update(&mut self, deltas: Vec<Encoded<AppliedDelta>>) -> Vec<String> {
        self.say(deltas, None)
    }

    fn say(&mut self, deltas: Vec<Encoded<AppliedDelta>>, commit: Option<CommitNotice>) -> Vec<String> {
        self.tag += 1;
        let update = FromHost::check(
            &domain(DOMAINS[0]),
            WaveletUpdate {
                name: name(),
                deltas,
                commit,
            },
        )
        .unwrap();
        self.told(RemoteInput::Update { tag: self.tag, update })
    }

    fn told(&mut self, input: RemoteInput) -> Vec<String> {
        self.machine.handle(self.now, input);
        self.drive().iter().map(words).collect()
    }

    /// Does what can be done at once; gives the rest.
    fn drive(&mut self) -> Vec<RemoteOutput> {
        let mut rest = Vec::new();
        while let Some(output) = self.machine.poll() {
            let input = match output {
                RemoteOutput::Verify { check, delta, at } => {
                    let outcome = match self.verifier.verify(delta, at) {
                        Ok(verified) => Verification::Good(verified),
                        Err(VerifyError::UnknownSigner(id)) => Verification::UnknownSigner(id),
                        Err(error) => Verification::Bad(error.to_string()),
                    };
                    RemoteInput::Verified { check, outcome }
                }
                RemoteOutput::Persist { record, seal, outgoing } => {
                    let upto = record.resulting();
                    self.records.push(StoredRecord {
                        record,
                        seal: Some(seal),
                    });
                    self.outgoing
                        .take_if(|stored| Some(&stored.submission) == outgoing.as_ref());
                    RemoteInput::Persisted { upto }
                }
                RemoteOutput::Sign(delta) => RemoteInput::Signed {
                    delta: keys().signers[1].sign(delta).unwrap(),
                },
                RemoteOutput::PersistOutgoing(outgoing) => {
                    self.outgoing = Some(outgoing);
                    RemoteInput::OutgoingPersisted
                }
                RemoteOutput::DropOutgoing(submission) => {
                    self.outgoing.take_if(|stored| stored.submission == submission);
                    RemoteInput::OutgoingPersisted
                }
                RemoteOutput::PersistStanding(standing) => {
                    self.standing = standing;
                    continue;
                }
                RemoteOutput::Replace { records } => {
                    let stored = |(record, seal)| StoredRecord {
                        record,
                        seal: Some(seal),
                    };
                    self.records = records.into_iter().map(stored).collect();
                    RemoteInput::Replaced
                }
                RemoteOutput::Show(_) => continue,
                other => {
                    rest.push(other);
                    continue;
                }
            };
            self.machine.handle(self.now, input);
        }
        rest
    }

    fn bob_inserts(&mut self, sequence: u64, version: u64, op: WaveletOp) -> Vec<String> {
        self.inserts("bob@acme.lab", sequence, version, op)
    }

    fn inserts(&mut self, author: &str, sequence: u64, version: u64, op: WaveletOp) -> Vec<String> {
        let submission = Submission {
            session: "b".into(),
            sequence,
        };
        self.told(RemoteInput::Submit {
            ticket: sequence,
            submission,
            author: address(author),
            version: Version::new(version),
            ops: vec![op],
        })
    }

    fn sent(&self) -> Encoded<SignedDelta> {
        self.outgoing.as_ref().unwrap().signed.clone()
    }

    fn answered(&mut self, attempt: u64, outcome: Result<SubmitResponse, SubmitFailure>) -> Vec<String> {
        self.told(RemoteInput::SubmitAnswered { attempt, outcome })
    }

    fn later(&mut self, ms: i64) -> Vec<String> {
        self.now.0 += ms;
        self.told(RemoteInput::Tick)
    }

    fn version(&self) -> u64 {
        self.machine.wavelet().version().number()
    }
}

fn words(output: &RemoteOutput) -> String {
    match output {
        RemoteOutput::Receipt { tag } => format!("receipt {tag}"),
        RemoteOutput::Refuse { tag, reason } => match reason {
            UpdateRefusal::BadSignature(_) => format!("refuse {tag}: signature"),
            UpdateRefusal::UnknownSigner(_) => format!("refuse {tag}: signer"),
            other => format!("refuse {tag}: {other}"),
        },
        RemoteOutput::FetchHistory { request, from, to, .. } => {
            format!("history {request}: {}..{}", from.version, to.version)
        }
        RemoteOutput::FetchSigner { at, .. } => format!("signer at {}", at.version),
        RemoteOutput::LoadOlder { from, to } => format!("older {from}..{to}"),
        RemoteOutput::Submit { attempt, .. } => format!("submit {attempt}"),
        RemoteOutput::Answer {
            ticket,
            outcome: Ok(Applied::Record(record)),
        } => format!("answer {ticket}: at {}", record.applied_at()),
        RemoteOutput::Answer { ticket, outcome } => format!("answer {ticket}: {outcome:?}"),
        RemoteOutput::HostState(HostState::Reachable) => "reachable".to_owned(),
        RemoteOutput::HostState(HostState::Waiting { .. }) => "waiting".to_owned(),
        RemoteOutput::HostState(HostState::Stale { ahead, .. }) => format!("stale: the host is at {ahead}"),
        RemoteOutput::Reset => "reset".to_owned(),
        RemoteOutput::Diverged(evidence) => format!("diverged: {}", evidence.kind()),
        RemoteOutput::Quarantined(evidence) => match &evidence.contradiction {
            Contradiction::AppliedAt { .. } => "quarantine: hash".to_owned(),
            Contradiction::OperationCount { ours, theirs } => format!("quarantine: {ours} operations, not {theirs}"),
            Contradiction::Target { .. } => "quarantine: fork".to_owned(),
            Contradiction::Documents { version, .. } => format!("quarantine: documents at {version}"),
            other => format!("quarantine: {other}"),
        },
        other => format!("{other:?}"),
    }
}

/// A host with alice and bob, and this many insertions by alice: versions 0..2, 2..3, 3..4, …
fn host(edits: u64) -> Host {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    for sequence in 1..=edits {
        let items = u32::try_from(sequence - 1).unwrap();
        host.submit(
            sequence,
            ("a", sequence),
            "alice@initech.lab",
            1 + sequence,
            vec![insert("a", 0, items)],
        );
        host.drive();
    }
    host
}

fn deltas(host: &Host) -> Vec<Encoded<AppliedDelta>> {
    host.sealed.iter().map(|(seal, _)| seal.applied.clone()).collect()
}

/// The applied delta with something else in it.
fn changed(applied: &Encoded<AppliedDelta>, change: impl FnOnce(&mut AppliedDelta)) -> Encoded<AppliedDelta> {
    let mut value = applied.value().clone();
    change(&mut value);
    Encoded::new(value)
}

fn forged(applied: &Encoded<AppliedDelta>) -> Encoded<AppliedDelta> {
    changed(applied, |applied| {
        let SignedDelta { delta, signatures } = applied.signed.value().clone();
        let spoil = |signature: &Signature| Signature {
            bytes: vec![7; 256].into(),
            signer: signature.signer.clone(),
        };
        applied.signed = Encoded::new(SignedDelta {
            delta,
            signatures: signatures.iter().map(spoil).collect(),
        });
    })
}

#[test]
fn a_wavelet_without_a_user_of_ours_is_not_taken_in() {
    let mut host = Host::with(&["alice@initech.lab", "carol@hooli.lab"]);
    host.drive();
    let mut remote = Remote::new();
    assert_eq!(remote.update(deltas(&host)), ["refuse 1: no local participant"]);
    assert!(!remote.machine.is_admitted() && remote.records.is_empty() && remote.machine.deadline().is_none());
}

#[test]
fn user_data_is_taken_from_nobody() {
    let name: WaveletName = "initech.lab/w+pair/~/user+bob@acme.lab".parse().unwrap();
    let mut remote = Remote::new();
    remote.machine = RemoteWavelet::new(name.clone(), local(1), 1);
    let (deltas, commit) = (vec![], None);
    let update = FromHost::check(&domain(DOMAINS[0]), WaveletUpdate { name, deltas, commit }).unwrap();
    assert_eq!(
        remote.told(RemoteInput::Update { tag: 1, update }),
        ["refuse 1: user data is private"]
    );
}

#[test]
fn an_invitation_late_in_a_history_is_verified_before_the_history_is_fetched() {
    let mut host = Host::with(&["alice@initech.lab", "carol@hooli.lab"]);
    host.submit(
        1,
        ("a", 1),
        "alice@initech.lab",
        2,
        vec![WaveletOp::AddParticipant(address("bob@acme.lab"))],
    );
    host.drive();
    let all = deltas(&host);
    let mut remote = Remote::new();
    assert_eq!(remote.update(vec![forged(&all[1])]), ["refuse 1: signature"]);
    assert!(!remote.machine.is_admitted());
    assert_eq!(remote.update(vec![all[1].clone()]), ["history 1: 0..2"]);
    assert_eq!(
        remote.told(RemoteInput::History {
            request: 1,
            outcome: Ok(vec![all[0].clone()])
        }),
        ["receipt 2"]
    );
    assert_eq!(remote.machine.sealed(), *host.machine.sealed());
    assert_eq!(remote.machine.wavelet().digest(), host.machine.wavelet().digest());
}

#[test]
fn r_09_a_gap_is_asked_for_once_and_what_is_known_is_receipted() {
    let host = host(5);
    let all = deltas(&host);
    let mut remote = Remote::new();
    assert_eq!(remote.update(all[..1].to_vec()), ["receipt 1"]);
    assert_eq!(remote.update(all[3..4].to_vec()), ["history 1: 2..4"]);
    assert_eq!(remote.update(all[5..].to_vec()), [""; 0]);
    assert_eq!(remote.update(all[..1].to_vec()), ["receipt 4"], "from the past");
    assert_eq!(
        remote.told(RemoteInput::History {
            request: 1,
            outcome: Ok(all[1..3].to_vec())
        }),
        ["history 2: 5..6", "receipt 2"]
    );
    assert_eq!(
        remote.told(RemoteInput::History {
            request: 2,
            outcome: Ok(all[4..5].to_vec())
        }),
        ["receipt 3"]
    );
    assert_eq!(remote.machine.sealed(), *host.machine.sealed());
}

#[test]
fn a_history_without_progress_is_asked_for_later_and_not_in_a_loop() {
    let host = host(3);
    let all = deltas(&host);
    let mut remote = Remote::following(&Host::with(&["alice@initech.lab", "bob@acme.lab"]));
    assert_eq!(remote.update(all[3..].to_vec()), ["history 1: 2..4"]);
    for request in 1..6 {
        assert_eq!(
            remote.told(RemoteInput::History {
                request,
                outcome: Ok(all[..1].to_vec())
            }),
            ["stale: the host is at 5"]
        );
        let wait = remote.machine.deadline().unwrap().0 - remote.now.0;
        assert!((250..=32_250).contains(&wait), "{wait}");
        assert_eq!(remote.later(wait), [format!("history {}: 2..4", request + 1)]);
    }
    assert_eq!(
        remote.told(RemoteInput::History {
            request: 6,
            outcome: Err(HistoryFailure::NotNow("gone".to_owned()))
        }),
        ["waiting"]
    );
    assert_eq!(remote.told(RemoteInput::HostSpoke), ["reachable", "history 7: 2..4"]);
    assert_eq!(
        remote.told(RemoteInput::History {
            request: 7,
            outcome: Ok(all[1..3].to_vec())
        }),
        ["receipt 2"]
    );
}

#[test]
fn r_03_a_delta_that_does_not_verify_changes_nothing_and_the_true_one_is_taken_after_it() {
    let host = host(1);
    let all = deltas(&host);
    let mut remote = Remote::new();
    remote.update(all[..1].to_vec());
    assert_eq!(remote.update(vec![forged(&all[1])]), ["refuse 2: signature"]);
    assert_eq!((remote.version(), remote.machine.is_quarantined()), (2, false));
    assert_eq!(remote.update(all[1..].to_vec()), ["receipt 3"]);
}

/// The commit notice of a version of the host's, with its digest if it has told one.
fn notice(host: &Host) -> Option<CommitNotice> {
    let (at, digest) = host.digests.last().cloned().unwrap();
    Some(CommitNotice {
        version: at.version,
        hash: Some(at.hash),
        digest: Some(digest),
    })
}

impl Remote {
    /// A restart: only what was stored is still there.
    fn restart(&mut self) {
        let (records, outgoing) = (self.records.clone(), self.outgoing.clone());
        self.machine = RemoteWavelet::load(name(), local(1), 2, None, records, outgoing).unwrap();
        self.machine.restore(self.now, self.standing.clone());
    }

    /// A restart after a fault of the disk: what was written last says something else now.
    fn restart_damaged(&mut self) {
        let last = self.records.last_mut().unwrap();
        let mut record = (*last.record).clone();
        record.delta.ops = vec![insert("?", 0, record.applied_at().number() as u32 - 2)];
        last.record = std::sync::Arc::new(record);
        self.restart();
    }

    fn history(&mut self, request: u64, deltas: &[Encoded<AppliedDelta>]) -> Vec<String> {
        let outcome = Ok(deltas.to_vec());
        self.told(RemoteInput::History { request, outcome })
    }

    fn quarantine(&self) -> Evidence {
        match &self.standing {
            Standing::Quarantined(evidence) => (**evidence).clone(),
            other => panic!("expected a quarantine on disk, got {other:?}"),
        }
    }
}

#[test]
fn a_copy_that_has_gone_wrong_is_fetched_again_once_and_goes_on() {
    let mut host = host(3);
    host.machine.handle(Timestamp(START + 10_000), HostedInput::Tick);
    host.drive();
    let all = deltas(&host);
    let mut remote = Remote::following(&host);
    remote.restart_damaged();
    assert_ne!(remote.machine.wavelet().digest(), host.machine.wavelet().digest());
    let damaged = remote.machine.wavelet().digest();

    assert_eq!(
        remote.say(vec![], notice(&host)),
        [
            "refuse 2: it contradicts the history: the documents differ at version 5",
            "diverged: documents differ",
            "history 1: 0..5"
        ]
    );
    // People read on what there is, and what they write waits; so does what the host goes on to say.
    assert_eq!(remote.machine.wavelet().digest(), damaged);
    assert_eq!(remote.bob_inserts(1, 5, insert("b", 0, 3)), [""; 0]);
    host.submit(9, ("a", 4), "alice@initech.lab", 5, vec![insert("a", 0, 3)]);
    host.drive();
    let newest = deltas(&host).pop().unwrap();
    assert_eq!(remote.update(vec![newest.clone()]), [""; 0]);
    // A restart in the middle begins anew; the submission is its client's to send again.
    remote.restart();
    assert_eq!(
        remote.drive().iter().map(words).collect::<Vec<_>>(),
        ["history 1: 0..5"]
    );
    assert_eq!(remote.bob_inserts(1, 5, insert("b", 0, 3)), [""; 0]);
    assert_eq!(remote.update(vec![newest]), [""; 0]);
    assert_eq!(remote.history(1, &all[..2]), ["history 2: 3..5"]);
    assert_eq!(
        remote.history(2, &all[2..]),
        ["reset", "receipt 4", "submit 1"],
        "mended, and all that waited goes on"
    );
    assert_eq!(remote.machine.wavelet().digest(), host.machine.wavelet().digest());
    assert_eq!(remote.records.len(), 5);
    assert_eq!(remote.sent().delta.target.version, Version::new(5));
    // What is on disk is the new copy, and a digest that agrees ends the matter.
    assert!(matches!(remote.standing, Standing::Refetched(_)));
    remote.restart();
    assert_eq!(remote.machine.wavelet().digest(), host.machine.wavelet().digest());
    host.machine.handle(Timestamp(START + 20_000), HostedInput::Tick);
    host.drive();
    assert_eq!(remote.say(vec![], notice(&host)), ["submit 1", "receipt 5"]);
    assert_eq!(remote.standing, Standing::Following);
}

#[test]
fn documents_that_still_differ_are_in_quarantine_with_both_digests() {
    let mut host = host(3);
    host.machine.handle(Timestamp(START + 10_000), HostedInput::Tick);
    host.drive();
    let all = deltas(&host);
    let mut remote = Remote::following(&host);
    let mut wrong = notice(&host).unwrap();
    wrong.digest = Some([7; 32]);
    assert_eq!(remote.say(vec![], Some(wrong))[2], "history 1: 0..5");
    assert_eq!(
        remote.history(1, &all),
        ["quarantine: documents at 5"],
        "the same from the same bytes: we or the host compute wrongly"
    );
    let evidence = remote.quarantine();
    let ours = host.machine.wavelet().digest();
    assert_eq!(evidence.digests, Some((ours, [7; 32])));
    assert_eq!(evidence.ours, *host.machine.sealed());
    assert_eq!(evidence.kept, *all[3].bytes());
    // After a restart too; people can read it and are told why they cannot write.
    remote.restart();
    assert!(remote.machine.is_quarantined() && remote.version() == 5);
    assert_eq!(
        remote.update(all[3..].to_vec()),
        ["refuse 3: the wavelet is in quarantine"]
    );
    let words = &remote.bob_inserts(1, 5, insert("b", 0, 3))[0];
    assert!(words.contains("quarantine"), "{words}");
    assert_eq!(remote.machine.deadline(), None);
    let kept = Evidence::decode(&evidence.encode()).unwrap();
    assert_eq!(kept.contradiction.to_string(), "the documents differ at version 5");
    assert_eq!(
        (kept.digests, kept.ours, kept.kept),
        (evidence.digests, evidence.ours, evidence.kept)
    );
}

#[test]
fn digests_of_versions_in_between_are_compared_where_they_belong() {
    let host = host(4);
    let all = deltas(&host);
    let at = |version: usize, digest: [u8; 32]| {
        let at = all[version - 1].applied_at().clone();
        Some(CommitNotice {
            version: at.version,
            hash: Some(at.hash),
            digest: Some(digest),
        })
    };
    // The digest of what is not here yet waits for it, one of the past is passed over, a right one changes nothing.
    let mut remote = Remote::new();
    remote.update(all[..2].to_vec());
    assert_eq!(remote.say(vec![], at(4, [7; 32])), ["history 1: 3..4", "receipt 2"]);
    assert_eq!(remote.say(vec![], at(2, [7; 32])), ["receipt 3"]);
    let outputs = remote.history(1, &all[2..3]);
    assert!(
        outputs.contains(&"diverged: documents differ".to_owned()),
        "{outputs:?}"
    );
}

#[test]
fn b_125_a_host_that_shows_two_histories() {
    let host = host(2);
    let all = deltas(&host);
    // The other history, which the host has shown to carol: what she signs names its hash, and betrays it here.
    let mut fork = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    fork.submit(1, ("a", 1), "alice@initech.lab", 2, vec![insert("z", 0, 0)]);
    fork.drive();
    fork.submit(2, ("a", 2), "alice@initech.lab", 3, vec![insert("z", 0, 1)]);
    fork.drive();
    let mut remote = Remote::new();
    remote.update(all[..2].to_vec());
    let ours = all[2].applied_at().clone();
    let crossing = changed(&deltas(&fork)[2], |applied| applied.applied_at = Some(ours.clone()));
    let words = remote.update(vec![crossing.clone()]);
    assert_eq!(words[1..], ["diverged: fork", "history 1: 0..3"]);
    // The host gives the first history once more, and the delta that does not fit it: that is enough.
    assert_eq!(remote.history(1, &all[..2]), ["reset"]);
    let before = remote.machine.wavelet().digest();
    assert_eq!(remote.update(vec![crossing.clone()])[1], "quarantine: fork");
    // Nothing has changed, nothing more is taken, and both signed transcripts are kept.
    assert_eq!((remote.version(), remote.machine.wavelet().digest()), (3, before));
    assert_eq!(
        remote.update(all[2..].to_vec()),
        ["refuse 4: the wavelet is in quarantine"]
    );
    let evidence = remote.quarantine();
    assert_eq!((&evidence.kept, &evidence.applied), (all[1].bytes(), crossing.bytes()));
    assert_eq!(evidence.theirs.as_ref(), Some(&deltas(&fork)[2].signed.delta.target));
    assert_eq!((evidence.ours.clone(), evidence.kind()), (ours.clone(), "fork"));
    for bytes in [evidence.kept, evidence.applied] {
        let signed = Encoded::<AppliedDelta>::decode(bytes).unwrap().signed.clone();
        remote
            .verifier
            .verify(signed, remote.now)
            .expect("anybody can check it");
    }

    // A host that gives the other history when it is asked again, or none, is not followed there.
    let second_look = |answer: &dyn Fn(&mut Remote) -> Vec<String>| {
        let mut remote = Remote::new();
        remote.update(all[..2].to_vec());
        remote.update(vec![crossing.clone()]);
        let outputs = answer(&mut remote);
        assert!(outputs[0].starts_with("quarantine: its author saw"), "{outputs:?}");
        assert_eq!(remote.machine.sealed(), ours, "ours is kept");
        remote.restart();
        assert!(remote.machine.is_quarantined());
        outputs[0].clone()
    };
    let other = deltas(&fork)[..2].to_vec();
    assert!(second_look(&|remote| remote.history(1, &other)).contains("the host has committed 3:"));
    let denied = second_look(&|remote| {
        let outcome = Err(HistoryFailure::Refused("no such thing".to_owned()));
        remote.told(RemoteInput::History { request: 1, outcome })
    });
    assert!(denied.ends_with("that it gave before: no such thing"), "{denied}");
}

#[test]
fn applied_deltas_that_contradict_the_history() {
    let host = host(2);
    let all = deltas(&host);
    let case = |change: fn(&mut AppliedDelta)| {
        let mut remote = Remote::new();
        remote.update(all[..2].to_vec());
        let before = (remote.machine.sealed(), remote.machine.wavelet().digest());
        let bad = changed(&all[2], change);
        let outputs = remote.update(vec![bad.clone()]);
        assert!(
            outputs[0].starts_with("refuse 2: it contradicts the history: "),
            "{outputs:?}"
        );
        if outputs[1..] != ["diverged: another history", "history 1: 0..3"] {
            assert_eq!(outputs[1..], ["diverged: contradiction", "history 1: 0..3"]);
        }
        // Our copy was right: it comes back as it was, and the good delta is taken after the bad one.
        assert_eq!(remote.history(1, &all[..2]), ["reset"]);
        assert_eq!((remote.machine.sealed(), remote.machine.wavelet().digest()), before);
        let mut patient = Remote::new();
        patient.update(all[..2].to_vec());
        patient.update(vec![bad.clone()]);
        patient.history(1, &all[..2]);
        assert_eq!(patient.update(all[2..].to_vec()), ["receipt 3"]);
        // A second time is too much.
        let outputs = remote.update(vec![bad.clone()]);
        assert_eq!((remote.machine.sealed(), remote.machine.wavelet().digest()), before);
        assert_eq!(remote.quarantine().applied, *bad.bytes(), "the evidence");
        assert_eq!(
            remote.update(all[2..].to_vec()),
            ["refuse 4: the wavelet is in quarantine"]
        );
        outputs[1].clone()
    };
    assert_eq!(
        case(|applied| applied.operations_applied = 2),
        "quarantine: 1 operations, not 2"
    );
    let hash = |applied: &mut AppliedDelta| applied.applied_at.as_mut().unwrap().hash = Default::default();
    assert_eq!(case(hash), "quarantine: hash");
    assert_eq!(
        case(|applied| applied.timestamp = Timestamp(1 << 52)),
        "quarantine: 4503599627370496 ms since 1970 is no time"
    );
    let next_year = |applied: &mut AppliedDelta| applied.timestamp.0 += 367 * 86_400_000;
    assert!(case(next_year).ends_with("ms since 1970 is no time"));
    assert!(case(|applied| applied.timestamp = Timestamp(i64::MAX)).ends_with("is no time"));
    // Before the certificates of its time the signature does not count, so it is no contradiction either.
    let mut remote = Remote::new();
    remote.update(all[..2].to_vec());
    let early = changed(&all[2], |applied| applied.timestamp = Timestamp(-1));
    assert_eq!(remote.update(vec![early]), ["refuse 2: signature"]);
    // Without the version where it was applied it says that it was applied at its target: where it fits it is the same.
    let absent = changed(&all[2], |applied| applied.applied_at = None);
    assert_eq!(remote.update(vec![absent]), ["receipt 3"]);
}

#[test]
fn b_127_commit_notices_that_are_not_true() {
    let host = host(2);
    let all = deltas(&host);
    let mut remote = Remote::new();
    remote.update(all[..1].to_vec());
    let head = host.machine.sealed().clone();
    let commit = |version: u64, hash| {
        Some(CommitNotice {
            version: Version::new(version),
            hash: Some(hash),
            digest: None,
        })
    };
    // Ahead of us: one request, whatever else is said.
    assert_eq!(
        remote.say(vec![], commit(4, head.hash.clone())),
        ["history 1: 2..4", "receipt 2"]
    );
    assert_eq!(remote.say(vec![], commit(900, head.hash.clone())), ["receipt 3"]);
    assert_eq!(
        remote.say(vec![], commit(1 << 60, head.hash.clone())),
        ["receipt 4"],
        "no version is that high"
    );
    remote.history(1, &all[1..]);
    assert_eq!(remote.version(), 4);
    // Never delivered: stale, and asked for again after a pause.
    assert_eq!(remote.history(2, &[]), ["stale: the host is at 900"]);
    assert!(remote.machine.deadline().unwrap().0 - remote.now.0 >= 250);
    // What is behind us, and what we have, is nothing new.
    assert_eq!(
        remote.say(vec![], commit(2, all[1].applied_at().hash.clone())),
        ["receipt 5"]
    );
    assert_eq!(remote.say(vec![], commit(4, head.hash.clone())), ["receipt 6"]);
    // Another hash of a version that we have is evidence.
    let before = remote.machine.wavelet().digest();
    let outputs = remote.say(vec![], commit(3, head.hash.clone()));
    assert_eq!(outputs[1], "diverged: another history");
    assert_eq!(remote.machine.wavelet().digest(), before);
    let request = outputs[2]
        .strip_prefix("history ")
        .unwrap()
        .split_once(':')
        .unwrap()
        .0
        .parse()
        .unwrap();
    assert_eq!(remote.history(request, &all)[0], "reset");
    assert!(
        remote
            .say(vec![], commit(3, head.hash))
            .iter()
            .any(|word| word.starts_with("quarantine: the host has committed 3:"))
    );
    assert_eq!(remote.machine.wavelet().digest(), before);
    assert_eq!(remote.quarantine().theirs.unwrap().version, Version::new(3));
}

#[test]
fn b_126_a_host_that_withholds() {
    let host = host(3);
    let all = deltas(&host);
    // One update of several is dropped: what comes after it shows the gap, and the history fills it.
    let mut remote = Remote::new();
    remote.update(all[..2].to_vec());
    assert_eq!(remote.update(all[3..].to_vec()), ["history 1: 3..4"]);
    assert_eq!(remote.history(1, &all[2..3]), ["receipt 2"]);
    // All are dropped, and the history is empty, or refused: no progress, said so, with growing pauses.
    let mut remote = Remote::new();
    remote.update(all[..2].to_vec());
    let head = host.machine.sealed().clone();
    let commit = Some(CommitNotice {
        version: head.version,
        hash: Some(head.hash),
        digest: None,
    });
    assert_eq!(remote.say(vec![], commit), ["history 1: 3..5", "receipt 2"]);
    let mut pauses = Vec::new();
    for request in 1..8 {
        let outcome = match request % 2 {
            0 => Err(HistoryFailure::Refused("no".to_owned())),
            _ => Ok(Vec::new()),
        };
        assert_eq!(
            remote.told(RemoteInput::History { request, outcome }),
            ["stale: the host is at 5"]
        );
        assert_eq!(
            remote.told(RemoteInput::HostSpoke),
            [""; 0],
            "a word is not what it owes"
        );
        let wait = remote.machine.deadline().unwrap().0 - remote.now.0;
        pauses.push(wait);
        assert_eq!(remote.later(wait), [format!("history {}: 3..5", request + 1)]);
    }
    assert!(pauses.iter().all(|pause| (250..=300_250).contains(pause)), "{pauses:?}");
    assert!(!remote.machine.is_quarantined() && remote.version() == 3);
    let since = |state: &HostState| match state {
        HostState::Stale { since, .. } => *since,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        since(remote.machine.host_state()),
        Timestamp(START),
        "since the first of them"
    );
    // It gives at last.
    assert_eq!(remote.history(8, &all[2..]), ["reachable"]);
    assert_eq!(remote.machine.sealed(), *host.machine.sealed());
}

#[test]
fn what_cannot_be_signed_waits_and_is_tried_again() {
    let host = host(1);
    let mut remote = Remote::following(&host);
    let submit = RemoteInput::Submit {
        ticket: 1,
        submission: Submission {
            session: "b".into(),
            sequence: 1,
        },
        author: address("bob@acme.lab"),
        version: Version::new(3),
        ops: vec![insert("b", 1, 1)],
    };
    remote.machine.handle(remote.now, submit);
    let Some(RemoteOutput::Sign(delta)) = remote.machine.poll() else {
        panic!("nothing to sign")
    };
    assert_eq!(remote.told(RemoteInput::SignFailed), [""; 0]);
    assert_eq!(remote.later(10_000), ["submit 1"]);
    assert_eq!(remote.sent().delta, delta);
}

#[test]
fn b_107_an_unknown_signer_is_fetched_once_and_then_the_delta_is_asked_for_later() {
    let host = host(1);
    let all = deltas(&host);
    let mut remote = Remote::following(&Host::with(&["alice@initech.lab", "bob@acme.lab"]));
    remote.verifier = verifier();
    let id = keys().signers[0].id().clone();
    assert_eq!(remote.update(all[1..].to_vec()), ["signer at 3"]);
    assert_eq!(remote.update(all[1..].to_vec()), [""; 0]);
    let failed = RemoteInput::SignerFetched {
        id: id.clone(),
        outcome: Err("no".to_owned()),
    };
    assert_eq!(remote.told(failed), ["refuse 2: signer"]);
    let wait = remote.machine.deadline().unwrap().0 - remote.now.0;
    assert_eq!(remote.later(wait), ["history 1: 2..3"]);
    assert_eq!(
        remote.told(RemoteInput::History {
            request: 1,
            outcome: Ok(all[1..].to_vec())
        }),
        ["signer at 3"]
    );
    remote
        .verifier
        .add(keys().signers[0].info().clone(), remote.now)
        .unwrap();
    assert_eq!(
        remote.told(RemoteInput::SignerFetched { id, outcome: Ok(()) }),
        ["receipt 3"]
    );
}

#[test]
fn r_09_too_many_deltas_ahead_of_a_gap_are_refused() {
    let host = host(70);
    let mut remote = Remote::new();
    let all = deltas(&host);
    remote.update(all[..1].to_vec());
    let mut refused = 0;
    for applied in &all[2..] {
        refused += remote
            .update(vec![applied.clone()])
            .iter()
            .filter(|output| output.ends_with("too many deltas out of order"))
            .count();
    }
    assert_eq!(refused, 69 - 64);
    assert_eq!(
        remote
            .told(RemoteInput::History {
                request: 1,
                outcome: Ok(all[1..2].to_vec())
            })
            .len(),
        64,
        "receipts"
    );
}

#[test]
fn every_update_that_waits_too_long_behind_others_is_answered() {
    let host = host(3);
    let all = deltas(&host);
    let mut remote = Remote::new();
    remote.update(all[..1].to_vec());
    let refused: Vec<String> = (0..300)
        .flat_map(|_| remote.update(vec![all[2].clone()]))
        .filter(|output| output.starts_with("refuse"))
        .collect();
    assert_eq!(refused.len(), 300 - 256);
    assert_eq!(refused[0], "refuse 2: too many deltas out of order");
    let outcome = Ok(all[1..2].to_vec());
    let receipts = remote.told(RemoteInput::History { request: 1, outcome });
    assert_eq!(receipts.len(), 256, "{receipts:?}");
}

#[test]
fn many_deltas_in_order_are_taken_in_one_update() {
    let host = host(200);
    let all = deltas(&host);
    let mut remote = Remote::new();
    assert_eq!(remote.update(all[..150].to_vec()), ["receipt 1"], "from the start");
    assert_eq!(remote.update(all[150..].to_vec()), ["receipt 2"], "from where we are");
    assert_eq!(remote.machine.sealed(), *host.machine.sealed());
}

#[test]
fn a_submission_is_sent_again_as_the_same_bytes_until_the_host_has_answered() {
    let host = host(1);
    let mut remote = Remote::following(&host);
    assert_eq!(remote.bob_inserts(1, 3, insert("b", 1, 1)), ["submit 1"]);
    let sent = remote.sent();
    assert_eq!(
        remote.bob_inserts(1, 3, insert("b", 1, 1)),
        [""; 0],
        "a resend waits with it"
    );
    assert_eq!(
        remote.answered(1, Err(SubmitFailure::Unreachable("down".to_owned()))),
        ["waiting"]
    );
    let wait = remote.machine.deadline().unwrap().0 - remote.now.0;
    assert_eq!(remote.later(wait), ["submit 2"]);
    assert_eq!(
        remote.answered(2, Err(SubmitFailure::Unreachable("down".to_owned()))),
        ["waiting"]
    );
    assert_eq!(remote.told(RemoteInput::HostSpoke), ["reachable", "submit 3"]);
    // A restart: the bytes come from the disk, and go out at once.
    remote.machine = RemoteWavelet::load(
        name(),
        local(1),
        2,
        None,
        remote.records.clone(),
        remote.outgoing.clone(),
    )
    .unwrap();
    assert_eq!(remote.later(0), ["submit 1"]);
    assert_eq!(remote.sent(), sent);
    assert_eq!(
        remote.answered(1, Err(SubmitFailure::Refused("no".to_owned()))),
        [""; 0],
        "nobody waits since the restart"
    );
    assert_eq!((remote.outgoing, remote.machine.waiting()), (None, 0));
}

#[test]
fn its_effect_is_recognised_and_answered_once_it_is_durable() {
    let mut host = host(1);
    let mut remote = Remote::following(&host);
    remote.bob_inserts(1, 3, insert("b", 1, 1));
    let verified = remote.verifier.verify(remote.sent(), remote.now).unwrap();
    host.machine.handle(
        remote.now,
        HostedInput::RemoteSubmit {
            ticket: 5,
            delta: verified,
        },
    );
    host.drive();
    let (_, response) = host.remote_answers.pop().unwrap();
    assert_eq!(remote.answered(1, Ok(response.unwrap())), [""; 0]);
    assert_eq!(remote.bob_inserts(2, 3, insert("c", 0, 1)), [""; 0], "one at a time");
    let echo = deltas(&host).pop().unwrap();
    assert_eq!(remote.update(vec![echo]), ["answer 1: at 3", "receipt 2", "submit 2"]);
    assert_eq!(remote.records.last().unwrap().record.submission().unwrap().sequence, 1);
    assert_eq!(
        remote.bob_inserts(1, 3, insert("b", 1, 1)),
        ["answer 1: at 3"],
        "a resend"
    );
}

#[test]
fn two_users_with_the_same_session_name_are_both_sent() {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab", "carol@acme.lab"]);
    host.drive();
    let mut remote = Remote::following(&host);
    assert_eq!(remote.bob_inserts(1, 3, insert("b", 0, 0)), ["submit 1"]);
    let bobs = remote.sent();
    assert_eq!(remote.inserts("carol@acme.lab", 1, 3, insert("c", 0, 0)), [""; 0]);
    let refused = Err(SubmitFailure::Refused("no".to_owned()));
    let out = remote.answered(1, refused);
    assert_eq!(out.last().map(String::as_str), Some("submit 2"), "{out:?}");
    assert_ne!(remote.sent().delta.author, bobs.delta.author);
}

#[test]
fn a_stale_submission_is_made_anew_when_newer_deltas_have_come_and_refused_when_none_come() {
    let host = host(2);
    let all = deltas(&host);
    let mut remote = Remote::new();
    remote.update(all[..2].to_vec());
    assert_eq!(remote.bob_inserts(1, 3, insert("b", 1, 1)), ["submit 1"]);
    assert_eq!(
        remote.answered(1, Err(SubmitFailure::Stale("rebase".to_owned()))),
        [""; 0]
    );
    assert_eq!(remote.update(all[2..].to_vec()), ["receipt 2", "submit 2"]);
    assert_eq!(remote.sent().delta.target, *host.machine.sealed());
    assert_eq!(remote.sent().delta.ops, [insert("b", 2, 2)]);
    assert_eq!(
        remote.answered(2, Err(SubmitFailure::Stale("rebase".to_owned()))),
        [""; 0]
    );
    assert_eq!(
        remote.later(30_000),
        [format!(
            "answer 1: {:?}",
            Err::<Applied, _>(Refusal::HostRefused("rebase".to_owned()))
        )]
    );
    assert_eq!(remote.outgoing, None);
}

#[test]
fn who_is_here_is_not_added_again_and_the_next_submission_does_not_wait_for_it() {
    let host = host(1);
    let mut remote = Remote::following(&host);
    let alice = address("alice@initech.lab");
    let refused = |ticket: u64, words: &str| {
        let refusal = Err::<Applied, _>(Refusal::DoesNotApply(words.to_owned()));
        format!("answer {ticket}: {refusal:?}")
    };
    // The host's refusal would be waited upon for half a minute each time.
    assert_eq!(
        remote.bob_inserts(1, 3, WaveletOp::AddParticipant(alice)),
        [refused(1, "alice@initech.lab is already a participant")]
    );
    assert_eq!(
        remote.bob_inserts(2, 3, WaveletOp::RemoveParticipant(address("carol@acme.lab"))),
        [refused(2, "carol@acme.lab is not a participant")]
    );
    assert_eq!(remote.bob_inserts(3, 3, insert("b", 1, 1)), ["submit 1"]);
}

#[test]
fn a_full_disk_refuses_and_forgets() {
    let host = host(1);
    let mut remote = Remote::following(&host);
    remote.machine.handle(remote.now, RemoteInput::PersistFailed);
    assert!(remote.machine.failed());
    assert_eq!(remote.update(deltas(&host)), ["refuse 2: it cannot be stored now"]);
    assert_eq!(
        remote.bob_inserts(1, 3, insert("b", 1, 1)),
        [format!("answer 1: {:?}", Err::<Applied, _>(Refusal::Unavailable))]
    );
}

/// A replica that has the first delta and was told how far the history goes, all deltas, and their end.
fn behind_by_thirty() -> (Remote, Vec<Encoded<AppliedDelta>>, billow_model::HashedVersion) {
    let host = host(30);
    let all = deltas(&host);
    let head = host.machine.sealed().clone();
    let commit = CommitNotice {
        version: head.version,
        hash: Some(head.hash.clone()),
        digest: None,
    };
    let mut remote = Remote::new();
    remote.update(all[..1].to_vec());
    assert_eq!(remote.say(vec![], Some(commit)), ["history 1: 2..32", "receipt 2"]);
    (remote, all, head)
}

#[test]
fn the_next_page_of_a_history_is_asked_for_before_the_last_is_worked_through() {
    let (mut remote, all, head) = behind_by_thirty();
    let page = |request, from: usize, to: usize| RemoteInput::History {
        request,
        outcome: Ok(all[from..to].to_vec()),
    };
    // Only then is it verified.
    remote.machine.handle(remote.now, page(1, 1, 11));
    let first = remote.machine.poll().unwrap();
    assert_eq!(words(&first), "history 2: 12..32");
    assert_eq!(remote.version(), 2);
    remote.drive();
    assert_eq!(remote.version(), 12);
    assert_eq!(remote.told(page(2, 11, 30)), ["history 3: 31..32"]);
    // One at a time, and the last brings the end.
    assert_eq!(remote.told(page(3, 30, 31)), [""; 0]);
    assert_eq!(remote.machine.sealed(), head);
}

#[test]
fn what_came_after_a_forged_delta_of_a_history_is_asked_for_again_with_it() {
    let (mut remote, mut all, _) = behind_by_thirty();
    let false_one = forged(&all[5]);
    let good = std::mem::replace(&mut all[5], false_one);
    let page = |request, deltas: &[Encoded<AppliedDelta>]| RemoteInput::History {
        request,
        outcome: Ok(deltas.to_vec()),
    };
    let said = remote.told(page(1, &all[1..11]));
    assert_eq!(said[0], "history 2: 12..32", "{said:?}");
    assert_eq!(remote.version(), 6, "up to the forged one");
    // The page that was asked for meanwhile does not help.
    assert_eq!(remote.told(page(2, &all[11..21])), [""; 0]);
    let wait = remote.machine.deadline().unwrap().0 - remote.now.0;
    let asked = remote.later(wait);
    assert_eq!(asked, ["history 3: 6..12"]);
    all[5] = good;
    remote.told(page(3, &all[5..11]));
    assert_eq!(remote.version(), 22, "with those that waited");
}

#[test]
fn b_127_an_error_answer_is_a_pause_that_the_hosts_next_word_does_not_end() {
    let host = host(3);
    let all = deltas(&host);
    let mut remote = Remote::following(&Host::with(&["alice@initech.lab", "bob@acme.lab"]));
    assert_eq!(remote.update(all[3..].to_vec()), ["history 1: 2..4"]);
    let refused = |request| RemoteInput::History {
        request,
        outcome: Err(HistoryFailure::Refused("not now".to_owned())),
    };
    let said = remote.told(refused(1));
    assert!(!said.iter().any(|word| word.starts_with("history")), "{said:?}");
    for _ in 0..100 {
        assert_eq!(
            remote
                .told(RemoteInput::HostSpoke)
                .iter()
                .filter(|word| word.starts_with("history"))
                .count(),
            0
        );
    }
    let notice = CommitNotice {
        version: Version::new(4),
        hash: Some(host.machine.sealed().hash.clone()),
        digest: None,
    };
    let said = remote.say(vec![], Some(notice));
    assert!(!said.iter().any(|word| word.starts_with("history")), "{said:?}");
    let wait = remote.machine.deadline().unwrap().0 - remote.now.0;
    assert!((250..=1_250).contains(&wait), "{wait}");
    assert_eq!(remote.later(wait), ["history 2: 2..4"]);
}

/// A host of large changes, so that its copies have only the last of them in memory: the same text comes and goes.
fn host_of_large(edits: u64) -> Host {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    let text = "x".repeat(60_000);
    for sequence in 1..=edits {
        let op = match sequence % 2 {
            1 => insert(&text, 0, 0),
            _ => delete_all(&text),
        };
        host.submit(sequence, ("a", sequence), "alice@initech.lab", 1 + sequence, vec![op]);
        host.drive();
        assert_eq!(host.machine.wavelet().version().number(), 2 + sequence);
    }
    host
}

/// What bob signs as of an old version, applied by the host at its newest.
fn made_long_ago(target: billow_model::HashedVersion, host: &Host, ops: Vec<WaveletOp>) -> Encoded<AppliedDelta> {
    let operations_applied = u32::try_from(ops.len()).unwrap();
    let delta = billow_model::Delta {
        target,
        author: address("bob@acme.lab"),
        ops,
        address_path: Vec::new(),
    };
    Encoded::new(AppliedDelta {
        signed: keys().signers[1].sign(Encoded::new(delta)).unwrap(),
        applied_at: Some(host.machine.sealed().clone()),
        operations_applied,
        timestamp: Timestamp(START),
    })
}

#[test]
fn a_delta_made_before_what_is_in_memory_is_carried_through_the_stored_records_page_by_page() {
    let host = host_of_large(60);
    let all = deltas(&host);
    let mut remote = Remote::following(&host);
    let early = all[2].applied_at().clone();
    let mut at_the_beginning = insert("!", 0, 60_000);
    let old = made_long_ago(early.clone(), &host, vec![at_the_beginning.clone()]);
    let asked = remote.update(vec![old]);
    let [word] = &asked[..] else { panic!("{asked:?}") };
    let base: u64 = word.strip_prefix("older 3..").unwrap().parse().unwrap();
    assert!(base > 20, "{base}");
    let stored = remote.records.clone();
    let from = |version: u64| {
        stored
            .iter()
            .position(|stored| stored.record.applied_at().number() == version)
    };
    let page = |begin: u64, end: u64| RemoteInput::Older {
        records: stored[from(begin).unwrap()..from(end).unwrap()].to_vec(),
    };
    // As few as are read at once; nothing of it stays in memory.
    assert_eq!(remote.told(page(3, 8)), [format!("older 8..{base}")]);
    assert_eq!(remote.told(page(8, 9)), [format!("older 9..{base}")]);
    assert_eq!(remote.told(page(9, base)), ["receipt 2"]);
    assert_eq!(remote.version(), 63);
    // The host's copy says the same.
    at_the_beginning = insert("!", 0, 0);
    let mut hosts = host.machine.wavelet().clone();
    hosts
        .apply(&billow_model::TransformedDelta {
            author: address("bob@acme.lab"),
            applied_at: Version::new(62),
            ops: vec![at_the_beginning],
            timestamp: Timestamp(START),
        })
        .unwrap();
    assert_eq!(remote.machine.wavelet().digest(), hosts.digest());

    // Another hash of that old version: its author has seen another history.
    let mut remote = Remote::following(&host);
    let mut wrong = early;
    wrong.hash = Default::default();
    let forked = made_long_ago(wrong, &host, vec![WaveletOp::NoOp]);
    assert_eq!(remote.update(vec![forked]), asked);
    let said = remote.told(page(3, 8));
    assert!(said.contains(&"diverged: fork".to_owned()), "{said:?}");
    assert_eq!(remote.version(), 62);

    // A hole in our own store is nobody's lie: the machine is loaded anew.
    let mut remote = Remote::following(&host);
    let old = made_long_ago(all[2].applied_at().clone(), &host, vec![WaveletOp::NoOp]);
    remote.update(vec![old]);
    remote.told(RemoteInput::Older { records: Vec::new() });
    assert!(remote.machine.failed() && !remote.machine.is_quarantined());
}

#[test]
fn b_105_a_copy_carries_nothing_that_is_ten_thousand_versions_old() {
    let mut host = Host::with(&["alice@initech.lab", "bob@acme.lab"]);
    let old = host.machine.sealed().clone();
    for sequence in 1..=11 {
        let version = host.machine.wavelet().version().number();
        host.submit(
            sequence,
            ("a", sequence),
            "alice@initech.lab",
            version,
            vec![WaveletOp::NoOp; 1_000],
        );
        host.drive();
    }
    let mut remote = Remote::following(&host);
    let applied = made_long_ago(old, &host, vec![WaveletOp::NoOp]);
    let said = remote.update(vec![applied]);
    assert!(said.contains(&"diverged: contradiction".to_owned()), "{said:?}");
    assert_eq!(remote.version(), 11_002);
}
