//! A copy while it is written, and an older state put back.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use billow_model::Version;
use billow_store::{BackupError, Store, back_up, restore};

use crate::script::{Hashes, folder, heads, name, scrub, size, with_store, write};

#[test]
fn b_209_a_backup_taken_while_writing_is_one_moment_and_whole() {
    let dir = folder();
    let data = dir.path().join("data");
    let done = AtomicBool::new(false);
    let backups = size("BILLOW_BACKUPS", 8);
    let (mut between, mut last) = (0, 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            with_store(&data, async |store| {
                let mut hashes = Hashes::of(0);
                let mut at = 0;
                while !done.load(Ordering::Relaxed) {
                    store.append(write(0, at, &mut hashes)).await.unwrap();
                    at += 1;
                }
                at
            })
        });
        while !data.join("billow.db").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        for number in 0..backups {
            let into = dir.path().join(format!("backup{number}"));
            let copied = back_up(&data, &into).unwrap();
            assert_eq!(fs::read_dir(&into).unwrap().count(), 1, "one file, whole by itself");
            let elsewhere = dir.path().join(format!("restored{number}"));
            let restored = restore(&into, &elsewhere, 1_234).unwrap();
            assert_eq!((restored.deltas, restored.wavelets), (copied.deltas, copied.wavelets));
            let head = with_store(&elsewhere, async |store| {
                assert_eq!(scrub(store).await, []);
                assert_eq!(store.restored().await.unwrap(), Some(1_234));
                // Every write whole: the seals reach as far as the deltas, and everybody who was added is there.
                let head = heads(store).await[&0];
                let sealed = store.load(&name(0)).await.unwrap().unwrap().sealed.unwrap();
                assert_eq!(sealed.version, Version::new(head));
                assert_eq!(store.participants(&name(0)).await.unwrap().len() as u64, head);
                head
            });
            assert_eq!(head, copied.deltas);
            between += u64::from(head > last);
            last = head;
        }
        done.store(true, Ordering::Relaxed);
        let written = writer.join().unwrap();
        println!("FIGURE backup backups={backups} while_writing={between} deltas={written} inconsistent=0");
        assert!(written > last, "the writer went on");
    });
    assert!(between > backups / 2, "the writer stood still");
}

#[test]
fn a_backup_overwrites_nothing_and_is_not_put_over_anything() {
    let dir = folder();
    let (data, into) = (dir.path().join("data"), dir.path().join("backup"));
    assert!(
        matches!(back_up(&data, &into), Err(BackupError::File { .. })),
        "there is nothing to copy"
    );
    let store = Store::open(&data).unwrap();
    back_up(&data, &into).unwrap();
    assert!(back_up(&data, &into).unwrap_err().to_string().contains("already"));
    assert!(restore(&into, &data, 0).unwrap_err().to_string().contains("already"));
    drop(store);
    // What the disk did to a backup is found out before it is put anywhere.
    let file = into.join("billow.db");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.windows(10).position(|window| window == b"store.open").unwrap();
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let elsewhere = dir.path().join("elsewhere");
    assert!(matches!(
        restore(&into, &elsewhere, 0),
        Err(BackupError::Damaged(_) | BackupError::Open(_))
    ));
    assert!(!elsewhere.join("billow.db").exists());
}
