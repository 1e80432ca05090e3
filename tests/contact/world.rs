//! A name server, an authority, and the real server of initech.lab with alice on it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use billow::client::Profile;
use billow::client::http::{self, ServerUrl};
use billow::command::login::sign_in;
use billow::command::wave::{OpenWave, create};
use billow::lab::dns::{DnsServer, Zone};
use billow_model::{Timestamp, WaveletOp};
use billow_signing::{Authority, Issued, Validity};
use serde_json::{Value, json};
use tempfile::TempDir;

const BILLOW: &str = env!("CARGO_BIN_EXE_billow");
const ALICE: &str = "alice@initech.lab";
const PASSWORD: &str = "a long password of alice";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One authority for all tests: keys are slow to make.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("Lab", validity()).unwrap());
type Certificates = Vec<(String, Issued)>;
static ISSUED: Mutex<Certificates> = Mutex::new(Vec::new());

fn validity() -> Validity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let day = 24 * 3600 * 1000;
    Validity {
        from: Timestamp(now - day),
        until: Timestamp(now + 365 * day),
    }
}

/// An address of this process alone, so that a port can be chosen on it.
pub(crate) fn own_address(number: u8) -> IpAddr {
    let [a, b, ..] = std::process::id().to_le_bytes();
    IpAddr::V4(Ipv4Addr::new(127, a | 1, b, number.max(1)))
}

/// Everything that a test needs.
pub(crate) struct World {
    pub(crate) dns: DnsServer,
    /// Where other domains reach initech.lab.
    pub(crate) xmpp: SocketAddr,
    server: Option<Child>,
    config: PathBuf,
    log: PathBuf,
    url: ServerUrl,
    alice: Profile,
    folder: TempDir,
}

/// A second real server.
pub(crate) struct Second {
    pub(crate) xmpp: SocketAddr,
    server: Child,
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl World {
    /// With more in its `[federation]`. Nothing is in DNS.
    pub(crate) async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dns = DnsServer::start("127.0.0.1:0".parse().unwrap(), Zone::new())
            .await
            .unwrap();
        fs::write(folder.path().join("ca.crt"), AUTHORITY.certificate_pem().unwrap()).unwrap();
        let config = write_config(folder.path(), "initech.lab", &dns, more);
        let log = folder.path().join("billow.log");
        let (server, url, xmpp) = serve(&config, &log);
        let body = json!({"address": ALICE, "password": PASSWORD});
        http::post(&url, "/api/register", None, &body).await.unwrap();
        let alice = sign_in(&url, ALICE, PASSWORD).await.unwrap();
        Self {
            dns,
            xmpp,
            server: Some(server),
            config,
            log,
            url,
            alice,
            folder,
        }
    }

    /// A certificate for a domain and others, with its key.
    pub(crate) fn issue(&self, domain: &str, others: &[&str]) -> Issued {
        issue(domain, others)
    }

    pub(crate) fn roots_pem(&self) -> Vec<u8> {
        AUTHORITY.certificate_pem().unwrap()
    }

