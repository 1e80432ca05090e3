//! Our requests to one host: submissions, history, certificate chains (protocol.md §5.11 to §5.15).
//!
//! Each request is answered once, by what the host said or by why it did not. Before the first submission our chain is posted, once in
//! the life of the process and again whenever the host says that it does not know the signer.

use std::collections::{BTreeMap, VecDeque};

use billow_model::Timestamp;
use billow_wire::SignerInfo;
use billow_wire::exchange::{HistoryRequest, HistoryResponse, SignerRequest, SubmitRequest, SubmitResponse};
use billow_xmpp::{Condition, Element, Iq, IqKind, Jid, StanzaError};

use crate::discovery::Service;
use crate::error::{Code, FederationError};
use crate::ids::Ids;
use crate::stanza::{history, signer, submit};

/// How long an answer is waited for.
pub const TIMEOUT_MS: i64 = 30_000;
/// The bound on a history answer, where the asker has none: the reference sends a single delta unless one is named (protocol.md T4).
pub const HISTORY_LIMIT: u64 = 300_000;
/// Most requests that may wait for their answers; further ones are answered as not now.
pub const MAX_REQUESTS: usize = 1_000;

/// A request to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Apply this delta.
    Submit(SubmitRequest),
    /// Give these deltas.
    History(HistoryRequest),
    /// Give this chain.
    Signer(SignerRequest),
}

/// What the host answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To [`Request::Submit`].
    Submitted(SubmitResponse),
    /// To [`Request::History`].
    History(HistoryResponse),
    /// To [`Request::Signer`]: its id is the one asked for; its certificates are not checked.
    Signer(SignerInfo),
}

/// Why a request failed, by what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No answer came: not connected, timed out, bounced. Try the same again.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The host could not now. Try the same again, later.
    #[error("not now: {0}")]
    NotNow(String),
    /// The wavelet has moved on under the request: make it anew at the newest version.
    #[error("stale: {0}")]
    Stale(String),
    /// The host will never do it.
    #[error("refused: {0}")]
    Refused(String),
}

/// What the machine is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// Make a request; answered by [`Output::Answered`] with this ticket.
    Ask {
        /// Names the request in its answer.
        ticket: u64,
        /// What.
        request: Request,
    },
    /// Where the host's service is.
    Service(Service),
    /// The host's service was not found.
    NoService(String),
    /// Our chain has changed.
    Signer(SignerInfo),
    /// An iq of type result or error. Those that are no answer to this machine are ignored (see [`Remote::asked`]).
    Answer(Iq),
    /// The host cannot be reached: whatever has no answer gets none.
    Unreachable(String),
    /// The time that [`Remote::deadline`] named has come.
    Tick,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Find the service of the host; then tell [`Input::Service`] or [`Input::NoService`].
    Discover,
    /// Send this stanza to the host.
    Send(Element),
    /// What became of a request.
    Answered {
        /// Whose.
        ticket: u64,
        /// What.
        outcome: Result<Response, Failure>,
    },
}

/// The machine for one of our domains and one host.
#[derive(Debug)]
pub struct Remote {
    own: Jid,
    ids: Ids,
    info: SignerInfo,
    service: Option<Jid>,
    discovering: bool,
    posted: Posted,
    waiting: VecDeque<Waiting>,
    /// By stanza id.
    in_flight: BTreeMap<String, InFlight>,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Posted {
    No,
    UnderWay,
    Yes,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    request: Request,
    /// The host did not know our chain when it was submitted before.
    reposted: bool,
}

#[derive(Debug)]
struct InFlight {
    what: What,
    by: Timestamp,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are requests")]
enum What {
    Post,
    Request {
        ticket: u64,
        request: Request,
        reposted: bool,
    },
}

impl Remote {
    /// A machine that has asked nothing yet. `info` is our chain, `own` our address.
    #[must_use]
    pub fn new(own: Jid, info: SignerInfo, ids: Ids) -> Self {
        Self {
            own,
            ids,
            info,
            service: None,
            discovering: false,
            posted: Posted::No,
            waiting: VecDeque::new(),
            in_flight: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Tells the machine something.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Ask { ticket, request } => {
                if self.waiting.len() + self.in_flight.len() >= MAX_REQUESTS {
                    self.fail(ticket, Failure::NotNow("too many requests to this host".into()));
                } else {
                    self.waiting.push_back(Waiting {
                        ticket,
                        request,
                        reposted: false,
                    });
                }
            }
            Input::Service(service) => {
                self.discovering = false;
                self.service = Some(service.jid);
            }
            Input::NoService(reason) => {
                self.discovering = false;
                self.service = None;
                self.fail_all(&format!("no wave service found: {reason}"));
            }
            Input::Signer(info) => {
                self.info = info;
                self.posted = Posted::No;
            }
            Input::Answer(iq) => self.answered(iq),
            Input::Unreachable(reason) => self.fail_all(&reason),
            Input::Tick => self.tick(now),
        }
        self.pump(now);
    }

