//! `billow demo`: two organisations on one machine, federating for real.
//!
//! Two `billow serve` processes with a folder each, a DNS server and a CA of their own, all on loopback and unprivileged
//! ports. Everything that must be the same at the next start (ports, passwords) is kept in `demo.json`.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::process::{Child, Command};

use super::login::sign_in;
use super::wave::{self, OpenWave};
use crate::client::http::{self, ServerUrl};
use crate::lab::ca::{Ca, write_secret};
use crate::lab::dns::{DnsServer, Zone};

/// Two organisations on this machine, federating for real.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "alice@initech.lab and bob@acme.lab find one welcome wave that both are in. Ctrl-C stops everything; the folder\n\
    keeps it for the next time."
)]
pub struct Demo {
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "billow-demo")]
    dir: PathBuf,
}

const ORGANISATIONS: [(&str, &str); 2] = [("initech.lab", "alice"), ("acme.lab", "bob")];
const PREFERRED_HTTP_PORTS: [u16; 2] = [9871, 9872];
const START_PATIENCE: Duration = Duration::from_secs(30);

/// What must be the same at the next start.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    dns_port: u16,
    servers: Vec<ServerState>,
    welcome: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ServerState {
    domain: String,
    http_port: u16,
    xmpp_port: u16,
    address: String,
    password: String,
}

struct Running {
    state: ServerState,
    folder: PathBuf,
    config: PathBuf,
    process: Child,
    pid: u32,
}

impl Running {
    fn url(&self) -> ServerUrl {
        ServerUrl {
            tls: false,
            host: "127.0.0.1".into(),
            port: self.state.http_port,
        }
    }
}

impl Demo {
    /// Starts everything and waits for Ctrl-C.
    pub async fn run(self, as_json: bool) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        let dir = self.dir.canonicalize()?;
        let mut state = State::load_or_plan(&dir)?;
        let dns = start_dns(&state).await?;
        state.dns_port = dns.address().port();
        // The servers' configurations hold these ports: they must be known to the next start even if this one fails.
        write_state(
            &dir,
            state.dns_port,
            &state.servers.iter().collect::<Vec<_>>(),
            state.welcome.as_deref(),
        )?;
        certify(&dir, &state)?;
        let mut running = Vec::new();
        for server in state.servers.drain(..) {
            running.push(start(&dir, state.dns_port, server)?);
        }
        let outcome = tokio::select! {
            outcome = self.furnish(&dir, &mut state, &mut running, as_json) => outcome,
            () = stop_signal() => Ok(()),
        };
        for server in &mut running {
            stop(server).await;
        }
        outcome
    }

    /// People and the welcome wave; then waits, telling when a server ends.
    async fn furnish(
        &self,
        dir: &Path,
        state: &mut State,
        running: &mut [Running],
        as_json: bool,
    ) -> anyhow::Result<()> {
        let mut profiles = Vec::new();
        for server in running.iter_mut() {
            await_ready(server).await?;
            profiles.push(account(server).await?);
        }
        if state.welcome.is_none() {
            let bob = profiles[1].address.clone();
            let text = format!(
                "Welcome to Billow\nThis wave is hosted at {} and shared with {}. Open it at both and type: both see every letter at once.",
                running[0].state.domain, running[1].state.domain
            );
            let created = wave::create(&profiles[0], &text, &[bob]).await?;
            OpenWave::wait_for(&profiles[1], &created.wave, created.version, START_PATIENCE)
                .await
                .context("the two servers did not federate; their logs (billow.log) say why")?;
            state.welcome = Some(created.wave);
        }
        let servers: Vec<_> = running.iter().map(|server| &server.state).collect();
        write_state(dir, state.dns_port, &servers, state.welcome.as_deref())?;
        if as_json {
            let servers: Vec<_> = running.iter().map(server_json).collect();
            println!(
                "{}",
                json!({"ready": true, "servers": servers, "wave": state.welcome, "dns": format!("127.0.0.1:{}", state.dns_port)})
            );
        } else {
            print_welcome(running, state.welcome.as_deref().unwrap_or_default(), dir);
        }
        std::io::stdout().flush()?;
        watch(running).await
    }
}

