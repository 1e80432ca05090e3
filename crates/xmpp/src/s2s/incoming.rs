//! The end that a peer opens a stream to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jid::Jid;
use minidom::Element;

use super::{
    AUTH_DEADLINE, Content, End, Event, Output, Over, PeerCertificate, Phase, Question, StreamIds, Talk, fault,
};
use crate::dialback::Dialback;
use crate::element::element;
use crate::parser::StreamEvent;
use crate::stream::{Limits, StreamCondition, StreamError, StreamHeader, write_header};
use crate::{Domain, ns, planted};

/// How often a peer may fail to authenticate on one stream.
const ATTEMPTS: u32 = 3;
/// Most dialback keys of one stream that are being asked about.
const VERIFYING: usize = 10;
/// Most pairs of domains that are proved on one stream.
const PROVED: usize = 64;
/// How often a peer may ask on one stream whether a key is ours.
const QUESTIONS: u32 = 256;
/// Longest key and longest id that are looked at; ours have 64 and 40 bytes.
const KEY: usize = 1024;

/// A stream from a peer.
pub struct Incoming {
    /// The domains that we are.
    locals: Arc<BTreeSet<Domain>>,
    /// The one that the peer addressed on the present stream.
    local: Option<Domain>,
    /// Who the peer says it is, on the present stream.
    claimed: Option<Domain>,
    /// Who it is, by its certificate.
    peer: Option<Domain>,
    /// Who it is, by dialback, and to whom of us.
    proved: BTreeSet<(Domain, Domain)>,
    verifying: Vec<Verifying>,
    last_token: u64,
    questions: u32,
    dialback: Arc<Dialback>,
    certificate: Option<Box<dyn PeerCertificate>>,
    state: State,
    header_sent: bool,
    failures: u32,
    ids: StreamIds,
    /// Our id for the present stream.
    id: String,
    talk: Talk,
    started: Instant,
    auth_deadline: Duration,
}

/// A key that is being asked about.
struct Verifying {
    token: u64,
    local: Domain,
    peer: Domain,
}

