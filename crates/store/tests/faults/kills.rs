//! The process dies, or the power is cut, at any call that changes a file.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::disk::{Action, Disk, Files, Loss, SYNC, TRUNCATE, WRITE};
use crate::script::{self, Checked, check, folder, run, size};

/// Everything that changes a file.
const CHANGES: u64 = WRITE | SYNC | TRUNCATE;

/// The ways to die: when, and what becomes of what was not synced.
const DEATHS: &[(Action, Loss)] = &[
    (Action::KillBefore, Loss::None),
    (Action::KillAfter, Loss::All),
    (Action::KillTorn, Loss::None),
    (Action::KillBefore, Loss::Some),
    (Action::KillAfter, Loss::None),
    (Action::KillBefore, Loss::All),
    (Action::KillTorn, Loss::Some),
    (Action::KillAfter, Loss::Some),
];

/// How many calls the whole session makes.
fn calls_of_a_session() -> u64 {
    let dir = folder();
    let disk = Disk::new(&dir.path().join("data"), &dir.path().join("control"));
    disk.arm(CHANGES, Files::Any, Action::Nothing, 0);
    let said = run(&disk, &dir.path().join("data"));
    assert!(said.has("ended"), "{:?}", said.lines.last());
    let checked = check(&dir.path().join("data"), &said);
    assert_eq!(
        (checked.acknowledged, checked.lost, checked.corrupt),
        (script::STEPS, 0, 0)
    );
    disk.calls()
}

struct Tally {
    kills: u64,
    acknowledged: u64,
    lost: u64,
    corrupt: u64,
    taken_away: u64,
    restarts: Vec<Duration>,
    at: BTreeMap<(u64, u64), u64>,
}

/// Kills a session at one call, and looks at what is there.
fn kill_at(call: u64, (action, loss): (Action, Loss)) -> (Checked, Disk) {
    let dir = folder();
    let data = dir.path().join("data");
    let disk = Disk::new(&data, &dir.path().join("control"));
    disk.set_loss(loss, call.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    disk.arm(CHANGES, Files::Any, action, call);
    let said = run(&disk, &data);
    assert_eq!(
        disk.fired(),
        1,
        "call {call} was never made; a kill that kills nothing shows nothing"
    );
    assert!(!said.has("ended"));
    let checked = check(&data, &said);
    assert!(
        checked.lost == 0 && checked.corrupt == 0,
        "{action:?} with {loss:?} at call {call}: {checked:?}"
    );
    (checked, disk)
}

/// Kills sessions at calls spread over the whole session, and answers what came of it.
fn kill_at_each(points: u64, deaths: &[(Action, Loss)]) -> Tally {
    let last = calls_of_a_session();
    let points = points.min(last);
    let tally = Mutex::new(Tally {
        kills: 0,
        acknowledged: 0,
        lost: 0,
        corrupt: 0,
        taken_away: 0,
        restarts: Vec::new(),
        at: BTreeMap::new(),
    });
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let point = next.fetch_add(1, Ordering::Relaxed);
                    if point >= points {
                        return;
                    }
                    // The end is reached by the last but a few: which calls are made hangs a little on the checkpoint's thread.
                    let call = 1 + point * (last - 20) / points;
                    let (checked, disk) = kill_at(call, deaths[point as usize % deaths.len()]);
                    let mut tally = tally.lock().unwrap();
                    tally.kills += 1;
                    tally.acknowledged += checked.acknowledged;
                    tally.lost += checked.lost;
                    tally.corrupt += checked.corrupt;
                    tally.taken_away += disk.lost();
                    tally.restarts.push(checked.opened_in);
                    *tally.at.entry(disk.last()).or_default() += 1;
                }
            });
        }
    });
    let mut tally = tally.into_inner().unwrap();
    tally.restarts.sort_unstable();
    tally
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out_by_these_tests() {
    let dir = folder();
    let data = dir.path().join("data");
    let disk = Disk::new(&data, &dir.path().join("control"));
    disk.set_loss(Loss::All, 1);
    disk.set_lies();
    disk.arm(SYNC, Files::Log, Action::KillAfter, 100);
    let said = run(&disk, &data);
    assert!(said.acknowledged.values().sum::<u64>() > 0);
    assert!(billow_store::Store::open(&data).is_err() || check(&data, &said).lost > 0);
}

fn p99(sorted: &[Duration]) -> u128 {
    sorted[(sorted.len() * 99).div_ceil(100) - 1].as_millis()
}

