//! The end that a peer opens a stream to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jid::Jid;
use minidom::Element;

use super::{AUTH_DEADLINE, Event, Machine, Output, Outputs, Over, PeerCertificate, StreamIds, fault};
use crate::element::element;
use crate::parser::{Parser, StreamEvent};
use crate::stream::{Limits, StreamCondition, StreamError, StreamHeader, write_header};
use crate::{Domain, ns};

/// How often a peer may fail to authenticate on one stream.
const ATTEMPTS: u32 = 3;

/// A stream from a peer.
pub struct Incoming {
    /// The domains that we are.
    locals: Arc<BTreeSet<Domain>>,
    /// The one that the peer addressed on the present stream.
    local: Option<Domain>,
    /// Who the peer says it is, on the present stream.
    claimed: Option<Domain>,
    /// Who it is.
    peer: Option<Domain>,
    certificate: Option<Box<dyn PeerCertificate>>,
    state: State,
    header_sent: bool,
    failures: u32,
    ids: StreamIds,
    parser: Parser,
    outputs: Outputs,
    started: Instant,
    auth_deadline: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    PlainHeader,
    StartTls,
    Handshake,
    TlsHeader,
    Auth,
    Response,
    Header,
    Ready,
    Over,
}

impl Incoming {
    /// Takes a connection that a peer made. `entropy` must be random: the ids of the streams come from it.
    ///
    /// # Panics
    /// If we are no domain at all.
    #[must_use]
    pub fn new(now: Instant, locals: Arc<BTreeSet<Domain>>, entropy: [u8; 32]) -> Self {
        assert!(!locals.is_empty(), "a server that listens has a domain");
        Self {
            locals,
            local: None,
            claimed: None,
            peer: None,
            certificate: None,
            state: State::PlainHeader,
            header_sent: false,
            failures: 0,
            ids: StreamIds { entropy, count: 0 },
            parser: Parser::new(ns::SERVER, Limits::BEFORE_AUTH),
            outputs: Outputs::default(),
            started: now,
            auth_deadline: AUTH_DEADLINE,
        }
    }

    /// The same with another time to authenticate than [`AUTH_DEADLINE`].
    #[must_use]
    pub fn with_auth_deadline(mut self, deadline: Duration) -> Self {
        self.auth_deadline = deadline;
        self
    }

    /// Waits for a new stream, forgetting all that was said on the one before.
    fn restart(&mut self, state: State) {
        let limits = if state == State::Header {
            Limits::AFTER_AUTH
        } else {
            Limits::BEFORE_AUTH
        };
        self.parser = Parser::new(ns::SERVER, limits);
        self.local = None;
        self.claimed = None;
        self.header_sent = false;
        self.state = state;
    }

    fn write_header(&mut self) {
        let fallback = self.locals.first().expect("checked when the machine was made");
        let from = self.local.as_ref().unwrap_or(fallback);
        let to = self.peer.as_ref().or(self.claimed.as_ref());
        write_header(from, to, Some(&self.ids.next()), self.outputs.buffer());
        self.header_sent = true;
    }

    fn end(&mut self, over: Over) {
        if self.state == State::Over {
            return;
        }
        if !self.header_sent && matches!(over, Over::Fault(_)) && self.state != State::Handshake {
            self.write_header();
        }
        let footer = self.header_sent && self.state != State::Handshake;
        self.state = State::Over;
        self.outputs.end(over, footer);
    }

    fn fault(&mut self, condition: StreamCondition, text: &str) {
        self.end(Over::Fault(fault(condition, text)));
    }

