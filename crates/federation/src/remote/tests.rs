//! Requests against hosts that answer, forget, refuse, or do not answer.

use billow_model::{Delta, HashedVersion, HistoryHash, Version, WaveletName, WaveletOp};
use billow_wire::{Encoded, HashAlgorithm, SignedDelta, SignerId};

use super::*;
use crate::discovery::Software;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn jid(text: &str) -> Jid {
    Jid::new(text).unwrap()
}

fn name() -> WaveletName {
    "initech.lab/w+a/~/conv+root".parse().unwrap()
}

fn at(version: u64) -> HashedVersion {
    HashedVersion {
        version: Version::new(version),
        hash: HistoryHash::from_bytes(&[7; 20]),
    }
}

fn info() -> SignerInfo {
    SignerInfo {
        hash: HashAlgorithm::Sha256,
        domain: "acme.lab".parse().unwrap(),
        certificates: vec![vec![1, 2, 3].into()],
    }
}

fn submit() -> Request {
    let delta = Delta {
        target: at(3),
        author: "bob@acme.lab".parse().unwrap(),
        ops: vec![WaveletOp::NoOp],
        address_path: vec![],
    };
    let delta = Encoded::new(SignedDelta {
        delta: Encoded::new(delta),
        signatures: vec![],
    });
    Request::Submit(SubmitRequest { name: name(), delta })
}

fn history() -> Request {
    Request::History(HistoryRequest {
        name: name(),
        from: at(1),
        to: at(3),
        limit: None,
    })
}

/// A machine with its service found, and what it wants.
struct Driver {
    remote: Remote,
    now: Timestamp,
    answered: Vec<(u64, Result<Response, Failure>)>,
}

impl Driver {
    fn new() -> Self {
        Self {
            remote: Remote::new(jid("acme.lab"), info(), Ids::new([3; 32])),
            now: NOW,
            answered: Vec::new(),
        }
    }

    /// Tells the machine and gives the stanzas that it sends, as values.
    fn tell(&mut self, input: Input) -> Vec<Iq> {
        self.remote.handle(self.now, input);
        let mut sent = Vec::new();
        while let Some(output) = self.remote.poll() {
            match output {
                Output::Discover => {
                    let service = Service {
                        jid: jid("initech.lab"),
                        software: Software::Legacy,
                    };
                    self.remote.handle(self.now, Input::Service(service));
                }
                Output::Send(element) => match billow_xmpp::Stanza::parse(&element) {
                    Ok(billow_xmpp::Stanza::Iq(iq)) => sent.push(iq),
                    other => panic!("{other:?}"),
                },
                Output::Answered { ticket, outcome } => self.answered.push((ticket, outcome)),
            }
        }
        sent
    }

    fn ask(&mut self, ticket: u64, request: Request) -> Vec<Iq> {
        self.tell(Input::Ask { ticket, request })
    }

    fn answer(&mut self, iq: &Iq, payload: Element) -> Vec<Iq> {
        self.tell(Input::Answer(iq.result(Some(payload))))
    }

    fn refuse(&mut self, iq: &Iq, condition: Condition, text: &str) -> Vec<Iq> {
        self.tell(Input::Answer(iq.error(StanzaError::new(condition, text))))
    }

    /// The outcome of the only request that was answered.
    fn outcome(&mut self) -> Result<Response, Failure> {
        assert_eq!(self.answered.len(), 1, "{:?}", self.answered);
        self.answered.remove(0).1
    }

    /// A submission whose chain is posted.
    fn submitted(&mut self) -> Iq {
        let post = self.ask(1, submit());
        match &post[..] {
            [post] if is_post(post) => self.answer(post, signer::post_response()).remove(0),
            [submission] => submission.clone(),
            other => panic!("{other:?}"),
        }
    }
}

fn is_post(iq: &Iq) -> bool {
    matches!(&iq.kind, IqKind::Set(payload) if signer::parse_post(payload).is_ok())
}

fn response() -> SubmitResponse {
    SubmitResponse {
        operations_applied: 1,
        resulting: at(4),
        timestamp: NOW,
    }
}

#[test]
fn the_chain_is_posted_once_and_before_the_first_submission() {
    let mut driver = Driver::new();
    let post = driver.ask(1, submit());
    assert!(post.len() == 1 && is_post(&post[0]));
    assert_eq!(
        driver.ask(2, submit()),
        Vec::new(),
        "the second waits for the same post"
    );
    let submissions = driver.answer(&post[0], signer::post_response());
    assert_eq!(submissions.len(), 2);
    for (ticket, iq) in submissions.iter().enumerate() {
        driver.answer(iq, submit::response(&response()));
        assert_eq!(
            driver.answered.pop(),
            Some((ticket as u64 + 1, Ok(Response::Submitted(response()))))
        );
    }
    let third = driver.ask(3, submit());
    assert!(third.len() == 1 && !is_post(&third[0]));
}

