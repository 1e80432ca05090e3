//! The wire: drives the machines of `billow-xmpp` over TCP and TLS, and finds peers by DNS.
//!
//! [`Net::start`] gives a [`NetHandle`] to send stanzas with and a channel of [`NetEvent`]s. Between two domains there
//! is at most one outgoing stream; it is opened when something is sent and opened again, with back-off, when it breaks.
//! What comes in over a stream that a peer opened is delivered in order, with the domain that the peer has proved.
//!
//! Or all peers are reached over one stream to an XMPP server of which we are a component ([`ComponentConfig`]).

mod certificate;
mod component;
mod dial;
mod dns;
mod driver;
mod known;
mod listen;
mod looked;
mod pool;
mod probe;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

pub use billow_xmpp::component::Secret;
pub use billow_xmpp::contact::Contact;
pub use billow_xmpp::dialback::Policy as DialbackPolicy;
use billow_xmpp::{Domain, Element};

pub use component::ComponentConfig;
pub use dial::NoConnection;
pub use pool::{Net, NetHandle};
pub use probe::{Depth, Errand, Handshake, LookUp, Probe, RecordData, RecordKind, Visit};

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
    /// Networks at which peers may be besides the public Internet.
    pub allowed_networks: Vec<Network>,
    /// Ports on this machine at which something of ours listens that is no XMPP server.
    pub own_ports: Vec<u16>,
    /// With which peers server dialback does where a certificate does not.
    pub dialback: DialbackPolicy,
    /// The XMPP server over which all peers are reached; then we listen for none and are no domain ourselves.
    pub component: Option<ComponentConfig>,
    /// The numbers.
    pub limits: NetLimits,
}

impl Default for NetConfig {
    /// A net that listens nowhere, is nobody, and trusts nobody.
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            domains: Vec::new(),
            roots: TlsRoots::default(),
            resolver: ResolverChoice::System,
            allow_private_addresses: false,
            allowed_networks: Vec::new(),
            own_ports: Vec::new(),
            dialback: DialbackPolicy::Never,
            component: None,
            limits: NetLimits::default(),
        }
    }
}

/// A network of addresses, like `10.1.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

/// A text is not a network of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network like 10.1.0.0/16")]
pub struct ParseNetworkError(String);

impl Network {
    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                Ipv4Addr::to_bits(net) & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                Ipv6Addr::to_bits(net) & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseNetworkError(text.chars().take(100).collect());
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| fail())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            "" if !text.contains('/') => longest,
            prefix => prefix.parse().map_err(|_| fail())?,
        };
        if prefix > longest {
            return Err(fail());
        }
        Ok(Self { address, prefix })
    }
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

impl fmt::Debug for LocalDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// What is believed for single domains, in place of all authorities.
    pub pins: BTreeMap<Domain, Pin>,
}

/// What is believed for one domain: any of these, and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Pin {
    /// Certificates, PEM: an authority that must have issued the domain's certificate, or the domain's certificate
    /// itself, which then counts whatever its names and dates are.
    pub certificates_pem: Vec<u8>,
    /// Certificates of the domain by their fingerprints.
    pub fingerprints: Vec<Fingerprint>,
}

/// The SHA-256 of a certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    /// As `openssl x509 -fingerprint -sha256` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 fingerprint has 64 hexadecimal digits, with or without colons")]
pub struct ParseFingerprintError;

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(ParseFingerprintError);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ParseFingerprintError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParseFingerprintError)?;
        }
        Ok(Self(bytes))
    }
}

/// Who is asked for the addresses of peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolverChoice {
    /// The resolver of the operating system; when it changes, it is noticed.
    System,
    /// The name servers that such a file as `/etc/resolv.conf` names; when it changes, it is noticed.
    File(PathBuf),
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
    /// Most bytes that wait for one peer or are being written to it; one stanza always may.
    pub queue_bytes: usize,
    /// How long a stanza waits for a peer before it comes back.
    pub queue_age: Duration,
    /// How long a peer has to authenticate itself.
    pub auth_deadline: Duration,
    /// How long a TLS handshake may take.
    pub tls_deadline: Duration,
    /// How long a stream goes on at a backup before the better place is tried again.
    pub fail_back: Duration,
    /// Most dialback keys that are being asked about.
    pub verifying: usize,
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
            queue_bytes: 1 << 20,
            queue_age: Duration::from_secs(60),
            auth_deadline: Duration::from_secs(30),
            tls_deadline: driver::TLS_DEADLINE,
            fail_back: Duration::from_secs(300),
            verifying: 64,
            unauthenticated_per_address: 20,
            unauthenticated: 1000,
            streams_per_peer: 10,
        }
    }
}

/// What the net tells.
#[derive(Debug, Clone, PartialEq)]
pub enum NetEvent {
    /// A peer sent a stanza. Its `from` is of the domain `peer`, which the peer has proved, or for which the XMPP server
    /// that we are a component of vouches; its `to` is of `local`, which is one of ours.
    Stanza {
        /// The domain of ours that it is for.
        local: Domain,
        /// The domain that it is from.
        peer: Domain,
        /// The stanza.
        element: Element,
    },
    /// It was tried to open a stream to a peer; `Connected` or `Unreachable` follows.
    Contact {
        /// The domain of ours.
        local: Domain,
        /// The peer.
        peer: Domain,
        /// How it went.
        contact: Box<Contact>,
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
    /// A peer has shown a key for the first time since the start, or another one than before.
    KeyShown {
        /// The peer.
        peer: Domain,
        /// By which it was known, since the start.
        old: Option<Fingerprint>,
        /// The one it has shown now.
        new: Fingerprint,
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
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Randomness(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let holds = |network: &str, ip: &str| network.parse::<Network>().unwrap().contains(ip.parse().unwrap());
        assert!(holds("10.1.0.0/16", "10.1.255.1") && !holds("10.1.0.0/16", "10.2.0.1"));
        assert!(holds("127.0.0.2", "127.0.0.2") && !holds("127.0.0.2", "127.0.0.1"));
        assert!(holds("127.0.0.2", "::ffff:127.0.0.2"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0/8", "acme.lab"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fingerprint_is_read_as_it_is_shown() {
        let fingerprint = Fingerprint(std::array::from_fn(|at| at as u8 * 7));
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        let bare = fingerprint.to_string().replace(':', "").to_lowercase();
        assert_eq!(bare.parse(), Ok(fingerprint));
        assert!("AB:CD".parse::<Fingerprint>().is_err());
    }
}
