//! Pings to other domains: the one of wave servers (a message, answered by a receipt; protocol.md §5.8) and that of XMPP
//! (XEP-0199), at the same time, to the wave service of the domain. They go the way of all other stanzas, so what they show
//! holds for those.

use std::collections::{BTreeMap, VecDeque};

use billow_model::{Domain, Timestamp};
use billow_xmpp::{Element, Iq, IqKind, Jid, Message, element, ping, receipts};

use crate::discovery::Service;
use crate::ids::Ids;
use crate::ns;

/// How long the service is looked for, at most.
pub const FIND_MS: i64 = 60_000;
/// How long the first answer may take.
pub const ANSWER_MS: i64 = 20_000;
/// How long the other ping's answer is waited for after the first.
pub const OTHER_MS: i64 = 3_000;

/// What the machine is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// Ping a domain. Answered once, by [`Output::Done`].
    Ask {
        /// Names the ping.
        ticket: u64,
        /// Whom.
        domain: Domain,
    },
    /// The service of a domain was found.
    Service(Domain, Service),
    /// A domain has none, or cannot be reached; why.
    Unreachable(Domain, String),
    /// An iq of type result or error that [`Pings::asked`] knows.
    Answer(Iq),
    /// A receipt, or an error in its place, of a message that [`Pings::sent`] knows.
    Receipt {
        /// From whom.
        from: Jid,
        /// Of which message.
        id: String,
        /// The error.
        error: Option<String>,
    },
    /// The time that [`Pings::deadline`] named has come.
    Tick,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Find the service of a domain now; then tell [`Input::Service`] or [`Input::Unreachable`].
    Find(Domain),
    /// Send this stanza.
    Send(Element),
    /// How it went.
    Done {
        /// Which ping.
        ticket: u64,
        /// The answer; or why there is none.
        outcome: Result<Pong, String>,
    },
}

/// An answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// From whom.
    pub from: Jid,
    /// After how many milliseconds the receipt for the message came, if it came.
    pub message_ms: Option<u32>,
    /// After how many the answer to XEP-0199 came, if it came.
    pub iq_ms: Option<u32>,
}

/// The machine.
#[derive(Debug)]
pub struct Pings {
    own: Jid,
    ids: Ids,
    under_way: BTreeMap<u64, Ping>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Ping {
    domain: Domain,
    by: Timestamp,
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    to: Jid,
    at: Timestamp,
    message: Answer,
    iq: Answer,
}

#[derive(Debug)]
struct Answer {
    id: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting,
    Came(u32),
    Error(String),
}

impl Pings {
    /// A machine with nothing to do. `own` is the address that our stanzas come from.
    #[must_use]
    pub fn new(own: Jid, ids: Ids) -> Self {
        Self {
            own,
            ids,
            under_way: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Tells the machine something.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Ask { ticket, domain } => {
                let ping = Ping {
                    domain: domain.clone(),
                    by: Timestamp(now.0.saturating_add(FIND_MS)),
                    asked: None,
                };
                self.under_way.insert(ticket, ping);
                self.outputs.push_back(Output::Find(domain));
            }
            Input::Service(domain, service) => self.found(now, &domain, &service),
            Input::Unreachable(domain, reason) => {
                let ended = self.under_way.extract_if(.., |_, ping| ping.domain == domain);
                let done = ended.map(|(ticket, _)| Output::Done {
                    ticket,
                    outcome: Err(reason.clone()),
                });
                self.outputs.extend(done);
            }
            Input::Answer(iq) => {
                let error = match &iq.kind {
                    IqKind::Error(error) => Some(error.to_string()),
                    _ => None,
                };
                self.answered(now, &iq.from, &iq.id, error);
            }
            Input::Receipt { from, id, error } => self.answered(now, &from, &id, error),
            Input::Tick => self.tick(now),
        }
    }

    /// Asks for the next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the machine wants an [`Input::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.under_way.values().map(|ping| ping.by).min()
    }

