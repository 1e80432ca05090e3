//! A name server, an authority, the real server of initech.lab with alice on it, and two peers: evil.lab and love.lab.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use billow::client::http::{self, ServerUrl};
use billow::client::{Profile, Socket};
use billow::command::login::sign_in;
use billow::command::wave::OpenWave;
use billow::lab::ca::Ca;
use billow::lab::dns::{DnsServer, Zone};
use billow_model::conversation::{blip_of_text, create_wave};
use billow_model::{DocumentId, WaveletName, WaveletOp};
use billow_server::wavelets::shown;
use billow_server::web::messages::{ClientMessage, PeerDelivery, ServerMessage, WaveletState};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::chain::{Chain, who, writes};
use super::gate::Gate;
use super::peer::{Answer, Peer, Start};

pub(crate) const ALICE: &str = "alice@initech.lab";
/// Of evil.lab, and no better.
pub(crate) const BOB: &str = "bob@evil.lab";
pub(crate) const MALLORY: &str = "mallory@evil.lab";
/// Of love.lab.
pub(crate) const CAROL: &str = "carol@love.lab";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everything that a test needs.
pub(crate) struct World {
    pub(crate) evil: Peer,
    pub(crate) love: Peer,
    alice: Profile,
    url: ServerUrl,
    victim: Option<Child>,
    log: PathBuf,
    data: PathBuf,
    sequence: AtomicU64,
    dns: DnsServer,
    xmpp: SocketAddr,
    gate: Gate,
    _folder: TempDir,
}

/// A wavelet's state as alice sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) hash: String,
    pub(crate) digest: String,
    pub(crate) participants: Vec<String>,
}

