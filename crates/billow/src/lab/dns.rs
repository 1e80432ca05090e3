//! The lab's name server: answers from a list of SRV, address and CNAME records, over UDP and TCP, and can fail in the
//! ways in which name servers fail. Not for the open Internet.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// How long answers may be kept.
const TTL: u32 = 5;
/// Longest answer over UDP.
const UDP_ANSWER: usize = 1232;
/// Most questions that are remembered.
const QUESTIONS: usize = 1000;
/// How long a question over TCP may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the name server knows.
#[derive(Debug, Clone, Default)]
pub struct Zone {
    records: Vec<Record>,
    faults: HashMap<Name, Fault>,
    ttl: Option<u32>,
    negative_ttl: Option<u32>,
}

/// How the name server fails to answer for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It says SERVFAIL.
    Servfail,
    /// It says nothing.
    Silent,
    /// Over UDP it says that the answer is too long.
    Truncated,
}

/// A text that is not a name of DNS.
#[derive(Debug)]
pub struct NotAName(pub String);

impl std::fmt::Display for NotAName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is not a name that DNS can hold", self.0)
    }
}

impl std::error::Error for NotAName {}

impl Zone {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A name has an address.
    pub fn address(mut self, name: &str, ip: IpAddr) -> Result<Self, NotAName> {
        let data = match ip {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        };
        self.put(name, data)?;
        Ok(self)
    }

    /// A service (`_xmpp-server._tcp.acme.lab`) is offered by a host at a port.
    pub fn service(self, name: &str, priority: u16, port: u16, host: &str) -> Result<Self, NotAName> {
        self.weighted_service(name, (priority, 0), port, host)
    }

    /// The same with a priority and a weight.
    pub fn weighted_service(
        mut self,
        name: &str,
        (priority, weight): (u16, u16),
        port: u16,
        host: &str,
    ) -> Result<Self, NotAName> {
        let data = RData::SRV(SRV::new(priority, weight, port, absolute(host)?));
        self.put(name, data)?;
        Ok(self)
    }

    /// A name stands for another.
    pub fn alias(mut self, name: &str, target: &str) -> Result<Self, NotAName> {
        let data = RData::CNAME(CNAME(absolute(target)?));
        self.put(name, data)?;
        Ok(self)
    }

    /// Answers about a name fail.
    pub fn fault(mut self, name: &str, fault: Fault) -> Result<Self, NotAName> {
        self.faults.insert(absolute(name)?, fault);
        Ok(self)
    }

    /// How long answers about the names that follow may be kept.
    #[must_use]
    pub fn ttl(mut self, seconds: u32) -> Self {
        self.ttl = Some(seconds);
        self
    }

    /// How long it may be kept that there is no answer.
    #[must_use]
    pub fn negative_ttl(mut self, seconds: u32) -> Self {
        self.negative_ttl = Some(seconds);
        self
    }

    fn put(&mut self, name: &str, data: RData) -> Result<(), NotAName> {
        let ttl = self.ttl.unwrap_or(TTL);
        self.records.push(Record::from_rdata(absolute(name)?, ttl, data));
        Ok(())
    }

    /// A domain has its XMPP server at an address: an SRV record, and the address of a host `xmpp.DOMAIN`.
    pub fn xmpp_server(self, domain: &str, address: SocketAddr) -> Result<Self, NotAName> {
        let host = format!("xmpp.{domain}");
        let service = format!("_xmpp-server._tcp.{domain}");
        self.service(&service, 5, address.port(), &host)?
            .address(&host, address.ip())
    }
}

fn absolute(name: &str) -> Result<Name, NotAName> {
    let mut parsed = Name::from_ascii(name).map_err(|_| NotAName(name.to_owned()))?;
    parsed.set_fqdn(true);
    Ok(parsed)
}

/// The questions that were asked over UDP: the name, and whether it was for SRV.
type Asked = Arc<Mutex<Vec<(String, bool)>>>;

/// A running name server; it stops when it is dropped.
pub struct DnsServer {
    address: SocketAddr,
    zone: Arc<RwLock<Zone>>,
    questions: Arc<AtomicUsize>,
    asked: Asked,
    tasks: Vec<JoinHandle<()>>,
}

impl DnsServer {
    /// Starts a name server at an address, UDP and TCP. Port 0 takes any that is free for both.
    pub async fn start(address: SocketAddr, zone: Zone) -> io::Result<Self> {
        let (udp, tcp) = bind_both(address).await?;
        let address = udp.local_addr()?;
        let zone = Arc::new(RwLock::new(zone));
        let questions = Arc::new(AtomicUsize::new(0));
        let asked = Asked::default();
        let tasks = vec![
            tokio::spawn(serve_udp(udp, zone.clone(), questions.clone(), asked.clone())),
            tokio::spawn(serve_tcp(tcp, zone.clone())),
        ];
        Ok(Self {
            address,
            zone,
            questions,
            asked,
            tasks,
        })
    }

