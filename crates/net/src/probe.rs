//! Looks at the way to a peer step by step, with the code that delivers: what DNS says, whether an address answers, what
//! the TLS handshake shows, and whether a stream comes up after it. For whoever has to find out why a peer is not reached.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use billow_xmpp::Domain;
use billow_xmpp::dialback::Dialback;
use billow_xmpp::s2s::{Event, Machine};
use hickory_resolver::proto::rr::{RData, RecordType};

use crate::dial::{self, NoConnection};
use crate::dns::{AddressPolicy, Dns};
use crate::driver::Driver;
use crate::pool::outgoing;
use crate::tls::Tls;
use crate::{NetConfig, NetLimits, StartError};

/// Looks without being a server: it listens nowhere and keeps no stream.
pub struct Probe {
    dns: Dns,
    tls: Tls,
    limits: NetLimits,
    dialback: Arc<Dialback>,
}

/// A kind of DNS record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// Where a service is.
    Srv,
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Another name for a name.
    Cname,
}

impl fmt::Display for RecordKind {
    /// As a zone file writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Srv => "SRV",
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
        })
    }
}

/// What a DNS record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordData {
    /// Where a service is.
    Srv {
        /// Lower is tried first.
        priority: u16,
        /// The chance within one priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host, without a dot at its end; empty: the service is not offered.
        target: String,
    },
    /// An address.
    Address(IpAddr),
    /// Another name, without a dot at its end.
    Alias(String),
}

impl fmt::Display for RecordData {
    /// As `dig +short` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Srv {
                priority,
                weight,
                port,
                target,
            } => write!(f, "{priority} {weight} {port} {target}."),
            Self::Address(ip) => write!(f, "{ip}"),
            Self::Alias(name) => write!(f, "{name}."),
        }
    }
}

/// What DNS says to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookUp {
    /// These records.
    Found(Vec<RecordData>),
    /// There are none.
    Nothing,
    /// It did not say; the reason in words.
    Failed(String),
}

/// How far a visit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Until the handshake has shown the certificate: all that can be seen without being somebody.
    Handshake,
    /// Until stanzas could be sent.
    Stream,
}

/// Whom to visit.
#[derive(Debug, Clone, Copy)]
pub struct Errand<'a> {
    /// Who we are.
    pub local: &'a Domain,
    /// Whose server should be there.
    pub peer: &'a Domain,
    /// Where.
    pub address: SocketAddr,
    /// Whether the connection begins with TLS (XEP-0368).
    pub direct_tls: bool,
    /// How far.
    pub depth: Depth,
}

/// What a visit brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Where it went.
    pub address: SocketAddr,
    /// Whether the connection began with TLS.
    pub direct_tls: bool,
    /// How long the connection took, or why there was none.
    pub connected: Result<Duration, NoConnection>,
    /// What the handshake showed, if it came to that.
    pub handshake: Option<Handshake>,
    /// Whether it came as far as it should, or why not.
    pub outcome: Result<(), String>,
    /// How long all of it took.
    pub took: Duration,
}

/// What a TLS handshake showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The version, like `TLS 1.3`.
    pub version: &'static str,
    /// The certificates as they were sent, DER.
    pub chain: Vec<Vec<u8>>,
    /// Whether they are believed as those of the domain, or why not.
    pub good: Result<(), String>,
}

