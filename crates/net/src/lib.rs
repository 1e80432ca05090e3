//! The wire: drives the machines of `billow-xmpp` over TCP and TLS, and finds peers by DNS.
//!
//! [`Net::start`] gives a [`NetHandle`] to send stanzas with and a channel of [`NetEvent`]s. Between two domains there
//! is at most one outgoing stream; it is opened when something is sent and opened again, with back-off, when it breaks.
//! What comes in over a stream that a peer opened is delivered in order, with the domain that the peer has proved.

mod certificate;
mod dial;
mod dns;
mod driver;
mod listen;
mod pool;
mod tls;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use billow_xmpp::{Domain, Element};

pub use pool::{Net, NetHandle};

/// How the net is set up.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Where peers reach us; empty if they do not.
    pub listen: Vec<SocketAddr>,
    /// The domains that we are, each with its certificate.
    pub domains: Vec<LocalDomain>,
    /// Which certificates of peers are believed.
    pub roots: TlsRoots,
    /// Who is asked for the addresses of peers.
    pub resolver: ResolverChoice,
    /// Whether peers may be at loopback, private and other non-global addresses. For a lab.
    pub allow_private_addresses: bool,
    /// The numbers.
    pub limits: NetLimits,
}

/// A domain that we are.
#[derive(Clone)]
pub struct LocalDomain {
    /// Its name.
    pub domain: Domain,
    /// Its certificate and those that lead to a root, PEM.
    pub chain_pem: Vec<u8>,
    /// The key of the certificate, PEM.
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for LocalDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalDomain({})", self.domain)
    }
}

/// Which certificate authorities are believed for TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsRoots {
    /// Those of the operating system.
    pub system: bool,
    /// Further ones, PEM.
    pub extra_pem: Vec<u8>,
}

/// Who is asked for the addresses of peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolverChoice {
    /// The resolver of the operating system.
    System,
    /// These name servers.
    Servers(Vec<SocketAddr>),
}

/// The numbers of the net. The defaults are those of docs/admin/federation.md.
#[derive(Debug, Clone)]
pub struct NetLimits {
    /// Longest pause between two attempts to reach a peer.
    pub backoff_cap: Duration,
    /// Most stanzas that wait for one peer.
    pub queue_stanzas: usize,
    /// Most bytes that wait for one peer.
    pub queue_bytes: usize,
    /// How long a stanza waits for a peer before it comes back.
    pub queue_age: Duration,
    /// How long a peer has to authenticate itself.
    pub auth_deadline: Duration,
    /// Most unauthenticated streams from one address (IPv6: one /64).
    pub unauthenticated_per_address: usize,
    /// Most unauthenticated streams in all.
    pub unauthenticated: usize,
    /// Most streams that one peer may have open to us.
    pub streams_per_peer: usize,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            backoff_cap: Duration::from_secs(3600),
            queue_stanzas: 256,
            queue_bytes: 4 << 20,
            queue_age: Duration::from_secs(60),
            auth_deadline: Duration::from_secs(30),
            unauthenticated_per_address: 20,
            unauthenticated: 1000,
            streams_per_peer: 10,
        }
    }
}

/// What the net tells.
#[derive(Debug, Clone, PartialEq)]
pub enum NetEvent {
    /// A peer sent a stanza. Its `from` is of the domain `peer`, which the peer has proved; its `to` is of `local`,
    /// which is one of ours.
    Stanza {
        /// The domain of ours that it is for.
        local: Domain,
        /// The domain that it is from.
        peer: Domain,
        /// The stanza.
        element: Element,
    },
    /// Our stream to a peer is up; what was queued goes out now.
    Connected {
        /// The domain of ours.
        local: Domain,
        /// The peer.
        peer: Domain,
    },
    /// A peer has authenticated itself to us: it is up. A good moment to send it what it missed.
    Heard {
        /// The domain of ours that it wants.
        local: Domain,
        /// The peer.
        peer: Domain,
    },
    /// A peer could not be reached, or the stream to it broke. What was sent on a stream that broke and was not
    /// answered may have been lost; only stanzas that were still waiting go out on the next one.
    Unreachable {
        /// The domain of ours.
        local: Domain,
        /// The peer.
        peer: Domain,
        /// Why, in words for people.
        reason: String,
        /// When it is tried again.
        retry_at: SystemTime,
    },
    /// A stanza was not sent.
    Bounced {
        /// The domain of ours.
        local: Domain,
        /// The peer.
        peer: Domain,
        /// The stanza.
        stanza: Element,
        /// Why.
        reason: BounceReason,
    },
}

/// Why a stanza was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BounceReason {
    /// Too much waits for this peer already.
    #[error("too much is waiting for this server")]
    QueueFull,
    /// It waited too long.
    #[error("the server was not reached in time: {0}")]
    TimedOut(String),
    /// The stanza cannot be written: too large, or a character that XML cannot carry.
    #[error("the stanza cannot be written: {0}")]
    NotSendable(String),
    /// `local` is no domain of ours, or the peer is.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// The net is being stopped.
    #[error("this server is stopping")]
    Stopping,
}

/// A stanza that [`NetHandle::send`] gives back at once.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// The stanza.
    pub stanza: Box<Element>,
    /// Why it is not sent.
    pub reason: BounceReason,
}

/// Why the net cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for other servers: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("the certificate of {domain} cannot be used: {reason}")]
    Certificate {
        /// Whose.
        domain: Domain,
        /// Why.
        reason: String,
    },
    /// The roots cannot be used.
    #[error("the certificate authorities cannot be used: {0}")]
    Roots(String),
    /// The resolver cannot be made.
    #[error("the resolver cannot be set up: {0}")]
    Resolver(String),
}