    /// How many questions were asked over UDP.
    #[must_use]
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }

    /// The first questions over UDP, in order: the name, and whether it was for SRV.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, bool)> {
        self.asked
            .lock()
            .expect("nothing panics while it holds the questions")
            .clone()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from another zone from now on.
    pub fn set_zone(&self, zone: Zone) {
        *self.zone.write().expect("nothing panics while it holds the zone") = zone;
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn bind_both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..20 {
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            // The port that was free for UDP is taken for TCP; another may be free for both.
            Err(error) if address.port() == 0 => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

async fn serve_udp(socket: UdpSocket, zone: Arc<RwLock<Zone>>, questions: Arc<AtomicUsize>, asked: Asked) {
    let mut buffer = [0; 4096];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            questions.fetch_add(1, Ordering::Relaxed);
            note(&asked, &buffer[..length]);
            if let Some(answer) = answer(&zone, &buffer[..length], Some(UDP_ANSWER)) {
                // A client that is gone asks nothing more.
                let _ = socket.send_to(&answer, from).await;
            }
        }
    }
}

/// Remembers a question, within bounds.
fn note(asked: &Asked, question: &[u8]) {
    let Ok(message) = Message::from_vec(question) else {
        return;
    };
    let mut asked = asked.lock().expect("nothing panics while it holds the questions");
    let names = message.queries.iter().take(1);
    if asked.len() < QUESTIONS {
        asked.extend(names.map(|query| (query.name().to_ascii(), query.query_type() == RecordType::SRV)));
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<RwLock<Zone>>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(tokio::time::timeout(PATIENCE, serve_stream(stream, zone.clone())));
        }
    }
}

async fn serve_stream(mut stream: TcpStream, zone: Arc<RwLock<Zone>>) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut question = vec![0; usize::from(length)];
        stream.read_exact(&mut question).await?;
        let Some(answer) = answer(&zone, &question, None) else {
            return Ok(());
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return Ok(());
        };
        stream.write_u16(length).await?;
        stream.write_all(&answer).await?;
    }
}

/// The answer to a question; none to what is no question. An answer longer than `most` is cut to nothing and says so.
fn answer(zone: &RwLock<Zone>, question: &[u8], most: Option<usize>) -> Option<Vec<u8>> {
    let asked = Message::from_vec(question).ok()?;
    if asked.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.metadata.recursion_desired = asked.metadata.recursion_desired;
    reply.metadata.authoritative = true;
    reply.add_queries(asked.queries.iter().cloned());
    let zone = zone.read().expect("nothing panics while it holds the zone");
    match &asked.queries[..] {
        [query] if asked.metadata.op_code == OpCode::Query => match zone.fault_of(query.name()) {
            Some(Fault::Silent) => return None,
            Some(Fault::Servfail) => reply.metadata.response_code = ResponseCode::ServFail,
            Some(Fault::Truncated) if most.is_some() => reply.metadata.truncation = true,
            _ => {
                let (code, records) = zone.look_up(query.name(), query.query_type());
                reply.metadata.response_code = code;
                if records.is_empty() {
                    reply.add_authorities(zone.negative_ttl.map(|ttl| authority(query.name(), ttl)));
                }
                reply.add_answers(records);
            }
        },
        _ => reply.metadata.response_code = ResponseCode::NotImp,
    }
    let bytes = reply.to_vec().ok()?;
    if most.is_none_or(|most| bytes.len() <= most) {
        return Some(bytes);
    }
    reply.answers.clear();
    reply.metadata.truncation = true;
    reply.to_vec().ok()
}

/// What says how long it may be kept that a name has nothing (RFC 2308).
fn authority(name: &Name, ttl: u32) -> Record {
    let zone = name.base_name();
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86_400, ttl);
    Record::from_rdata(zone, ttl, RData::SOA(soa))
}

impl Zone {
    fn fault_of(&self, name: &Name) -> Option<Fault> {
        self.faults.get(name).copied()
    }

    fn look_up(&self, name: &Name, kind: RecordType) -> (ResponseCode, Vec<Record>) {
        let named: Vec<&Record> = self.records.iter().filter(|record| record.name == *name).collect();
        let found: Vec<Record> = named
            .iter()
            .filter(|record| [kind, RecordType::CNAME].contains(&record.record_type()))
            .copied()
            .cloned()
            .collect();
        // A name above one that exists is there, but has nothing (RFC 8020).
        let exists = !named.is_empty() || self.names_above().contains(name);
        let code = if exists {
            ResponseCode::NoError
        } else {
            ResponseCode::NXDomain
        };
        (code, found)
    }

    fn names_above(&self) -> HashSet<Name> {
        let mut names = HashSet::new();
        for record in &self.records {
            let mut name = record.name.base_name();
            while !name.is_root() {
                names.insert(name.clone());
                name = name.base_name();
            }
        }
        names
    }
}