/// What must be as it was, and a counter that must rise.
pub(crate) struct Watch {
    states: Vec<(WaveletName, Option<State>)>,
    counter: (&'static str, &'static str),
    count: i64,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with_config("").await
    }

    /// With more in the victim's `[federation]`.
    pub(crate) async fn with_config(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::create("Lab").unwrap();
        let roots_pem = ca.certificate_pem().unwrap();
        fs::write(folder.path().join("ca.crt"), &roots_pem).unwrap();
        ca.issue("initech.lab")
            .unwrap()
            .write(folder.path(), "initech.lab")
            .unwrap();
        let dns = DnsServer::start("127.0.0.1:0".parse().unwrap(), Zone::new())
            .await
            .unwrap();
        let config = folder.path().join("billow.toml");
        fs::write(&config, config_text(dns.address()) + more).unwrap();
        let log = folder.path().join("billow.log");
        let (victim, url, xmpp) = serve(&config, &log);
        let peer = |name: &'static str| {
            let issued = ca.issue(name).unwrap();
            Peer::start(Start {
                name,
                chain_pem: issued.chain_pem,
                key_pem: issued.key_pem,
                roots_pem: roots_pem.clone(),
                nameserver: dns.address(),
                victim: "initech.lab",
            })
        };
        let (evil, love) = (peer("evil.lab").await, peer("love.lab").await);
        let gate = Gate::start(evil.net.listening()[0]).await;
        dns.set_zone(zone(xmpp, &gate, &love));
        let body = json!({"address": ALICE, "password": "a long password of alice"});
        http::post(&url, "/api/register", None, &body).await.unwrap();
        let alice = sign_in(&url, ALICE, "a long password of alice").await.unwrap();
        for peer in [&evil, &love] {
            let answer = peer.post_signer(peer.signer.info()).await;
            assert!(matches!(answer, Answer::Result(_)), "{answer:?}");
        }
        Self {
            evil,
            love,
            alice,
            url,
            victim: Some(victim),
            log,
            data: folder.path().join("data"),
            sequence: AtomicU64::new(1),
            dns,
            xmpp,
            gate,
            _folder: folder,
        }
    }

    /// A wave of alice's with other people on it; evil.lab knows it up to the head if one of hers is among them.
    pub(crate) async fn wave_of_alice(&self, with: &[&str]) -> WaveletName {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let name: WaveletName = format!("initech.lab/w+hers{number}/~/conv+root").parse().unwrap();
        let with: Vec<_> = with.iter().map(|address| who(address)).collect();
        let blip = DocumentId::new("b+first").unwrap();
        let ops = create_wave(&who(ALICE), &blip, blip_of_text("Lunch").unwrap(), &with).unwrap();
        self.submit_as_alice(&name, 0, &ops).await;
        for peer in [&self.evil, &self.love] {
            if with.iter().any(|address| address.domain() == peer.domain) {
                peer.copy(&name, ops.len() as u64).await;
            }
        }
        name
    }

    /// Alice changes a wavelet at its head; gives the version after it.
    pub(crate) async fn alice_changes(&self, name: &WaveletName, ops: &[WaveletOp]) -> u64 {
        let version = self.open(name).await.unwrap().version;
        self.submit_as_alice(name, version, ops).await
    }

    /// Somebody else of initech.lab.
    pub(crate) async fn register(&self, address: &str) -> Profile {
        let body = json!({"address": address, "password": "a long password of somebody"});
        http::post(&self.url, "/api/register", None, &body).await.unwrap();
        sign_in(&self.url, address, "a long password of somebody")
            .await
            .unwrap()
    }

    /// Alice has read a blip.
    pub(crate) async fn alice_reads(&self, name: &WaveletName, blip: &str, version: u64) {
        let mut opened = OpenWave::open(&self.alice, &name.wave().to_string()).await.unwrap();
        let read = ClientMessage::Read {
            wavelet: name.to_string(),
            blips: vec![blip.to_owned()],
            version,
        };
        opened.socket.send(&read).await.unwrap();
        opened.socket.send(&ClientMessage::Ping).await.unwrap();
        while !matches!(opened.socket.next_within(PATIENCE).await.unwrap(), ServerMessage::Pong) {}
    }

    /// Waits until the victim's store has a wavelet.
    pub(crate) async fn until_stored(&self, name: &WaveletName) {
        let give_up = Instant::now() + PATIENCE;
        let wanted = name.to_string();
        while !self
            .bytes_stored()
            .windows(wanted.len())
            .any(|window| window == wanted.as_bytes())
        {
            assert!(Instant::now() < give_up, "{name} is never stored");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn bytes_stored(&self) -> Vec<u8> {
        let files = fs::read_dir(&self.data).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.is_file())
            .flat_map(|path| fs::read(path).unwrap_or_default())
            .collect()
    }

    /// The wavelets of a wave as somebody sees them.
    pub(crate) async fn open_as(&self, who: &Profile, name: &WaveletName) -> BTreeMap<String, WaveletState> {
        OpenWave::open(who, &name.wave().to_string()).await.unwrap().wavelets
    }

    async fn submit_as_alice(&self, name: &WaveletName, version: u64, ops: &[WaveletOp]) -> u64 {
        let mut socket = Socket::connect(&self.alice).await.unwrap();
        self.submits_as(&mut socket, name, version, ops)
            .await
            .unwrap_or_else(|text| panic!("alice is refused: {text}"))
    }

    /// Somebody changes a wavelet at a version; the version after it, or why not.
    pub(crate) async fn submits_as(
        &self,
        socket: &mut Socket,
        name: &WaveletName,
        version: u64,
        ops: &[WaveletOp],
    ) -> Result<u64, String> {
        let session = format!("s{}", self.sequence.fetch_add(1, Ordering::Relaxed));
        if version > 0 {
            let wave = name.wave().to_string();
            socket
                .send(&ClientMessage::Open {
                    wave,
                    known: Vec::new(),
                })
                .await
                .unwrap();
        }
        let submit = ClientMessage::Submit {
            wavelet: name.to_string(),
            session: session.clone(),
            sequence: 1,
            version,
            operations: ops.iter().map(shown::operation).collect(),
        };
        socket.send(&submit).await.unwrap();
        loop {
            match socket.next_within(PATIENCE).await.unwrap() {
                ServerMessage::Delta { delta } if delta.own.as_ref().is_some_and(|own| own.session == session) => {
                    return Ok(delta.version + delta.operations.len() as u64);
                }
                ServerMessage::Refused { text, .. } | ServerMessage::Error { text } => return Err(text),
                _ => {}
            }
        }
    }

    /// What alice is told about how far other servers are with a wavelet.
    pub(crate) async fn delivery(&self, name: &WaveletName) -> Vec<PeerDelivery> {
        let mut opened = OpenWave::open(&self.alice, &name.wave().to_string()).await.unwrap();
        opened.delivery.remove(&name.to_string()).unwrap_or_default()
    }

    /// Alice tries to change a wavelet at its head, and may not; gives the words that she is told.
    pub(crate) async fn refusal_of_alice(&self, name: &WaveletName, ops: &[WaveletOp]) -> String {
        let mut opened = OpenWave::open(&self.alice, &name.wave().to_string()).await.unwrap();
        opened.submit(ops).await.expect_err("alice may not write").to_string()
    }

    /// A wavelet as alice sees it now; `None` if there is none for her.
    async fn open(&self, name: &WaveletName) -> Option<WaveletState> {
        match OpenWave::open(&self.alice, &name.wave().to_string()).await {
            Ok(mut opened) => opened.wavelets.remove(&name.to_string()),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("is in no wave"), "{error}");
                None
            }
        }
    }

    /// A wavelet's state, once all of it is sealed.
    pub(crate) async fn state(&self, name: &WaveletName) -> Option<State> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let state = self.open(name).await?;
            if state.hashed_version == state.version {
                return Some(State {
                    version: state.version,
                    hash: state.hash,
                    digest: state.digest,
                    participants: state.participants,
                });
            }
            assert!(Instant::now() < give_up, "{name} is never sealed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until alice sees a history's end, hash and all.
    pub(crate) async fn reaches(&self, chain: &Chain) -> State {
        let (version, hash) = (chain.head.version.number(), hex::encode(chain.head.hash.as_bytes()));
        let give_up = Instant::now() + PATIENCE;
        loop {
            let state = self.state(&chain.name).await;
            if let Some(state) = state
                .as_ref()
                .filter(|state| state.version == version && state.hash == hash)
            {
                return state.clone();
            }
            assert!(Instant::now() < give_up, "expected {}, got {state:?}", chain.head);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Keeps what is so now, before something is tried that must only be counted.
    pub(crate) async fn watch(&self, names: &[&WaveletName], counter: (&'static str, &'static str)) -> Watch {
        let mut states = Vec::new();
        for name in names {
            states.push(((*name).clone(), self.state(name).await));
        }
        Watch {
            states,
            counter,
            count: self.count(counter).await,
        }
    }

    /// A wavelet of initech.lab goes on: bob of evil.lab and alice both write, and both have it.
    pub(crate) async fn goes_on(&self, name: &WaveletName) {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.evil
            .writes(name, BOB, writes(&format!("b+bob{number}"), "still here"))
            .await;
        let version = self
            .alice_changes(name, &writes(&format!("b+alice{number}"), "me too"))
            .await;
        let copy = self.evil.copy(name, version).await;
        self.reaches(&copy).await;
    }

    /// A wavelet of evil.lab's goes on with what is sent next.
    pub(crate) async fn takes(&self, chain: &mut Chain, text: &str) {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let signed = chain.sign(&self.evil.signer, BOB, writes(&format!("b+good{number}"), text));
        let applied = chain.apply(signed);
        let answer = self
            .evil
            .update(&chain.name, &[applied.bytes().clone()], Some(&chain.head))
            .await;
        assert_eq!(answer, Answer::Receipt);
        self.reaches(chain).await;
    }

    /// A wavelet of evil.lab's with these people on it, told to the victim.
    pub(crate) async fn wave_of_evil(&self, with: &[&str]) -> Chain {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let mut chain = Chain::new(format!("evil.lab/w+its{number}/~/conv+root").parse().unwrap());
        let with: Vec<_> = with.iter().map(|address| who(address)).collect();
        let blip = DocumentId::new("b+first").unwrap();
        let ops = create_wave(&who(BOB), &blip, blip_of_text("Come in").unwrap(), &with).unwrap();
        let applied = chain.apply(chain.sign(&self.evil.signer, BOB, ops));
        let answer = self.evil.update(&chain.name, &[applied.bytes().clone()], None).await;
        assert_eq!(answer, Answer::Receipt);
        self.reaches(&chain).await;
        chain
    }

    /// A counter of the victim's.
    pub(crate) async fn count(&self, (name, kind): (&str, &str)) -> i64 {
        let wanted = format!("billow_{name}{{kind=\"{kind}\"}} ");
        let page = self.metrics().await;
        page.lines()
            .find_map(|line| line.strip_prefix(&wanted))
            .map_or(0, |count| count.parse().unwrap())
    }

    async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect((self.url.host.as_str(), self.url.port))
            .await
            .unwrap();
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n\r\n",
            self.url.host, self.url.port
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        page
    }

    /// The line from the victim to evil.lab.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Other domains have their servers at these addresses from now on.
    pub(crate) fn further_domains(&self, domains: &[(String, SocketAddr)]) {
        let mut zone = zone(self.xmpp, &self.gate, &self.love);
        for (domain, address) in domains {
            zone = zone.xmpp_server(domain, *address).unwrap();
        }
        self.dns.set_zone(zone);
    }

    /// What the victim's process has in memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let pid = self.victim.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    /// The TCP connections that the victim has open, or is opening, to these addresses.
    pub(crate) fn connections_to(&self, addresses: &[SocketAddr]) -> usize {
        let pid = self.victim.as_ref().unwrap().id();
        let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
        let is_theirs = |line: &&str| {
            let remote = line.split_whitespace().nth(2).and_then(|remote| remote.split_once(':'));
            remote.is_some_and(|(_, port)| {
                let port = u16::from_str_radix(port, 16).unwrap_or(0);
                addresses.iter().any(|address| address.port() == port)
            })
        };
        table.lines().skip(1).filter(is_theirs).count()
    }

    /// The lines of the victim's log with these words in them.
    pub(crate) fn logged(&self, words: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains(words)).count()
    }

    /// Ends the victim, so that its data can be looked into.
    pub(crate) fn stop_victim(&mut self) -> PathBuf {
        let mut victim = self.victim.take().unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();
        self.data.clone()
    }
}

