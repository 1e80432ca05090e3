//! Where a peer is: SRV, then A and AAAA (RFC 6120 §3.2), and which addresses are believed.
//!
//! Only "there is no such record" leads to the fall-back; a resolver that fails is a reason to try again later, not to
//! look elsewhere. The address that was checked is the one that is connected to, so an answer that changes between the
//! check and the connection changes nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use billow_xmpp::{Domain, srv};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use crate::{ResolverChoice, StartError};

/// All questions about one peer together.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most addresses of one target.
const ADDRESSES_PER_TARGET: usize = 4;
/// Where servers listen that publish no SRV record.
const DEFAULT_PORT: u16 = 5269;
/// Ports above 1023 at which no XMPP server listens and something else may be hurt.
const OTHER_SERVICES: [u16; 6] = [3306, 5432, 6379, 9200, 11211, 27017];

/// Finds peers.
pub(crate) struct Dns {
    resolver: TokioResolver,
    allow_private: bool,
}

/// Why a peer's address is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FindError {
    #[error("the domain says that it has no XMPP server (its SRV record is \".\")")]
    NotOffered,
    #[error("no DNS record says where its server is")]
    NotFound,
    #[error("address-not-allowed: its DNS records lead to {0}, which is not on the public Internet")]
    NotAllowed(SocketAddr),
    #[error("DNS does not answer: {0}")]
    Failed(String),
    #[error("DNS did not answer within {} s", DEADLINE.as_secs())]
    TimedOut,
}

