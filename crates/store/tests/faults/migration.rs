//! An older database becomes a current one, or stays what it was.

use std::path::Path;
use std::process::{Command, Stdio};

use billow_store::{OpenError, Store};
use rusqlite::Connection;

use crate::disk::{Action, Disk, Files, Loss, SYNC, TRUNCATE, WRITE};
use crate::script::{folder, scrub, size, with_store};

const FOLDER: &str = "BILLOW_MIGRATION_FOLDER";

/// A database as the first schema has it, with something in every table.
fn first_schema(data: &Path) {
    std::fs::create_dir_all(data).unwrap();
    let connection = Connection::open(data.join("billow.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(include_str!("schema1.sql")).unwrap();
}

fn schema_of(data: &Path) -> u32 {
    let connection = Connection::open(data.join("billow.db")).unwrap();
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap()
}

/// Not a test by itself: opens the store, which brings it up to date.
#[test]
#[ignore = "started by the tests"]
fn opening() {
    let opened = Store::open(std::env::var_os(FOLDER).expect("started by the tests"));
    drop(opened.unwrap());
}

fn open_on(disk: &Disk, data: &Path) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "migration::opening", "--ignored"])
        .env(FOLDER, data)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    disk.under(&mut command);
    command.status().unwrap().success()
}

fn check_contents(data: &Path) {
    with_store(data, async |store| {
        let name = "initech.lab/w+old/~/conv+root".parse().unwrap();
        let deltas = store.load(&name).await.unwrap().unwrap().deltas;
        assert_eq!(deltas.len(), 2);
        assert_eq!(&deltas[1].ops[..], b"operations at 1");
        assert!(
            store
                .account(&"alice@initech.lab".parse().unwrap())
                .await
                .unwrap()
                .is_some()
        );
        assert_eq!(store.participants(&name).await.unwrap().len(), 1);
        assert_eq!(scrub(store).await, []);
    });
}

#[test]
fn b_215_a_migration_killed_at_any_call_is_done_or_not_done() {
    let dir = folder();
    let (data, control) = (dir.path().join("data"), dir.path().join("control"));
    first_schema(&data);
    assert_eq!(schema_of(&data), 1);
    let disk = Disk::new(&data, &control);
    disk.arm(WRITE | SYNC | TRUNCATE, Files::Any, Action::Nothing, 0);
    assert!(open_on(&disk, &data));
    check_contents(&data);
    let (last, now) = (disk.calls(), schema_of(&data));
    assert!(now > 1);
    let points = size("BILLOW_MIGRATION_POINTS", 40).min(last);
    let (mut old, mut new) = (0, 0);
    for point in 0..points {
        let dir = folder();
        let (data, control) = (dir.path().join("data"), dir.path().join("control"));
        first_schema(&data);
        let disk = Disk::new(&data, &control);
        let loss = [Loss::None, Loss::All, Loss::Some][point as usize % 3];
        disk.set_loss(loss, point + 1);
        let action = [Action::KillBefore, Action::KillAfter][point as usize % 2];
        disk.arm(WRITE | SYNC | TRUNCATE, Files::Any, action, 1 + point * last / points);
        assert!(!open_on(&disk, &data));
        assert_eq!(disk.fired(), 1);
        // A copy is looked at, so that looking does not mend anything.
        let copy = dir.path().join("copy");
        std::fs::create_dir(&copy).unwrap();
        for file in ["billow.db", "billow.db-wal"] {
            let _ = std::fs::copy(data.join(file), copy.join(file));
        }
        match schema_of(&copy) {
            1 => old += 1,
            // Each step is one transaction: what is between the oldest and the newest is whole too.
            schema if schema <= now => new += 1,
            other => panic!("killed at point {point}: schema {other}"),
        }
        check_contents(&data);
        assert_eq!(schema_of(&data), now);
    }
    println!("FIGURE migration points={points} old={old} new={new} between=0");
    assert!(old > 0 && new > 0, "the kills were not before and after: {old}, {new}");
}

#[test]
fn b_216_a_newer_schema_is_refused_and_left_alone() {
    let dir = folder();
    let data = dir.path().join("data");
    drop(Store::open(&data).unwrap());
    let connection = Connection::open(data.join("billow.db")).unwrap();
    connection.pragma_update(None, "user_version", 999).unwrap();
    drop(connection);
    let before = std::fs::read(data.join("billow.db")).unwrap();
    let refused = Store::open(&data).unwrap_err();
    assert!(
        matches!(refused, OpenError::NewerSchema { found: 999, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("later version"), "{refused}");
    assert_eq!(
        std::fs::read(data.join("billow.db")).unwrap(),
        before,
        "nothing was changed"
    );
}
