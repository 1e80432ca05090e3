//! Server-to-server streams (RFC 6120, XEP-0178, XEP-0368, XEP-0220): two machines, one for each end.
//!
//! [`Outgoing`] opens a stream to a peer and sends stanzas; [`Incoming`] takes a stream that a peer opened and hears
//! its stanzas. A stream carries stanzas in one direction only.
//!
//! ```text
//! Outgoing                                  Incoming
//!   header, features?                         header + starttls required
//!   <starttls/>                               <proceed/>
//!   ── TLS: everything that was said before is forgotten ──
//!   header, features?                         header + EXTERNAL if the certificate is good
//!   <auth EXTERNAL>                           <success/>
//!   ── stream restart ──
//!   header                                    header + features
//!   stanzas →                                 from = the authenticated domain, to = one of ours
//! ```
//!
//! Nothing here reads a clock, a socket or a certificate: the driver passes bytes and times, does the TLS handshake
//! when an output asks for it, and brings the peer's certificate as a [`PeerCertificate`]. Memory is bounded by the
//! limits of the parser; what the machine wants written is handed out at once and never kept.
//!
//! With direct TLS (XEP-0368) the part before TLS is left out. Where a certificate does not prove a domain and the
//! [dialback policy](crate::dialback) names that domain, a key takes the place of EXTERNAL:
//!
//! ```text
//!   <db:result>key</db:result>                asks the server of the domain, on a stream of its own, about the key
//!                                             <db:result type='valid'/>
//!   stanzas →
//! ```
//!
//! A verdict counts only on the stream on which it was asked for, for the pair and the stream id that were asked about.

mod incoming;
mod outgoing;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use minidom::Element;
use sha1::{Digest, Sha1};

use crate::component::Refusal;
use crate::element::{EncodeError, encode, write_attr};
use crate::parser::{Parser, StreamEvent};
use crate::stream::{FOOTER, Limits, StreamCondition, StreamError, write_element};
use crate::{Domain, ns, planted};

pub use incoming::{Incoming, Verdict};
pub use outgoing::{Outgoing, Question};

/// How long a peer has from the first byte to proof of who it is.
pub const AUTH_DEADLINE: Duration = Duration::from_secs(30);
/// A blank is written when nothing else was for so long.
pub const KEEPALIVE: Duration = Duration::from_secs(60);
/// Longest stanza that we send; what stands before us at the peer's side may accept less than RFC 6120 would like.
pub const MAX_STANZA: usize = 256 << 10;

/// What the driver must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Write these bytes.
    Write(Vec<u8>),
    /// Write what is to be written, then do the TLS handshake, then call `handle_tls`.
    StartTls {
        /// The domain of ours whose certificate is shown; `None`: the one that the peer asks for.
        local: Option<Domain>,
        /// There was no word before it: the protocol is named in the handshake (XEP-0368).
        direct: bool,
    },
    /// Tell the layer above.
    Event(Event),
    /// Write what is to be written and close the connection. Nothing comes after it.
    Close,
}

/// What happened on a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Our stream is up: stanzas can be sent.
    Ready,
    /// A peer has proved that it is this domain. It wants `local`.
    Authenticated {
        /// The domain of ours that it addressed.
        local: Domain,
        /// Its domain.
        peer: Domain,
    },
    /// A peer wants to be known by dialback: [`Incoming::handle_verdict`] wants to hear whether the server of `peer`,
    /// asked over a stream that we open, says that the key is its own.
    Verify {
        /// Names the question.
        token: u64,
        /// The domain of ours that the peer wants.
        local: Domain,
        /// The domain that it says it is.
        peer: Domain,
        /// The question.
        question: Question,
    },
    /// The answer to the question that the stream was opened for: whether the key is the peer's.
    Answer(bool),
    /// An authenticated peer sent a stanza from its domain to one of ours.
    Stanza {
        /// The domain of ours that it is for.
        local: Domain,
        /// The domain that it is from, which the peer has proved; on a component's stream, which the server vouches for.
        peer: Domain,
        /// The stanza.
        element: Element,
    },
    /// The stream is over; `Close` follows.
    Over(Over),
}

