//! From one person's key to another person's screen: on one server, across two, and through the bound, in one run.
//!
//! `BILLOW` names the binary to measure (default `../target/release/billow`). Rounds are interleaved, so that what else
//! the machine does falls on all of them; each figure is the median round, with the range.
//!
//! *Solo*: one typist at 50 keys a second and one observer; latency from send to seen.
//! *Saturation*: 24 waves with a typist each, who sends the next key when the observer has seen the last.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use billow::client::http::{self, ServerUrl};
use billow::client::{Profile, Socket};
use billow::command::login::sign_in;
use billow::command::wave::{self, OpenWave, operation_to_message};
use billow_model::{Component, DocOp, DocumentId, WaveletOp};
use billow_server::web::messages::{ClientMessage, ServerMessage};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const ROUNDS: usize = 3;
const SOLO_KEYS: usize = 300;
const SOLO_PACE: Duration = Duration::from_millis(20);
const WAVES: usize = 24;
const SATURATION: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let bound_sync = Bound::start(false)?;
    let bound_sign = Bound::start(true)?;
    let mut rows = Vec::new();
    let names = ["bound: fsync + echo", "bound: sign + fsync + echo", "billow, one server", "billow, two servers (host types)", "billow, two servers (remote types)"];
    for name in names {
        rows.push(Row { name, solo: Vec::new(), rate: Vec::new() });
    }
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS}", round + 1);
        for (index, row) in rows.iter_mut().enumerate() {
            let pair = |number: usize| {
                let (lab, bound_sync, bound_sign) = (&lab, &bound_sync, &bound_sign);
                async move {
                    match index {
                        0 => bound_sync.pair(&format!("r{round}w{number}")).await,
                        1 => bound_sign.pair(&format!("r{round}w{number}")).await,
                        2 => lab.pair(&lab.alice, &lab.carol).await,
                        3 => lab.pair(&lab.alice, &lab.bob).await,
                        _ => lab.pair_typing_at_the_remote().await,
                    }
                }
            };
            row.solo.push(solo(pair(0).await?).await?);
            let mut pairs = Vec::new();
            for number in 1..=WAVES {
                pairs.push(pair(number).await?);
            }
            row.rate.push(saturate(pairs).await?);
        }
    }
    print_table(&rows);
    Ok(())
}

struct Row {
    name: &'static str,
    /// p50 and p99 in ms, a round each.
    solo: Vec<(f64, f64)>,
    /// Keys per second, a round each.
    rate: Vec<f64>,
}

fn print_table(rows: &[Row]) {
    let median = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
    };
    let p50 = |row: &Row| median(&row.solo.iter().map(|s| s.0).collect::<Vec<_>>());
    let p99 = |row: &Row| median(&row.solo.iter().map(|s| s.1).collect::<Vec<_>>());
    let rate = |row: &Row| median(&row.rate);
    println!("\nkey to the other's screen; solo = one typist at 50/s, saturation = {WAVES} waves, closed loop; median of {ROUNDS} rounds (range)\n");
    println!("| | solo p50 ms | solo p99 ms | keys/s at saturation | p50 against sign bound | rate against sign bound |");
    println!("|---|---|---|---|---|---|");
    let bound = &rows[1];
    for row in rows {
        let (a, b, c) = (p50(row), p99(row), rate(row));
        println!(
            "| {} | {:.2} ({:.2}–{:.2}) | {:.2} ({:.2}–{:.2}) | {:.0} ({:.0}–{:.0}) | {:.2}× | {:.2}× |",
            row.name, a.0, a.1, a.2, b.0, b.1, b.2, c.0, c.1, c.2, a.0 / p50(bound).0, c.0 / rate(bound).0
        );
    }
}

/// A typist and an observer of one document.
enum Pair {
    Bound { typist: Plain, observer: Plain, sent: u64 },
    Billow(Box<Typing>),
}

type Plain = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Typing {
    typist: Socket,
    observer: Socket,
    wavelet: String,
    blip: DocumentId,
    session: String,
    sequence: u64,
    version: u64,
    items: u32,
}

impl Pair {
    async fn press(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Bound { typist, sent, .. } => {
                *sent += 1;
                let text = json!({"type": "submit", "wavelet": "initech.lab/w+0123456789abcdef01234567/~/conv+root", "sequence": *sent,
                    "operations": [{"mutateDocument": {"documentId": "b+0123456789abcdef01234567", "operation": [{"retain": 3}, {"characters": "x"}, {"retain": 100}]}}]});
                Ok(typist.send(Message::text(text.to_string())).await?)
            }
            Self::Billow(typing) => typing.press().await,
        }
    }

    /// Waits until the observer has seen a key.
    async fn seen(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Bound { observer, typist, .. } => {
                next_text(observer).await?;
                next_text(typist).await
            }
            Self::Billow(typing) => typing.seen().await,
        }
    }
}

async fn next_text(socket: &mut Plain) -> anyhow::Result<()> {
    loop {
        if let Message::Text(_) = socket.next().await.context("the bound closed")?? {
            return Ok(());
        }
    }
}

impl Typing {
    async fn press(&mut self) -> anyhow::Result<()> {
        self.sequence += 1;
        let op = DocOp::new(vec![Component::Retain(3), Component::Characters("x".into()), Component::Retain(self.items - 3)])?;
        let op = WaveletOp::MutateDocument { id: self.blip.clone(), op };
        self.items += 1;
        let message = ClientMessage::Submit {
            wavelet: self.wavelet.clone(),
            session: self.session.clone(),
            sequence: self.sequence,
            version: self.version,
            operations: vec![operation_to_message(&op)],
        };
        self.typist.send(&message).await
    }

