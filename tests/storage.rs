//! The real server on a disk that fills up, with a clock that jumps, without file descriptors, and in the place of another;
//! and what an operator does: backup, restore, scrub, salvage.

#[allow(dead_code, reason = "the store's tests use the rest")]
#[path = "lab/disk.rs"]
mod disk;
#[allow(dead_code, reason = "other tests use the rest")]
mod lab;

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use billow::client::http::{self, ServerUrl};
use billow::client::{Profile, Socket};
use billow::command::login::sign_in;
use billow::command::wave::{OpenWave, random_token};
use billow_model::conversation::{blip_of_text, create_wave};
use billow_model::{DocumentId, WaveletName, WaveletOp};
use billow_server::wavelets::shown;
use billow_server::web::messages::{ClientMessage, RefusalReason, ServerMessage};
use disk::{Action, Disk, Files, SYNC, TRUNCATE, WRITE};
use serde_json::json;
use tempfile::TempDir;

use lab::{ACME, INITECH, Lab};

/// The demo is one at a time.
static DEMO: Mutex<()> = Mutex::new(());

const BILLOW: &str = env!("CARGO_BIN_EXE_billow");
const ALICE: &str = "alice@initech.lab";
const PASSWORD: &str = "a long password of alice";
const PATIENCE: Duration = Duration::from_secs(10);