/// Why a stream is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// The peer closed it in good order.
    #[error("the other server closed the stream")]
    ByPeer,
    /// We closed it in good order.
    #[error("the stream was closed")]
    ByUs,
    /// The connection ended in the middle.
    #[error("the connection was lost")]
    Lost,
    /// The peer broke the rules, and was told so.
    #[error("{0}")]
    Fault(StreamError),
    /// The peer sent a stream error.
    #[error("the other server reports: {0}")]
    PeerError(StreamError),
    /// The peer does not offer TLS or refuses it.
    #[error("tls-required: the other server does not offer encryption")]
    TlsRequired,
    /// The certificate of the peer does not prove that it is who we want.
    #[error("the certificate of the other server is not good for its domain: {0}")]
    Untrusted(String),
    /// The peer does not accept certificates as a proof of who we are.
    #[error("the other server does not offer SASL EXTERNAL (it does not trust our certificate)")]
    ExternalNotOffered,
    /// The peer did not accept ours.
    #[error("the other server refuses our certificate: {0}")]
    NotAuthorized(String),
    /// The peer did not accept our dialback key.
    #[error("the other server does not believe that we are who we say (dialback): {0}")]
    DialbackRefused(String),
    /// It took too long.
    #[error("the other server did not answer in time")]
    TimedOut,
    /// The server that we are a component of has no stream for us. The words go on from "the XMPP server".
    #[error("{0}")]
    Component(Refusal),
}

/// The certificate that a peer presented in the TLS handshake, with proof that it has the key.
pub trait PeerCertificate: Send {
    /// Whether it is valid now, as the certificate of a server, for that domain; else why not.
    fn check(&self, domain: &Domain) -> Result<(), String>;
}

/// What the driver and the tests see of either machine.
pub trait Machine {
    /// Bytes came.
    fn handle_bytes(&mut self, now: Instant, bytes: &[u8]);
    /// The TLS handshake is done; the peer showed that certificate.
    fn handle_tls(&mut self, now: Instant, certificate: Option<Box<dyn PeerCertificate>>);
    /// The connection has ended on the peer's side.
    fn handle_eof(&mut self, now: Instant);
    /// The time of [`Machine::deadline`] has come.
    fn handle_timeout(&mut self, now: Instant);
    /// Ends the stream in good order.
    fn close(&mut self, now: Instant);
    /// What must be done next.
    fn poll(&mut self) -> Option<Output>;
    /// When [`Machine::handle_timeout`] wants to be called.
    fn deadline(&self) -> Option<Instant>;
}

/// Where a stream is, as far as all ends are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Talking,
    Handshake,
    Over,
}

/// What every end has.
pub(crate) struct Talk {
    pub(crate) parser: Parser,
    pub(crate) outputs: Outputs,
    blanks: Blanks,
}

/// What an end makes of what it hears; how it hears is the same for all.
pub(crate) trait End {
    fn talk(&mut self) -> &mut Talk;
    fn phase(&self) -> Phase;
    fn event(&mut self, now: Instant, event: StreamEvent);
    fn tls(&mut self, now: Instant, certificate: Option<Box<dyn PeerCertificate>>);
    fn time(&mut self, now: Instant);
    fn due(&self) -> Option<Instant>;
    fn end(&mut self, over: Over);
}

impl<E: End> Machine for E {
    fn handle_bytes(&mut self, now: Instant, mut bytes: &[u8]) {
        loop {
            match self.phase() {
                Phase::Talking => {}
                // What is pipelined before the handshake would be taken for something said inside TLS.
                Phase::Handshake if !bytes.is_empty() && !planted::is("what is said before TLS is passed over") => {
                    self.talk().outputs.queue.clear();
                    return self.end(Over::Fault(fault(
                        StreamCondition::PolicyViolation,
                        "bytes between the agreement on TLS and TLS",
                    )));
                }
                Phase::Handshake | Phase::Over => return,
            }
            let talk = self.talk();
            let read = talk.parser.next(&mut bytes);
            let blanks = talk.parser.take_blanks();
            if !talk.blanks.spend(now, blanks) {
                return self.end(Over::Fault(fault(StreamCondition::PolicyViolation, "too many blanks")));
            }
            match read {
                Ok(Some(event)) => self.event(now, event),
                Ok(None) => return,
                Err(error) => self.end(Over::Fault(error)),
            }
        }
    }

    fn handle_tls(&mut self, now: Instant, certificate: Option<Box<dyn PeerCertificate>>) {
        assert_eq!(
            self.phase(),
            Phase::Handshake,
            "the handshake is done when it was asked for"
        );
        self.tls(now, certificate);
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.end(Over::Lost);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.time(now);
        }
    }

    fn close(&mut self, _now: Instant) {
        self.end(Over::ByUs);
    }

    fn poll(&mut self) -> Option<Output> {
        self.talk().outputs.queue.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        self.due()
    }
}

impl Talk {
    pub(crate) fn new(now: Instant, wire_ns: &'static str, limits: Limits) -> Self {
        Self {
            parser: Parser::new(wire_ns, limits),
            outputs: Outputs::default(),
            blanks: Blanks {
                left: BLANKS,
                since: now,
            },
        }
    }