#[test]
fn b_200_killed_at_any_write_or_sync_nothing_acknowledged_is_lost() {
    let tally = kill_at_each(size("BILLOW_KILL_POINTS", 64), DEATHS);
    let p99 = p99(&tally.restarts);
    println!(
        "FIGURE crash kills={} points_distinct={} acked={} lost={} corrupt={} restart_p99_ms={p99}",
        tally.kills, tally.kills, tally.acknowledged, tally.lost, tally.corrupt
    );
    let at = |kind| {
        tally
            .at
            .iter()
            .filter(|((at, _), _)| *at == kind)
            .map(|(_, kills)| kills)
            .sum::<u64>()
    };
    println!(
        "FIGURE crash_calls writes={} syncs={} truncates={}",
        at(WRITE),
        at(SYNC),
        at(TRUNCATE)
    );
    assert!(tally.acknowledged > tally.kills, "the sessions got to write something");
    assert!(at(WRITE) > 0 && at(SYNC) > 0);
    let slowest = tally.restarts.last().unwrap();
    assert!(*slowest < Duration::from_secs(2), "a start took {slowest:?}");
}

#[test]
fn b_201_a_power_cut_takes_away_what_was_not_synced_and_nothing_else() {
    let deaths = [
        (Action::KillBefore, Loss::All),
        (Action::KillAfter, Loss::Some),
        (Action::KillAfter, Loss::All),
    ];
    let tally = kill_at_each(size("BILLOW_POWER_CUTS", 30), &deaths);
    println!(
        "FIGURE power_cut cuts={} changes_taken_away={} acked={} lost={} corrupt={}",
        tally.kills, tally.taken_away, tally.acknowledged, tally.lost, tally.corrupt
    );
    assert!(
        tally.taken_away > tally.kills / 2,
        "the cuts took hardly anything away: {}",
        tally.taken_away
    );
}

#[test]
fn b_202_a_torn_write_and_garbage_after_it_are_dropped() {
    let tally = kill_at_each(
        size("BILLOW_TORN", 16),
        &[(Action::KillTorn, Loss::None), (Action::KillTorn, Loss::Some)],
    );
    println!(
        "FIGURE torn kills={} acked={} lost={} corrupt={}",
        tally.kills, tally.acknowledged, tally.lost, tally.corrupt
    );
    // Garbage where the log goes on, of any length, and a last page of which half is as it was before.
    for garbage in [1, 24, 4_096, 4_096 + 24, 100_000] {
        let dir = folder();
        let data = dir.path().join("data");
        let disk = Disk::new(&data, &dir.path().join("control"));
        disk.arm(SYNC, Files::Log, Action::KillAfter, 60);
        let said = run(&disk, &data);
        let log = data.join("billow.db-wal");
        let mut bytes = std::fs::read(&log).unwrap();
        let written = bytes.len();
        bytes.extend((0..garbage).map(|index: u32| (index * 31 + 7) as u8));
        std::fs::write(&log, &bytes).unwrap();
        let checked = check(&data, &said);
        assert_eq!(
            (checked.lost, checked.corrupt),
            (0, 0),
            "{garbage} bytes of garbage after {written}"
        );
    }
    let dir = folder();
    let data = dir.path().join("data");
    let disk = Disk::new(&data, &dir.path().join("control"));
    // Before the sync, so that the last write is not acknowledged: of its last page, only half came to the disk.
    disk.arm(SYNC, Files::Log, Action::KillBefore, 60);
    let said = run(&disk, &data);
    let log = data.join("billow.db-wal");
    let mut bytes = std::fs::read(&log).unwrap();
    let end = bytes.len();
    bytes[end - 2_048..].fill(0);
    std::fs::write(&log, &bytes).unwrap();
    let checked = check(&data, &said);
    assert_eq!((checked.lost, checked.corrupt), (0, 0), "a half-written last page");
}

#[test]
fn b_200_killed_at_any_moment() {
    let dir = folder();
    let data = dir.path().join("data");
    let control = dir.path().join("control");
    let mut acknowledged = 0;
    for round in 0..size("BILLOW_KILL_MOMENTS", 12) {
        // The same folder again and again: the next session goes on where the last one died.
        let disk = Disk::new(&data, &control);
        disk.arm(CHANGES, Files::Any, Action::Nothing, 0);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "script::session", "--ignored", "--nocapture"])
            .env("BILLOW_SCRIPT_FOLDER", &data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || script::read(out));
        // From before the store is open to well into the writing.
        std::thread::sleep(Duration::from_millis(5 + (round * 17) % 130));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = reader.join().unwrap();
        let checked = check(&data, &said);
        assert_eq!((checked.lost, checked.corrupt), (0, 0), "round {round}: {checked:?}");
        acknowledged = acknowledged.max(checked.acknowledged);
    }
    assert!(acknowledged > 10, "the sessions got to write something: {acknowledged}");
}
