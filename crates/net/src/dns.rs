//! Where a peer is: SRV of both kinds, then A and AAAA (RFC 6120 §3.2, XEP-0368), and which addresses are believed.
//!
//! Only "there is no such record" leads to the fall-back; a resolver that fails is a reason to try again later, not to
//! look elsewhere. What was found is kept for as long as DNS says, within bounds, and longer when DNS does not answer.
//! The address that was checked is the one that is connected to, so an answer that changes between the check and the
//! connection changes nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime};

use billow_xmpp::contact::LookUp;
use billow_xmpp::{Domain, planted, srv};
use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::sync::Notify;

use crate::known::{Known, Place};
use crate::looked::{Looked, in_words, milliseconds};
use crate::{Network, ResolverChoice, StartError};

/// All questions about one peer together.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most addresses of one target.
const ADDRESSES_PER_TARGET: usize = 4;
/// Where servers listen that publish no SRV record.
const DEFAULT_PORT: u16 = 5269;
/// Ports above 1023 at which no XMPP server listens and something else may be hurt.
const OTHER_SERVICES: [u16; 6] = [3306, 5432, 6379, 9200, 11211, 27017];
/// Where the system says whom to ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How often it is looked whether the system says something else.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A resolver that answered nothing for so long is silent: it, and not some domain's, is the trouble.
const SILENCE: Duration = Duration::from_secs(30);

/// Finds peers.
pub(crate) struct Dns {
    resolver: RwLock<Arc<TokioResolver>>,
    watched: Option<Watched>,
    policy: AddressPolicy,
    known: Mutex<Known>,
    /// Since when no question was answered, while some were asked.
    unanswered_since: Mutex<Option<Instant>>,
    /// The resolver answers again after a silence.
    pub(crate) recovered: Notify,
}

/// Which addresses are connected to.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressPolicy {
    /// All of them: a lab.
    pub(crate) all: bool,
    /// Besides those of the public Internet.
    pub(crate) allowed: Vec<Network>,
}

/// One place to try: the addresses of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its addresses, IPv6 and IPv4 by turns.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Whether connections begin with TLS.
    pub(crate) direct_tls: bool,
    /// Lower is better.
    pub(crate) priority: u16,
    /// `host:port`, as DNS names it.
    pub(crate) place: String,
}

/// What DNS says of a peer, and how that came.
pub(crate) struct Found {
    pub(crate) targets: Result<Vec<Target>, FindError>,
    pub(crate) looked: Looked,
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

impl FindError {
    /// Whether it is DNS that failed, not the peer.
    pub(crate) fn is_of_dns(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::TimedOut)
    }
}

/// A file that says whom to ask.
struct Watched {
    path: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    looked: Instant,
    stamp: Option<(SystemTime, u64)>,
}

/// What DNS says of a peer, and for how long.
struct Answer {
    found: Result<Vec<Place>, FindError>,
    ttl: Duration,
    looked: Looked,
}

impl Dns {
    pub(crate) fn new(choice: &ResolverChoice, policy: AddressPolicy) -> Result<Self, StartError> {
        let (config, watched) = match choice {
            ResolverChoice::System => Self::watching(PathBuf::from(RESOLV_CONF))?,
            ResolverChoice::File(path) => Self::watching(path.clone())?,
            ResolverChoice::Servers(servers) => {
                let servers = servers.iter().map(name_server).collect();
                (ResolverConfig::from_parts(None, Vec::new(), servers), None)
            }
        };
        Ok(Self {
            resolver: RwLock::new(Arc::new(resolver(config).map_err(StartError::Resolver)?)),
            watched,
            policy,
            known: Mutex::default(),
            unanswered_since: Mutex::default(),
            recovered: Notify::new(),
        })
    }

    fn watching(path: PathBuf) -> Result<(ResolverConfig, Option<Watched>), StartError> {
        let config = read_config(&path).map_err(StartError::Resolver)?;
        let seen = Mutex::new(Seen {
            looked: Instant::now(),
            stamp: stamp(&path),
        });
        Ok((config, Some(Watched { path, seen })))
    }

    /// Where to try a peer, in the order to try.
    pub(crate) async fn find(&self, peer: &Domain) -> Result<Vec<Target>, FindError> {
        self.look_up(peer).await.targets
    }