impl State {
    fn load_or_plan(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("demo.json");
        if path.exists() {
            let text = fs::read_to_string(&path)?;
            let state: Self = serde_json::from_str(&text).with_context(|| {
                format!(
                    "{} is damaged: choose another --dir, or remove the folder",
                    path.display()
                )
            })?;
            for server in &state.servers {
                for port in [server.http_port, server.xmpp_port] {
                    if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
                        bail!(
                            "port {port}, which {} uses in {}, is taken: is this demo running already?",
                            server.domain,
                            dir.display()
                        );
                    }
                }
            }
            return Ok(state);
        }
        let servers = ORGANISATIONS
            .iter()
            .zip(PREFERRED_HTTP_PORTS)
            .map(|((domain, name), preferred)| {
                Ok(ServerState {
                    domain: (*domain).to_owned(),
                    http_port: free_tcp_port(preferred)?,
                    xmpp_port: free_tcp_port(0)?,
                    address: format!("{name}@{domain}"),
                    password: format!("{name}-{}", &wave::random_token()?[..10]),
                })
            })
            .collect::<anyhow::Result<_>>()?;
        // Port 0: whichever the DNS server finds free for both UDP and TCP.
        Ok(Self {
            dns_port: 0,
            servers,
            welcome: None,
        })
    }
}

fn write_state(dir: &Path, dns_port: u16, servers: &[&ServerState], welcome: Option<&str>) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&json!({"dns_port": dns_port, "servers": servers, "welcome": welcome}))?;
    let path = dir.join("demo.json");
    write_secret(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn free_tcp_port(preferred: u16) -> anyhow::Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, preferred)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(listener.local_addr()?.port())
}

async fn start_dns(state: &State) -> anyhow::Result<DnsServer> {
    let mut zone = Zone::new();
    for server in &state.servers {
        zone = zone.xmpp_server(&server.domain, (Ipv4Addr::LOCALHOST, server.xmpp_port).into())?;
    }
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, state.dns_port));
    DnsServer::start(listen, zone)
        .await
        .with_context(|| format!("cannot serve DNS at {listen}"))
}

/// One authority for both, and a certificate for each; made once and kept. The authority's key is not kept.
fn certify(dir: &Path, state: &State) -> anyhow::Result<()> {
    let root = dir.join("ca.crt");
    let there = |domain: &str| dir.join(domain).join(format!("{domain}.crt")).exists();
    if root.exists() && state.servers.iter().all(|server| there(&server.domain)) {
        return Ok(());
    }
    let ca = Ca::create("Billow demo")?;
    for server in &state.servers {
        let folder = dir.join(&server.domain);
        fs::create_dir_all(&folder)?;
        ca.issue(&server.domain)?.write(&folder, &server.domain)?;
    }
    fs::write(&root, ca.certificate_pem()?).with_context(|| format!("cannot write {}", root.display()))
}

/// Writes one organisation's configuration and starts its server.
fn start(dir: &Path, dns_port: u16, state: ServerState) -> anyhow::Result<Running> {
    let folder = dir.join(&state.domain);
    let config = folder.join("billow.toml");
    // A configuration that somebody changed to try something is theirs.
    if !config.exists() {
        fs::write(&config, config_text(&state, dns_port))?;
    }
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("billow.log"))?;
    let process = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log))
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start the server of {}", state.domain))?;
    let pid = process.id().context("the server ended at once; its log says why")?;
    Ok(Running {
        state,
        folder,
        config,
        process,
        pid,
    })
}