impl Watch {
    /// Everything is as it was, and the counter has risen by this.
    pub(crate) async fn unchanged_and_counted(&self, world: &World, times: i64) {
        // What is found out by asking the host again is counted a moment later.
        let give_up = Instant::now() + PATIENCE;
        while world.count(self.counter).await < self.count + times && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for (name, before) in &self.states {
            assert_eq!(&world.state(name).await, before, "{name} has changed");
        }
        let count = world.count(self.counter).await;
        assert_eq!(
            count,
            self.count + times,
            "{:?}\n{}",
            self.counter,
            world.metrics().await
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(victim) = &mut self.victim {
            // It may have ended already.
            let _ = victim.kill();
            let _ = victim.wait();
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        if std::thread::panicking() {
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!(
                "-- log of initech.lab:\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        } else {
            assert!(!log.contains("panicked at"), "{log}");
        }
    }
}

fn zone(xmpp: SocketAddr, gate: &Gate, love: &Peer) -> Zone {
    let zone = Zone::new().xmpp_server("initech.lab", xmpp).unwrap();
    let zone = zone.xmpp_server("evil.lab", gate.address()).unwrap();
    zone.xmpp_server("love.lab", love.net.listening()[0]).unwrap()
}

fn config_text(nameserver: SocketAddr) -> String {
    format!(
        "domain = \"initech.lab\"\ndata_dir = \"data\"\n\n[http]\nlisten = \"127.0.0.1:0\"\n\n\
         [accounts]\nregistration = \"open\"\n\n\
         [federation.policy]\nknown = [\"*\"]\n\n\
         [federation]\nenabled = true\nlisten = \"127.0.0.1:0\"\ncertificate = \"initech.lab.crt\"\nkey = \"initech.lab.key\"\n\
         trust_roots = [\"ca.crt\"]\nnameservers = [\"{nameserver}\"]\nallow_private_addresses = true\nretry_cap_seconds = 1\n"
    )
}

/// Starts the real server; it says in its first line where it is.
fn serve(config: &std::path::Path, log: &std::path::Path) -> (Child, ServerUrl, SocketAddr) {
    let mut victim = Command::new(env!("CARGO_BIN_EXE_billow"))
        .args(["serve", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(victim.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let word_after = |words: &str| {
        let rest = line.split_once(words).map(|(_, rest)| rest);
        let word = rest.and_then(|rest| rest.split([',', ' ', '\n']).next());
        word.unwrap_or_else(|| {
            panic!(
                "expected {words:?} in {line:?}\n{}",
                fs::read_to_string(log).unwrap_or_default()
            )
        })
        .to_owned()
    };
    let (url, xmpp) = (word_after("is at "), word_after("for other domains at "));
    (victim, url.parse().unwrap(), xmpp.parse().unwrap())
}
