//! What is not the store that was left there is refused in words, and never begun anew.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use billow_store::{OpenError, Store};

use crate::disk::{Action, Disk, Files, SYNC};
use crate::script::{Said, check, folder, run, with_store};

/// A store of a session that was killed in the middle, and what it had said.
fn killed(data: &Path, control: &Path) -> Said {
    let disk = Disk::new(data, control);
    disk.arm(SYNC, Files::Log, Action::KillAfter, 120);
    let said = run(&disk, data);
    assert!(said.acknowledged.values().sum::<u64>() > 10);
    said
}

#[test]
fn b_206_a_store_of_which_a_part_is_missing_is_refused() {
    let dir = folder();
    let (data, control) = (dir.path().join("data"), dir.path().join("control"));
    let said = killed(&data, &control);
    let (database, log, memory) = (
        data.join("billow.db"),
        data.join("billow.db-wal"),
        data.join("billow.db-shm"),
    );
    let (database_bytes, log_bytes) = (fs::read(&database).unwrap(), fs::read(&log).unwrap());

    // The log is gone: what was acknowledged was in it.
    fs::remove_file(&log).unwrap();
    for _ in 0..2 {
        let refused = Store::open(&data).unwrap_err();
        assert!(matches!(refused, OpenError::MissingLog { .. }), "{refused}");
        assert!(refused.to_string().contains("billow.db-wal is missing"), "{refused}");
    }
    fs::write(&log, b"").unwrap();
    assert!(
        matches!(Store::open(&data).unwrap_err(), OpenError::MissingLog { .. }),
        "an empty log is none"
    );

    // A copy of the database alone, taken while it was open, into another folder.
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("billow.db"), &database_bytes).unwrap();
    assert!(matches!(Store::open(&copy).unwrap_err(), OpenError::MissingLog { .. }));

    // The database is gone, or empty, with its log and without.
    fs::write(&log, &log_bytes).unwrap();
    for left in [true, false] {
        if !left {
            fs::remove_file(&log).unwrap();
        }
        fs::write(&database, b"").unwrap();
        assert!(
            matches!(Store::open(&data).unwrap_err(), OpenError::MissingDatabase { .. }),
            "empty"
        );
        fs::remove_file(&database).unwrap();
        let refused = Store::open(&data).unwrap_err();
        assert!(matches!(refused, OpenError::MissingDatabase { .. }), "{refused}");
        assert!(!database.exists(), "none was begun");
    }

    // The memory beside the log is made anew: nothing was in it alone.
    fs::write(&database, &database_bytes).unwrap();
    fs::write(&log, &log_bytes).unwrap();
    let _ = fs::remove_file(&memory);
    let checked = check(&data, &said);
    assert_eq!((checked.lost, checked.corrupt), (0, 0));
    // It was closed; then a copy of the one file is whole.
    let whole = dir.path().join("whole");
    fs::create_dir(&whole).unwrap();
    fs::copy(&database, whole.join("billow.db")).unwrap();
    let checked = check(&whole, &said);
    assert_eq!((checked.lost, checked.corrupt), (0, 0));
}

const FOLDER: &str = "BILLOW_OPENING_FOLDER";

/// Not a test by itself: opens the store and says what came of it.
#[test]
#[ignore = "started by the tests"]
fn opening() {
    let data = std::env::var_os(FOLDER).expect("started by the tests");
    match Store::open(data) {
        Ok(_) => println!("\n@opened"),
        Err(error) => println!("\n@{error}"),
    }
}

fn open_elsewhere(data: &Path, prepare: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "opening::opening", "--ignored", "--nocapture"])
        .env(FOLDER, data)
        .stderr(Stdio::null());
    prepare(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix('@'))
        .unwrap_or(&text)
        .to_owned()
}

#[test]
fn b_206_what_cannot_be_written_or_is_somebody_elses_is_refused() {
    let dir = folder();
    let data = dir.path().join("data");
    drop(Store::open(&data).unwrap());
    let before = fs::read(data.join("billow.db")).unwrap();

    // A read-only file system: everything that opens to write is answered so.
    let disk = Disk::new(&data, &dir.path().join("control"));
    disk.set_read_only();
    let said = open_elsewhere(&data, |command| disk.under(command));
    assert!(
        said.contains("Read-only file system") || said.contains("cannot be written"),
        "{said}"
    );
    assert!(said.contains("data"), "it says where: {said}");

    // Another owner. Only root may give a file away; whoever is not root meets somebody else's folder as it is.
    let root = std::os::unix::fs::chown(&data, Some(12_345), None).is_ok();
    let theirs = if root { data.clone() } else { Path::new("/").to_owned() };
    let refused = Store::open(&theirs).unwrap_err();
    if root {
        assert!(
            matches!(refused, OpenError::WrongOwner { owner: 12_345, .. }),
            "{refused}"
        );
    }
    assert!(refused.to_string().contains("belongs to user"), "{refused}");
    if root {
        let own = fs::metadata(dir.path())
            .map(|about| std::os::unix::fs::MetadataExt::uid(&about))
            .unwrap();
        std::os::unix::fs::chown(&data, Some(own), None).unwrap();
    }
    assert_eq!(fs::read(data.join("billow.db")).unwrap(), before, "nothing was changed");
    with_store(&data, async |_| {});
}

#[test]
fn b_208_a_second_process_is_told_the_first_ones_number_at_once() {
    let dir = folder();
    let data = dir.path().join("data");
    let store = Store::open(&data).unwrap();
    let started = Instant::now();
    let said = open_elsewhere(&data, |_| {});
    let took = started.elapsed();
    assert!(
        said.contains(&format!("in use by process {}", std::process::id())),
        "{said}"
    );
    assert!(took < Duration::from_secs(1), "{took:?}");
    drop(store);
    assert_eq!(open_elsewhere(&data, |_| {}), "opened");
}

#[test]
fn b_205_a_file_that_was_cut_off_is_refused_or_read_as_far_as_it_is_whole() {
    let dir = folder();
    let (data, control) = (dir.path().join("data"), dir.path().join("control"));
    let disk = Disk::new(&data, &control);
    disk.arm(SYNC, Files::Log, Action::Nothing, 0);
    let said = run(&disk, &data);
    let database = data.join("billow.db");
    let bytes = fs::read(&database).unwrap();
    for left in [
        1,
        99,
        100,
        4_096,
        8_192,
        bytes.len() / 2,
        bytes.len() - 4_096,
        bytes.len() - 1,
    ] {
        fs::write(&database, &bytes[..left]).unwrap();
        let refused = Store::open(&data).unwrap_err();
        assert!(
            matches!(refused, OpenError::Damaged { .. }),
            "{left} of {} bytes: {refused}",
            bytes.len()
        );
        assert!(refused.to_string().contains("billow salvage"), "{refused}");
        assert_eq!(fs::read(&database).unwrap(), &bytes[..left], "nothing was changed");
    }
    fs::write(&database, &bytes).unwrap();
    assert_eq!(check(&data, &said).lost, 0);
}