/// What came of the question of an [`Event::Verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The server of the domain says that the key is its own.
    Valid,
    /// It says that it is not.
    Invalid,
    /// It was not reached, or gave no answer.
    Unknown,
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
            proved: BTreeSet::new(),
            verifying: Vec::new(),
            last_token: 0,
            questions: 0,
            dialback: Arc::default(),
            certificate: None,
            state: State::PlainHeader,
            header_sent: false,
            failures: 0,
            ids: StreamIds { entropy, count: 0 },
            id: String::new(),
            talk: Talk::new(now, ns::SERVER, Limits::BEFORE_AUTH),
            started: now,
            auth_deadline: AUTH_DEADLINE,
        }
    }

    /// The same, where the connection begins with TLS (XEP-0368).
    #[must_use]
    pub fn direct_tls(mut self) -> Self {
        self.start_tls(None, true);
        self
    }

    /// The same with a policy for dialback.
    #[must_use]
    pub fn with_dialback(mut self, dialback: Arc<Dialback>) -> Self {
        self.dialback = dialback;
        self
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
        self.talk.restart(limits);
        self.local = None;
        self.claimed = None;
        self.verifying.clear();
        self.header_sent = false;
        self.state = state;
    }

    fn write_header(&mut self) {
        let fallback = self.locals.first().expect("checked when the machine was made");
        let from = self.local.as_ref().unwrap_or(fallback);
        let to = self.peer.as_ref().or(self.claimed.as_ref());
        self.id = self.ids.next();
        write_header(from, to, Some(&self.id), self.talk.outputs.buffer());
        self.header_sent = true;
    }

    fn start_tls(&mut self, local: Option<Domain>, direct: bool) {
        self.talk.outputs.queue.push_back(Output::StartTls { local, direct });
        self.state = State::Handshake;
    }

    fn fault(&mut self, condition: StreamCondition, text: &str) {
        self.end(Over::Fault(fault(condition, text)));
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
            State::TlsHeader => self.offer_proofs()?,
            State::Header => self.stream_is_up(local)?,
            other => unreachable!("a parser gives one header, and it is first: {other:?}"),
        }
        Ok(())
    }

    fn offer_tls(&mut self) {
        self.write_header();
        let starttls = element("starttls", ns::TLS).child(element("required", ns::TLS));
        self.talk
            .outputs
            .element(&element("features", ns::STREAM).child(starttls).done());
        self.state = State::StartTls;
    }

    /// EXTERNAL with a certificate that proves the domain, dialback with a domain that the policy names; without
    /// either there is no way in.
    fn offer_proofs(&mut self) -> Result<(), StreamError> {
        let checked = match (&self.certificate, &self.claimed) {
            (None, _) => Err(fault(StreamCondition::NotAuthorized, "a certificate is needed")),
            (Some(certificate), Some(claimed)) => {
                let checked = certificate.check(claimed);
                checked.map_err(|reason| not_authorized(claimed, &reason))
            }
            (Some(_), None) => Ok(()),
        };
        let dialback = match &self.claimed {
            Some(claimed) => self.dialback.allows(claimed),
            None => self.dialback.is_offered(),
        };
        let mut features = element("features", ns::STREAM);
        match checked {
            Ok(()) => {
                let mechanism = element("mechanism", ns::SASL).text("EXTERNAL");
                features = features.child(element("mechanisms", ns::SASL).child(mechanism));
            }
            Err(_) if dialback => {}
            Err(error) => return Err(error),
        }
        if dialback {
            let errors = element("errors", ns::DIALBACK_FEATURE);
            features = features.child(element("dialback", ns::DIALBACK_FEATURE).child(errors));
        }
        self.write_header();
        self.talk.outputs.element(&features.child(limits()).done());
        self.state = State::Auth;
        Ok(())
    }

    fn stream_is_up(&mut self, local: Domain) -> Result<(), StreamError> {
        let peer = self.peer.clone().expect("the third header comes after success");
        if self.claimed.as_ref().is_some_and(|claimed| *claimed != peer) {
            return Err(fault(StreamCondition::InvalidFrom, "from is not who authenticated"));
        }
        self.write_header();
        self.talk
            .outputs
            .element(&element("features", ns::STREAM).child(limits()).done());
        self.state = State::Ready;
        self.talk.outputs.event(Event::Authenticated { local, peer });
        Ok(())
    }

    fn element(&mut self, element: Element) {
        match self.state {
            State::StartTls if element.is("starttls", ns::TLS) => {
                self.talk.outputs.element(&crate::element("proceed", ns::TLS).done());
                let local = self.local.clone().expect("the header named it");
                self.start_tls(Some(local), false);
            }
            State::Auth if element.is("auth", ns::SASL) => self.auth(&element),
            State::Response if element.is("response", ns::SASL) => self.authenticate(&element.text()),
            State::Auth | State::Response if element.is("abort", ns::SASL) => self.sasl_failure("aborted"),
            State::Auth | State::Ready if element.is("result", ns::DIALBACK) => self.take_key(&element),
            State::Auth | State::Ready if element.is("verify", ns::DIALBACK) => self.is_our_key(&element),
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
            self.talk.outputs.element(&element("challenge", ns::SASL).done());
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
        let checked = self.certificate.as_ref().map(|certificate| certificate.check(&wanted));
        if checked != Some(Ok(())) && !planted::is("a certificate proves any domain") {
            return self.sasl_failure("not-authorized");
        }
        self.talk.outputs.element(&element("success", ns::SASL).done());
        self.peer = Some(wanted);
        self.restart(State::Header);
    }

    fn sasl_failure(&mut self, condition: &'static str) {
        let condition = Element::bare(condition, ns::SASL);
        self.talk
            .outputs
            .element(&element("failure", ns::SASL).child(condition).done());
        self.failures += 1;
        self.state = State::Auth;
        if self.failures >= ATTEMPTS {
            self.fault(StreamCondition::NotAuthorized, "too many attempts");
        }
    }

    /// A peer wants to be known by a key (XEP-0220 §2.1.2).
    fn take_key(&mut self, result: &Element) {
        if result.attr("type").is_some() {
            return self.fault(StreamCondition::PolicyViolation, "a verdict that was not asked for");
        }
        let peer = result.attr("from").and_then(|from| from.parse::<Domain>().ok());
        let Some(peer) = peer.filter(|peer| peer.is_routable() && !self.locals.contains(peer)) else {
            return self.fault(StreamCondition::InvalidFrom, "from is not a domain of yours");
        };
        let to = result.attr("to").unwrap_or_default();
        let local = to.parse().ok().filter(|local| self.locals.contains(local));
        let Some(local) = local else {
            return self.fault(StreamCondition::HostUnknown, "this domain is not here");
        };
        if self.proved.contains(&(peer.clone(), local.clone())) || self.is_proved_by_certificate(&peer) {
            return self.accept(local, peer);
        }
        let key = result.text();
        let key = key.trim();
        let refusal = if !self.dialback.allows(&peer) {
            "policy-violation"
        } else if self.verifying.len() >= VERIFYING || self.proved.len() >= PROVED {
            "resource-constraint"
        } else if key.is_empty() || key.len() > KEY || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            "not-acceptable"
        } else {
            return self.ask(local, peer, key);
        };
        self.refuse(&local, &peer, "error", Content::Error(refusal));
    }

    fn is_proved_by_certificate(&self, peer: &Domain) -> bool {
        let certificate = self.certificate.as_ref();
        certificate.is_some_and(|certificate| certificate.check(peer).is_ok())
    }

    fn ask(&mut self, local: Domain, peer: Domain, key: &str) {
        self.last_token += 1;
        let token = self.last_token;
        self.verifying.push(Verifying {
            token,
            local: local.clone(),
            peer: peer.clone(),
        });
        let question = Question {
            id: self.id.clone(),
            key: key.to_owned(),
        };
        self.talk.outputs.event(Event::Verify {
            token,
            local,
            peer,
            question,
        });
    }

    /// What came of an [`Event::Verify`]. A verdict on a question that is no longer open changes nothing.
    pub fn handle_verdict(&mut self, token: u64, verdict: Verdict) {
        let Some(at) = self.verifying.iter().position(|one| one.token == token) else {
            return;
        };
        if self.state == State::Over {
            return;
        }
        let Verifying { local, peer, .. } = self.verifying.swap_remove(at);
        match verdict {
            Verdict::Valid => self.accept(local, peer),
            Verdict::Invalid => self.refuse(&local, &peer, "invalid", Content::Nothing),
            Verdict::Unknown => self.refuse(&local, &peer, "error", Content::Error("remote-server-timeout")),
        }
    }

    fn accept(&mut self, local: Domain, peer: Domain) {
        let attrs = [("from", local.as_str()), ("to", peer.as_str()), ("type", "valid")];
        self.talk.outputs.dialback("result", &attrs, Content::Nothing);
        if self.proved.insert((peer.clone(), local.clone())) {
            self.state = State::Ready;
            self.talk.parser.set_limits(Limits::AFTER_AUTH);
            self.talk.outputs.event(Event::Authenticated { local, peer });
        }
    }

    fn refuse(&mut self, local: &Domain, peer: &Domain, kind: &str, content: Content<'_>) {
        let attrs = [("from", local.as_str()), ("to", peer.as_str()), ("type", kind)];
        self.talk.outputs.dialback("result", &attrs, content);
        self.failures += 1;
        if self.failures >= ATTEMPTS && self.state != State::Ready && self.verifying.is_empty() {
            self.fault(StreamCondition::NotAuthorized, "too many attempts");
        }
    }

    /// A peer asks whether a key that it was given is ours (XEP-0220 §2.1.3).
    fn is_our_key(&mut self, verify: &Element) {
        if verify.attr("type").is_some() {
            return self.fault(StreamCondition::PolicyViolation, "a verdict that was not asked for");
        }
        self.questions += 1;
        if self.questions > QUESTIONS {
            return self.fault(StreamCondition::PolicyViolation, "too many questions");
        }
        let domain = |attr: &str| verify.attr(attr).and_then(|text| text.parse::<Domain>().ok());
        let Some(receiving) = domain("from") else {
            return self.fault(StreamCondition::InvalidFrom, "from is not a domain");
        };
        let Some(local) = domain("to").filter(|local| self.locals.contains(local)) else {
            return self.fault(StreamCondition::HostUnknown, "this domain is not here");
        };
        let (id, key) = (verify.attr("id").unwrap_or_default(), verify.text());
        let is_short = id.len() <= KEY && key.len() <= KEY;
        let is_ours = is_short && self.dialback.is_ours(&receiving, &local, id, key.trim());
        let is_ours = is_ours && self.dialback.allows(&receiving);
        let attrs = [
            ("from", local.as_str()),
            ("to", receiving.as_str()),
            ("id", if is_short { id } else { "" }),
            ("type", if is_ours { "valid" } else { "invalid" }),
        ];
        self.talk.outputs.dialback("verify", &attrs, Content::Nothing);
    }

    fn refuse_compression(&mut self) {
        let refusal = element("failure", ns::COMPRESS).child(element("unsupported-method", ns::COMPRESS));
        self.talk.outputs.element(&refusal.done());
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
        let (peer, local) = (domain("from")?, domain("to")?);
        let pair = (peer, local);
        let is_known = Some(&pair.0) == self.peer.as_ref() || self.proved.contains(&pair);
        if !is_known && !planted::is("a stanza may say that it is from anybody") {
            return Err(fault(StreamCondition::InvalidFrom, "from is not who authenticated"));
        }
        let (peer, local) = pair;
        if !self.locals.contains(&local) {
            return Err(fault(StreamCondition::HostUnknown, "this domain is not here"));
        }
        self.talk.outputs.event(Event::Stanza {
            local,
            peer,
            element: stanza,
        });
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

impl End for Incoming {
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
        if planted::is("whoever talks wins time") {
            self.started = now;
        }
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

    fn tls(&mut self, _now: Instant, certificate: Option<Box<dyn PeerCertificate>>) {
        self.certificate = certificate;
        self.restart(State::TlsHeader);
    }

    fn time(&mut self, _now: Instant) {
        self.fault(StreamCondition::ConnectionTimeout, "not authenticated in time");
    }

    fn due(&self) -> Option<Instant> {
        match self.state {
            State::Over | State::Ready => None,
            _ => Some(self.started + self.auth_deadline),
        }
    }

    fn end(&mut self, over: Over) {
        if self.state == State::Over {
            return;
        }
        self.verifying.clear();
        if !self.header_sent && matches!(over, Over::Fault(_)) && self.state != State::Handshake {
            self.write_header();
        }
        let footer = self.header_sent && self.state != State::Handshake;
        self.state = State::Over;
        self.talk.outputs.end(over, footer);
    }
}
