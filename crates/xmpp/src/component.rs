//! A stream to an XMPP server of which we are a component (XEP-0114): Wave behind Prosody, ejabberd or Openfire.
//!
//! ```text
//! Component                                 XMPP server
//!   header, to = our name                     header with an id
//!   <handshake>SHA-1 of id and secret</handshake>
//!                                             <handshake/>
//!   stanzas, from = our name →                ← stanzas, to = our name
//! ```
//!
//! One stream carries the stanzas of all peers in both directions. Who a stanza is from is the word of the XMPP server:
//! nothing on this stream proves it, and whoever runs that server can say anything. Changes are signed by the domains
//! of their authors and verified above, whatever came this way.
//!
//! There is no encryption here: the stream is for one machine, or a network that is trusted by name.
//! A server that is silent is sent a ping to ourselves, which it hands back, and is given up if it used to and does not.

use std::fmt;
use std::time::Instant;

use jid::Jid;
use minidom::Element;
use sha1::{Digest, Sha1};

use crate::parser::StreamEvent;
use crate::ping::{self, Finding, Watch};
use crate::s2s::{AUTH_DEADLINE, EncodedStanza, End, Event, KEEPALIVE, Over, PeerCertificate, Phase, Talk, fault};
use crate::stream::{Limits, StreamCondition, StreamError, StreamHeader, write_component_header};
use crate::{Domain, ns};

/// What the XMPP server and we know and nobody else does. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret as the XMPP server has it.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// What proves that we know it, for a stream with this id: the lower-case SHA-1 of both.
    fn handshake(&self, id: &str) -> String {
        let digest = Sha1::new().chain_update(id).chain_update(&self.0).finalize();
        hex::encode(digest)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why there is no stream, in words that go on from "the XMPP server at 127.0.0.1:5347 …" and say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `not-authorized`: the handshake is wrong.
    #[error(
        "refused the secret of {0}: secret_file must hold what the XMPP server has as the secret of this component \
         (ejabberd says the same when it has no component of this name)"
    )]
    Secret(Domain),
    /// `host-unknown`: no component of that name.
    #[error(
        "knows no component {0}: it must be in the XMPP server's configuration and that be loaded \
         (billow xmpp-config), and be spelled there as in federation.component.name"
    )]
    UnknownName(Domain),
    /// `conflict`: another stream has the name.
    #[error(
        "has a component {0} already: another Billow uses this name, \
         or the server has not noticed yet that an earlier connection is gone"
    )]
    Taken(Domain),
    /// `internal-server-error` before the handshake, which is how Openfire says it.
    #[error("failed inside before it asked for the secret: has it one for {0}? (Openfire: External Components)")]
    NoSecret(Domain),
    /// It speaks something else than the protocol of components.
    #[error("does not speak the component protocol (XEP-0114) there: is it the port for components? ({0})")]
    NoComponentPort(StreamError),
    /// `system-shutdown`
    #[error("is being shut down")]
    ShutDown,
    /// It closed the stream in good order.
    #[error("closed the stream")]
    Closed,
    /// The connection broke.
    #[error("closed the connection")]
    Lost,
    /// It did not answer the handshake, or gave no id to make one with.
    #[error("did not answer the handshake within {} s", AUTH_DEADLINE.as_secs())]
    Silent,
    /// It used to hand pings back and does not.
    #[error("has answered nothing for {} s", ping::QUIET.as_secs() + ping::ANSWER.as_secs())]
    Gone,
    /// Any other stream error of the server's.
    #[error("ended the stream: {0}")]
    Other(StreamError),
    /// It broke the rules, and was told so.
    #[error("sent what cannot be understood: {0}")]
    Fault(StreamError),
    /// We closed the stream.
    #[error("was left")]
    Left,
}

impl Refusal {
    /// Whether waiting does not help: somebody must change a configuration.
    #[must_use]
    pub fn needs_somebody(&self) -> bool {
        matches!(
            self,
            Self::Secret(_) | Self::UnknownName(_) | Self::NoSecret(_) | Self::NoComponentPort(_)
        )
    }
}

/// Our end of the stream.
pub struct Component {
    name: Domain,
    secret: Secret,
    state: State,
    talk: Talk,
    started: Instant,
    last_write: Instant,
    watch: Watch,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Answer,
    Ready,
    Over,
}

impl Component {
    /// Opens the stream as the component `name`, over a connection that was just made. `ping_prefix` must be random.
    #[must_use]
    pub fn new(now: Instant, name: Domain, secret: Secret, ping_prefix: String) -> Self {
        let mut talk = Talk::new(now, ns::COMPONENT, Limits::BEFORE_AUTH);
        write_component_header(&name, talk.outputs.buffer());
        Self {
            name,
            secret,
            state: State::Header,
            talk,
            started: now,
            last_write: now,
            watch: Watch::new(now, ping_prefix),
        }
    }

    /// Whether stanzas can be sent.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Sends a stanza, whose `from` must be of our name: the server ends the stream of a component that says otherwise.
    ///
    /// # Panics
    /// If the stream is not ready: the driver keeps what waits.
    pub fn send(&mut self, now: Instant, stanza: &EncodedStanza) {
        assert!(self.is_ready(), "stanzas are sent when the stream is ready");
        self.talk.outputs.buffer().extend_from_slice(stanza.bytes());
        self.last_write = now;
    }

