//! Sites of several domains with one name server and one certificate authority: Billow alone, or behind an XMPP server.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use billow::client::http::{self, ServerUrl};
use billow::lab::ca::Ca;
use billow::lab::dns::{DnsServer, Zone};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::xmpp_server::{Kind, XmppServer, free_port};

const BILLOW: &str = env!("CARGO_BIN_EXE_billow");
/// How long anything may take that goes over several servers, on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a site is to be.
pub(crate) struct Plan {
    pub(crate) domain: &'static str,
    /// Behind which XMPP server, and as which component.
    pub(crate) behind: Option<(Kind, &'static str)>,
}

/// The servers of one domain.
pub(crate) struct Site {
    pub(crate) domain: String,
    pub(crate) folder: PathBuf,
    pub(crate) xmpp: Option<XmppServer>,
    /// The name under which its stanzas go.
    pub(crate) name: String,
    http: u16,
    /// Where other servers reach it.
    s2s: u16,
    billow: Option<Child>,
}

/// The sites, what they need, and a person at each: `alice` at the first, `bob` at the second, `carol` at the third.
pub(crate) struct World {
    pub(crate) sites: Vec<Site>,
    pub(crate) runtime: Runtime,
    pub(crate) ca: Ca,
    /// It answers as long as it is kept.
    _dns: DnsServer,
    // After the sites: their servers are ended before their folders are removed.
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

pub(crate) const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

impl World {
    /// Makes the sites; nothing runs yet but the name server.
    pub(crate) fn new(plans: &[Plan]) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let ca = Ca::create("Lab").unwrap();
        // ejabberd asks its own resolver for SRV records and that of the system, which knows no ports, for addresses: then
        // all are at a name that every system knows.
        let has_ejabberd = plans
            .iter()
            .any(|plan| matches!(plan.behind, Some((Kind::Ejabberd, _))));
        let mut zone = Zone::new().address("localhost", [127, 0, 0, 1].into()).unwrap();
        let mut sites = Vec::new();
        for plan in plans {
            let site = Site {
                domain: plan.domain.to_owned(),
                folder: folder.path().join(plan.domain),
                xmpp: None,
                name: plan.behind.map_or(plan.domain, |(_, name)| name).to_owned(),
                http: free_port(),
                s2s: free_port(),
                billow: None,
            };
            fs::create_dir_all(&site.folder).unwrap();
            let issued = ca.issue_with(&site.domain, &[&site.name]).unwrap();
            issued.write(&site.folder, &site.domain).unwrap();
            fs::write(site.folder.join("ca.crt"), ca.certificate_pem().unwrap()).unwrap();
            let at = SocketAddr::from(([127, 0, 0, 1], site.s2s));
            let names = [&site.domain, &site.name];
            for name in &names[..if site.name == site.domain { 1 } else { 2 }] {
                zone = match has_ejabberd {
                    true => zone.service(&format!("_xmpp-server._tcp.{name}"), 5, at.port(), "localhost"),
                    false => zone.xmpp_server(name, at),
                }
                .unwrap();
            }
            sites.push(site);
        }
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let dns = runtime.block_on(DnsServer::start(listen, zone)).unwrap();
        for (site, plan) in sites.iter_mut().zip(plans) {
            site.configure(plan, dns.address());
        }
        Self {
            sites,
            runtime,
            ca,
            _dns: dns,
            folder,
            _alone: alone,
        }
    }

    /// Makes the sites and starts all: the XMPP servers first, Billow when they run.
    pub(crate) fn start(plans: &[Plan]) -> Self {
        let mut world = Self::new(plans);
        for site in &mut world.sites {
            site.write_xmpp_config();
            if let Some(xmpp) = &mut site.xmpp {
                xmpp.start();
            }
        }
        for at in 0..world.sites.len() {
            world.sites[at].start_billow();
            world.sign_in(at);
        }
        world
    }

