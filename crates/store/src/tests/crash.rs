//! What was acknowledged is there after the process was killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{delta, name, seal, write};
use crate::{Store, WaveletWrite};

const ROUNDS: u64 = 30;
const DIR: &str = "BILLOW_STORE_CRASH_DIR";

/// Not a test by itself: the process that is killed. Says on standard output what was acknowledged.
#[test]
#[ignore = "started by the test below"]
fn child() {
    let dir = std::env::var(DIR).expect("started by the test below");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(dir).unwrap();
        let from = store
            .load(&name())
            .await
            .unwrap()
            .map_or(0, |stored| stored.deltas.last().map_or(0, |d| d.resulting.number()));
        for at in from.. {
            let sealing = WaveletWrite {
                seals: vec![seal(at)],
                ..WaveletWrite::new(name())
            };
            let line = |what: &'static str| {
                move |outcome: Result<(), _>| {
                    outcome.unwrap();
                    println!("\nstored {what} {at}");
                }
            };
            store.append_then(write(at, at + 1), line("delta")).await.unwrap();
            store.append_then(sealing, line("seal")).await.unwrap();
        }
    });
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut deltas, mut seals) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::crash::child", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        // From before the database is open to well into the writing.
        std::thread::sleep(Duration::from_millis(5 + (round * 7) % 60));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            if let Some(at) = line.strip_prefix("stored delta ") {
                deltas = at.parse::<u64>().unwrap() + 1;
            } else if let Some(at) = line.strip_prefix("stored seal ") {
                seals = at.parse::<u64>().unwrap() + 1;
            }
        }
        check(dir.path(), deltas, seals);
    }
    println!("{ROUNDS} kills, {deltas} acknowledged deltas, {seals} seals, none lost");
    assert!(deltas > 100, "the child got to write something: {deltas}");
}

fn check(dir: &std::path::Path, deltas: u64, seals: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(dir).unwrap();
        let Some(stored) = store.load(&name()).await.unwrap() else {
            assert_eq!(deltas, 0);
            return;
        };
        assert!(
            stored.deltas.len() as u64 >= deltas,
            "{} of {deltas}",
            stored.deltas.len()
        );
        for (at, found) in (0..).zip(&stored.deltas) {
            let expected = delta(at);
            assert_eq!(
                (&found.ops, &found.submission, found.applied_at),
                (&expected.ops, &expected.submission, expected.applied_at)
            );
            assert!(found.seal.as_ref().is_none_or(|found| *found == seal(at)));
        }
        assert!(stored.sealed.map_or(0, |sealed| sealed.version.number()) >= seals);
    });
}