    fn event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Header(header) => {
                if let Err(error) = self.header(&header) {
                    self.end(Over::Fault(error));
                }
            }
            StreamEvent::Element(error) if error.is("error", ns::STREAM) => {
                self.end(Over::PeerError(StreamError::parse(&error)));
            }
            StreamEvent::Element(element) if element.is("compress", ns::COMPRESS) => self.refuse_compression(),
            StreamEvent::Element(element) => self.element(element),
            StreamEvent::End => self.end(Over::ByPeer),
        }
    }

    fn header(&mut self, header: &StreamHeader) -> Result<(), StreamError> {
        let to = header.to.as_deref();
        let to = to.ok_or_else(|| fault(StreamCondition::ImproperAddressing, "the stream has no to"))?;
        let local = to.parse().ok().filter(|domain| self.locals.contains(domain));
        let local = local.ok_or_else(|| fault(StreamCondition::HostUnknown, "this domain is not here"))?;
        self.local = Some(local.clone());
        if header.version.is_none_or(|(major, _)| major < 1) {
            return Err(fault(
                StreamCondition::UnsupportedVersion,
                "a server of version 1.0 is needed",
            ));
        }
        let claimed = header.from.as_deref().map(str::parse::<Domain>).transpose();
        self.claimed = claimed.map_err(|_| fault(StreamCondition::InvalidFrom, "from is not a domain"))?;
        if self
            .claimed
            .as_ref()
            .is_some_and(|claimed| self.locals.contains(claimed))
        {
            return Err(fault(StreamCondition::InvalidFrom, "that domain is here, not there"));
        }
        match self.state {
            State::PlainHeader => self.offer_tls(),
            State::TlsHeader => self.offer_external()?,
            State::Header => self.stream_is_up(local)?,
            other => unreachable!("a parser gives one header, and it is first: {other:?}"),
        }
        Ok(())
    }

    fn offer_tls(&mut self) {
        self.write_header();
        let starttls = element("starttls", ns::TLS).child(element("required", ns::TLS));
        self.outputs
            .element(&element("features", ns::STREAM).child(starttls).done());
        self.state = State::StartTls;
    }

    /// Without a good certificate there is no way in: dialback is not offered.
    fn offer_external(&mut self) -> Result<(), StreamError> {
        let Some(certificate) = &self.certificate else {
            return Err(fault(StreamCondition::NotAuthorized, "a certificate is needed"));
        };
        if let Some(claimed) = &self.claimed {
            certificate
                .check(claimed)
                .map_err(|reason| not_authorized(claimed, &reason))?;
        }
        self.write_header();
        let mechanism = element("mechanism", ns::SASL).text("EXTERNAL");
        let mechanisms = element("mechanisms", ns::SASL).child(mechanism);
        self.outputs
            .element(&element("features", ns::STREAM).child(mechanisms).child(limits()).done());
        self.state = State::Auth;
        Ok(())
    }

    fn stream_is_up(&mut self, local: Domain) -> Result<(), StreamError> {
        let peer = self.peer.clone().expect("the third header comes after success");
        if self.claimed.as_ref().is_some_and(|claimed| *claimed != peer) {
            return Err(fault(StreamCondition::InvalidFrom, "from is not who authenticated"));
        }
        self.write_header();
        self.outputs
            .element(&element("features", ns::STREAM).child(limits()).done());
        self.state = State::Ready;
        self.outputs.event(Event::Authenticated { local, peer });
        Ok(())
    }

    fn element(&mut self, element: Element) {
        match self.state {
            State::StartTls if element.is("starttls", ns::TLS) => {
                self.outputs.element(&crate::element("proceed", ns::TLS).done());
                let local = self.local.clone().expect("the header named it");
                self.outputs.queue.push_back(Output::StartTls(local));
                self.state = State::Handshake;
            }
            State::Auth if element.is("auth", ns::SASL) => self.auth(&element),
            State::Response if element.is("response", ns::SASL) => self.authenticate(&element.text()),
            State::Auth | State::Response if element.is("abort", ns::SASL) => self.sasl_failure("aborted"),
            State::Ready if element.has_ns(ns::CLIENT) => {
                if let Err(error) = self.stanza(element) {
                    self.end(Over::Fault(error));
                }
            }
            State::Ready => self.fault(StreamCondition::UnsupportedStanzaType, "this is no stanza"),
            _ => self.fault(
                StreamCondition::NotAuthorized,
                "this needs a stream that is authenticated",
            ),
        }
    }

    fn auth(&mut self, auth: &Element) {
        if auth.attr("mechanism") != Some("EXTERNAL") {
            return self.sasl_failure("invalid-mechanism");
        }
        let initial = auth.text();
        if initial.is_empty() {
            self.outputs.element(&element("challenge", ns::SASL).done());
            self.state = State::Response;
        } else {
            self.authenticate(&initial);
        }
    }

    /// The certificate decides; the authzid only says which of its names is meant.
    fn authenticate(&mut self, response: &str) {
        let response = response.trim();
        let wanted = match response {
            "" | "=" => self.claimed.clone(),
            encoded => {
                let decoded = STANDARD
                    .decode(encoded)
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok());
                let Some(text) = decoded else {
                    return self.sasl_failure("incorrect-encoding");
                };
                let wanted = text.parse::<Domain>().ok();
                wanted.filter(|domain| self.claimed.as_ref().is_none_or(|claimed| claimed == domain))
            }
        };
        let Some(wanted) = wanted.filter(|domain| !self.locals.contains(domain)) else {
            return self.sasl_failure("invalid-authzid");
        };
        match self.certificate.as_ref().map(|certificate| certificate.check(&wanted)) {
            Some(Ok(())) => {
                self.outputs.element(&element("success", ns::SASL).done());
                self.peer = Some(wanted);
                self.restart(State::Header);
            }
            _ => self.sasl_failure("not-authorized"),
        }
    }

    fn sasl_failure(&mut self, condition: &'static str) {
        let condition = Element::bare(condition, ns::SASL);
        self.outputs
            .element(&element("failure", ns::SASL).child(condition).done());
        self.failures += 1;
        self.state = State::Auth;
        if self.failures >= ATTEMPTS {
            self.fault(StreamCondition::NotAuthorized, "too many attempts");
        }
    }

    fn refuse_compression(&mut self) {
        let refusal = element("failure", ns::COMPRESS).child(element("unsupported-method", ns::COMPRESS));
        self.outputs.element(&refusal.done());
    }

    /// A stanza goes up only if its sender speaks for its domain and its recipient is here. Whatever else may be wrong
    /// with it is for those above: it does not end the stream.
    fn stanza(&mut self, stanza: Element) -> Result<(), StreamError> {
        if !matches!(stanza.name(), "iq" | "message" | "presence") {
            return Err(fault(StreamCondition::UnsupportedStanzaType, "this is no stanza"));
        }
        let domain = |name: &str| {
            let text = stanza.attr(name).filter(|text| !text.is_empty());
            let text = text.ok_or_else(|| fault(StreamCondition::ImproperAddressing, "a stanza needs from and to"))?;
            let jid = Jid::new(text).map_err(|_| fault(StreamCondition::ImproperAddressing, "not an address"))?;
            Domain::of(&jid).map_err(|_| fault(StreamCondition::ImproperAddressing, "not a domain"))
        };
        let (from, local) = (domain("from")?, domain("to")?);
        if Some(&from) != self.peer.as_ref() {
            return Err(fault(StreamCondition::InvalidFrom, "from is not who authenticated"));
        }
        if !self.locals.contains(&local) {
            return Err(fault(StreamCondition::HostUnknown, "this domain is not here"));
        }
        self.outputs.event(Event::Stanza { local, element: stanza });
        Ok(())
    }
}

