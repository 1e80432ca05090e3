//! The end that opens a stream and sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minidom::Element;

use super::{
    AUTH_DEADLINE, Content, EncodedStanza, End, Event, KEEPALIVE, MAX_STANZA, Output, Over, PeerCertificate, Phase,
    Talk, fault,
};
use crate::dialback::Dialback;
use crate::element::{EncodeError, element};
use crate::parser::StreamEvent;
use crate::stream::{Limits, StreamCondition, StreamError, StreamHeader, write_header};
use crate::{Domain, ns};

/// A stream to a peer.
pub struct Outgoing {
    local: Domain,
    peer: Domain,
    state: State,
    talk: Talk,
    dialback: Arc<Dialback>,
    /// What the stream is opened to ask; `None`: it is opened to send stanzas.
    question: Option<Question>,
    /// The peer's id for the present stream.
    stream_id: Option<String>,
    /// The peer says, on the present stream, that it knows dialback, and our policy lets it.
    may_dial_back: bool,
    started: Instant,
    last_write: Instant,
    auth_deadline: Duration,
    /// Longest stanza that the peer takes, as far as it said (XEP-0478).
    max_stanza: usize,
}

/// What the server of a domain is asked: whether it gave out this key for its stream with this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The id of the stream to us.
    pub id: String,
    /// The key that was given to us.
    pub key: String,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    PlainHeader,
    PlainFeatures,
    Proceed,
    Handshake,
    TlsHeader,
    TlsFeatures,
    Success,
    Header,
    Features,
    /// What the peer makes of our dialback key.
    Verdict,
    /// What the peer says of somebody else's.
    Answer,
    Ready,
    Over,
}

impl Outgoing {
    /// Opens a stream from a domain of ours to a peer over a connection that was just made; TLS is agreed on first.
    #[must_use]
    pub fn new(now: Instant, local: Domain, peer: Domain) -> Self {
        let mut machine = Self::unopened(now, local, peer);
        machine.open(State::PlainHeader);
        machine
    }

    /// The same over a connection that begins with TLS (XEP-0368).
    #[must_use]
    pub fn direct_tls(now: Instant, local: Domain, peer: Domain) -> Self {
        let mut machine = Self::unopened(now, local, peer);
        machine.start_tls(true);
        machine
    }

    fn unopened(now: Instant, local: Domain, peer: Domain) -> Self {
        Self {
            local,
            peer,
            state: State::PlainHeader,
            talk: Talk::new(now, ns::SERVER, Limits::BEFORE_AUTH),
            dialback: Arc::default(),
            question: None,
            stream_id: None,
            may_dial_back: false,
            started: now,
            last_write: now,
            auth_deadline: AUTH_DEADLINE,
            max_stanza: MAX_STANZA,
        }
    }

    /// The same with a policy for dialback.
    #[must_use]
    pub fn with_dialback(mut self, dialback: Arc<Dialback>) -> Self {
        self.dialback = dialback;
        self
    }

    /// The same, but opened to ask, not to send: it ends with [`Event::Answer`] if there is one.
    #[must_use]
    pub fn asking(mut self, question: Question) -> Self {
        self.question = Some(question);
        self
    }

    /// The same with another time to authenticate than [`AUTH_DEADLINE`].
    #[must_use]
    pub fn with_auth_deadline(mut self, deadline: Duration) -> Self {
        self.auth_deadline = deadline;
        self
    }

    /// Whether stanzas can be sent.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Sends a stanza. Only a stream that is ready takes one, and only if the peer does.
    ///
    /// # Panics
    /// If the stream is not ready: the driver keeps what waits.
    pub fn send(&mut self, now: Instant, stanza: &EncodedStanza) -> Result<(), EncodeError> {
        assert!(self.is_ready(), "stanzas are sent when the stream is ready");
        if stanza.size() > self.max_stanza {
            return Err(EncodeError::Size(stanza.size()));
        }
        self.talk.outputs.buffer().extend_from_slice(&stanza.0);
        self.last_write = now;
        Ok(())
    }

    /// Starts a stream of ours, forgetting all that the peer said before.
    fn open(&mut self, state: State) {
        let limits = if state == State::Header {
            Limits::AFTER_AUTH
        } else {
            Limits::BEFORE_AUTH
        };
        self.talk.restart(limits);
        self.stream_id = None;
        self.may_dial_back = false;
        self.state = state;
        write_header(&self.local, Some(&self.peer), None, self.talk.outputs.buffer());
    }