    /// Makes an account for the person of a site, and signs them in.
    pub(crate) fn sign_in(&self, at: usize) {
        let site = &self.sites[at];
        let url: ServerUrl = site.url().parse().unwrap();
        let address = self.address(at);
        let account = json!({"address": address, "password": "correct horse"});
        self.runtime
            .block_on(http::post(&url, "/api/register", None, &account))
            .unwrap();
        let login = self
            .command(&["login", &site.url(), &address, "--profile", PEOPLE[at]])
            .env("BILLOW_PASSWORD", "correct horse")
            .output()
            .unwrap();
        assert!(login.status.success(), "{}", String::from_utf8_lossy(&login.stderr));
    }

    pub(crate) fn address(&self, at: usize) -> String {
        format!("{}@{}", PEOPLE[at], self.sites[at].domain)
    }

    /// A `billow` command with the profiles of this world.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BILLOW);
        command
            .args(args)
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env_remove("BILLOW_PROFILE");
        command
    }

    /// Runs a command as the person of a site, which must succeed, and reads its JSON.
    pub(crate) fn run(&self, at: usize, args: &[&str]) -> Value {
        let output = self
            .command(args)
            .arg("--json")
            .env("BILLOW_PROFILE", PEOPLE[at])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {args:?}: {stderr}", PEOPLE[at]);
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// The conversation of a wave as a site has it.
    pub(crate) fn conversation(&self, at: usize, wave: &str) -> Value {
        let output = self
            .command(&["wave", "show", wave, "--json", "--profile", PEOPLE[at]])
            .output()
            .unwrap();
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let mut wavelets = shown["wavelets"].as_array().into_iter().flatten();
        wavelets
            .find(|wavelet| wavelet["name"].as_str().is_some_and(|name| name.ends_with("conv+root")))
            .cloned()
            .unwrap_or(Value::Null)
    }

    /// Waits until two sites have a wave at the same version, hash and digest.
    pub(crate) fn wait_until_equal(&self, wave: &str, one: usize, other: usize) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let (at_one, at_other) = (self.conversation(one, wave), self.conversation(other, wave));
            let equal = |field: &str| !at_one[field].is_null() && at_one[field] == at_other[field];
            if ["version", "hash", "digest"].iter().all(|field| equal(field)) {
                return;
            }
            assert!(
                Instant::now() < give_up,
                "after {PATIENCE:?} {} has\n{at_one}\nand {}\n{at_other}",
                PEOPLE[one],
                PEOPLE[other]
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Starts a wave with somebody of another site, waits until it is there, has both type at once, and compares.
    pub(crate) fn type_together(&self, one: usize, other: usize, edits: usize) -> String {
        let created = self.run(one, &["wave", "new", "Lunch", "--with", &self.address(other)]);
        let wave = created["wave"].as_str().unwrap().to_owned();
        self.wait_until_equal(&wave, one, other);
        self.run(
            other,
            &[
                "wave",
                "write",
                &wave,
                "--blip",
                created["blip"].as_str().unwrap(),
                " 😀",
            ],
        );
        self.wait_until_equal(&wave, one, other);
        let folder = std::env::var_os("BILLOW_TRACES").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces"),
            PathBuf::from,
        );
        let trace = folder.join("clownschool.json.gz");
        assert!(
            trace.exists(),
            "expected {} (BILLOW_TRACES names another folder)",
            trace.display()
        );
        let (at, first) = (format!("{},{}", PEOPLE[one], PEOPLE[other]), edits.to_string());
        let trace = trace.to_string_lossy();
        let report = self.run(one, &["replay", "--trace", &trace, "--at", &at, "--first", &first]);
        for equal in ["ok", "textEqual", "hashEqual", "digestEqual"] {
            assert_eq!(report[equal], true, "{report}");
        }
        wave
    }

    /// While the XMPP server of `away` is down both write; when it is there again both have all of it.
    pub(crate) fn catch_up_after_restart(&mut self, wave: &str, away: usize, other: usize) -> Duration {
        self.sites[away].xmpp.as_mut().unwrap().kill();
        self.sites[away].wait_for_log("no other domain can be reached: the XMPP server at 127.0.0.1:");
        let blip = self.conversation(away, wave)["blips"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let host = if wave.starts_with(&self.sites[away].domain) {
            away
        } else {
            other
        };
        for number in 0..5 {
            self.run(host, &["wave", "write", wave, "--blip", &blip, &format!(" {number}")]);
        }
        assert_ne!(
            self.conversation(host, wave)["version"],
            self.conversation(away + other - host, wave)["version"],
            "what was written went by another way"
        );
        self.sites[away].xmpp.as_mut().unwrap().start();
        let back = Instant::now();
        self.wait_until_equal(wave, away, other);
        back.elapsed()
    }
}

impl Site {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("billow.toml")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("billow.log")).unwrap_or_default()
    }