/// One real server that does not federate, its folder, its disk.
struct Server {
    child: Option<Child>,
    url: Option<ServerUrl>,
    disk: Disk,
    folder: TempDir,
}

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = "domain = \"initech.lab\"\ndata_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n[accounts]\nregistration = \"open\"\n";
        fs::write(folder.path().join("billow.toml"), config).expect("a file");
        Self {
            child: None,
            url: None,
            disk: Disk::new(&folder.path().join("data"), &folder.path().join("control")),
            folder,
        }
    }

    /// A started one with alice's account.
    async fn with_alice() -> (Self, Profile) {
        let mut server = Self::new();
        server.start(&[]);
        let body = json!({"address": ALICE, "password": PASSWORD});
        http::post(server.url(), "/api/register", None, &body)
            .await
            .expect("registered");
        let alice = sign_in(server.url(), ALICE, PASSWORD).await.expect("signed in");
        (server, alice)
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("billow.toml")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn url(&self) -> &ServerUrl {
        self.url.as_ref().expect("it was started")
    }

    /// Starts it under a shell's limits.
    fn start(&mut self, limits: &[&str]) {
        let (child, line) = self.spawn(limits);
        let url = line
            .split_once("is at ")
            .and_then(|(_, rest)| rest.split([',', ' ', '\n']).next());
        self.url = Some(
            url.unwrap_or_else(|| panic!("{line:?}: {}", self.log()))
                .parse()
                .expect("a URL"),
        );
        self.child = Some(child);
    }

    fn spawn(&self, limits: &[&str]) -> (Child, String) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"));
        let mut command = Command::new("sh");
        let script = format!("{}exec \"$0\" serve --config \"$1\"", limits.concat());
        command
            .args(["-c", &script, BILLOW])
            .arg(self.config())
            .stdout(Stdio::piped())
            .stderr(log.expect("a log"));
        self.disk.under(&mut command);
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("it speaks");
        (child, line)
    }

    fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .expect("kill runs");
        assert!(child.wait().expect("it ends").success(), "{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect((self.url().host.as_str(), self.url().port)).expect("it listens");
        let (host, port) = (&self.url().host, self.url().port);
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        )
        .expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("an answer");
        page
    }

    fn billow(&self, args: &[&str]) -> Output {
        let mut command = Command::new(BILLOW);
        command.args(args).arg("--config").arg(self.config());
        command.output().expect("the command runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn name() -> WaveletName {
    "initech.lab/w+hers/~/conv+root".parse().expect("a name")
}

/// Alice's editor: each change is submitted once, and again with the same number if it could not be stored.
struct Editor {
    socket: Socket,
    session: String,
    version: u64,
    sequence: u64,
}

impl Editor {
    /// Makes the wave, or opens it.
    async fn open(alice: &Profile) -> Self {
        let mut socket = Socket::connect(alice).await.expect("connected");
        let wave = name().wave().to_string();
        socket
            .send(&ClientMessage::Open {
                wave,
                known: Vec::new(),
            })
            .await
            .expect("sent");
        let mut version = 0;
        loop {
            match socket.next_within(PATIENCE).await.expect("an answer") {
                ServerMessage::Snapshot { wavelet } => version = wavelet.version,
                ServerMessage::Opened { .. } | ServerMessage::NoWave { .. } => break,
                _ => {}
            }
        }
        let mut editor = Self {
            socket,
            session: random_token().expect("chance"),
            version,
            sequence: 0,
        };
        if version == 0 {
            let blip = DocumentId::new("b+first").expect("an id");
            let text = blip_of_text("Lunch").expect("a text");
            let ops = create_wave(&ALICE.parse().expect("an address"), &blip, text, &[]).expect("a wave");
            editor.sequence += 1;
            editor.submit(&ops).await.expect("stored");
        }
        editor
    }

    /// Submits what has the current number; the answer, with the delta's time.
    async fn submit(&mut self, ops: &[WaveletOp]) -> Result<i64, (RefusalReason, String)> {
        let (wavelet, session) = (name().to_string(), self.session.clone());
        let message = ClientMessage::Submit {
            wavelet,
            session: session.clone(),
            sequence: self.sequence,
            version: self.version,
            operations: ops.iter().map(shown::operation).collect(),
        };
        self.socket.send(&message).await.expect("sent");
        loop {
            match self.socket.next_within(PATIENCE).await.expect("an answer") {
                ServerMessage::Delta { delta } => {
                    self.version = delta.version + delta.operations.len() as u64;
                    if delta
                        .own
                        .is_some_and(|own| own.session == session && own.sequence == self.sequence)
                    {
                        return Ok(delta.timestamp);
                    }
                }
                ServerMessage::Refused { reason, text, .. } => return Err((reason, text)),
                ServerMessage::Error { text } => panic!("{text}"),
                _ => {}
            }
        }
    }

    async fn write(&mut self, text: &str) -> Result<i64, (RefusalReason, String)> {
        self.sequence += 1;
        self.submit(&blip(self.sequence, text)).await
    }
}

fn blip(number: u64, text: &str) -> Vec<WaveletOp> {
    vec![WaveletOp::MutateDocument {
        id: DocumentId::new(&format!("b+{number}")).expect("an id"),
        op: blip_of_text(text).expect("a text"),
    }]
}

async fn state(alice: &Profile) -> (u64, String) {
    let opened = OpenWave::open(alice, &name().wave().to_string())
        .await
        .expect("it can be read");
    let wavelet = &opened.wavelets[&name().to_string()];
    (wavelet.version, wavelet.digest.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn b_203_on_a_full_disk_clients_are_told_reads_work_and_it_goes_on_by_itself() {
    let (mut server, alice) = Server::with_alice().await;
    let mut editor = Editor::open(&alice).await;
    editor.write("before").await.expect("stored");
    let before = state(&alice).await;

    server.disk.set_error(28);
    server.disk.arm(WRITE | TRUNCATE, Files::Any, Action::FailOn, 1);
    let (reason, text) = editor.write("while it is full").await.expect_err("there is no room");
    assert_eq!(reason, RefusalReason::Unavailable);
    assert!(text.contains("full"), "{text}");
    assert_eq!(state(&alice).await, before, "it can be read, and is as it was");
    let body = json!({"address": "bob@initech.lab", "password": PASSWORD});
    let refused = http::post(server.url(), "/api/register", None, &body)
        .await
        .expect_err("there is no room");
    assert!(refused.to_string().contains("full"), "{refused}");

    server.disk.heal();
    let back = Instant::now();
    let mut editor = Editor::open(&alice).await;
    while editor.write("after").await.is_err() {
        assert!(back.elapsed() < PATIENCE, "it does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "FIGURE disk_full_server lost=0 resumed_ms={}",
        back.elapsed().as_millis()
    );
    let after = state(&alice).await;
    assert!(after.0 > before.0);
    assert!(server.get("/healthz").contains("ok"));
    server.stop();
    server.start(&[]);
    let alice = sign_in(server.url(), ALICE, PASSWORD).await.expect("signed in");
    assert_eq!(state(&alice).await, after, "nothing that was acknowledged is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn b_204_after_a_failed_sync_the_server_says_that_it_only_reads() {
    let (mut server, alice) = Server::with_alice().await;
    let mut editor = Editor::open(&alice).await;
    editor.write("before").await.expect("stored");
    let before = state(&alice).await;
    server.disk.set_error(5);
    server.disk.arm(SYNC, Files::Log, Action::FailOnce, 1);
    assert!(editor.write("at the failure").await.is_err());
    let mut editor = Editor::open(&alice).await;
    for _ in 0..3 {
        assert!(
            editor.write("after it").await.is_err(),
            "nothing is stored on a disk that has failed"
        );
    }
    assert_eq!(state(&alice).await, before, "reading goes on");
    let health = server.get("/healthz");
    assert!(
        health.contains("503") && health.contains("read-only since a disk error"),
        "{health}"
    );
    assert!(server.get("/metrics").contains("billow_store{kind=\"read only\"} 1"));
    assert!(
        server.log().contains("ALARM: the store is read-only"),
        "{}",
        server.log()
    );
    assert_eq!(server.disk.calls(), 1, "the sync was not tried again");
    server.stop();
    // A person has looked, and starts it again.
    server.start(&[]);
    let alice = sign_in(server.url(), ALICE, PASSWORD).await.expect("signed in");
    assert!(state(&alice).await.0 >= before.0);
    Editor::open(&alice).await.write("again").await.expect("stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn b_208_a_second_server_on_the_same_data_ends_at_once_and_names_the_first() {
    let (server, alice) = Server::with_alice().await;
    let started = Instant::now();
    let second = server.billow(&["serve"]);
    let took = started.elapsed();
    let owner = server.child.as_ref().expect("it runs").id();
    assert!(!second.status.success());
    assert!(
        said(&second).contains(&format!("in use by process {owner}")),
        "{}",
        said(&second)
    );
    assert!(took < Duration::from_secs(1), "{took:?}");
    Editor::open(&alice).await.write("undisturbed").await.expect("stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn b_213_time_that_jumps_ends_no_session_and_no_wavelets_time_goes_back() {
    const HOUR: i64 = 60 * 60 * 1_000;
    const YEAR: i64 = 365 * 24 * HOUR;
    let (mut server, alice) = Server::with_alice().await;
    let mut editor = Editor::open(&alice).await;
    let mut last = editor.write("now").await.expect("stored");
    let now = last;
    for jump in [-HOUR, 0, YEAR, 0, -YEAR, -now, HOUR, 1_000, -1_000, 0] {
        server.disk.set_clock(jump);
        let time = editor.write("later").await.expect("stored");
        assert!(time >= last, "{time} after {last}, with the clock at {jump} ms");
        last = time;
        // The session that is open goes on, and a new connection with its token is let in.
        let (version, _) = state(&alice).await;
        assert_eq!(version, editor.version);
    }
    // Over a restart too, with the clock an hour back.
    server.stop();
    server.disk.set_clock(-HOUR);
    server.start(&[]);
    let alice = Profile {
        url: server.url().to_string(),
        ..alice
    };
    let time = Editor::open(&alice)
        .await
        .write("after the restart")
        .await
        .expect("stored");
    assert!(
        time >= last,
        "{time} after {last}, over a restart with the clock an hour back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn b_214_without_file_descriptors_new_connections_wait_and_work_goes_on() {
    let mut server = Server::new();
    server.start(&["ulimit -n 64; "]);
    let body = json!({"address": ALICE, "password": PASSWORD});
    http::post(server.url(), "/api/register", None, &body)
        .await
        .expect("registered");
    let alice = sign_in(server.url(), ALICE, PASSWORD).await.expect("signed in");
    let mut editor = Editor::open(&alice).await;
    let crowd: Vec<TcpStream> = (0..100)
        .filter_map(|_| TcpStream::connect((server.url().host.as_str(), server.url().port)).ok())
        .collect();
    assert!(crowd.len() > 64, "the crowd is larger than what the server may open");
    for number in 0..10 {
        editor
            .write(&format!("in the crowd {number}"))
            .await
            .expect("work goes on");
    }
    assert!(
        server.log().contains("a connection was not accepted"),
        "{}",
        server.log()
    );
    drop(crowd);
    let back = Instant::now();
    assert_eq!(state(&alice).await.0, editor.version);
    assert!(back.elapsed() < PATIENCE);
}

/// Longer than a runtime usually keeps a thread that has nothing to do.
const IDLE: Duration = Duration::from_secs(11);

#[tokio::test(flavor = "multi_thread")]
async fn b_214_without_new_threads_work_goes_on() {
    let (server, alice) = Server::with_alice().await;
    let mut editor = Editor::open(&alice).await;
    editor.write("before").await.expect("stored");
    server.disk.set_no_threads();
    tokio::time::sleep(IDLE).await;
    // A crowd that wants more at once than there are threads for: it is served one after the other.
    let crowd: Vec<_> = (0..40)
        .map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move { state(&alice).await.0 })
        })
        .collect();
    for number in 0..10 {
        editor
            .write(&format!("without threads {number}"))
            .await
            .expect("work goes on");
    }
    for one in crowd {
        one.await.expect("served");
    }
    sign_in(server.url(), ALICE, PASSWORD).await.expect("signed in");
    assert_eq!(state(&alice).await.0, editor.version);
    assert!(server.disk.refused_threads() > 0, "the crowd made it ask for threads");
}

#[tokio::test(flavor = "multi_thread")]
async fn b_214_little_memory_is_enough_whatever_a_crowd_wants_and_work_goes_on() {
    /// What a small machine gives it.
    const LIMIT_KB: u64 = 256 * 1024;
    let (server, alice) = Server::with_alice().await;
    let mut editor = Editor::open(&alice).await;
    // Each password that is looked at takes tens of megabytes, each connection its buffers.
    let guesses: Vec<_> = (0..100)
        .map(|number| {
            let url = server.url().clone();
            let body = json!({"address": ALICE, "password": format!("a guess of a password {number}")});
            tokio::spawn(async move { http::post(&url, "/api/signin", None, &body).await.is_err() })
        })
        .collect();
    let mut crowd: Vec<TcpStream> = (0..500)
        .filter_map(|_| TcpStream::connect((server.url().host.as_str(), server.url().port)).ok())
        .collect();
    for one in &mut crowd {
        // One that was turned away does not take it.
        let _ = one.write_all(b"POST /api/signin HTTP/1.1\r\nHost: initech.lab\r\nContent-Length: 60000\r\n\r\n{");
    }
    for number in 0..10 {
        editor
            .write(&format!("in the crowd {number} {}", "x".repeat(10_000)))
            .await
            .expect("work goes on");
    }
    drop(crowd);
    for guess in guesses {
        assert!(guess.await.expect("answered"), "no guess is let in");
    }
    assert_eq!(state(&alice).await.0, editor.version);
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.as_ref().expect("it runs").id()));
    let status = status.expect("the very same process still runs");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most: u64 = most
        .and_then(|most| most.trim().trim_end_matches(" kB").parse().ok())
        .expect("the system says how much memory it had at most");
    println!("{most} kB at most");
    assert!(most < LIMIT_KB, "{most} kB");
}

#[test]
fn a_server_that_is_told_to_stop_waits_for_nothing() {
    let _alone = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::start();
    let bob = lab::text(&lab.ready["servers"][ACME]["users"][0]["address"]).to_owned();
    let wave = lab.run("alice", &["wave", "new", "Lunch", "--with", &bob]);
    let wave = lab::text(&wave["wave"]).to_owned();
    let wanted = lab.conversation("alice", &wave);
    lab.wait_for_equal("bob", &wave, &wanted, PATIENCE);
    for server in [INITECH, ACME] {
        let pid = lab.ready["servers"][server]["pid"].to_string();
        let runs = || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        assert!(runs());
        let told = Instant::now();
        Command::new("kill").arg(&pid).status().expect("kill runs");
        while runs() {
            assert!(told.elapsed() < PATIENCE, "it never ends");
            std::thread::sleep(Duration::from_millis(10));
        }
        // Its own waits, for whom it does not hear from, have two seconds and more.
        let took = told.elapsed();
        println!("stopped in {took:?}");
        assert!(took < Duration::from_millis(1_800), "{took:?}");
    }
}

#[test]
fn b_207_a_configuration_that_would_not_sync_is_refused() {
    let server = Server::new();
    for line in [
        "synchronous = \"OFF\"",
        "[store]\nsynchronous = \"OFF\"",
        "[storage]\nsync = false",
    ] {
        let text = fs::read_to_string(server.config()).expect("it is there");
        let config = if line.starts_with('[') {
            format!("{text}{line}\n")
        } else {
            format!("{line}\n{text}")
        };
        fs::write(server.config(), config).expect("written");
        for command in ["check", "serve"] {
            let output = match command {
                "check" => server.billow(&["config", "check"]),
                _ => server.billow(&["serve"]),
            };
            assert!(!output.status.success(), "{command} with {line:?}: {}", said(&output));
            assert!(said(&output).contains("billow.toml"), "{}", said(&output));
        }
        fs::write(server.config(), text).expect("written");
    }
    assert!(!server.data().join("billow.db").exists(), "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn b_209_a_backup_of_a_running_server_is_restored_whole() {
    let (mut server, alice) = Server::with_alice().await;
    let mut editor = Editor::open(&alice).await;
    for number in 0..20 {
        editor.write(&format!("before {number}")).await.expect("stored");
    }
    let at_backup = state(&alice).await;
    let backup = server.folder.path().join("backup");
    let made = server.billow(&["backup", text(&backup)]);
    assert!(made.status.success(), "{}", said(&made));
    editor.write("after the backup").await.expect("stored");

    let in_the_way = server.billow(&["restore", text(&backup)]);
    assert!(
        said(&in_the_way).contains("move it away first"),
        "{}",
        said(&in_the_way)
    );
    server.stop();
    let looked = server.billow(&["scrub"]);
    assert!(
        looked.status.success() && said(&looked).contains(" 0 findings"),
        "{}",
        said(&looked)
    );
    fs::rename(server.data(), server.folder.path().join("old")).expect("moved");
    fs::create_dir(server.data()).expect("made");
    let restored = server.billow(&["restore", text(&backup)]);
    assert!(restored.status.success(), "{}", said(&restored));
    server.start(&[]);
    let alice = sign_in(server.url(), ALICE, PASSWORD).await.expect("signed in");
    assert_eq!(state(&alice).await, at_backup, "as it was at the moment of the backup");
    Editor::open(&alice)
        .await
        .write("and it goes on")
        .await
        .expect("stored");
    println!("FIGURE restore digest_equal=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn b_205_what_is_damaged_is_found_by_scrub_and_salvaged() {
    let (mut server, alice) = Server::with_alice().await;
    let mut editor = Editor::open(&alice).await;
    for number in 0..10 {
        editor
            .write(&format!("a line to be looked for {number}"))
            .await
            .expect("stored");
    }
    server.stop();
    let database = server.data().join("billow.db");
    let mut bytes = fs::read(&database).expect("read");
    let wanted = b"a line to be looked for 7";
    let places: Vec<usize> = (0..bytes.len() - wanted.len())
        .filter(|at| &bytes[*at..at + wanted.len()] == wanted)
        .collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] ^= 1;
    }
    fs::write(&database, bytes).expect("written");
    let looked = server.billow(&["scrub"]);
    assert!(!looked.status.success(), "{}", said(&looked));
    assert!(
        said(&looked).contains("initech.lab/w+hers/~/conv+root: "),
        "{}",
        said(&looked)
    );
    let into = server.folder.path().join("salvaged");
    let salvaged = server.billow(&["salvage", text(&into)]);
    assert!(!salvaged.status.success(), "{}", said(&salvaged));
    assert!(said(&salvaged).contains("deltas verify, then"), "{}", said(&salvaged));
    let files: Vec<_> = fs::read_dir(&into)
        .expect("made")
        .flatten()
        .map(|file| file.path())
        .collect();
    let kept: String = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("text"))
        .collect();
    assert!(
        kept.contains(&hex::encode("a line to be looked for 6")),
        "what was before it is there"
    );
    assert!(!kept.contains(&hex::encode("a line to be looked for 8")));
    // The server runs; what is damaged is not shown as if nothing were.
    server.start(&[]);
    let alice = sign_in(server.url(), ALICE, PASSWORD).await.expect("signed in");
    let wave = name().wave().to_string();
    let words = |opened: anyhow::Result<OpenWave>| opened.err().expect("it is not shown").to_string();
    let told = words(OpenWave::open(&alice, &wave).await);
    assert!(told.contains("damaged"), "{told}");
    // Who is not on it hears of it no more than of one that is not there.
    let body = json!({"address": "eve@initech.lab", "password": PASSWORD});
    http::post(server.url(), "/api/register", None, &body)
        .await
        .expect("registered");
    let eve = sign_in(server.url(), "eve@initech.lab", PASSWORD)
        .await
        .expect("signed in");
    let told = words(OpenWave::open(&eve, &wave).await);
    assert!(!told.contains("damaged"), "{told}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the test's own")
}

/// The configuration and the data of a server of the demo.
fn places(lab: &Lab, server: usize) -> (PathBuf, PathBuf) {
    let config = PathBuf::from(lab::text(&lab.ready["servers"][server]["config"]));
    let data = billow_server::config::Config::load(&config)
        .expect("it is good")
        .data_dir;
    (config, data)
}

fn operate(config: &Path, args: &[&str]) -> Output {
    Command::new(BILLOW)
        .args(args)
        .arg("--config")
        .arg(config)
        .output()
        .expect("the command runs")
}

/// A wave of both servers, of which its host has made a backup.
struct Lunch {
    lab: Lab,
    wave: String,
    blip: String,
    /// Where its host has its configuration and its data.
    config: PathBuf,
    data: PathBuf,
    folder: TempDir,
    backup: PathBuf,
}

fn lunch_with_a_backup() -> Lunch {
    let lab = Lab::start();
    let created = lab.run("alice", &["wave", "new", "Lunch", "--with", "bob@acme.lab"]);
    let (wave, blip) = (
        lab::text(&created["wave"]).to_owned(),
        lab::text(&created["blip"]).to_owned(),
    );
    lab.wait_for_equal("bob", &wave, &lab.conversation("alice", &wave), PATIENCE);
    let (config, data) = places(&lab, INITECH);
    let folder = tempfile::tempdir().expect("a folder");
    let backup = folder.path().join("backup");
    let made = operate(&config, &["backup", text(&backup)]);
    assert!(made.status.success(), "{}", said(&made));
    Lunch {
        lab,
        wave,
        blip,
        config,
        data,
        folder,
        backup,
    }
}

#[test]
fn b_209_a_host_restored_behind_its_peers_is_read_only_until_their_tail_is_adopted() {
    let _alone = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let Lunch {
        mut lab,
        wave,
        blip,
        config,
        data,
        folder,
        backup,
    } = lunch_with_a_backup();
    let then = lab.conversation("alice", &wave);

    // An hour goes on, and acme.lab has all of it.
    for word in [" on", " Friday"] {
        lab.run("alice", &["wave", "write", &wave, "--blip", &blip, word]);
    }
    lab.wait_for_equal("bob", &wave, &lab.conversation("alice", &wave), PATIENCE);
    lab.run("bob", &["wave", "write", &wave, "--blip", &blip, " at one"]);
    let newest = lab.conversation("bob", &wave);
    lab.wait_for_equal("alice", &wave, &newest, PATIENCE);

    lab.kill(INITECH);
    fs::rename(&data, folder.path().join("old")).expect("moved");
    let restored = operate(&config, &["restore", text(&backup)]);
    assert!(restored.status.success(), "{}", said(&restored));
    lab.restart(INITECH);

    // It can be read, as it was; it cannot be changed by its own people, and bob's server is asked to try again.
    assert_eq!(lab.conversation("alice", &wave)["digest"], then["digest"]);
    let refused = lab
        .command(&["wave", "write", &wave, "--blip", &blip, " or not", "--profile", "alice"])
        .output();
    let refused = refused.expect("it runs");
    assert!(!refused.status.success(), "a second history is begun");
    assert!(said(&refused).contains("restored from a backup"), "{}", said(&refused));
    let mut bob = lab
        .command(&[
            "wave",
            "write",
            &wave,
            "--blip",
            &blip,
            " (bob)",
            "--profile",
            "bob",
            "--json",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("write runs");
    std::thread::sleep(Duration::from_secs(2));
    assert!(
        bob.try_wait().expect("it is our child").is_none(),
        "nobody can have accepted it"
    );
    assert_eq!(
        lab.conversation("alice", &wave)["digest"],
        then["digest"],
        "nothing has changed"
    );

    // Acme's operator hands over what acme.lab has, ours adopts it.
    let theirs = folder.path().join("theirs");
    let handed = operate(&places(&lab, ACME).0, &["salvage", text(&theirs)]);
    assert!(handed.status.success(), "{}", said(&handed));
    let files = fs::read_dir(&theirs).expect("made").flatten().map(|file| file.path());
    let is_ours = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .next()
            .is_some_and(|head| head.contains(&wave) && head.contains("conv+root"))
    };
    let file = files.into_iter().find(is_ours).expect("the wave is among them");
    lab.kill(INITECH);
    // One letter of it changed is another history.
    let forged = folder.path().join("forged.jsonl");
    let whole = fs::read_to_string(&file).expect("text");
    let friday = hex::encode(" Friday");
    assert!(whole.contains(&friday));
    fs::write(&forged, whole.replace(&friday, &hex::encode(" Monday"))).expect("written");
    let refused = operate(&config, &["adopt", text(&forged)]);
    assert!(!refused.status.success(), "{}", said(&refused));
    let adopted = operate(&config, &["adopt", text(&file)]);
    assert!(adopted.status.success(), "{}", said(&adopted));
    lab.restart(INITECH);
    assert!(
        bob.wait().expect("it ends").success(),
        "bob's words were taken after all"
    );
    let at_bob = lab.conversation("bob", &wave);
    lab.wait_for_equal("alice", &wave, &at_bob, PATIENCE);
    assert_eq!(at_bob["blips"][0]["text"], "Lunch on Friday at one (bob)");
    lab.run("alice", &["wave", "write", &wave, "--blip", &blip, "!"]);
    lab.wait_for_equal("bob", &wave, &lab.conversation("alice", &wave), PATIENCE);
    println!("FIGURE restored_behind drills=1 detected=1 adopted=1 digest_equal=1");
}

#[test]
fn an_old_copy_put_back_by_hand_is_told_to_the_operator_when_a_peer_names_a_newer_version() {
    let _alone = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let Lunch {
        mut lab,
        wave,
        blip,
        config,
        data,
        folder,
        backup,
    } = lunch_with_a_backup();
    lab.run("alice", &["wave", "write", &wave, "--blip", &blip, " on Friday"]);
    lab.wait_for_equal("bob", &wave, &lab.conversation("alice", &wave), PATIENCE);
    lab.kill(INITECH);
    fs::rename(&data, folder.path().join("old")).expect("moved");
    fs::create_dir(&data).expect("made");
    fs::copy(backup.join("billow.db"), data.join("billow.db")).expect("copied");
    lab.restart(INITECH);
    // Bob writes after what only his server remembers.
    let mut bob = lab
        .command(&[
            "wave",
            "write",
            &wave,
            "--blip",
            &blip,
            " at one",
            "--profile",
            "bob",
            "--json",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("write runs");
    let log = || fs::read_to_string(config.with_file_name("billow.log")).unwrap_or_default();
    let give_up = Instant::now() + PATIENCE;
    while !log().contains("ALARM: acme.lab names version") {
        assert!(Instant::now() < give_up, "{}", log());
        std::thread::sleep(Duration::from_millis(200));
    }
    // It may be a lie, and a lie stops nobody.
    lab.run("alice", &["wave", "write", &wave, "--blip", &blip, " at noon"]);
    bob.kill().expect("it waits");
    bob.wait().expect("it ends");
}

#[test]
fn b_205_a_damaged_copy_is_fetched_again_from_its_host() {
    let _alone = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lab = Lab::start();
    let created = lab.run(
        "alice",
        &["wave", "new", "A line to be looked for", "--with", "bob@acme.lab"],
    );
    let (wave, blip) = (
        lab::text(&created["wave"]).to_owned(),
        lab::text(&created["blip"]).to_owned(),
    );
    for word in [" one", " two"] {
        lab.run("alice", &["wave", "write", &wave, "--blip", &blip, word]);
    }
    let wanted = lab.conversation("alice", &wave);
    lab.wait_for_equal("bob", &wave, &wanted, PATIENCE);
    let (config, data) = places(&lab, ACME);
    lab.kill(ACME);
    // All of the log goes into the file, so that it can be damaged there.
    assert!(operate(&config, &["scrub"]).status.success());
    let database = data.join("billow.db");
    let mut bytes = fs::read(&database).expect("read");
    let line = b"A line to be looked for";
    let places: Vec<usize> = (0..bytes.len() - line.len())
        .filter(|at| &bytes[*at..at + line.len()] == line)
        .collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] ^= 1;
    }
    fs::write(&database, bytes).expect("written");
    assert!(!operate(&config, &["scrub"]).status.success(), "the damage is done");
    lab.restart(ACME);
    lab.wait_for_equal("bob", &wave, &wanted, PATIENCE);
    lab.run("bob", &["wave", "write", &wave, "--blip", &blip, " three"]);
    lab.wait_for_equal("alice", &wave, &lab.conversation("bob", &wave), PATIENCE);
    println!("FIGURE damaged_copy fetched_again=1 digest_equal=1");
}