impl Probe {
    /// A probe that looks as a server with this configuration would. A domain of ours without a usable certificate must
    /// be left out; then it sees what can be seen without one.
    pub fn new(config: &NetConfig) -> Result<Self, StartError> {
        let policy = AddressPolicy {
            all: config.allow_private_addresses,
            allowed: config.allowed_networks.clone(),
        };
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| StartError::Randomness(error.to_string()))?;
        Ok(Self {
            dns: Dns::new(&config.resolver, policy)?,
            tls: Tls::new(&config.domains, &config.roots)?.with_visitors()?,
            limits: config.limits.clone(),
            dialback: Arc::new(Dialback::new(&secret, config.dialback.clone())),
        })
    }

    /// Asks DNS for the records of one kind of one name.
    pub async fn look_up(&self, name: &str, kind: RecordKind) -> LookUp {
        let wanted = match kind {
            RecordKind::Srv => RecordType::SRV,
            RecordKind::A => RecordType::A,
            RecordKind::Aaaa => RecordType::AAAA,
            RecordKind::Cname => RecordType::CNAME,
        };
        match self.dns.records(name, wanted).await {
            Ok(Some(records)) => LookUp::Found(records.iter().filter_map(record_data).collect()),
            Ok(None) => LookUp::Nothing,
            Err(error) => LookUp::Failed(error.to_string()),
        }
    }

    /// Whether a server with this configuration would connect to an address that DNS named.
    #[must_use]
    pub fn allows(&self, address: SocketAddr) -> bool {
        self.dns.allows(address)
    }

    /// Whether a chain (DER, the server's own first) would be believed now as that of a server of a domain.
    pub fn judge(&self, chain: &[Vec<u8>], domain: &Domain) -> Result<(), String> {
        self.tls.judge(chain, domain)
    }

    /// Goes to an address and tells what is there.
    pub async fn visit(&self, errand: &Errand<'_>) -> Visit {
        let guest = Guest {
            tls: &self.tls,
            limits: &self.limits,
            dialback: &self.dialback,
        };
        guest.visit(errand).await
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

fn record_data(data: &RData) -> Option<RecordData> {
    let bare = |name: String| name.trim_end_matches('.').to_owned();
    Some(match data {
        RData::SRV(srv) => RecordData::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: bare(srv.target.to_ascii()),
        },
        RData::A(ip) => RecordData::Address(IpAddr::V4(ip.0)),
        RData::AAAA(ip) => RecordData::Address(IpAddr::V6(ip.0)),
        RData::CNAME(name) => RecordData::Alias(bare(name.0.to_ascii())),
        _ => return None,
    })
}

/// Who goes visiting, with what it takes.
pub(crate) struct Guest<'a> {
    pub(crate) tls: &'a Tls,
    pub(crate) limits: &'a NetLimits,
    pub(crate) dialback: &'a Arc<Dialback>,
}

impl Guest<'_> {
    pub(crate) async fn visit(&self, errand: &Errand<'_>) -> Visit {
        let began = Instant::now();
        let mut visit = Visit {
            address: errand.address,
            direct_tls: errand.direct_tls,
            connected: Ok(Duration::ZERO),
            handshake: None,
            outcome: Ok(()),
            took: Duration::ZERO,
        };
        match dial::connect(errand.address).await {
            Ok(socket) => {
                visit.connected = Ok(began.elapsed());
                if let Err(error) = dial::prepare(&socket) {
                    visit.outcome = Err(format!("the connection cannot be set up: {error}"));
                } else {
                    self.talk(errand, socket, &mut visit).await;
                }
            }
            Err(reason) => {
                visit.outcome = Err(reason.to_string());
                visit.connected = Err(reason);
            }
        }
        visit.took = began.elapsed();
        visit
    }

    async fn talk(&self, errand: &Errand<'_>, socket: tokio::net::TcpStream, visit: &mut Visit) {
        let Errand { local, peer, .. } = errand;
        let machine = outgoing(self.limits, self.dialback, local, peer, errand.direct_tls);
        let mut driver = Driver::new(machine, socket, self.tls, Some((*peer).clone()));
        driver = driver.with_tls_deadline(self.limits.tls_deadline);
        loop {
            let settled = driver.settle().await;
            if visit.handshake.is_none() {
                visit.handshake = driver.shown().map(|shown| Handshake {
                    version: shown.version,
                    chain: shown.chain.clone(),
                    good: self.tls.judge(&shown.chain, peer),
                });
            }
            if errand.depth == Depth::Handshake && visit.handshake.is_some() {
                break;
            }
            if let Some(reason) = settled.over {
                visit.outcome = Err(reason);
                return;
            }
            if settled.events.contains(&Event::Ready) {
                break;
            }
            driver.hear().await;
        }
        driver.machine.close(Instant::now());
        driver.settle().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_shown_as_dig_shows_them() {
        let srv = RecordData::Srv {
            priority: 10,
            weight: 0,
            port: 5269,
            target: "initech.test".to_owned(),
        };
        assert_eq!(srv.to_string(), "10 0 5269 initech.test.");
        let none = RecordData::Srv {
            priority: 0,
            weight: 0,
            port: 0,
            target: String::new(),
        };
        assert_eq!(none.to_string(), "0 0 0 .");
        assert_eq!(RecordData::Alias("a.lab".to_owned()).to_string(), "a.lab.");
    }
}
