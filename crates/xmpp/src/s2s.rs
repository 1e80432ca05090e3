//! Server-to-server streams (RFC 6120, XEP-0178): two machines, one for each end.
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
//! Server dialback and direct TLS fit in at [`Incoming::handle_tls`] and at the start state; neither is there yet.

mod incoming;
mod outgoing;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use minidom::Element;
use sha1::{Digest, Sha1};

use crate::element::{EncodeError, encode};
use crate::stream::{FOOTER, StreamCondition, StreamError, write_element};
use crate::{Domain, ns};

pub use incoming::Incoming;
pub use outgoing::Outgoing;

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
    /// Write what is to be written, then do the TLS handshake with the certificate of that domain of ours, then call
    /// `handle_tls`.
    StartTls(Domain),
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
    /// An authenticated peer sent a stanza from its domain to one of ours.
    Stanza {
        /// The domain of ours that it is for.
        local: Domain,
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
    /// The peer does not accept certificates as a proof of who we are.
    #[error("the other server does not offer SASL EXTERNAL (it does not trust our certificate)")]
    ExternalNotOffered,
    /// The peer did not accept ours.
    #[error("the other server refuses our certificate: {0}")]
    NotAuthorized(String),
    /// It took too long.
    #[error("the other server did not answer in time")]
    TimedOut,
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

/// A stanza as it goes over the wire.
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

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

/// What both machines do with their outputs.
#[derive(Debug, Default)]
struct Outputs {
    queue: VecDeque<Output>,
    over: bool,
}

impl Outputs {
    /// The buffer at the end of the queue; writes that follow one another become one.
    fn buffer(&mut self) -> &mut Vec<u8> {
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

    fn event(&mut self, event: Event) {
        self.queue.push_back(Output::Event(event));
    }

    /// Ends the stream. `footer` says whether our header was sent, so that there is something to end.
    fn end(&mut self, over: Over, footer: bool) {
        if self.over {
            return;
        }
        if let (Over::Fault(error), true) = (&over, footer) {
            self.element(&error.to_element());
        }
        if footer && over != Over::Lost {
            self.buffer().extend_from_slice(FOOTER);
        }
        self.over = true;
        self.event(Event::Over(over));
        self.queue.push_back(Output::Close);
    }
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
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn fault(condition: StreamCondition, text: &str) -> StreamError {
    StreamError::new(condition, text)
}

#[cfg(test)]
mod tests;
