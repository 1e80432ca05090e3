//! Calls that fail and leave the process alive: a full disk, and one that is broken.

use std::time::Duration;

use crate::disk::{Action, Disk, Files, READ, SYNC, TRUNCATE, WRITE};
use crate::script::{STEPS, check, folder, run, size};

const ENOSPC: u64 = 28;
const EIO: u64 = 5;

/// How many calls of these kinds a whole session makes on these files.
fn calls(mask: u64, files: Files) -> u64 {
    let dir = folder();
    let disk = Disk::new(&dir.path().join("data"), &dir.path().join("control"));
    disk.arm(mask, files, Action::Nothing, 0);
    assert!(run(&disk, &dir.path().join("data")).has("ended"));
    disk.calls()
}

#[test]
fn b_203_a_full_disk_refuses_what_does_not_fit_reads_on_and_goes_on_by_itself() {
    let mut slowest = Duration::ZERO;
    let (mut points, mut refused, mut acknowledged) = (0, 0, 0);
    // At the n-th write, the frame that commits among them; and where the log is copied into the database.
    for (files, share) in [(Files::Log, 3), (Files::Database, 1), (Files::Any, 1)] {
        let last = calls(WRITE | TRUNCATE, files);
        let wanted = (size("BILLOW_FULL_POINTS", 25) * share / 5).clamp(1, last);
        for point in 0..wanted {
            let dir = folder();
            let data = dir.path().join("data");
            let disk = Disk::new(&data, &dir.path().join("control"));
            disk.set_error(ENOSPC);
            let call = 1 + point * last / wanted;
            disk.arm(WRITE | TRUNCATE, files, Action::FailOn, call);
            let said = run(&disk, &data);
            disk.heal();
            if disk.fired() == 0 {
                // More went into one commit than the first time, so that the session had fewer calls.
                continue;
            }
            points += 1;
            assert!(
                !said.has("failed"),
                "{files:?}, call {call}: a full disk is no broken disk: {:?}",
                said.lines
            );
            if said.has("not opened") {
                // There was no room to begin: said in words, and the next start is as if nothing had been.
                assert!(
                    said.has("not opened: ") && ["full", "No space"].iter().any(|words| said.lines[0].contains(words)),
                    "{:?}",
                    said.lines
                );
            } else {
                assert!(said.has("ended"), "{files:?}, call {call}: {:?}", said.lines.last());
                assert_eq!(said.acknowledged.values().sum::<u64>(), STEPS);
            }
            if let Some(full) = said.lines.iter().find_map(|line| line.strip_prefix("full at ")) {
                refused += 1;
                let before = said.lines.iter().take_while(|line| !line.starts_with("full")).count();
                assert_eq!(
                    full,
                    before.to_string(),
                    "what was stored can be read while the disk is full"
                );
            }
            slowest = slowest.max(said.resumed.unwrap_or_default());
            let checked = check(&data, &said);
            assert_eq!(
                (checked.lost, checked.corrupt),
                (0, 0),
                "{files:?}, call {call}: {checked:?}"
            );
            acknowledged += checked.acknowledged;
        }
    }
    println!(
        "FIGURE disk_full points={points} refused={refused} acked={acknowledged} lost=0 corrupt=0 resumed_max_ms={}",
        slowest.as_millis()
    );
    assert!(
        refused * 2 > points,
        "hardly any session noticed: {refused} of {points}"
    );
    assert!(slowest < Duration::from_secs(10), "one took {slowest:?} to go on");
}

#[test]
fn b_204_after_a_failed_sync_nothing_is_written_and_no_sync_is_tried_again() {
    let mut points = 0;
    for files in [Files::Log, Files::Database] {
        let last = calls(SYNC, files);
        // On the database there are few: the first when it is opened, and one a checkpoint.
        let wanted = size("BILLOW_SYNC_ERRORS", 12).min(last);
        for point in 0..wanted {
            let dir = folder();
            let data = dir.path().join("data");
            let disk = Disk::new(&data, &dir.path().join("control"));
            disk.set_error(EIO);
            let call = 1 + point * last / wanted;
            disk.arm(SYNC, files, Action::FailOnce, call);
            let said = run(&disk, &data);
            if disk.fired() == 0 {
                // As above.
                continue;
            }
            points += 1;
            // While it is being opened, that is where it ends; while it is being closed, nobody is left to be told.
            let told = said.has("failed") || said.has("not opened") || said.has("ended");
            assert!(told, "{files:?}, sync {call} of {last}: {:?}", said.lines.last());
            if said.has("failed") {
                let read: u64 = said
                    .lines
                    .last()
                    .unwrap()
                    .strip_prefix("read ")
                    .unwrap()
                    .parse()
                    .unwrap();
                assert!(
                    read >= said.acknowledged.values().sum(),
                    "reading goes on: {:?}",
                    said.lines.iter().rev().take(3).collect::<Vec<_>>()
                );
            }
            if !said.has("not opened") {
                assert_eq!(
                    disk.calls(),
                    call,
                    "{files:?}: a sync was tried again after the {call}th had failed"
                );
            }
            let checked = check(&data, &said);
            assert_eq!(
                (checked.lost, checked.corrupt),
                (0, 0),
                "{files:?}, sync {call}: {checked:?}"
            );
        }
    }
    assert!(points > 0, "no sync has failed");
    println!("FIGURE sync_error points={points} lost=0 corrupt=0 retried=0");
}

#[test]
fn b_204_a_failed_read_is_refused_and_ends_the_writing() {
    let last = calls(READ, Files::Any);
    let points = size("BILLOW_READ_ERRORS", 10).min(last);
    let mut stopped = 0;
    for point in 0..points {
        let dir = folder();
        let data = dir.path().join("data");
        let disk = Disk::new(&data, &dir.path().join("control"));
        disk.set_error(EIO);
        disk.arm(READ, Files::Any, Action::FailOnce, 1 + point * last / points);
        let said = run(&disk, &data);
        if disk.fired() == 0 {
            // As with syncs: another run may need fewer reads.
            continue;
        }
        stopped += u64::from(said.has("failed") || said.has("not opened"));
        let checked = check(&data, &said);
        assert_eq!((checked.lost, checked.corrupt), (0, 0), "{checked:?}");
    }
    println!("FIGURE read_error points={points} stopped={stopped} lost=0 corrupt=0");
    assert!(stopped > 0);
}
