//! The end that opens a stream and sends.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minidom::Element;

use super::{
    AUTH_DEADLINE, EncodedStanza, Event, KEEPALIVE, MAX_STANZA, Machine, Output, Outputs, Over, PeerCertificate, fault,
};
use crate::element::{EncodeError, element};
use crate::parser::{Parser, StreamEvent};
use crate::stream::{Limits, StreamCondition, StreamError, StreamHeader, write_header};
use crate::{Domain, ns};

/// A stream to a peer.
pub struct Outgoing {
    local: Domain,
    peer: Domain,
    state: State,
    parser: Parser,
    outputs: Outputs,
    started: Instant,
    last_write: Instant,
    auth_deadline: Duration,
    /// Longest stanza that the peer takes, as far as it said (XEP-0478).
    max_stanza: usize,
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
    Ready,
    Over,
}

impl Outgoing {
    /// Opens a stream from a domain of ours to a peer over a connection that was just made.
    #[must_use]
    pub fn new(now: Instant, local: Domain, peer: Domain) -> Self {
        let mut machine = Self {
            local,
            peer,
            state: State::PlainHeader,
            parser: Parser::new(ns::SERVER, Limits::BEFORE_AUTH),
            outputs: Outputs::default(),
            started: now,
            last_write: now,
            auth_deadline: AUTH_DEADLINE,
            max_stanza: MAX_STANZA,
        };
        machine.open(State::PlainHeader);
        machine
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
        self.outputs.buffer().extend_from_slice(&stanza.0);
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
        self.parser = Parser::new(ns::SERVER, limits);
        self.state = state;
        write_header(&self.local, Some(&self.peer), None, self.outputs.buffer());
    }

    fn end(&mut self, over: Over) {
        let footer = self.state != State::Handshake;
        self.state = State::Over;
        self.outputs.end(over, footer);
    }

    fn fault(&mut self, condition: StreamCondition, text: &str) {
        self.end(Over::Fault(fault(condition, text)));
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

    fn header(&mut self, header: &StreamHeader) {
        if header.version.is_none_or(|(major, _)| major < 1) {
            return self.fault(StreamCondition::UnsupportedVersion, "a server of version 1.0 is needed");
        }
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
            State::Proceed if element.is("proceed", ns::TLS) => {
                self.state = State::Handshake;
                self.outputs.queue.push_back(Output::StartTls(self.local.clone()));
            }
            State::Proceed if element.is("failure", ns::TLS) => self.end(Over::TlsRequired),
            State::TlsFeatures if element.is("features", ns::STREAM) => self.tls_features(element),
            State::Success if element.is("success", ns::SASL) => self.open(State::Header),
            State::Success if element.is("challenge", ns::SASL) => self.respond(),
            State::Success if element.is("failure", ns::SASL) => self.end(Over::NotAuthorized(sasl_reason(element))),
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
        self.outputs.element(&element("starttls", ns::TLS).done());
        self.state = State::Proceed;
    }

    fn tls_features(&mut self, features: &Element) {
        self.read_limits(features);
        let external = features.get_child("mechanisms", ns::SASL).is_some_and(|list| {
            list.children()
                .any(|one| one.is("mechanism", ns::SASL) && one.text() == "EXTERNAL")
        });
        if !external {
            return self.end(Over::ExternalNotOffered);
        }
        let auth = element("auth", ns::SASL)
            .attr("mechanism", "EXTERNAL")
            .text(self.authzid());
        self.outputs.element(&auth.done());
        self.state = State::Success;
    }

    fn respond(&mut self) {
        let response = element("response", ns::SASL).text(self.authzid());
        self.outputs.element(&response.done());
    }

    /// Who we want to be taken for (XEP-0178 §3 item 9).
    fn authzid(&self) -> String {
        STANDARD.encode(self.local.as_str())
    }

    fn ready(&mut self, now: Instant, features: &Element) {
        self.read_limits(features);
        self.state = State::Ready;
        self.last_write = now;
        self.outputs.event(Event::Ready);
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

impl Machine for Outgoing {
    fn handle_bytes(&mut self, now: Instant, mut bytes: &[u8]) {
        while self.state != State::Over {
            // Nothing may come between <proceed/> and the handshake: it would be taken for what came after it.
            if self.state == State::Handshake {
                if !bytes.is_empty() {
                    self.outputs.queue.clear();
                    self.fault(StreamCondition::PolicyViolation, "bytes between proceed and TLS");
                }
                return;
            }
            match self.parser.next(&mut bytes) {
                Ok(Some(event)) => self.event(now, event),
                Ok(None) => return,
                Err(error) => self.end(Over::Fault(error)),
            }
        }
    }

    fn handle_tls(&mut self, _now: Instant, _certificate: Option<Box<dyn PeerCertificate>>) {
        assert_eq!(
            self.state,
            State::Handshake,
            "the handshake is done when it was asked for"
        );
        self.open(State::TlsHeader);
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.end(Over::Lost);
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self.deadline() {
            Some(deadline) if deadline <= now => {}
            _ => return,
        }
        if self.is_ready() {
            self.outputs.buffer().push(b' ');
            self.last_write = now;
        } else {
            self.end(Over::TimedOut);
        }
    }

    fn close(&mut self, _now: Instant) {
        self.end(Over::ByUs);
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.queue.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Over => None,
            State::Ready => Some(self.last_write + KEEPALIVE),
            _ => Some(self.started + self.auth_deadline),
        }
    }
}
