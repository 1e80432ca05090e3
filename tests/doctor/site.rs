//! The set-up of initech.lab, to be spoiled: its folder, its names, its papers; and the doctor who looks at it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use billow::lab::dns::{DnsServer, Zone};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::papers::{Paper, Wish};

const BILLOW: &str = env!("CARGO_BIN_EXE_billow");
pub(crate) const DOMAIN: &str = "initech.lab";
/// How long a doctor may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The authority that everybody trusts, and its deputy.
pub(crate) fn root() -> &'static Paper {
    static ROOT: OnceLock<Paper> = OnceLock::new();
    ROOT.get_or_init(|| Wish::authority("Lab Root", None).make())
}

/// An authority that the root has issued.
pub(crate) fn deputy() -> &'static Paper {
    static DEPUTY: OnceLock<Paper> = OnceLock::new();
    DEPUTY.get_or_init(|| Wish::authority("Lab Deputy", Some(root())).make())
}

/// A set-up.
pub(crate) struct Site {
    folder: TempDir,
    domain: String,
    /// Where it listens for other servers, and the port.
    pub(crate) ip: &'static str,
    pub(crate) port: u16,
    pub(crate) dns: DnsServer,
    pub(crate) data_dir: String,
    /// Lines of `[federation]` besides the usual ones.
    pub(crate) more: String,
    /// Lines before the sections.
    pub(crate) top: String,
    pub(crate) private: bool,
}

/// What the doctor said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) json: Value,
}

impl Site {
    /// One that is well.
    pub(crate) async fn well() -> Self {
        Self::of(DOMAIN).await
    }

    pub(crate) async fn of(domain: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let zone = good_zone(domain, port);
        let dns = DnsServer::start("127.0.0.1:0".parse().unwrap(), zone).await.unwrap();
        let site = Self {
            folder,
            domain: domain.to_owned(),
            ip: "127.0.0.1",
            port,
            dns,
            data_dir: "data".to_owned(),
            more: String::new(),
            top: String::new(),
            private: true,
        };
        site.write("root.pem", &root().pem());
        site.show(
            &Wish::of(&[domain, &format!("wave.{domain}")], Some(root())).make(),
            &[],
        );
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The certificate and key for TLS.
    pub(crate) fn show(&self, paper: &Paper, others: &[&Paper]) {
        let chain: Vec<u8> = std::iter::once(paper)
            .chain(others.iter().copied())
            .flat_map(Paper::pem)
            .collect();
        self.write("domain.pem", &chain);
        self.write("domain.key", &paper.key_pem());
    }

    /// Another pair for signing.
    pub(crate) fn sign_with(&mut self, paper: &Paper) {
        self.write("signer.pem", &paper.pem());
        self.write("signer.key", &paper.key_pem());
        self.more += "signer_certificate = \"signer.pem\"\nsigner_key = \"signer.key\"\n";
    }

    /// Writes the configuration; gives its path.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        let text = format!(
            "domain = \"{}\"\ndata_dir = \"{}\"\n{}[http]\nlisten = \"127.0.0.1:0\"\n\
             [federation]\nenabled = true\nlisten = \"{}:{}\"\ncertificate = \"domain.pem\"\nkey = \"domain.key\"\n\
             trust_roots = [\"root.pem\"]\nnameservers = [\"{}\"]\nallow_private_addresses = {}\nretry_cap_seconds = 1\n{}",
            self.domain,
            self.data_dir,
            self.top,
            self.ip,
            self.port,
            self.dns.address(),
            self.private,
            self.more
        );
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Has the doctor look.
    pub(crate) async fn doctor(&self, args: &[&str]) -> Told {
        doctor(&self.config("billow.toml"), args).await
    }

    /// What the doctor says to people.
    pub(crate) async fn words(&self, args: &[&str]) -> String {
        let config = self.config("billow.toml");
        let output = command(&config, args).output();
        let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the real server and waits until it is ready.
    pub(crate) async fn serve(&self) -> Child {
        let mut child = Command::new(BILLOW)
            .arg("serve")
            .arg("--config")
            .arg(self.config("billow.toml"))
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.path("billow.log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut ready = BufReader::new(child.stdout.take().unwrap());
        tokio::time::timeout(PATIENCE, ready.read_line(&mut line))
            .await
            .unwrap()
            .unwrap();
        let log = fs::read_to_string(self.path("billow.log")).unwrap_or_default();
        assert!(line.contains(&self.domain), "the server did not start: {log}");
        // What it says later goes nowhere.
        tokio::spawn(async move { while ready.read_line(&mut String::new()).await.is_ok_and(|read| read > 0) {} });
        child
    }
}

/// Has the doctor look at a configuration.
pub(crate) async fn doctor(config: &Path, args: &[&str]) -> Told {
    let output = command(config, args).arg("--json").output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    let json = serde_json::from_slice(&output.stdout);
    let json = json.unwrap_or_else(|_| panic!("expected JSON, got {output:?}"));
    Told {
        code: output.status.code(),
        json,
    }
}

fn command(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BILLOW);
    command
        .arg("doctor")
        .args(args)
        .arg("--config")
        .arg(config)
        .kill_on_drop(true);
    command
}

impl Told {
    fn findings(&self) -> impl Iterator<Item = &Value> {
        self.json["findings"].as_array().into_iter().flatten()
    }

    /// The finding of a code.
    pub(crate) fn finding(&self, code: &str) -> &Value {
        let found = self.findings().find(|finding| finding["code"] == code);
        found.unwrap_or_else(|| panic!("expected {code}, got {:#}", self.json))
    }

    pub(crate) fn has(&self, code: &str) -> bool {
        self.findings().any(|finding| finding["code"] == code)
    }

    /// The codes of this severity.
    pub(crate) fn codes(&self, severity: &str) -> Vec<&str> {
        let of = self.findings().filter(|finding| finding["severity"] == severity);
        of.filter_map(|finding| finding["code"].as_str()).collect()
    }
}

/// Everything that a domain should have in DNS.
pub(crate) fn good_zone(domain: &str, port: u16) -> Zone {
    let here: SocketAddr = ([127, 0, 0, 1], port).into();
    let zone = Zone::new().xmpp_server(domain, here).unwrap();
    with_addresses(zone, domain)
}

/// Addresses for the domain and its wave name.
pub(crate) fn with_addresses(zone: Zone, domain: &str) -> Zone {
    let ip = [127, 0, 0, 1].into();
    zone.address(domain, ip)
        .unwrap()
        .address(&format!("wave.{domain}"), ip)
        .unwrap()
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
