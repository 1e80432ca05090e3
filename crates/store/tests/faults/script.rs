//! A fixed session of writes, each of which leaves a trace in several tables, and the check that what it was told to be
//! stored is there whole.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use billow_model::{HashedVersion, ParticipantId, Timestamp, Version, WaveletName};
use billow_store::{
    Finding, Outgoing, ScrubPosition, Snapshot, Store, StoreError, StoredDelta, StoredSeal, Submission, WaveletWrite,
};
use bytes::Bytes;
use tempfile::TempDir;

use crate::disk::Disk;

/// Wavelets that the session writes in turn.
pub(crate) const WAVELETS: u64 = 4;
/// Writes of the session; so many that the log is copied into the database on the way.
pub(crate) const STEPS: u64 = 280;
const FOLDER: &str = "BILLOW_SCRIPT_FOLDER";

/// A folder for a test, in memory where there is such a place: the disk's own slowness tests nothing.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.unwrap()
}

/// A number from the environment, for the suite's size.
pub(crate) fn size(name: &str, small: u64) -> u64 {
    std::env::var(name).map_or(small, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

/// Runs something on the store and closes it.
pub(crate) fn with_store<T>(data: &Path, work: impl AsyncFnOnce(&Store) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(data).unwrap_or_else(|error| panic!("{error}"));
        work(&store).await
    })
}

pub(crate) fn name(wavelet: u64) -> WaveletName {
    format!("initech.lab/w+{wavelet}/~/conv+root").parse().unwrap()
}

fn person(step: u64) -> ParticipantId {
    format!("person{step}@initech.lab").parse().unwrap()
}

/// What the applied delta at this version says.
pub(crate) fn applied(wavelet: u64, at: u64) -> Bytes {
    let mut bytes = format!("wavelet {wavelet}, the delta applied at {at}. ").into_bytes();
    bytes.resize(300 + (at as usize * 37) % 700, at as u8);
    bytes.into()
}

pub(crate) fn delta(wavelet: u64, at: u64) -> StoredDelta {
    StoredDelta {
        applied_at: Version::new(at),
        resulting: Version::new(at + 1),
        author: person(at),
        timestamp: Timestamp(1_000 + at as i64),
        ops: Bytes::from(format!("wavelet {wavelet}, operations at {at}")),
        submission: Some(Submission {
            session: "editor".into(),
            sequence: at + 1,
        }),
        signed_digest: None,
        signed: None,
        seal: None,
    }
}

/// The hashes of a wavelet's history, from version 0 on.
pub(crate) struct Hashes(Vec<HashedVersion>, u64);

impl Hashes {
    pub(crate) fn of(wavelet: u64) -> Self {
        Self(vec![HashedVersion::zero(&name(wavelet))], wavelet)
    }

    pub(crate) fn seal(&mut self, at: u64) -> StoredSeal {
        while self.0.len() as u64 <= at + 1 {
            let last = self.0.len() as u64 - 1;
            let next = self.0[last as usize].next(&applied(self.1, last), 1);
            self.0.push(next);
        }
        StoredSeal {
            applied_at: Version::new(at),
            resulting: self.0[at as usize + 1].clone(),
            applied: applied(self.1, at),
        }
    }
}

/// One write of the session: a delta, its seal, a participant, a cursor and a submission under way, all or nothing.
pub(crate) fn write(wavelet: u64, at: u64, hashes: &mut Hashes) -> WaveletWrite {
    WaveletWrite {
        deltas: vec![delta(wavelet, at)],
        seals: vec![hashes.seal(at)],
        joined: vec![person(at)],
        sent: vec![outgoing(at)],
        settled: at
            .checked_sub(1)
            .map(|before| outgoing(before).submission)
            .into_iter()
            .collect(),
        reached: vec![(format!("peer{}.lab", at % 7).parse().unwrap(), Version::new(at))],
        ..WaveletWrite::new(name(wavelet))
    }
}

fn outgoing(at: u64) -> Outgoing {
    Outgoing {
        submission: Submission {
            session: "outgoing".into(),
            sequence: at + 1,
        },
        author: person(at),
        signed: Bytes::from(vec![at as u8; 200]),
    }
}

/// How far the wavelets are.
pub(crate) async fn heads(store: &Store) -> BTreeMap<u64, u64> {
    let mut heads = BTreeMap::new();
    for wavelet in 0..WAVELETS {
        let name = name(wavelet);
        let deltas = store
            .deltas(&name, Version::ZERO, Version::new(1 << 40), usize::MAX)
            .await
            .unwrap();
        let head = deltas.last().map_or(0, |last| last.resulting.number());
        heads.insert(wavelet, head);
    }
    heads
}

/// Not a test by itself: the session, in the process that is killed. Says on standard output what was acknowledged.
/// Where the disk is full it tries again; where it has failed it looks what still works, and ends.
#[test]
#[ignore = "started by the tests"]
fn session() {
    let data = PathBuf::from(std::env::var_os(FOLDER).expect("started by the tests"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = match Store::open(&data) {
            Ok(store) => store,
            Err(error) => return say(&format!("not opened: {error}")),
        };
        let mut heads = heads(&store).await;
        let mut hashes: Vec<Hashes> = (0..WAVELETS).map(Hashes::of).collect();
        for step in heads.values().sum::<u64>()..STEPS {
            let wavelet = step % WAVELETS;
            let at = heads[&wavelet];
            let one = write(wavelet, at, &mut hashes[wavelet as usize]);
            if !persist(&store, &one).await {
                return after_failure(&store, &one).await;
            }
            say(&format!("stored {wavelet} {at}"));
            heads.insert(wavelet, at + 1);
            // What is beside the histories may be refused without harm.
            let _ = store.set_value("step", Bytes::from(step.to_string())).await;
            if step % 40 == 39 {
                let snapshot = Snapshot {
                    version: Version::new(at + 1),
                    sealed: Version::new(at + 1),
                    state: Bytes::from(vec![step as u8; 9_000]),
                };
                let _ = store.keep_snapshot(&name(wavelet), snapshot).await;
            }
        }
        drop(store);
        say("ended");
    });
}