    fn start_tls(&mut self, direct: bool) {
        self.state = State::Handshake;
        let local = Some(self.local.clone());
        self.talk.outputs.queue.push_back(Output::StartTls { local, direct });
    }

    fn fault(&mut self, condition: StreamCondition, text: &str) {
        self.end(Over::Fault(fault(condition, text)));
    }

    fn header(&mut self, header: &StreamHeader) {
        if header.version.is_none_or(|(major, _)| major < 1) {
            return self.fault(StreamCondition::UnsupportedVersion, "a server of version 1.0 is needed");
        }
        self.stream_id = header.id.clone();
        self.may_dial_back = header.dialback;
        self.state = match self.state {
            State::PlainHeader => State::PlainFeatures,
            State::TlsHeader => State::TlsFeatures,
            State::Header => State::Features,
            other => unreachable!("a parser gives one header, and it is first: {other:?}"),
        };
    }

    fn element(&mut self, now: Instant, element: &Element) {
        match self.state {
            State::PlainFeatures if element.is("features", ns::STREAM) => self.plain_features(element),
            State::Proceed if element.is("proceed", ns::TLS) => self.start_tls(false),
            State::Proceed if element.is("failure", ns::TLS) => self.end(Over::TlsRequired),
            State::TlsFeatures if element.is("features", ns::STREAM) => self.tls_features(element),
            State::Success if element.is("success", ns::SASL) => self.open(State::Header),
            State::Success if element.is("challenge", ns::SASL) => self.respond(),
            State::Success if element.is("failure", ns::SASL) && self.may_dial_back => self.prove(),
            State::Success if element.is("failure", ns::SASL) => self.end(Over::NotAuthorized(sasl_reason(element))),
            State::Verdict if element.is("result", ns::DIALBACK) => self.verdict(now, element),
            State::Answer if element.is("verify", ns::DIALBACK) => self.answer(element),
            _ if element.has_ns(ns::DIALBACK) => {
                self.fault(StreamCondition::PolicyViolation, "a verdict that was not asked for");
            }
            State::Features if element.is("features", ns::STREAM) => self.ready(now, element),
            // A peer that sends stanzas the wrong way, or words that we did not ask for, is not listened to.
            State::Ready => {}
            _ => self.fault(StreamCondition::UnsupportedStanzaType, "this was not expected here"),
        }
    }

    fn plain_features(&mut self, features: &Element) {
        if !features.has_child("starttls", ns::TLS) {
            return self.end(Over::TlsRequired);
        }
        self.talk.outputs.element(&element("starttls", ns::TLS).done());
        self.state = State::Proceed;
    }

    fn tls_features(&mut self, features: &Element) {
        self.read_limits(features);
        let external = features.get_child("mechanisms", ns::SASL).is_some_and(|list| {
            list.children()
                .any(|one| one.is("mechanism", ns::SASL) && one.text() == "EXTERNAL")
        });
        self.may_dial_back |= features.has_child("dialback", ns::DIALBACK_FEATURE);
        self.may_dial_back &= self.dialback.allows(&self.peer) && self.stream_id.is_some();
        if let Some(question) = self.question.take() {
            return self.ask(question);
        }
        if !external {
            return match self.may_dial_back {
                true => self.prove(),
                false => self.end(Over::ExternalNotOffered),
            };
        }
        let auth = element("auth", ns::SASL)
            .attr("mechanism", "EXTERNAL")
            .text(self.authzid());
        self.talk.outputs.element(&auth.done());
        self.state = State::Success;
    }

    fn respond(&mut self) {
        let response = element("response", ns::SASL).text(self.authzid());
        self.talk.outputs.element(&response.done());
    }

    /// Who we want to be taken for (XEP-0178 §3 item 9).
    fn authzid(&self) -> String {
        STANDARD.encode(self.local.as_str())
    }

    /// Proves who we are by a key that the peer asks our own server about (XEP-0220 §2.1.1).
    fn prove(&mut self) {
        let id = self.stream_id.as_deref().expect("without an id dialback is not begun");
        let key = self.dialback.key(&self.peer, &self.local, id);
        let attrs = [("from", self.local.as_str()), ("to", self.peer.as_str())];
        self.talk.outputs.dialback("result", &attrs, Content::Key(&key));
        self.state = State::Verdict;
    }

    fn verdict(&mut self, now: Instant, result: &Element) {
        if !self.is_between_us(result) {
            return self.fault(StreamCondition::InvalidFrom, "a verdict about somebody else");
        }
        match result.attr("type") {
            Some("valid") => self.stanzas_can_go(now),
            Some(other) => self.end(Over::DialbackRefused(refusal(other, result))),
            None => self.fault(StreamCondition::PolicyViolation, "stanzas go one way on this stream"),
        }
    }