fn not_authorized(claimed: &Domain, reason: &str) -> StreamError {
    StreamError::new(
        StreamCondition::NotAuthorized,
        format!("the certificate is not valid for {claimed}: {reason}"),
    )
}

/// What we accept (XEP-0478).
fn limits() -> Element {
    let bytes = element("max-bytes", ns::STREAM_LIMITS).text(Limits::AFTER_AUTH.bytes.to_string());
    element("limits", ns::STREAM_LIMITS).child(bytes).done()
}

impl Machine for Incoming {
    fn handle_bytes(&mut self, _now: Instant, mut bytes: &[u8]) {
        while self.state != State::Over {
            // What is pipelined after <starttls/> would be taken for something said inside TLS.
            if self.state == State::Handshake {
                if !bytes.is_empty() {
                    self.outputs.queue.clear();
                    self.fault(StreamCondition::PolicyViolation, "bytes between starttls and TLS");
                }
                return;
            }
            match self.parser.next(&mut bytes) {
                Ok(Some(event)) => self.event(event),
                Ok(None) => return,
                Err(error) => self.end(Over::Fault(error)),
            }
        }
    }

    fn handle_tls(&mut self, _now: Instant, certificate: Option<Box<dyn PeerCertificate>>) {
        assert_eq!(
            self.state,
            State::Handshake,
            "the handshake is done when it was asked for"
        );
        self.certificate = certificate;
        self.restart(State::TlsHeader);
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.end(Over::Lost);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.fault(StreamCondition::ConnectionTimeout, "not authenticated in time");
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
            State::Over | State::Ready => None,
            _ => Some(self.started + self.auth_deadline),
        }
    }
}