/// Stores it, however long the disk is full; whether it is stored.
async fn persist(store: &Store, write: &WaveletWrite) -> bool {
    let mut full = false;
    loop {
        match store.append(write.clone()).await {
            Ok(()) => return true,
            Err(StoreError::Unavailable) => {
                if !full {
                    full = true;
                    let read: u64 = heads(store).await.values().sum();
                    say(&format!("full at {read}"));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(StoreError::Failed(_)) => return false,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn after_failure(store: &Store, write: &WaveletWrite) {
    say("failed");
    assert!(store.failure().is_some(), "a failure that nobody is told of");
    for _ in 0..5 {
        let again = store.append(write.clone()).await;
        assert!(
            matches!(again, Err(StoreError::Failed(_))),
            "it was tried again: {again:?}"
        );
    }
    let read: u64 = heads(store).await.values().sum();
    say(&format!("read {read}"));
}

fn say(line: &str) {
    // The test harness writes to the same place; lines of ours begin on their own.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\n@{line}");
    let _ = out.flush();
}

/// What a session said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// How many deltas of each wavelet were acknowledged.
    pub(crate) acknowledged: BTreeMap<u64, u64>,
    pub(crate) lines: Vec<String>,
    /// How long after the disk was good again the session went on.
    pub(crate) resumed: Option<Duration>,
}

impl Said {
    pub(crate) fn has(&self, line: &str) -> bool {
        self.lines.iter().any(|said| said.starts_with(line))
    }
}

/// Runs a session on this disk; a full disk gets room again when the session has said that it is full.
pub(crate) fn run(disk: &Disk, data: &Path) -> Said {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "script::session", "--ignored", "--nocapture"])
        .env(FOLDER, data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    disk.under(&mut command);
    let mut child = command.spawn().unwrap();
    let said = listen(child.stdout.take().unwrap(), || disk.heal());
    child.wait().unwrap();
    said
}

/// What a session says that nothing is done to.
pub(crate) fn read(out: ChildStdout) -> Said {
    listen(out, || {})
}

fn listen(out: ChildStdout, heal: impl Fn()) -> Said {
    let (mut said, mut healed) = (Said::default(), None::<Instant>);
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let Some(line) = line.strip_prefix('@') else { continue };
        if let Some(stored) = line.strip_prefix("stored ") {
            let (wavelet, at) = stored.split_once(' ').unwrap();
            said.acknowledged
                .insert(wavelet.parse().unwrap(), at.parse::<u64>().unwrap() + 1);
            if let (Some(healed), None) = (healed, said.resumed) {
                said.resumed = Some(healed.elapsed());
            }
        } else if line.starts_with("full") {
            heal();
            healed.get_or_insert_with(Instant::now);
        }
        said.lines.push(line.to_owned());
    }
    said
}

/// What was found after a session.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
    pub(crate) corrupt: u64,
    pub(crate) opened_in: Duration,
}

/// Opens the store as a server would, and looks whether all that was acknowledged is there, whole, and nothing in half.
pub(crate) fn check(data: &Path, said: &Said) -> Checked {
    let started = Instant::now();
    with_store(data, async |store| {
        let mut checked = Checked {
            opened_in: started.elapsed(),
            ..Checked::default()
        };
        for wavelet in 0..WAVELETS {
            let acknowledged = said.acknowledged.get(&wavelet).copied().unwrap_or(0);
            checked.acknowledged += acknowledged;
            let head = check_wavelet(store, wavelet, &mut checked.corrupt).await;
            checked.lost += acknowledged.saturating_sub(head);
        }
        checked.corrupt += scrub(store).await.len() as u64;
        checked
    })
}

/// Whether every write is there with all of its parts; how many there are.
async fn check_wavelet(store: &Store, wavelet: u64, corrupt: &mut u64) -> u64 {
    let name = name(wavelet);
    let deltas = store
        .deltas(&name, Version::ZERO, Version::new(1 << 40), usize::MAX)
        .await
        .unwrap();
    let mut hashes = Hashes::of(wavelet);
    for (at, found) in (0..).zip(&deltas) {
        let expected = StoredDelta {
            seal: Some(hashes.seal(at)),
            ..delta(wavelet, at)
        };
        *corrupt += u64::from(*found != expected);
    }
    let head = deltas.len() as u64;
    let people = store.participants(&name).await.unwrap();
    let mut expected: Vec<ParticipantId> = (0..head).map(person).collect();
    expected.sort_by_key(ToString::to_string);
    *corrupt += u64::from(people != expected);
    let under_way = store
        .load(&name)
        .await
        .unwrap()
        .map_or(Vec::new(), |stored| stored.outgoing);
    *corrupt += u64::from(under_way != head.checked_sub(1).map(outgoing).into_iter().collect::<Vec<_>>());
    head
}

/// Looks through everything.
pub(crate) async fn scrub(store: &Store) -> Vec<Finding> {
    let (mut position, mut findings) = (ScrubPosition::default(), Vec::new());
    while !position.is_done() {
        let (next, found) = store.scrub(position, 100).await.unwrap();
        position = next;
        findings.extend(found);
    }
    findings
}