#[test]
fn history_and_chains_do_not_wait_for_the_post() {
    let mut driver = Driver::new();
    let sent = driver.ask(1, history());
    assert_eq!(sent.len(), 1);
    let IqKind::Get(payload) = &sent[0].kind else {
        panic!("{sent:?}")
    };
    let request = history::parse_request(payload).unwrap();
    assert_eq!(
        request.limit,
        Some(HISTORY_LIMIT),
        "without a bound the reference gives one delta"
    );
    let none = HistoryResponse {
        deltas: vec![],
        committed: Some(Version::new(3)),
        truncated: None,
    };
    driver.answer(&sent[0], history::response(&none));
    assert_eq!(driver.outcome(), Ok(Response::History(none)));
}

#[test]
fn an_unknown_signer_is_posted_again_once() {
    for condition in [
        Condition::InternalServerError,
        Condition::NotAuthorized,
        Condition::BadRequest,
    ] {
        let mut driver = Driver::new();
        let submission = driver.submitted();
        let post = driver.refuse(&submission, condition, "Unknown signer");
        assert!(post.len() == 1 && is_post(&post[0]));
        let again = driver.answer(&post[0], signer::post_response());
        assert!(again.len() == 1 && !is_post(&again[0]) && driver.answered.is_empty());
        assert_eq!(driver.refuse(&again[0], condition, "Unknown signer"), Vec::new());
        assert!(driver.outcome().is_err());
    }
}

#[test]
fn a_refused_or_lost_post_does_not_stop_the_submission() {
    let mut driver = Driver::new();
    let post = driver.ask(1, submit());
    assert_eq!(
        driver
            .refuse(&post[0], Condition::BadRequest, "verification failure")
            .len(),
        1
    );
    let mut driver = Driver::new();
    driver.ask(1, submit());
    driver.now = driver.remote.deadline().unwrap();
    assert_eq!(driver.tell(Input::Tick).len(), 1);
}

#[test]
fn b_069_what_a_refusal_means() {
    use Condition::*;
    let unreachable = |failure: &Failure| matches!(failure, Failure::Unreachable(_));
    let not_now = |failure: &Failure| matches!(failure, Failure::NotNow(_));
    let stale = |failure: &Failure| matches!(failure, Failure::Stale(_));
    let refused = |failure: &Failure| matches!(failure, Failure::Refused(_));
    type Is = fn(&Failure) -> bool;
    let cases: [(Condition, &str, Is); 17] = [
        (
            BadRequest,
            "Mismatched hash at version 73: 4:BnS2UYSYEOEEjxuBNzT9SSZC26Y=",
            stale,
        ),
        (BadRequest, "Conflicting delete", stale),
        (
            NotAcceptable,
            "rebase: it does not apply where it would come to stand",
            stale,
        ),
        (
            BadRequest,
            "bob@acme.lab is not a participant of [WaveletName]",
            refused,
        ),
        (BadRequest, "Remote verification failed", refused),
        (BadRequest, "Remote users may not create wavelets.", refused),
        (BadRequest, "Malformed delta, not a valid protocol buffer", refused),
        (NotAuthorized, "", refused),
        (ItemNotFound, "", refused),
        (Forbidden, "", refused),
        (InternalServerError, "storage", not_now),
        (ResourceConstraint, "", not_now),
        (PolicyViolation, "the stanza cannot be written: too large", refused),
        (RemoteServerTimeout, "Component unavailable", unreachable),
        (RemoteServerNotFound, "", unreachable),
        (ServiceUnavailable, "", unreachable),
        (RecipientUnavailable, "", unreachable),
    ];
    for (condition, text, is) in cases {
        let mut driver = Driver::new();
        let submission = driver.submitted();
        driver.refuse(&submission, condition, text);
        let failure = driver.outcome().unwrap_err();
        assert!(is(&failure), "{condition:?} {text}: {failure:?}");
        assert!(failure.to_string().len() > 10, "it says something: {failure}");
    }
    // For history there is no newer version to make it anew at.
    let mut driver = Driver::new();
    let sent = driver.ask(1, history());
    driver.refuse(&sent[0], BadRequest, "Server error while retrieving wavelet history.");
    assert!(refused(&driver.outcome().unwrap_err()));
}

#[test]
fn every_kind_of_request_is_given_up_after_30_seconds() {
    let signer = Request::Signer(SignerRequest {
        name: name(),
        signer: info().id(),
        at: at(4),
    });
    // A submission is sent once the post of our chain has been answered or given up.
    for (request, sendings) in [(history(), 1), (signer, 1), (submit(), 2)] {
        let mut driver = Driver::new();
        let mut sent = driver.ask(1, request);
        for sending in 1..=sendings {
            assert_eq!(sent.len(), 1);
            assert_eq!(driver.remote.deadline(), Some(Timestamp(driver.now.0 + TIMEOUT_MS)));
            driver.now = Timestamp(driver.now.0 + TIMEOUT_MS - 1);
            assert_eq!(
                (driver.tell(Input::Tick).len(), driver.answered.len()),
                (0, 0),
                "not yet"
            );
            driver.now = Timestamp(driver.now.0 + 1);
            sent = driver.tell(Input::Tick);
            assert_eq!(driver.answered.len(), usize::from(sending == sendings));
        }
        assert!(matches!(driver.outcome(), Err(Failure::Unreachable(_))));
        assert_eq!(driver.remote.deadline(), None);
    }
}