    fn ask(&mut self, question: Question) {
        let attrs = [
            ("from", self.local.as_str()),
            ("to", self.peer.as_str()),
            ("id", &question.id),
        ];
        self.talk
            .outputs
            .dialback("verify", &attrs, Content::Key(&question.key));
        self.question = Some(question);
        self.state = State::Answer;
    }

    fn answer(&mut self, verify: &Element) {
        let asked = self.question.as_ref().map(|question| question.id.as_str());
        if !self.is_between_us(verify) || verify.attr("id") != asked {
            return self.fault(StreamCondition::InvalidFrom, "an answer to another question");
        }
        let is_valid = verify.attr("type") == Some("valid");
        self.talk.outputs.event(Event::Answer(is_valid));
        self.end(Over::ByUs);
    }

    /// Whether a word of dialback comes from the peer and is for us.
    fn is_between_us(&self, word: &Element) -> bool {
        let names =
            |attr: &str, domain: &Domain| word.attr(attr).and_then(|text| text.parse().ok()).as_ref() == Some(domain);
        names("from", &self.peer) && names("to", &self.local)
    }

    fn ready(&mut self, now: Instant, features: &Element) {
        self.read_limits(features);
        self.stanzas_can_go(now);
    }

    fn stanzas_can_go(&mut self, now: Instant) {
        self.state = State::Ready;
        self.last_write = now;
        self.talk.outputs.event(Event::Ready);
    }

    fn read_limits(&mut self, features: &Element) {
        let limit = features
            .get_child("limits", ns::STREAM_LIMITS)
            .and_then(|limits| limits.get_child("max-bytes", ns::STREAM_LIMITS))
            .and_then(|bytes| bytes.text().trim().parse::<usize>().ok());
        // RFC 6120 forbids less than 10,000.
        self.max_stanza = limit.map_or(self.max_stanza, |limit| limit.clamp(10_000, MAX_STANZA));
    }
}

fn sasl_reason(failure: &Element) -> String {
    let text = failure.get_child("text", ns::SASL).map(Element::text);
    let condition = failure.children().next().map(|child| child.name().to_owned());
    let reason = [condition, text].into_iter().flatten().collect::<Vec<_>>().join(": ");
    reason.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Why a dialback key was not accepted, in the peer's words.
fn refusal(kind: &str, result: &Element) -> String {
    let mut errors = result.children().filter(|child| child.name() == "error");
    let condition = errors
        .find_map(|error| error.children().next())
        .map_or(kind, |condition| condition.name());
    condition.chars().filter(|c| !c.is_control()).take(100).collect()
}

impl End for Outgoing {
    fn talk(&mut self) -> &mut Talk {
        &mut self.talk
    }

    fn phase(&self) -> Phase {
        match self.state {
            State::Handshake => Phase::Handshake,
            State::Over => Phase::Over,
            _ => Phase::Talking,
        }
    }

    fn event(&mut self, now: Instant, event: StreamEvent) {
        match event {
            StreamEvent::Header(header) => self.header(&header),
            StreamEvent::Element(error) if error.is("error", ns::STREAM) => {
                self.end(Over::PeerError(StreamError::parse(&error)));
            }
            StreamEvent::Element(element) => self.element(now, &element),
            StreamEvent::End => self.end(Over::ByPeer),
        }
    }

    fn tls(&mut self, _now: Instant, certificate: Option<Box<dyn PeerCertificate>>) {
        let checked = match certificate {
            Some(certificate) => certificate.check(&self.peer),
            None => Err("it showed none".to_owned()),
        };
        match checked {
            Err(reason) if !self.dialback.allows(&self.peer) => self.end(Over::Untrusted(reason)),
            _ => self.open(State::TlsHeader),
        }
    }

    fn time(&mut self, now: Instant) {
        if self.is_ready() {
            self.talk.outputs.buffer().push(b' ');
            self.last_write = now;
        } else {
            self.end(Over::TimedOut);
        }
    }

    fn due(&self) -> Option<Instant> {
        match self.state {
            State::Over => None,
            State::Ready => Some(self.last_write + KEEPALIVE),
            _ => Some(self.started + self.auth_deadline),
        }
    }

    fn end(&mut self, over: Over) {
        let footer = self.state != State::Handshake;
        self.state = State::Over;
        self.talk.outputs.end(over, footer);
    }
}