    /// The same with how it came.
    pub(crate) async fn look_up(&self, peer: &Domain) -> Found {
        let now = Instant::now();
        if let Some((found, looked)) = self.known().fresh(peer, now) {
            let targets = found.map(ordered);
            let looked = looked.unwrap_or_else(|| Looked::nothing(peer, "it is known from before"));
            return Found {
                targets,
                looked: looked.remembered(),
            };
        }
        self.look_again(now);
        let answer = match tokio::time::timeout(DEADLINE, self.ask(peer)).await {
            Ok(answer) => answer,
            Err(_) => Answer::failed(peer, FindError::TimedOut),
        };
        let looked = answer.looked.clone();
        let targets = self.judge(peer, answer);
        Found { targets, looked }
    }

    /// Remembers an answer, or falls back on an older one if it is none.
    fn judge(&self, peer: &Domain, answer: Answer) -> Result<Vec<Target>, FindError> {
        let now = Instant::now();
        match answer.found {
            Err(error) if error.is_of_dns() => {
                self.went_unanswered(now);
                match self.known().stale(peer, now) {
                    Some(places) => {
                        tracing::warn!(%peer, %error, "DNS does not answer; what it said before is used");
                        Ok(ordered(places))
                    }
                    None => Err(error),
                }
            }
            found => {
                self.was_answered(now);
                let mut known = self.known();
                known.learn(peer.clone(), found.clone(), now, answer.ttl);
                known.note(peer, answer.looked);
                found.map(ordered)
            }
        }
    }

    /// What was found for a peer did not lead to it: ask again next time, unless DNS is silent then.
    pub(crate) fn doubt(&self, peer: &Domain) {
        self.known().doubt(peer, Instant::now());
    }

    /// Whether the resolver has answered nobody for some time.
    pub(crate) fn is_silent(&self) -> bool {
        let since = *self
            .unanswered_since
            .lock()
            .expect("nothing panics while it holds the time");
        since.is_some_and(|since| since.elapsed() >= SILENCE)
    }

    fn went_unanswered(&self, now: Instant) {
        let mut since = self
            .unanswered_since
            .lock()
            .expect("nothing panics while it holds the time");
        since.get_or_insert(now);
    }

