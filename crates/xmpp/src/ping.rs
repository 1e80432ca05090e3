//! XMPP ping (XEP-0199): the words, and the watch over a peer that has gone quiet.
//!
//! A stream carries stanzas one way, so the answer to a ping comes over the stream that the peer has to us. A peer that
//! never answered one may be unable to reach us; only the silence of one that used to answer is a sign.

use std::time::{Duration, Instant};

use minidom::Element;

use crate::{Domain, element, ns};

/// The payload of a ping.
#[must_use]
pub fn request() -> Element {
    element("ping", ns::PING).done()
}

/// Whether the payload of an `iq` of type `get` is a ping; it is answered with an empty result.
#[must_use]
pub fn is_request(payload: &Element) -> bool {
    payload.is("ping", ns::PING)
}

/// A peer that said nothing for so long is pinged.
pub const QUIET: Duration = Duration::from_secs(60);
/// How long it may take to answer.
pub const ANSWER: Duration = Duration::from_secs(30);

/// What [`Watch::handle_timeout`] finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nothing to do.
    Well,
    /// A ping with this id is due.
    Ping(String),
    /// A peer that used to answer does not.
    Gone,
}

/// Watches over one peer: told when it is heard, asked what to do.
#[derive(Debug, Clone)]
pub struct Watch {
    heard: Instant,
    asked: Option<(Instant, String)>,
    /// It has answered a ping before.
    answers: bool,
    prefix: String,
    count: u64,
}

impl Watch {
    /// Begins now. `prefix` must be random: the ids of the pings begin with it.
    #[must_use]
    pub fn new(now: Instant, prefix: String) -> Self {
        Self {
            heard: now,
            asked: None,
            answers: false,
            prefix,
            count: 0,
        }
    }

    /// Whether a stanza bears the id of the ping that is waited for.
    #[must_use]
    pub fn has_asked(&self, stanza: &Element) -> bool {
        matches!(&self.asked, Some((_, id)) if stanza.attr("id") == Some(id))
    }

    /// The peer sent a stanza. Whether it is the answer to a ping of ours, which nobody else need see.
    pub fn heard(&mut self, now: Instant, stanza: &Element) -> bool {
        self.heard = now;
        let Some((_, id)) = &self.asked else { return false };
        let is_answer = stanza.is("iq", ns::CLIENT)
            && stanza.attr("id") == Some(id)
            && matches!(stanza.attr("type"), Some("result" | "error"));
        self.asked = None;
        self.answers |= is_answer;
        is_answer
    }

    /// What stands for an answer has come.
    pub fn answered(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
        self.answers = true;
    }

    /// A new stream to the peer: what was asked on the old one is void.
    pub fn begin(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// When [`Watch::handle_timeout`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match &self.asked {
            Some((asked, _)) => *asked + ANSWER,
            None => self.heard + QUIET,
        }
    }

    /// The time has come, or not yet.
    pub fn handle_timeout(&mut self, now: Instant) -> Finding {
        if now < self.deadline() {
            return Finding::Well;
        }
        if self.asked.take().is_some() {
            self.heard = now;
            return match self.answers {
                true => Finding::Gone,
                false => Finding::Well,
            };
        }
        self.count += 1;
        let id = format!("{}-{}", self.prefix, self.count);
        self.asked = Some((now, id.clone()));
        Finding::Ping(id)
    }
}

/// A ping from one server to another.
#[must_use]
pub fn stanza(from: &Domain, to: &Domain, id: &str) -> Element {
    element("iq", ns::CLIENT)
        .attr("type", "get")
        .attr("id", id)
        .attr("from", from.as_str())
        .attr("to", to.as_str())
        .child(request())
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: &str) -> Element {
        element("iq", ns::CLIENT).attr("type", "result").attr("id", id).done()
    }

    #[test]
    fn a_peer_that_used_to_answer_is_given_up_after_ninety_seconds() {
        let start = Instant::now();
        let mut watch = Watch::new(start, "x".to_owned());
        assert_eq!(watch.handle_timeout(start), Finding::Well);
        let now = start + QUIET;
        let Finding::Ping(id) = watch.handle_timeout(now) else {
            panic!("a ping is due")
        };
        assert!(!watch.clone().heard(now, &answer("x-9")), "another id");
        assert!(watch.heard(now, &answer(&id)));
        let Finding::Ping(second) = watch.handle_timeout(now + QUIET) else {
            panic!("a ping is due")
        };
        assert_ne!(id, second);
        assert_eq!(watch.handle_timeout(now + QUIET + ANSWER), Finding::Gone);
        assert!(QUIET + ANSWER <= Duration::from_secs(90));
    }

    #[test]
    fn a_peer_that_never_answered_is_left_alone() {
        let start = Instant::now();
        let mut watch = Watch::new(start, "x".to_owned());
        assert!(matches!(watch.handle_timeout(start + QUIET), Finding::Ping(_)));
        assert_eq!(watch.handle_timeout(start + QUIET + ANSWER), Finding::Well);
        assert!(watch.deadline() > start + QUIET + ANSWER, "and asked again later");
    }

    #[test]
    fn any_stanza_is_a_sign_of_life() {
        let start = Instant::now();
        let mut watch = Watch::new(start, "x".to_owned());
        let message = element("message", ns::CLIENT).done();
        assert!(!watch.heard(start + QUIET / 2, &message));
        assert_eq!(watch.handle_timeout(start + QUIET), Finding::Well);
    }
}
