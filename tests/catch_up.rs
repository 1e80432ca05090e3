//! A server that gets a long history at once: fetched by a domain that has just joined, and pushed from version 0 to one
//! that was away from the beginning. Two real servers, with TLS, signatures and disks.
//!
//! `BILLOW_CATCH_UP` says how many deltas (small in `make test`; the figure is of a release build and 100,000).

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the tests that share it use different parts")]
mod lab;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use billow::client::http::{self, ServerUrl};
use billow::client::{Profile, Socket};
use billow::command::login::sign_in;
use billow::command::wave::{self, Created, OpenWave, operation_to_message};
use billow_model::{Component, DocOp, DocumentId, WaveletOp};
use billow_server::web::messages::{ClientMessage, ServerMessage, WaveletState};
use lab::{ACME, INITECH, Lab, text};
use serde_json::json;

/// Submissions that are under way at once while the history is written.
const AT_ONCE: u64 = 100;
/// A wavelet that nobody else is on has at most so many operations that are not signed yet.
const UNSEALED_MAX: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(600);
const PASSWORD: &str = "a long password of dan";

fn deltas_wanted() -> u64 {
    std::env::var("BILLOW_CATCH_UP").map_or(2_000, |count| count.parse().unwrap())
}

#[test]
fn b_120_a_long_history_reaches_a_new_domain_to_its_end() {
    let deltas = deltas_wanted();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut lab = Lab::start();
    let alice = runtime.block_on(user(&lab, INITECH));
    let dan = runtime.block_on(dan(&lab));

    // Fetched: acme.lab hears of the wave with its last delta.
    let created = runtime.block_on(wave::create(&alice, "Minutes", &[])).unwrap();
    let mut writer = runtime.block_on(Writer::open(&alice, &created));
    runtime.block_on(writer.write(deltas));
    runtime.block_on(writer.settle());
    let begun = Instant::now();
    let hers = runtime.block_on(writer.add(&dan.address));
    let his = runtime.block_on(arrived(&dan, &created));
    let fetched = begun.elapsed();
    println!("fetched: {deltas} deltas in {fetched:?}, written in {:?}", writer.took);
    equal(&hers, &his);

    // Pushed: bob of acme.lab is on it from the beginning, and his server has never been there.
    lab.kill(ACME);
    let bob = text(&lab.ready["servers"][ACME]["users"][0]["address"]).to_owned();
    let created = runtime.block_on(wave::create(&alice, "Minutes", &[bob])).unwrap();
    let mut writer = runtime.block_on(Writer::open(&alice, &created));
    runtime.block_on(writer.write(deltas));
    let hers = runtime.block_on(writer.add(&dan.address));
    lab.restart(ACME);
    let begun = Instant::now();
    let his = runtime.block_on(arrived(&dan, &created));
    let pushed = begun.elapsed();
    println!("pushed: {deltas} deltas in {pushed:?}");
    figure(deltas, fetched, pushed);
    equal(&hers, &his);
}

/// The slower way is the one that counts.
fn figure(deltas: u64, fetched: Duration, pushed: Duration) {
    #[allow(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let rate = |took: Duration| deltas as f64 / took.as_secs_f64();
    let slower = fetched.max(pushed);
    println!(
        "FIGURE catchup deltas={deltas} seconds={:.2} rate={:.0} fetched={:.0} pushed={:.0}",
        slower.as_secs_f64(),
        rate(slower),
        rate(fetched),
        rate(pushed)
    );
}

fn equal(hers: &WaveletState, his: &WaveletState) {
    let facts = |state: &WaveletState| (state.version, state.hash.clone(), state.digest.clone());
    assert_eq!(facts(hers), facts(his));
}

async fn user(lab: &Lab, server: usize) -> Profile {
    let server = &lab.ready["servers"][server];
    let url: ServerUrl = text(&server["url"]).parse().unwrap();
    let user = &server["users"][0];
    sign_in(&url, text(&user["address"]), text(&user["password"]))
        .await
        .unwrap()
}

/// Somebody at acme.lab who is on no wave before the last delta: when dan may open it, all of it is there.
async fn dan(lab: &Lab) -> Profile {
    let server = &lab.ready["servers"][ACME];
    let url: ServerUrl = text(&server["url"]).parse().unwrap();
    let address = format!("dan@{}", text(&server["domain"]));
    let body = json!({"address": address, "password": PASSWORD});
    http::post(&url, "/api/register", None, &body).await.unwrap();
    sign_in(&url, &address, PASSWORD).await.unwrap()
}