    fn was_answered(&self, now: Instant) {
        let mut since = self
            .unanswered_since
            .lock()
            .expect("nothing panics while it holds the time");
        if since
            .take()
            .is_some_and(|since| now.saturating_duration_since(since) >= SILENCE)
        {
            self.recovered.notify_waiters();
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it holds what is known")
    }

    /// Takes other name servers if the system names others.
    fn look_again(&self, now: Instant) {
        let Some(watched) = &self.watched else { return };
        let mut seen = watched.seen.lock().expect("nothing panics while it holds the time");
        if now.saturating_duration_since(seen.looked) < LOOK_AGAIN {
            return;
        }
        seen.looked = now;
        let stamp = stamp(&watched.path);
        if stamp == seen.stamp {
            return;
        }
        seen.stamp = stamp;
        match read_config(&watched.path).and_then(resolver) {
            Ok(resolver) => {
                tracing::info!(path = %watched.path.display(), "other name servers are asked from now on");
                *self
                    .resolver
                    .write()
                    .expect("nothing panics while it holds the resolver") = Arc::new(resolver);
            }
            Err(error) => tracing::warn!(error, "the name servers are left as they are"),
        }
    }

    /// Asks for the records of one kind that one name has, as they are; `None` if there are none.
    pub(crate) async fn records(&self, name: &str, kind: RecordType) -> Result<Option<Vec<RData>>, FindError> {
        self.look_again(Instant::now());
        let (resolver, name) = (self.resolver(), format!("{}.", name.trim_end_matches('.')));
        let Ok(answer) = tokio::time::timeout(DEADLINE, resolver.lookup(name, kind)).await else {
            return Err(FindError::TimedOut);
        };
        match answer.map_err(|error| not_answered(&error).0) {
            Ok(answer) => {
                let records = answer.answers().iter().filter(|record| record.record_type() == kind);
                let records: Vec<RData> = records.map(|record| record.data.clone()).collect();
                Ok((!records.is_empty()).then_some(records))
            }
            Err(FindError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether an address may be connected to.
    pub(crate) fn allows(&self, address: SocketAddr) -> bool {
        self.policy.allows(address)
    }

    fn resolver(&self) -> Arc<TokioResolver> {
        let resolver = self.resolver.read();
        resolver.expect("nothing panics while it holds the resolver").clone()
    }

    async fn ask(&self, peer: &Domain) -> Answer {
        let resolver = self.resolver();
        let began = Instant::now();
        let (plain, direct) = tokio::join!(services(&resolver, peer, false), services(&resolver, peer, true));
        let merged = merge(plain, direct);
        let asked = |found| LookUp {
            name: format!("_xmpp-server._tcp.{}", peer.to_ascii()),
            found,
            ms: milliseconds(began.elapsed()),
            known: false,
        };
        let (records, ttl) = match merged {
            Ok(Some((records, ttl))) => {
                let service = asked(Ok(Vec::new()));
                return self.addresses(&resolver, (records, ttl), service, None).await;
            }
            // Only where there is no SRV record the domain itself is the host.
            Ok(None) => {
                let host = srv::Record {
                    priority: 0,
                    weight: 0,
                    port: DEFAULT_PORT,
                    target: peer.to_ascii(),
                    direct_tls: false,
                };
                (vec![host], Duration::MAX)
            }
            Err((error, ttl)) => {
                let looked = Looked {
                    service: asked(Err(error.to_string())),
                    addresses: None,
                };
                return Answer {
                    found: Err(error),
                    ttl,
                    looked,
                };
            }
        };
        let service = asked(Err("no such record".to_owned()));
        let addresses = LookUp {
            name: peer.to_ascii(),
            found: Ok(Vec::new()),
            ms: 0,
            known: false,
        };
        self.addresses(&resolver, (records, ttl), service, Some(addresses))
            .await
    }

    /// The addresses of records: of SRV records, or of the one that stands for the domain itself.
    async fn addresses(
        &self,
        resolver: &TokioResolver,
        (records, mut ttl): Records,
        mut service: LookUp,
        mut itself: Option<LookUp>,
    ) -> Answer {
        let began = Instant::now();
        let mut words = Vec::new();
        let asked = records.into_iter().map(|record| async {
            let addresses = addresses_of(resolver, &record.target).await;
            (record, addresses)
        });
        let mut places = Vec::new();
        let mut worst = FindError::NotFound;
        for (record, addresses) in join_all(asked).await {
            match addresses {
                Ok((ips, life)) => {
                    ttl = ttl.min(life);
                    words.push(in_words(&record, itself.is_some(), Ok(&ips)));
                    let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, record.port));
                    let (good, bad): (Vec<_>, Vec<_>) = addresses.partition(|address| self.policy.allows(*address));
                    if let (Some(bad), false) = (bad.first(), worst.is_of_dns()) {
                        worst = FindError::NotAllowed(*bad);
                    }
                    if !good.is_empty() {
                        places.push(Place {
                            record,
                            addresses: good,
                        });
                    }
                }
                Err((error, life)) => {
                    ttl = ttl.min(life);
                    words.push(in_words(&record, itself.is_some(), Err(&error)));
                    if error.is_of_dns() {
                        worst = error;
                    }
                }
            }
        }
        match &mut itself {
            Some(itself) => {
                itself.ms = milliseconds(began.elapsed());
                itself.found = match &worst {
                    worst if places.is_empty() => Err(worst.to_string()),
                    _ => Ok(words),
                };
            }
            None => service.found = Ok(words),
        }
        let looked = Looked {
            service,
            addresses: itself,
        };
        let found = if places.is_empty() { Err(worst) } else { Ok(places) };
        Answer { found, ttl, looked }
    }
}

impl Answer {
    fn failed(peer: &Domain, error: FindError) -> Self {
        Self {
            looked: Looked::nothing(peer, &error.to_string()),
            found: Err(error),
            ttl: Duration::ZERO,
        }
    }
}

impl AddressPolicy {
    /// Whether an address may be connected to.
    pub(crate) fn allows(&self, address: SocketAddr) -> bool {
        if self.all {
            return address.port() != 0;
        }
        let is_near = self.allowed.iter().any(|network| network.contains(address.ip()));
        let is_far = is_global(address.ip()) || planted::is("addresses inside our own network are dialled");
        (is_near || is_far) && is_sane_port(address.port())
    }
}

/// The places in the order to try them: drawn anew each time, so that equal ones share the load.
fn ordered(places: Vec<Place>) -> Vec<Target> {
    let records = places.iter().map(|place| place.record.clone()).collect();
    let ordered = srv::order(records, random);
    let targets = ordered.into_iter().filter_map(|record| {
        let place = places.iter().find(|place| place.record == record)?;
        Some(Target {
            addresses: place.addresses.clone(),
            direct_tls: record.direct_tls,
            priority: record.priority,
            place: format!("{}:{}", record.target, record.port),
        })
    });
    targets.collect()
}

/// The records of one kind of service, or why there are none and for how long that may be kept.
type Services = Result<Records, (FindError, Duration)>;
/// Records, and for how long they may be kept.
type Records = (Vec<srv::Record>, Duration);

async fn services(resolver: &TokioResolver, peer: &Domain, direct_tls: bool) -> Services {
    let service = if direct_tls { "xmpps-server" } else { "xmpp-server" };
    let name = format!("_{service}._tcp.{}.", peer.to_ascii());
    let answer = match resolver.srv_lookup(name).await {
        Ok(answer) => answer,
        Err(error) => return Err(not_answered(&error)),
    };
    let records = answer.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some(srv_record(srv, direct_tls)),
        _ => None,
    });
    let records: Vec<srv::Record> = records.collect();
    let ttl = answer.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    let ttl = Duration::from_secs(ttl.into());
    if records.is_empty() {
        return Err((FindError::NotFound, ttl));
    }
    if srv::is_refusal(&records) {
        return Err((FindError::NotOffered, ttl));
    }
    Ok((records, ttl))
}