    /// Asks for the next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the machine wants an [`Input::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.in_flight.values().map(|in_flight| in_flight.by).min()
    }

    /// Whether this answer is one to a request of this machine: the id is ours, and it comes from where the request went (B-061).
    #[must_use]
    pub fn asked(&self, iq: &Iq) -> bool {
        self.in_flight.contains_key(&iq.id) && self.service.as_ref() == Some(&iq.from)
    }

    /// Sends what can be sent, in order; a submission waits until our chain is posted.
    fn pump(&mut self, now: Timestamp) {
        if self.waiting.is_empty() {
            return;
        }
        let Some(to) = self.service.clone() else {
            if !self.discovering {
                self.discovering = true;
                self.outputs.push_back(Output::Discover);
            }
            return;
        };
        let submits = self.waiting.iter().any(Waiting::is_submission);
        if submits && self.posted == Posted::No {
            self.posted = Posted::UnderWay;
            self.send(now, &to, What::Post);
        }
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.is_submission() && self.posted != Posted::Yes {
                self.waiting.push_back(waiting);
            } else {
                let Waiting {
                    ticket,
                    request,
                    reposted,
                } = waiting;
                self.send(
                    now,
                    &to,
                    What::Request {
                        ticket,
                        request,
                        reposted,
                    },
                );
            }
        }
    }

    fn send(&mut self, now: Timestamp, to: &Jid, what: What) {
        let id = self.ids.fresh();
        let (own, to) = (self.own.clone(), to.clone());
        let iq = match &what {
            What::Post => Iq::set(own, to, id.clone(), signer::post(&self.info)),
            What::Request {
                request: Request::Submit(request),
                ..
            } => Iq::set(own, to, id.clone(), submit::request(request)),
            What::Request {
                request: Request::History(request),
                ..
            } => {
                let limit = request.limit.or(Some(HISTORY_LIMIT));
                Iq::get(
                    own,
                    to,
                    id.clone(),
                    history::request(&HistoryRequest {
                        limit,
                        ..request.clone()
                    }),
                )
            }
            What::Request {
                request: Request::Signer(request),
                ..
            } => Iq::get(own, to, id.clone(), signer::get(request)),
        };
        self.outputs.push_back(Output::Send(iq.to_element()));
        self.in_flight.insert(
            id,
            InFlight {
                what,
                by: now.later(TIMEOUT_MS),
            },
        );
    }

    fn answered(&mut self, iq: Iq) {
        if !self.asked(&iq) {
            return;
        }
        let Some(InFlight { what, .. }) = self.in_flight.remove(&iq.id) else {
            return;
        };
        match what {
            // As with the reference a refused post does not stop the submission: the host may know the chain.
            What::Post => self.posted = Posted::Yes,
            What::Request {
                ticket,
                request,
                reposted,
            } => {
                let outcome = outcome(&request, iq.kind);
                if !reposted && is_unknown_signer(&request, &outcome) {
                    // The host has forgotten our chain: it is posted again, and the submission waits for that.
                    if self.posted == Posted::Yes {
                        self.posted = Posted::No;
                    }
                    self.waiting.push_back(Waiting {
                        ticket,
                        request,
                        reposted: true,
                    });
                    return;
                }
                self.outputs.push_back(Output::Answered { ticket, outcome });
            }
        }
    }

    fn tick(&mut self, now: Timestamp) {
        let late: Vec<String> = self
            .in_flight
            .iter()
            .filter(|(_, in_flight)| in_flight.by <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            match self.in_flight.remove(&id).map(|in_flight| in_flight.what) {
                Some(What::Post) => self.posted = Posted::Yes,
                Some(What::Request { ticket, .. }) => {
                    self.fail(ticket, Failure::Unreachable("no answer in 30 seconds".into()))
                }
                None => {}
            }
        }
    }

