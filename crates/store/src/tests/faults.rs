//! A disk that is full, and one that fails.

use std::path::Path;
use std::process::Command;

use super::{delta, name, write};
use crate::{OpenError, Store, StoreError, folder};

#[test]
fn b_207_an_old_sqlite_and_a_disk_of_the_network_are_refused() {
    for (number, version) in [(3_051_002, "3.51.2"), (3_007_000, "3.7.0")] {
        let error = folder::check_library(number, version).unwrap_err();
        assert!(matches!(error, OpenError::OldSqlite { .. }) && error.to_string().contains(version));
    }
    // The one that is linked, and every store is opened with.
    folder::check_library(rusqlite::version_number(), rusqlite::version()).unwrap();
    let path = Path::new("/srv/billow");
    for (number, kind) in [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0x0102_1997, "9p"),
    ] {
        let error = folder::check_kind(path, number).unwrap_err();
        assert!(matches!(error, OpenError::NetworkFileSystem { .. }));
        let words = error.to_string();
        assert!(words.contains(kind) && words.contains("/srv/billow"), "{words}");
    }
    // ext4, XFS, tmpfs.
    for number in [0xef53, 0x5846_5342, 0x0102_1994] {
        folder::check_kind(path, number).unwrap();
    }
}

async fn room(store: &Store, pages: i64) {
    store
        .write(move |connection| {
            Ok(connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?)
        })
        .await
        .unwrap();
}

fn large(at: u64) -> crate::WaveletWrite {
    let mut write = write(at, at + 1);
    write.deltas[0].ops = vec![1; 200_000].into();
    write
}

#[tokio::test]
async fn a_full_disk_refuses_what_does_not_fit_and_goes_on_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.append(write(0, 1)).await.unwrap();
    // SQLite does not go below what is there.
    room(&store, 1).await;
    assert_eq!(store.append(large(1)).await, Err(StoreError::Unavailable));
    assert_eq!(store.failure(), None);
    assert_eq!(store.load(&name()).await.unwrap().unwrap().deltas, [delta(0)]);
    let (big, small) = tokio::join!(
        store.append(large(1)),
        store.set_value("small", bytes::Bytes::from_static(b"fits"))
    );
    assert_eq!(
        (big, small),
        (Err(StoreError::Unavailable), Ok(())),
        "what fits is stored, what does not is not"
    );
    room(&store, 1_000_000).await;
    store.append(large(1)).await.unwrap();
    assert_eq!(store.load(&name()).await.unwrap().unwrap().deltas.len(), 2);
}

const DIR: &str = "BILLOW_STORE_FAULT_DIR";

/// Not a test by itself: runs in a process whose files cannot grow beyond a size, which the system reports as an I/O error.
#[test]
#[ignore = "started by the test below"]
fn child() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(std::env::var(DIR).expect("started by the test below")).unwrap();
        let mut stored = 0;
        let error = loop {
            match store.append(large(stored)).await {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::Failed(_)), "{error}");
        assert!(store.failure().is_some());
        assert!(
            matches!(
                store.append(write(stored, stored + 1)).await,
                Err(StoreError::Failed(_))
            ),
            "nothing is tried again"
        );
        assert_eq!(
            store.load(&name()).await.unwrap().unwrap().deltas.len() as u64,
            stored,
            "reading goes on"
        );
        std::fs::write(std::env::var(DIR).unwrap() + "/stored", stored.to_string()).unwrap();
    });
}

#[tokio::test]
async fn an_input_output_error_makes_the_store_read_only() {
    let dir = tempfile::tempdir().unwrap();
    // 4 MiB in blocks of 512 bytes; the signal that would end the process is ignored, so that the write fails instead.
    let status = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 8192; exec \"$0\" --exact tests::faults::child --ignored",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(DIR, dir.path())
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
    let stored: usize = std::fs::read_to_string(dir.path().join("stored"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(stored > 0);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(
        store.load(&name()).await.unwrap().unwrap().deltas.len(),
        stored,
        "all that was acknowledged, and no more"
    );
    store.append(write(stored as u64, stored as u64 + 1)).await.unwrap();
}