    fn configure(&mut self, plan: &Plan, dns: SocketAddr) {
        let Self { domain, s2s, .. } = &*self;
        let mut text = format!(
            "domain = \"{domain}\"\ndata_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:{}\"\n\
             [accounts]\nregistration = \"open\"\n[log]\nlevel = \"info,billow_server::federation=debug\"\n\
             [federation]\nenabled = true\nretry_cap_seconds = 2\ntrust_roots = [\"ca.crt\"]\n",
            self.http
        );
        match plan.behind {
            None => {
                text += &format!(
                    "listen = \"127.0.0.1:{s2s}\"\ncertificate = \"{domain}.crt\"\nkey = \"{domain}.key\"\n\
                     nameservers = [\"{dns}\"]\nallow_private_addresses = true\n"
                );
            }
            Some((kind, name)) => {
                let component = free_port();
                text += &format!(
                    "signer_certificate = \"{domain}.crt\"\nsigner_key = \"{domain}.key\"\n\
                     [federation.component]\naddress = \"127.0.0.1:{component}\"\nname = \"{name}\"\nsecret_file = \"component.secret\"\n"
                );
                let xmpp = XmppServer {
                    kind,
                    folder: self.folder.clone(),
                    domain: domain.clone(),
                    s2s: *s2s,
                    component,
                    dns,
                    child: None,
                };
                xmpp.configure();
                self.xmpp = Some(xmpp);
            }
        }
        // No strangers: an invitation is no request first.
        text += "[federation.policy]\nknown = [\"*.lab\"]\n";
        fs::write(self.config(), text).unwrap();
    }

    /// Has `billow xmpp-config` write what the XMPP server includes.
    pub(crate) fn write_xmpp_config(&self) {
        let Some(xmpp) = &self.xmpp else { return };
        let kind = match xmpp.kind {
            Kind::Prosody => "prosody",
            Kind::Ejabberd => "ejabberd",
        };
        let output = Command::new(BILLOW)
            .args(["xmpp-config", kind, "--config"])
            .arg(self.config())
            .arg("--out")
            .arg(xmpp.included())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts Billow and waits until it answers.
    pub(crate) fn start_billow(&mut self) {
        let log = fs::File::create(self.folder.join("billow.log")).unwrap();
        let mut child = Command::new(BILLOW)
            .args(["serve", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(
            !line.is_empty(),
            "billow of {} ended at once:\n{}",
            self.domain,
            self.log()
        );
        self.billow = Some(child);
    }

    /// Waits for words in Billow's log.
    pub(crate) fn wait_for_log(&self, words: &str) {
        let give_up = Instant::now() + PATIENCE;
        while !self.log().contains(words) {
            assert!(
                Instant::now() < give_up,
                "{:?} is not in the log of {}",
                words,
                self.domain
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut child) = self.billow.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            eprintln!("-- log of billow of {}:\n{tail}", self.domain);
        }
    }
}