    /// Hears a new stream, forgetting all that was said on the one before.
    fn restart(&mut self, limits: Limits) {
        self.parser = Parser::new(ns::SERVER, limits);
    }
}

/// Most blanks between stanzas that come at once.
const BLANKS: usize = 16 << 10;
/// How many more are let pass a second. Keeping a connection alive takes one a minute.
const BLANKS_PER_SECOND: u64 = 256;

/// What is left of the blanks that a peer may send: keeping alive is free, a flood is not.
struct Blanks {
    left: usize,
    since: Instant,
}

impl Blanks {
    /// Whether so many more are let pass.
    fn spend(&mut self, now: Instant, count: usize) -> bool {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        if seconds > 0 {
            let more = usize::try_from(seconds.saturating_mul(BLANKS_PER_SECOND)).unwrap_or(BLANKS);
            self.left = self.left.saturating_add(more).min(BLANKS);
            self.since = now;
        }
        match self.left.checked_sub(count) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// A stanza as it goes over the wire: without a namespace of its own, so that it is the same on every kind of stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedStanza(Vec<u8>);

impl EncodedStanza {
    /// Writes a stanza; refuses what a peer could not read.
    pub fn new(stanza: &Element) -> Result<Self, EncodeError> {
        let mut bytes = Vec::with_capacity(512);
        encode(stanza, ns::SERVER, ns::SERVER, &mut bytes)?;
        if bytes.len() > MAX_STANZA {
            return Err(EncodeError::Size(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

/// What both machines do with their outputs.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) queue: VecDeque<Output>,
    over: bool,
}

impl Outputs {
    /// The buffer at the end of the queue; writes that follow one another become one.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if !matches!(self.queue.back(), Some(Output::Write(_))) {
            self.queue.push_back(Output::Write(Vec::new()));
        }
        match self.queue.back_mut() {
            Some(Output::Write(buffer)) => buffer,
            _ => unreachable!("a buffer was just put there"),
        }
    }

    fn element(&mut self, element: &Element) {
        write_element(element, self.buffer());
    }

    /// Writes a word of dialback. COMPAT(Openfire): it knows them by the prefix `db`, not by the namespace.
    fn dialback(&mut self, name: &str, attrs: &[(&str, &str)], content: Content<'_>) {
        let out = self.buffer();
        out.extend_from_slice(b"<db:");
        out.extend_from_slice(name.as_bytes());
        for (name, value) in attrs {
            write_attr(name, value, out).expect("domains, our own words and an id that was parsed can be written");
        }
        match content {
            Content::Nothing => return out.extend_from_slice(b"/>"),
            Content::Key(key) => {
                out.push(b'>');
                out.extend(key.bytes().filter(u8::is_ascii_alphanumeric));
            }
            Content::Error(condition) => {
                let error = format!(
                    "><error type='cancel'><{condition} xmlns='{}'/></error>",
                    ns::STANZA_ERRORS
                );
                out.extend_from_slice(error.as_bytes());
            }
        }
        out.extend_from_slice(format!("</db:{name}>").as_bytes());
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.queue.push_back(Output::Event(event));
    }

    /// Tells the other side what it did wrong.
    pub(crate) fn fault(&mut self, error: &StreamError) {
        self.element(&error.to_element());
    }

    /// Ends the stream. `footer` says whether our header was sent, so that there is something to end.
    pub(crate) fn end(&mut self, over: Over, footer: bool) {
        if self.over {
            return;
        }
        if let (Over::Fault(error), true) = (&over, footer) {
            self.fault(error);
        }
        if footer && over != Over::Lost {
            self.buffer().extend_from_slice(FOOTER);
        }
        self.over = true;
        self.event(Event::Over(over));
        self.queue.push_back(Output::Close);
    }
}

/// What a word of dialback holds.
#[derive(Clone, Copy)]
enum Content<'a> {
    Nothing,
    /// Letters and digits; nothing else of it is written.
    Key(&'a str),
    /// The condition of a stanza error.
    Error(&'static str),
}

/// The ids of our streams of one connection: unpredictable, and each new after a restart.
#[derive(Debug)]
struct StreamIds {
    entropy: [u8; 32],
    count: u8,
}

impl StreamIds {
    fn next(&mut self) -> String {
        self.count = self.count.wrapping_add(1);
        let digest = Sha1::new()
            .chain_update(self.entropy)
            .chain_update([self.count])
            .finalize();
        hex::encode(digest)
    }
}

pub(crate) fn fault(condition: StreamCondition, text: &str) -> StreamError {
    StreamError::new(condition, text)
}

#[cfg(test)]
mod tests;