/// The conversation at dan's, once he is on it.
async fn arrived(dan: &Profile, created: &Created) -> WaveletState {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Ok(opened) = OpenWave::open(dan, &created.wave).await {
            return opened.conversation().unwrap().clone();
        }
        assert!(Instant::now() < give_up, "{} never arrives", created.wave);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Types letter after letter into the first blip.
struct Writer {
    profile: Profile,
    wave: String,
    socket: Socket,
    wavelet: String,
    blip: DocumentId,
    session: String,
    sequence: u64,
    version: u64,
    items: u64,
    took: Duration,
}

impl Writer {
    async fn open(profile: &Profile, created: &Created) -> Self {
        let opened = OpenWave::wait_for(profile, &created.wave, created.version, PATIENCE)
            .await
            .unwrap();
        let state = opened.conversation().unwrap();
        Self {
            profile: profile.clone(),
            wave: created.wave.clone(),
            wavelet: state.wavelet.clone(),
            version: state.version,
            blip: created.blip.clone(),
            session: wave::random_token().unwrap(),
            sequence: 0,
            took: Duration::ZERO,
            items: opened.document(created.blip.as_str()).unwrap().len() as u64,
            socket: opened.socket,
        }
    }

    async fn write(&mut self, deltas: u64) {
        let begun = Instant::now();
        let mut left = deltas;
        while left > 0 {
            let now = left.min(AT_ONCE);
            self.write_at_once(now).await;
            left -= now;
        }
        self.took = begun.elapsed();
    }

    /// Waits until the history is signed but for its end, as that of a wavelet that nobody else is on is.
    async fn settle(&mut self) {
        while self.version - self.seen().await.hashed_version > UNSEALED_MAX {
            self.stay().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Says that it is still there: a connection on which nothing is said is ended after a while.
    async fn stay(&mut self) {
        self.socket.send(&ClientMessage::Ping).await.unwrap();
        while !matches!(self.socket.next_within(PATIENCE).await.unwrap(), ServerMessage::Pong) {}
    }

    /// The conversation as it is now.
    async fn seen(&self) -> WaveletState {
        let opened = OpenWave::open(&self.profile, &self.wave).await.unwrap();
        opened.conversation().unwrap().clone()
    }

    async fn write_at_once(&mut self, count: u64) {
        let rest = u32::try_from(self.items - 3).unwrap();
        let letter = vec![
            Component::Retain(3),
            Component::Characters("x".into()),
            Component::Retain(rest),
        ];
        let op = WaveletOp::MutateDocument {
            id: self.blip.clone(),
            op: DocOp::new(letter).unwrap(),
        };
        let mut waiting = HashSet::new();
        for _ in 0..count {
            self.submit(std::slice::from_ref(&op)).await;
            waiting.insert(self.sequence);
        }
        while !waiting.is_empty() {
            let (sequence, version) = self.applied().await;
            waiting.remove(&sequence);
            self.version = self.version.max(version);
        }
        self.items += count;
    }

    async fn submit(&mut self, ops: &[WaveletOp]) {
        self.sequence += 1;
        let message = ClientMessage::Submit {
            wavelet: self.wavelet.clone(),
            session: self.session.clone(),
            sequence: self.sequence,
            version: self.version,
            operations: ops.iter().map(operation_to_message).collect(),
        };
        self.socket.send(&message).await.unwrap();
    }

    /// The next own delta that is on disk: its number, and the version after it.
    async fn applied(&mut self) -> (u64, u64) {
        loop {
            match self.socket.next_within(PATIENCE).await.unwrap() {
                ServerMessage::Delta { delta } => {
                    let own = delta.own.expect("nobody else writes");
                    return (own.sequence, delta.version + delta.operations.len() as u64);
                }
                ServerMessage::Refused { text, .. } | ServerMessage::Error { text } => panic!("{text}"),
                _ => {}
            }
        }
    }

    /// Adds somebody; the wavelet after that, sealed.
    async fn add(&mut self, address: &str) -> WaveletState {
        self.submit(&[WaveletOp::AddParticipant(address.parse().unwrap())])
            .await;
        let (_, version) = self.applied().await;
        loop {
            let state = self.seen().await;
            if state.version == version && state.hashed_version == version {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