/// Both kinds of service as one (XEP-0368 §2): `None` if there is no record of either kind. Which of many are looked
/// at is drawn by their priorities and weights.
fn merge(plain: Services, direct: Services) -> Result<Option<Records>, (FindError, Duration)> {
    let found = match (plain, direct) {
        (Ok((mut plain, a)), Ok((direct, b))) => {
            plain.extend(direct);
            (plain, a.min(b))
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => found,
        (Err((FindError::NotFound, _)), Err((FindError::NotFound, _))) => return Ok(None),
        (Err(_), Err(_)) if planted::is("a name server that fails has no records") => return Ok(None),
        (Err((error, a)), Err((other, b))) => {
            let error = if error.is_of_dns() || other == FindError::NotFound {
                error
            } else {
                other
            };
            return Err((error, a.min(b)));
        }
    };
    Ok(Some((srv::order(found.0, random), found.1)))
}

type Addresses = Result<(Vec<IpAddr>, Duration), (FindError, Duration)>;

/// The addresses of a host, IPv6 and IPv4 by turns (RFC 8305 §4).
async fn addresses_of(resolver: &TokioResolver, host: &str) -> Addresses {
    let of_kind = async |kind: RecordType| match resolver.lookup(format!("{host}."), kind).await {
        Ok(answer) => {
            let ips = answer.answers().iter().filter_map(|record| match &record.data {
                RData::A(ip) => Some(IpAddr::V4(ip.0)),
                RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
                _ => None,
            });
            let ttl = answer.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
            Ok((ips.collect::<Vec<_>>(), Duration::from_secs(ttl.into())))
        }
        Err(error) => Err(not_answered(&error)),
    };
    let (v6, v4) = tokio::join!(of_kind(RecordType::AAAA), of_kind(RecordType::A));
    let (v6, v4, ttl) = match (v6, v4) {
        (Ok((v6, a)), Ok((v4, b))) => (v6, v4, a.min(b)),
        (Ok((v6, ttl)), Err(_)) => (v6, Vec::new(), ttl),
        (Err(_), Ok((v4, ttl))) => (Vec::new(), v4, ttl),
        (Err((error, a)), Err((other, b))) => {
            return Err((if error.is_of_dns() { error } else { other }, a.min(b)));
        }
    };
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut mixed = Vec::new();
    while mixed.len() < ADDRESSES_PER_TARGET {
        let before = mixed.len();
        mixed.extend(v6.next());
        mixed.extend(v4.next());
        if mixed.len() == before {
            break;
        }
    }
    mixed.truncate(ADDRESSES_PER_TARGET);
    match mixed.is_empty() {
        true => Err((FindError::NotFound, ttl)),
        false => Ok((mixed, ttl)),
    }
}

/// What a look-up that brought nothing means: that there is nothing, or that nobody knows.
fn not_answered(error: &NetError) -> (FindError, Duration) {
    use hickory_resolver::net::DnsError;
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let ttl = none.negative_ttl.unwrap_or(0);
            (FindError::NotFound, Duration::from_secs(ttl.into()))
        }
        other => (FindError::Failed(short(other)), Duration::ZERO),
    }
}

fn resolver(config: ResolverConfig) -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(3);
    options.attempts = 2;
    options.use_hosts_file = ResolveHosts::Never;
    // What is found is kept here, peer by peer, not there, answer by answer.
    options.cache_size = 0;
    options.positive_max_ttl = Some(Duration::from_secs(1));
    options.negative_max_ttl = Some(Duration::from_secs(1));
    builder.build().map_err(|error| error.to_string())
}

fn read_config(path: &std::path::Path) -> Result<ResolverConfig, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (config, _) = parse_resolv_conf(text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(config)
}

fn stamp(path: &std::path::Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

fn srv_record(srv: &hickory_resolver::proto::rr::rdata::SRV, direct_tls: bool) -> srv::Record {
    let target = srv.target.to_ascii();
    let target = target.trim_end_matches('.').to_owned();
    srv::Record {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        target,
        direct_tls,
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
mod tests;