    fn fail(&mut self, ticket: u64, failure: Failure) {
        self.outputs.push_back(Output::Answered {
            ticket,
            outcome: Err(failure),
        });
    }

    fn fail_all(&mut self, reason: &str) {
        if self.posted == Posted::UnderWay {
            self.posted = Posted::No;
        }
        let in_flight = std::mem::take(&mut self.in_flight)
            .into_values()
            .filter_map(|in_flight| match in_flight.what {
                What::Request { ticket, .. } => Some(ticket),
                What::Post => None,
            });
        let waiting = std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|waiting| waiting.ticket);
        for ticket in in_flight.chain(waiting).collect::<Vec<_>>() {
            self.fail(ticket, Failure::Unreachable(reason.to_owned()));
        }
    }
}

impl Waiting {
    fn is_submission(&self) -> bool {
        matches!(self.request, Request::Submit(_))
    }
}

fn outcome(request: &Request, kind: IqKind) -> Result<Response, Failure> {
    let payload = match kind {
        IqKind::Result(Some(payload)) => payload,
        IqKind::Error(error) => return Err(failure(request, &error)),
        IqKind::Result(None) | IqKind::Get(_) | IqKind::Set(_) => {
            return Err(Failure::NotNow("an empty answer".into()));
        }
    };
    let unreadable =
        |error: FederationError| Failure::NotNow(format!("an answer that does not read: {}", error.reason));
    match request {
        Request::Submit(_) => submit::parse_response(&payload)
            .map(Response::Submitted)
            .map_err(unreadable),
        Request::History(_) => history::parse_response(&payload)
            .map(Response::History)
            .map_err(unreadable),
        Request::Signer(asked) => {
            let info = signer::parse_get_response(&payload).map_err(unreadable)?;
            // The reference stores whatever comes; only a chain that has the name asked for is an answer (protocol.md §4.6).
            if info.id() == asked.signer {
                Ok(Response::Signer(info))
            } else {
                Err(Failure::Refused("another chain than asked for".into()))
            }
        }
    }
}

/// What a stanza error says about a request (protocol.md §5.12: the reference says nearly everything with bad-request and a text).
fn failure(request: &Request, error: &StanzaError) -> Failure {
    let FederationError { code, reason } = FederationError::from_stanza(error);
    let reason = if reason.is_empty() {
        error.condition.name().to_owned()
    } else {
        reason
    };
    match error.condition {
        Condition::RemoteServerTimeout
        | Condition::RemoteServerNotFound
        | Condition::RecipientUnavailable
        | Condition::ServiceUnavailable
        | Condition::Gone => return Failure::Unreachable(reason),
        // The last is what is said of a stanza that is too large; it stays so.
        Condition::Forbidden | Condition::NotAllowed | Condition::PolicyViolation => return Failure::Refused(reason),
        _ => {}
    }
    match code {
        Code::NotAcceptable if matches!(request, Request::Submit(_)) => Failure::Stale(reason),
        Code::BadRequest if matches!(request, Request::Submit(_)) && !is_final(&reason) => Failure::Stale(reason),
        Code::BadRequest | Code::ItemNotFound | Code::NotAcceptable | Code::NotAuthorized => Failure::Refused(reason),
        _ => Failure::NotNow(reason),
    }
}

/// The reference's refusals of a submission that no newer version will change. Others are failed transformations and applications.
fn is_final(reason: &str) -> bool {
    const FINAL: [&str; 7] = [
        "Malformed",
        "Non-local wavelet update",
        "Signed delta contains invalid delta",
        "Remote users may not create wavelets",
        "Remote verification failed",
        "is not a participant of",
        "Invalid author address",
    ];
    FINAL.iter().any(|text| reason.contains(text))
}

/// Hosts spell it differently: an internal-server-error, a not-authorized, a bad-request (protocol.md §7).
fn is_unknown_signer(request: &Request, outcome: &Result<Response, Failure>) -> bool {
    let Err(Failure::NotNow(reason) | Failure::Refused(reason) | Failure::Stale(reason)) = outcome else {
        return false;
    };
    matches!(request, Request::Submit(_)) && reason.to_ascii_lowercase().contains("unknown signer")
}

#[cfg(test)]
mod tests;