impl Dns {
    pub(crate) fn new(choice: &ResolverChoice, allow_private: bool) -> Result<Self, StartError> {
        let failed = |error: NetError| StartError::Resolver(error.to_string());
        let mut builder = match choice {
            ResolverChoice::System => TokioResolver::builder_tokio().map_err(failed)?,
            ResolverChoice::Servers(servers) => {
                let servers = servers.iter().map(name_server).collect();
                let config = ResolverConfig::from_parts(None, Vec::new(), servers);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.timeout = Duration::from_secs(3);
        options.attempts = 2;
        options.use_hosts_file = ResolveHosts::Never;
        options.positive_min_ttl = Some(Duration::from_secs(5));
        options.positive_max_ttl = Some(Duration::from_secs(3600));
        options.negative_max_ttl = Some(Duration::from_secs(300));
        Ok(Self {
            resolver: builder.build().map_err(failed)?,
            allow_private,
        })
    }

    /// The addresses of a peer in the order to try them.
    pub(crate) async fn find(&self, peer: &Domain) -> Result<Vec<SocketAddr>, FindError> {
        match tokio::time::timeout(DEADLINE, self.find_slowly(peer)).await {
            Ok(found) => found,
            Err(_) => Err(FindError::TimedOut),
        }
    }

    /// Forgets what was found for a peer: it was not there.
    pub(crate) fn forget(&self, peer: &Domain) {
        if let Ok(name) = hickory_resolver::proto::rr::Name::from_ascii(service_name(peer)) {
            self.resolver.clear_lookup_cache(name, RecordType::SRV);
        }
    }

    async fn find_slowly(&self, peer: &Domain) -> Result<Vec<SocketAddr>, FindError> {
        let targets = match self.resolver.srv_lookup(service_name(peer)).await {
            Ok(answer) => {
                let records = answer.answers().iter().filter_map(|record| match &record.data {
                    RData::SRV(srv) => Some(srv_record(srv)),
                    _ => None,
                });
                let records: Vec<srv::Record> = records.collect();
                if srv::is_refusal(&records) {
                    return Err(FindError::NotOffered);
                }
                let ordered = srv::order(records, random);
                ordered
                    .into_iter()
                    .map(|record| (format!("{}.", record.target), record.port))
                    .collect()
            }
            Err(error) if error.is_no_records_found() => vec![(format!("{}.", peer.to_ascii()), DEFAULT_PORT)],
            Err(error) => return Err(FindError::Failed(short(&error))),
        };
        self.addresses(targets).await
    }

    async fn addresses(&self, targets: Vec<(String, u16)>) -> Result<Vec<SocketAddr>, FindError> {
        let mut found = Vec::new();
        let mut worst = FindError::NotFound;
        for (host, port) in targets {
            match self.resolver.lookup_ip(host).await {
                Ok(answer) => {
                    for ip in answer.iter().take(ADDRESSES_PER_TARGET) {
                        let address = SocketAddr::new(ip, port);
                        if self.allow_private || (is_global(ip) && is_sane_port(port)) {
                            found.push(address);
                        } else {
                            worst = FindError::NotAllowed(address);
                        }
                    }
                }
                Err(error) if error.is_no_records_found() => {}
                Err(error) => worst = FindError::Failed(short(&error)),
            }
        }
        if found.is_empty() { Err(worst) } else { Ok(found) }
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

fn service_name(peer: &Domain) -> String {
    format!("_xmpp-server._tcp.{}.", peer.to_ascii())
}

fn srv_record(srv: &hickory_resolver::proto::rr::rdata::SRV) -> srv::Record {
    let target = srv.target.to_ascii();
    let target = target.trim_end_matches('.').to_owned();
    srv::Record {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        target,
    }
}

fn short(error: &impl fmt::Display) -> String {
    error.to_string().chars().take(200).collect()
}

/// A random number; the order of targets does not need a good one, so a failure of the system's source is no error.
pub(crate) fn random() -> u32 {
    getrandom::u32().unwrap_or(0x9E37_79B9)
}

fn is_sane_port(port: u16) -> bool {
    (port >= 1024 || port == 443) && !OTHER_SERVICES.contains(&port)
}

/// Whether an address is one of the public Internet, so that a peer's DNS cannot point us at our own network.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    // Only 2000::/3 is given out; inside it are 6to4, Teredo and documentation.
    let [first, second, ..] = ip.segments();
    let given_out = first & 0xE000 == 0x2000;
    let special = first == 0x2002 || (first == 0x2001 && (second == 0 || second == 0xDB8)) || first == 0x3FFF;
    given_out && !special
}

// The lab belongs to the binary, which is built on this crate; its name server is read here directly.
#[cfg(test)]
#[allow(dead_code, unreachable_pub)]
#[path = "../../billow/src/lab/dns.rs"]
mod lab;

#[cfg(test)]
mod tests {
    use super::lab::{DnsServer, Zone};
    use super::*;

    #[test]
    fn b_074_addresses_inside_our_own_network_are_not_global() {
        for bad in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "::1",
            "::",
            "fc00::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!is_global(bad.parse().unwrap()), "{bad}");
        }
        for good in [
            "8.8.8.8",
            "100.128.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
        ] {
            assert!(is_global(good.parse().unwrap()), "{good}");
        }
    }

    #[test]
    fn b_075_ports_of_other_services_are_refused() {
        assert!([0, 22, 25, 53, 6379].into_iter().all(|port| !is_sane_port(port)));
        assert!([443, 5269, 5270, 7000].into_iter().all(is_sane_port));
    }

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn find(zone: Zone, peer: &str) -> Result<Vec<String>, FindError> {
        let server = DnsServer::start(SocketAddr::new(LOOPBACK, 0), zone).await.unwrap();
        let dns = Dns::new(&ResolverChoice::Servers(vec![server.address()]), true).unwrap();
        let found = dns.find(&peer.parse().unwrap()).await;
        found.map(|addresses| addresses.iter().map(ToString::to_string).collect())
    }

    const SERVICE: &str = "_xmpp-server._tcp.acme.lab";

    #[tokio::test]
    async fn targets_come_in_the_order_of_their_priority() {
        let zone = Zone::new().address("one.acme.lab", LOOPBACK).unwrap();
        let zone = zone.address("two.acme.lab", "::1".parse().unwrap()).unwrap();
        let zone = zone.service(SERVICE, 20, 7001, "one.acme.lab").unwrap();
        let zone = zone.service(SERVICE, 10, 7002, "two.acme.lab").unwrap();
        assert_eq!(find(zone, "acme.lab").await.unwrap(), ["[::1]:7002", "127.0.0.1:7001"]);
    }

    #[tokio::test]
    async fn b_070_a_target_of_a_dot_means_not_offered() {
        let zone = Zone::new().address("acme.lab", LOOPBACK).unwrap();
        let zone = zone.service(SERVICE, 0, 0, ".").unwrap();
        assert_eq!(find(zone, "acme.lab").await, Err(FindError::NotOffered));
    }

    #[tokio::test]
    async fn b_071_only_without_a_record_the_domain_itself_is_the_host() {
        let zone = Zone::new().address("acme.lab", LOOPBACK).unwrap();
        assert_eq!(
            find(zone.clone(), "acme.lab").await.unwrap(),
            ["127.0.0.1:5269"],
            "NXDOMAIN"
        );
        let below = zone.clone().address("x._xmpp-server._tcp.acme.lab", LOOPBACK).unwrap();
        assert_eq!(find(below, "acme.lab").await.unwrap(), ["127.0.0.1:5269"], "no data");
        assert_eq!(find(zone.clone(), "other.lab").await, Err(FindError::NotFound));
        let dangling = zone.service(SERVICE, 0, 7001, "nowhere.lab").unwrap();
        assert_eq!(
            find(dangling, "acme.lab").await,
            Err(FindError::NotFound),
            "no fall-back from a target"
        );
    }

    #[tokio::test]
    async fn b_071_a_name_server_that_does_not_answer_is_no_reason_to_fall_back() {
        // Nobody listens at port 1 of loopback.
        let dns = Dns::new(&ResolverChoice::Servers(vec![SocketAddr::new(LOOPBACK, 1)]), true).unwrap();
        let found = dns.find(&"acme.lab".parse().unwrap()).await;
        assert!(
            matches!(found, Err(FindError::Failed(_) | FindError::TimedOut)),
            "{found:?}"
        );
    }
}