    async fn seen(&mut self) -> anyhow::Result<()> {
        delta(&mut self.observer).await?;
        self.version = delta(&mut self.typist).await?;
        Ok(())
    }
}

/// The version after the next delta.
async fn delta(socket: &mut Socket) -> anyhow::Result<u64> {
    loop {
        match socket.next_within(Duration::from_secs(20)).await? {
            ServerMessage::Delta { delta } => return Ok(delta.version + delta.operations.len() as u64),
            ServerMessage::Refused { text, .. } | ServerMessage::Error { text } => anyhow::bail!("{text}"),
            _ => {}
        }
    }
}

/// One key at a time at a fixed pace: p50 and p99 in ms.
async fn solo(mut pair: Pair) -> anyhow::Result<(f64, f64)> {
    let mut times = Vec::with_capacity(SOLO_KEYS);
    let mut next = tokio::time::Instant::now();
    for key in 0..SOLO_KEYS + 20 {
        tokio::time::sleep_until(next).await;
        next += SOLO_PACE;
        let start = Instant::now();
        pair.press().await?;
        match &mut pair {
            Pair::Bound { observer, .. } => next_text(observer).await?,
            Pair::Billow(typing) => drop(delta(&mut typing.observer).await?),
        }
        let elapsed = start.elapsed();
        match &mut pair {
            Pair::Bound { typist, .. } => next_text(typist).await?,
            Pair::Billow(typing) => typing.version = delta(&mut typing.typist).await?,
        }
        if key >= 20 {
            times.push(elapsed.as_secs_f64() * 1000.0);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

/// All pairs at once, each sending its next key when the last was seen: keys per second.
async fn saturate(pairs: Vec<Pair>) -> anyhow::Result<f64> {
    let count = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = pairs
        .into_iter()
        .map(|mut pair| {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                while start.elapsed() < SATURATION {
                    pair.press().await?;
                    pair.seen().await?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    #[allow(clippy::cast_precision_loss, reason = "a rate for people to read")]
    Ok(count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

/// Two organisations with alice and carol at one, bob at the other.
struct Lab {
    demo: Child,
    _folder: tempfile::TempDir,
    alice: Profile,
    bob: Profile,
    carol: Profile,
}

impl Lab {
    async fn start() -> anyhow::Result<Self> {
        let binary = std::env::var_os("BILLOW")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/release/billow"), PathBuf::from);
        let folder = tempfile::tempdir()?;
        let mut demo = Command::new(&binary)
            .args(["demo", "--json", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}: run `make build` first", binary.display()))?;
        let mut line = String::new();
        BufReader::new(demo.stdout.take().expect("piped")).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line).context("the demo did not start")?;
        let sign_in_at = |server: usize| {
            let server = ready["servers"][server].clone();
            async move {
                let url: ServerUrl = server["url"].as_str().unwrap_or_default().parse()?;
                let user = &server["users"][0];
                sign_in(&url, user["address"].as_str().unwrap_or_default(), user["password"].as_str().unwrap_or_default()).await
            }
        };
        let (alice, bob) = (sign_in_at(0).await?, sign_in_at(1).await?);
        let url: ServerUrl = alice.url.parse()?;
        let body = json!({"address": "carol@initech.lab", "password": "carol types fast"});
        http::post(&url, "/api/register", None, &body).await?;
        let carol = sign_in(&url, "carol@initech.lab", "carol types fast").await?;
        Ok(Self { demo, _folder: folder, alice, bob, carol })
    }

    /// A new wave of `typist`, which `observer` watches.
    async fn pair(&self, typist: &Profile, observer: &Profile) -> anyhow::Result<Pair> {
        self.pair_in(typist, typist, observer).await
    }

    /// A wave hosted by alice's server, in which bob types and alice watches.
    async fn pair_typing_at_the_remote(&self) -> anyhow::Result<Pair> {
        self.pair_in(&self.alice, &self.bob, &self.alice).await
    }

    async fn pair_in(&self, creator: &Profile, typist: &Profile, observer: &Profile) -> anyhow::Result<Pair> {
        let other = if creator.address == typist.address { observer } else { typist };
        let text = "x".repeat(2000);
        let created = wave::create(creator, &text, &[other.address.clone()]).await?;
        let patience = Duration::from_secs(20);
        let typing = OpenWave::wait_for(typist, &created.wave, created.version, patience).await?;
        let watching = OpenWave::wait_for(observer, &created.wave, created.version, patience).await?;
        let state = typing.conversation()?;
        Ok(Pair::Billow(Box::new(Typing {
            wavelet: state.wavelet.clone(),
            version: state.version,
            blip: created.blip.clone(),
            session: wave::random_token()?,
            sequence: 0,
            items: u32::try_from(typing.document(created.blip.as_str())?.len())?,
            typist: typing.socket,
            observer: watching.socket,
        })))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.demo.id().to_string()]).status();
        let _ = self.demo.wait();
    }
}

/// The plain program.
struct Bound {
    process: Child,
    port: u16,
}

impl Bound {
    fn start(sign: bool) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?.with_file_name("bound"));
        if sign {
            command.arg("--sign");
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("build all of bench/ first")?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line)?;
        Ok(Self { process, port: line.trim().parse()? })
    }

    async fn pair(&self, room: &str) -> anyhow::Result<Pair> {
        let url = format!("ws://127.0.0.1:{}/{room}", self.port);
        let (typist, _) = tokio_tungstenite::connect_async(&url).await?;
        let (observer, _) = tokio_tungstenite::connect_async(&url).await?;
        for stream in [&typist, &observer] {
            if let MaybeTlsStream::Plain(tcp) = stream.get_ref() {
                tcp.set_nodelay(true)?;
            }
        }
        // Both must be in the room before the first key.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Pair::Bound { typist, observer, sent: 0 })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