    /// Whether this answer is one to a ping.
    #[must_use]
    pub fn asked(&self, iq: &Iq) -> bool {
        let mut asked = self.under_way.values().filter_map(|ping| ping.asked.as_ref());
        asked.any(|asked| asked.iq.id == iq.id && asked.to == iq.from)
    }

    /// Whether a message of this id to this address is a ping.
    #[must_use]
    pub fn sent(&self, to: &Jid, id: &str) -> bool {
        let mut asked = self.under_way.values().filter_map(|ping| ping.asked.as_ref());
        asked.any(|asked| asked.message.id == id && asked.to == *to)
    }

    fn found(&mut self, now: Timestamp, domain: &Domain, service: &Service) {
        let waiting = |ping: &&mut Ping| ping.domain == *domain && ping.asked.is_none();
        for ping in self.under_way.values_mut().filter(waiting) {
            let (message, iq) = (self.ids.fresh(), self.ids.fresh());
            let to = service.jid.clone();
            let wave = Message::new(self.own.clone(), to.clone(), message.clone())
                .with(element("ping", ns::WAVE))
                .with(receipts::request());
            let xmpp = Iq::get(self.own.clone(), to.clone(), iq.clone(), ping::request());
            self.outputs.push_back(Output::Send(wave.to_element()));
            self.outputs.push_back(Output::Send(xmpp.to_element()));
            let waiting = |id| Answer {
                id,
                state: State::Waiting,
            };
            ping.by = Timestamp(now.0.saturating_add(ANSWER_MS));
            ping.asked = Some(Asked {
                to,
                at: now,
                message: waiting(message),
                iq: waiting(iq),
            });
        }
    }

    fn answered(&mut self, now: Timestamp, from: &Jid, id: &str, error: Option<String>) {
        for ping in self.under_way.values_mut() {
            let Some(asked) = &mut ping.asked else { continue };
            if asked.to != *from {
                continue;
            }
            let ms = u32::try_from(now.0.saturating_sub(asked.at.0)).unwrap_or(0);
            for answer in [&mut asked.message, &mut asked.iq] {
                if answer.id == id && matches!(answer.state, State::Waiting) {
                    answer.state = match &error {
                        Some(error) => State::Error(error.clone()),
                        None => State::Came(ms),
                    };
                    ping.by = ping.by.min(Timestamp(now.0.saturating_add(OTHER_MS)));
                }
            }
        }
        self.end_if(|ping| ping.asked.as_ref().is_some_and(Asked::is_settled));
    }

    fn tick(&mut self, now: Timestamp) {
        self.end_if(|ping| ping.by <= now);
    }

    fn end_if(&mut self, over: impl Fn(&Ping) -> bool) {
        let ended = self.under_way.extract_if(.., |_, ping| over(ping));
        let done = ended.map(|(ticket, ping)| Output::Done {
            ticket,
            outcome: ping.outcome(),
        });
        self.outputs.extend(done);
    }
}

impl Asked {
    fn is_settled(&self) -> bool {
        let settled = |answer: &Answer| !matches!(answer.state, State::Waiting);
        settled(&self.message) && settled(&self.iq)
    }
}

impl Ping {
    fn outcome(self) -> Result<Pong, String> {
        let Some(Asked { to, message, iq, .. }) = self.asked else {
            return Err(format!("{} was not found within {} s", self.domain, FIND_MS / 1000));
        };
        let came = |answer: &Answer| match answer.state {
            State::Came(ms) => Some(ms),
            _ => None,
        };
        let pong = Pong {
            message_ms: came(&message),
            iq_ms: came(&iq),
            from: to,
        };
        match (&pong, message.state, iq.state) {
            (
                Pong {
                    message_ms: None,
                    iq_ms: None,
                    ..
                },
                message,
                iq,
            ) => Err(match (message, iq) {
                (State::Error(error), _) | (_, State::Error(error)) => {
                    format!("{} answers no ping: {error}", pong.from)
                }
                _ => format!("{} did not answer within {} s", pong.from, ANSWER_MS / 1000),
            }),
            _ => Ok(pong),
        }
    }
}