#[test]
fn b_061_no_answer_in_30_seconds_is_an_answer() {
    let mut driver = Driver::new();
    let submission = driver.submitted();
    assert_eq!(driver.remote.deadline(), Some(Timestamp(NOW.0 + TIMEOUT_MS)));
    driver.now = Timestamp(NOW.0 + TIMEOUT_MS);
    driver.tell(Input::Tick);
    assert!(matches!(driver.outcome(), Err(Failure::Unreachable(_))));
    driver.answer(&submission, submit::response(&response()));
    assert_eq!(driver.answered, Vec::new(), "and the late one is ignored");
}

#[test]
fn an_unreachable_host_answers_everything() {
    let mut driver = Driver::new();
    driver.ask(1, submit());
    driver.ask(2, submit());
    driver.ask(3, history());
    driver.tell(Input::Unreachable("connection refused".into()));
    let mut tickets: Vec<u64> = driver.answered.iter().map(|(ticket, _)| *ticket).collect();
    tickets.sort_unstable();
    assert_eq!(tickets, [1, 2, 3]);
    assert_eq!(driver.remote.deadline(), None);
    // The post was lost with the rest, so it comes again.
    assert!(is_post(&driver.ask(4, submit())[0]));
    let mut driver = Driver::new();
    driver.remote.handle(
        NOW,
        Input::Ask {
            ticket: 1,
            request: history(),
        },
    );
    assert_eq!(driver.remote.poll(), Some(Output::Discover));
    driver.tell(Input::NoService("no such domain".into()));
    assert!(matches!(driver.outcome(), Err(Failure::Unreachable(_))));
}

#[test]
fn b_061_answers_from_elsewhere_or_to_nothing_are_ignored() {
    let mut driver = Driver::new();
    let submission = driver.submitted();
    let good = submission.result(Some(submit::response(&response())));
    for wrong in [
        Iq {
            from: jid("evil.lab"),
            ..good.clone()
        },
        Iq {
            id: "made-up".into(),
            ..good.clone()
        },
    ] {
        assert!(!driver.remote.asked(&wrong));
        driver.tell(Input::Answer(wrong));
    }
    assert_eq!(driver.answered, Vec::new());
    assert!(driver.remote.asked(&good));
    driver.tell(Input::Answer(good.clone()));
    driver.tell(Input::Answer(good));
    assert_eq!(driver.outcome(), Ok(Response::Submitted(response())));
    assert_eq!(submission.id.len(), 32);
}

#[test]
fn r_13_only_the_chain_that_was_asked_for_is_an_answer() {
    let ask = |signer: SignerId| {
        Request::Signer(SignerRequest {
            name: name(),
            signer,
            at: at(4),
        })
    };
    let mut driver = Driver::new();
    let sent = driver.ask(1, ask(info().id()));
    driver.answer(&sent[0], signer::get_response(&info()));
    assert_eq!(driver.outcome(), Ok(Response::Signer(info())));
    let sent = driver.ask(2, ask(SignerId::from_bytes(&[9; 32])));
    driver.answer(&sent[0], signer::get_response(&info()));
    assert!(matches!(driver.outcome(), Err(Failure::Refused(_))));
}

#[test]
fn answers_that_do_not_read_are_tried_again() {
    let mut driver = Driver::new();
    let submission = driver.submitted();
    driver.tell(Input::Answer(submission.result(None)));
    assert!(matches!(driver.outcome(), Err(Failure::NotNow(_))));
    let submission = driver.submitted();
    driver.answer(&submission, signer::post_response());
    assert!(matches!(driver.outcome(), Err(Failure::NotNow(_))));
}

#[test]
fn too_many_requests_are_answered_at_once() {
    let mut driver = Driver::new();
    for ticket in 0..MAX_REQUESTS as u64 {
        driver.ask(ticket, history());
    }
    assert_eq!(driver.answered, Vec::new());
    driver.ask(9_999, history());
    assert!(matches!(driver.outcome(), Err(Failure::NotNow(_))));
}

#[test]
fn a_new_chain_is_posted_before_the_next_submission() {
    let mut driver = Driver::new();
    driver.submitted();
    let mut renewed = info();
    renewed.certificates.push(vec![4].into());
    driver.tell(Input::Signer(renewed));
    assert!(is_post(&driver.ask(2, submit())[0]));
}