    fn header(&mut self, header: &StreamHeader) {
        self.state = State::Answer;
        // COMPAT(Openfire, Prosody): a server that will refuse us opens the stream without an id, then says why.
        let Some(id) = header.id.as_deref().filter(|id| !id.is_empty()) else {
            return;
        };
        let handshake = self.secret.handshake(id);
        let out = self.talk.outputs.buffer();
        out.extend_from_slice(format!("<handshake>{handshake}</handshake>").as_bytes());
    }

    fn element(&mut self, now: Instant, element: Element) {
        match self.state {
            State::Answer if element.is("handshake", ns::CLIENT) => self.ready(now),
            // Nothing in them is for components.
            State::Answer if element.is("features", ns::STREAM) => {}
            State::Header | State::Answer => {
                self.end(Over::Fault(fault(
                    StreamCondition::NotAuthorized,
                    "something else than the answer to the handshake",
                )));
            }
            State::Ready => self.stanza(now, element),
            State::Over => {}
        }
    }

    fn ready(&mut self, now: Instant) {
        self.state = State::Ready;
        self.talk.parser.set_limits(Limits::AFTER_AUTH);
        self.watch.begin(now);
        self.talk.outputs.event(Event::Ready);
    }

    /// A stanza goes up if it is for our name and from another. Whatever may be wrong with one does not end the stream:
    /// strangers can have the server send it.
    fn stanza(&mut self, now: Instant, stanza: Element) {
        if !matches!(stanza.name(), "iq" | "message" | "presence") || !stanza.has_ns(ns::CLIENT) {
            return;
        }
        let is_handed_back = self.watch.has_asked(&stanza);
        let is_pong = self.watch.heard(now, &stanza);
        let (Some(peer), Some(local)) = (domain(&stanza, "from"), domain(&stanza, "to")) else {
            return;
        };
        if local != self.name {
            return;
        }
        if peer == self.name {
            // Only our ping may come from ourselves; its return is as good as an answer, and the server then answers
            // pings.
            if is_handed_back && !is_pong {
                self.watch.answered(now);
            }
            return;
        }
        self.talk.outputs.event(Event::Stanza {
            local,
            peer,
            element: stanza,
        });
    }

    fn ping(&mut self, now: Instant, id: &str) {
        let ping = ping::stanza(&self.name, &self.name, id);
        let encoded = EncodedStanza::new(&ping).expect("a domain and an id of ours can be written");
        self.send(now, &encoded);
    }

    /// What a stream error of the server's means, for us and for now.
    fn refusal(&self, error: StreamError) -> Refusal {
        let name = self.name.clone();
        let is_before = self.state != State::Ready;
        match error.condition {
            StreamCondition::SystemShutdown => Refusal::ShutDown,
            StreamCondition::Conflict => Refusal::Taken(name),
            StreamCondition::HostUnknown | StreamCondition::HostGone => Refusal::UnknownName(name),
            StreamCondition::NotAuthorized if is_before => Refusal::Secret(name),
            StreamCondition::InternalServerError if is_before => Refusal::NoSecret(name),
            StreamCondition::InvalidNamespace
            | StreamCondition::UnsupportedVersion
            | StreamCondition::BadNamespacePrefix
                if is_before =>
            {
                Refusal::NoComponentPort(error)
            }
            _ => Refusal::Other(error),
        }
    }
}

fn domain(stanza: &Element, attr: &str) -> Option<Domain> {
    Domain::of(&Jid::new(stanza.attr(attr)?).ok()?).ok()
}

impl End for Component {
    fn talk(&mut self) -> &mut Talk {
        &mut self.talk
    }

    fn phase(&self) -> Phase {
        match self.state {
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
            StreamEvent::Element(element) => self.element(now, element),
            StreamEvent::End => self.end(Over::ByPeer),
        }
    }

    fn tls(&mut self, _now: Instant, _certificate: Option<Box<dyn PeerCertificate>>) {
        unreachable!("a component asks for no TLS");
    }

    fn time(&mut self, now: Instant) {
        if !self.is_ready() {
            return self.end(Over::TimedOut);
        }
        match self.watch.handle_timeout(now) {
            Finding::Well => {}
            Finding::Ping(id) => return self.ping(now, &id),
            Finding::Gone => return self.end(Over::Component(Refusal::Gone)),
        }
        if self.last_write + KEEPALIVE <= now {
            self.talk.outputs.buffer().push(b' ');
            self.last_write = now;
        }
    }

    fn due(&self) -> Option<Instant> {
        match self.state {
            State::Over => None,
            State::Ready => Some((self.last_write + KEEPALIVE).min(self.watch.deadline())),
            State::Header | State::Answer => Some(self.started + AUTH_DEADLINE),
        }
    }

    fn end(&mut self, over: Over) {
        if self.state == State::Over {
            return;
        }
        let refusal = match over {
            Over::Fault(error) => {
                // What an HTTP server or a client port says is no XML, or no stream of this kind.
                let refusal = match self.state {
                    State::Header => Refusal::NoComponentPort(error.clone()),
                    _ => Refusal::Fault(error.clone()),
                };
                self.talk.outputs.fault(&error);
                refusal
            }
            Over::PeerError(error) => self.refusal(error),
            Over::Component(refusal) => refusal,
            Over::ByPeer => Refusal::Closed,
            Over::ByUs => Refusal::Left,
            Over::TimedOut => Refusal::Silent,
            _ => Refusal::Lost,
        };
        let is_lost = refusal == Refusal::Lost;
        self.state = State::Over;
        self.talk.outputs.end(Over::Component(refusal), !is_lost);
    }
}

#[cfg(test)]
mod tests;