#[cfg(test)]
mod tests {
    use billow_xmpp::{Condition, Stanza, StanzaError};

    use super::*;
    use crate::discovery::Software;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn jid(text: &str) -> Jid {
        Jid::new(text).unwrap()
    }

    /// A machine that has sent both pings to the service of acme.lab, and the stanzas.
    fn asked() -> (Pings, Message, Iq) {
        let mut pings = Pings::new(jid("initech.lab"), Ids::new([1; 32]));
        let acme: Domain = "acme.lab".parse().unwrap();
        let ask = Input::Ask {
            ticket: 7,
            domain: acme.clone(),
        };
        pings.handle(NOW, ask);
        assert_eq!(pings.poll(), Some(Output::Find(acme.clone())));
        let service = Service {
            jid: jid("wave.acme.lab"),
            software: Software::Legacy,
        };
        pings.handle(NOW, Input::Service(acme, service));
        let mut sent = Vec::new();
        while let Some(Output::Send(element)) = pings.poll() {
            sent.push(Stanza::parse(&element).unwrap());
        }
        match <[Stanza; 2]>::try_from(sent).unwrap() {
            [Stanza::Message(message), Stanza::Iq(iq)] => (pings, message, iq),
            other => panic!("{other:?}"),
        }
    }

    fn receipt(message: &Message, from: &str) -> Input {
        Input::Receipt {
            from: jid(from),
            id: message.id.clone().unwrap(),
            error: None,
        }
    }

    #[test]
    fn both_pings_go_out_and_both_answers_are_told() {
        let (mut pings, message, iq) = asked();
        assert!(message.payload("ping", ns::WAVE).is_some() && receipts::is_requested(&message));
        assert!(matches!(&iq.kind, IqKind::Get(payload) if ping::is_request(payload)));
        assert!(pings.sent(&jid("wave.acme.lab"), message.id.as_deref().unwrap()) && pings.asked(&iq.result(None)));
        pings.handle(Timestamp(NOW.0 + 30), receipt(&message, "wave.acme.lab"));
        assert_eq!(pings.poll(), None, "the other answer is waited for");
        pings.handle(Timestamp(NOW.0 + 31), Input::Answer(iq.result(None)));
        let pong = Pong {
            from: jid("wave.acme.lab"),
            message_ms: Some(30),
            iq_ms: Some(31),
        };
        let outcome = Ok(pong);
        assert_eq!(pings.poll(), Some(Output::Done { ticket: 7, outcome }));
        assert_eq!(pings.deadline(), None);
    }

    #[test]
    fn one_answer_is_enough_and_only_the_service_can_give_it() {
        let (mut pings, message, iq) = asked();
        pings.handle(NOW, receipt(&message, "evil.lab"));
        assert_eq!(pings.deadline(), Some(Timestamp(NOW.0 + ANSWER_MS)));
        let none = iq.error(StanzaError::new(Condition::ServiceUnavailable, "no pings here"));
        pings.handle(NOW, Input::Answer(none));
        pings.handle(Timestamp(NOW.0 + 5), receipt(&message, "wave.acme.lab"));
        let Some(Output::Done { outcome: Ok(pong), .. }) = pings.poll() else {
            panic!("a pong")
        };
        assert_eq!((pong.message_ms, pong.iq_ms), (Some(5), None));
    }

    #[test]
    fn silence_and_failure_end_it_with_a_reason() {
        let (mut pings, ..) = asked();
        pings.handle(pings.deadline().unwrap(), Input::Tick);
        let Some(Output::Done {
            outcome: Err(reason), ..
        }) = pings.poll()
        else {
            panic!("no pong")
        };
        assert_eq!(reason, "wave.acme.lab did not answer within 20 s");
        let (mut pings, ..) = asked();
        let gone = Input::Unreachable("acme.lab".parse().unwrap(), "no address".to_owned());
        pings.handle(NOW, gone);
        let outcome = Err("no address".to_owned());
        assert_eq!(pings.poll(), Some(Output::Done { ticket: 7, outcome }));
    }
}