fn config_text(state: &ServerState, dns_port: u16) -> String {
    format!(
        "# Written by `billow demo`; yours to change.\n\
         domain = \"{domain}\"\n\
         data_dir = \"data\"\n\n\
         [http]\nlisten = \"127.0.0.1:{http}\"\n\n\
         [accounts]\nregistration = \"open\"\n\n\
         [federation]\nenabled = true\nlisten = \"127.0.0.1:{xmpp}\"\ncertificate = \"{domain}.crt\"\nkey = \"{domain}.key\"\n\
         trust_roots = [\"../ca.crt\"]\nnameservers = [\"127.0.0.1:{dns_port}\"]\n\
         # Everything here is on loopback, which a real server refuses to be sent to by DNS.\n\
         allow_private_addresses = true\nretry_cap_seconds = 5\n\n\
         [federation.policy]\n\
         # People of these domains are no strangers; an invitation from another one would be a request first.\n\
         known = [\"*.lab\"]\n",
        domain = state.domain,
        http = state.http_port,
        xmpp = state.xmpp_port,
    )
}

async fn await_ready(server: &mut Running) -> anyhow::Result<()> {
    let give_up = Instant::now() + START_PATIENCE;
    let log = server.folder.join("billow.log");
    loop {
        if let Some(status) = server.process.try_wait()? {
            bail!(
                "the server of {} ended ({status}); {} says why",
                server.state.domain,
                log.display()
            );
        }
        if http::get(&server.url(), "/healthz", None).await.is_ok() {
            return Ok(());
        }
        if Instant::now() > give_up {
            bail!(
                "the server of {} does not answer at {}; see {}",
                server.state.domain,
                server.url(),
                log.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Signs the organisation's person in, registering them at the first start.
async fn account(server: &Running) -> anyhow::Result<crate::client::Profile> {
    let ServerState { address, password, .. } = &server.state;
    if let Ok(profile) = sign_in(&server.url(), address, password).await {
        return Ok(profile);
    }
    http::post(
        &server.url(),
        "/api/register",
        None,
        &json!({"address": address, "password": password}),
    )
    .await?;
    sign_in(&server.url(), address, password).await
}

fn server_json(server: &Running) -> serde_json::Value {
    json!({
        "domain": server.state.domain, "url": server.url().to_string(), "pid": server.pid,
        "data_dir": server.folder.join("data"), "config": server.config,
        "users": [{"address": server.state.address, "password": server.state.password}],
    })
}

fn print_welcome(running: &[Running], wave: &str, dir: &Path) {
    println!("Two organisations, each with a server of its own, federating over XMPP:\n");
    for server in running {
        println!(
            "  {:<12} {}    sign in as {} with {}",
            server.state.domain,
            server.url(),
            server.state.address,
            server.state.password
        );
    }
    println!("\nBoth are in the wave {wave}. Open both addresses side by side and type.");
    println!(
        "Servers: {}. Everything is kept in {}.",
        running
            .iter()
            .map(|s| format!("{} (pid {})", s.state.domain, s.pid))
            .collect::<Vec<_>>()
            .join(", "),
        dir.display()
    );
    println!("Ctrl-C stops all of it.");
}

/// Waits for ever; a server that ends is named, with the way to start it again.
async fn watch(running: &mut [Running]) -> anyhow::Result<()> {
    let mut told = vec![false; running.len()];
    loop {
        for (server, told) in running.iter_mut().zip(&mut told) {
            if !*told && let Some(status) = server.process.try_wait()? {
                *told = true;
                eprintln!(
                    "{} ended ({status}); to start it again: billow serve --config {}",
                    server.state.domain,
                    server.config.display()
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Asks a server to end and waits for it; one that does not is ended.
async fn stop(server: &mut Running) {
    const GRACE: Duration = Duration::from_secs(10);
    if matches!(server.process.try_wait(), Ok(None))
        && let Some(pid) = i32::try_from(server.pid).ok().and_then(rustix::process::Pid::from_raw)
    {
        // It may have ended between the look and the signal; then there is nothing to stop.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if tokio::time::timeout(GRACE, server.process.wait()).await.is_err() {
            let _ = server.process.kill().await;
        }
    }
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be watched inside a runtime");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