    /// Another server of ours.
    pub(crate) async fn second(&self, domain: &str) -> Second {
        let folder = self.folder.path().join(domain);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("ca.crt"), self.roots_pem()).unwrap();
        let config = write_config(&folder, domain, &self.dns, "");
        let (server, _, xmpp) = serve(&config, &folder.join("billow.log"));
        Second { xmpp, server }
    }

    /// Runs a command against the server; its exit code, and what it said on standard output, or else on standard error.
    pub(crate) async fn billow(&self, args: &[&str]) -> (i32, String) {
        let mut command = tokio::process::Command::new(BILLOW);
        command
            .args(args)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null());
        let output = tokio::time::timeout(PATIENCE * 3, command.output())
            .await
            .unwrap()
            .unwrap();
        let said = if output.stdout.is_empty() {
            &output.stderr
        } else {
            &output.stdout
        };
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(said).into_owned(),
        )
    }

    /// The same with an answer in JSON.
    pub(crate) async fn json(&self, args: &[&str]) -> Value {
        let (_, said) = self.billow(&[args, &["--json"]].concat()).await;
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{args:?}: {error}: {said}"))
    }

    /// `billow ping` or `billow trace`.
    pub(crate) async fn probe(&self, what: &str, domain: &str) -> Value {
        self.json(&[what, domain]).await
    }

    /// A wave of alice's with somebody else.
    pub(crate) async fn wave_with(&self, whom: &str) -> String {
        create(&self.alice, "Lunch", &[whom.to_owned()]).await.unwrap().wave
    }

    /// Changes a wave so many times.
    pub(crate) async fn change(&self, wave: &str, times: usize) {
        for _ in 0..times {
            let carol = "carol@acme.lab".parse().unwrap();
            let mut opened = OpenWave::open(&self.alice, wave).await.unwrap();
            let people = &opened.conversation().unwrap().participants;
            let op = match people.iter().any(|address| address == "carol@acme.lab") {
                true => WaveletOp::RemoveParticipant(carol),
                false => WaveletOp::AddParticipant(carol),
            };
            opened.submit(&[op]).await.unwrap();
        }
    }

    /// How the delivery of a wave's conversation to the first other domain is.
    pub(crate) async fn delivery(&self, wave: &str) -> Value {
        let opened = OpenWave::open(&self.alice, wave).await.unwrap();
        let peers = opened.delivery.iter().find(|(name, _)| name.ends_with("conv+root"));
        serde_json::to_value(peers.and_then(|(_, peers)| peers.first())).unwrap()
    }

    /// Whether the first other domain has acknowledged all of a wave's conversation.
    pub(crate) async fn is_delivered(&self, wave: &str) -> bool {
        let opened = OpenWave::open(&self.alice, wave).await.unwrap();
        let version = opened.conversation().unwrap().version;
        self.delivery(wave).await["version"] == version
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !holds().await {
            assert!(Instant::now() < give_up, "never: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends the server and starts it again at the address that it had.
    pub(crate) async fn restart(&mut self) {
        self.end();
        self.listen_where_it_was();
        let (server, url, xmpp) = serve(&self.config, &self.log);
        (self.server, self.url, self.xmpp) = (Some(server), url, xmpp);
    }

    /// From the next start on other domains reach it where they did.
    pub(crate) fn listen_where_it_was(&self) {
        let text = fs::read_to_string(&self.config).unwrap();
        let at = format!("listen = \"{}\" # others", self.xmpp);
        let lines = text
            .lines()
            .map(|line| if line.ends_with("# others") { at.as_str() } else { line });
        fs::write(&self.config, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    }

    /// Ends the server in good order.
    pub(crate) fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            let id = rustix::process::Pid::from_child(&server);
            rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
            server.wait().unwrap();
        }
    }

    pub(crate) async fn stop(mut self) {
        self.end();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!(
                "-- log of initech.lab:\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
}

fn issue(domain: &str, others: &[&str]) -> Issued {
    let names = [&[domain], others].concat().join(" ");
    let mut known = ISSUED.lock().unwrap();
    if let Some((_, issued)) = known.iter().find(|(known, _)| *known == names) {
        return issued.clone();
    }
    let others: Vec<_> = others.iter().map(|name| name.parse().unwrap()).collect();
    let issued = AUTHORITY.issue(&domain.parse().unwrap(), &others, validity()).unwrap();
    known.push((names, issued.clone()));
    issued
}

fn write_config(folder: &Path, domain: &str, dns: &DnsServer, more: &str) -> PathBuf {
    let issued = issue(domain, &[]);
    fs::write(folder.join("domain.crt"), &issued.chain_pem).unwrap();
    billow::lab::ca::write_secret(&folder.join("domain.key"), &issued.key_pem).unwrap();
    let text = format!(
        "domain = \"{domain}\"\ndata_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n[accounts]\n\
         registration = \"open\"\n[federation]\nenabled = true\nlisten = \"127.0.0.1:0\" # others\n\
         certificate = \"domain.crt\"\nkey = \"domain.key\"\ntrust_roots = [\"ca.crt\"]\nnameservers = [\"{}\"]\n\
         allow_private_addresses = true\nretry_cap_seconds = 5\n{more}",
        dns.address()
    );
    let config = folder.join("billow.toml");
    fs::write(&config, text).unwrap();
    config
}

fn serve(config: &Path, log: &Path) -> (Child, ServerUrl, SocketAddr) {
    let mut server = Command::new(BILLOW)
        .args(["serve", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let word_after = |words: &str| {
        let rest = line.split_once(words).map(|(_, rest)| rest);
        let word = rest.and_then(|rest| rest.split([',', ' ', '\n']).next());
        let log = || fs::read_to_string(log).unwrap_or_default();
        word.unwrap_or_else(|| panic!("expected {words:?} in {line:?}\n{}", log()))
            .to_owned()
    };
    let (url, xmpp) = (word_after("is at "), word_after("for other domains at "));
    (server, url.parse().unwrap(), xmpp.parse().unwrap())
}
