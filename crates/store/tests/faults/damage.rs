//! Bits that flip in the file while nobody looks, and rows that lead elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use billow_model::{Timestamp, Version};
use billow_store::{Account, Invitation, OpenError, Store, StoreError, StoredSession, Summary, salvage};
use bytes::Bytes;
use rusqlite::Connection;

use crate::script::{Hashes, WAVELETS, folder, name, scrub, size, with_store, write};

/// Deltas of each wavelet.
const DELTAS: u64 = 60;

/// A store with something in every table.
fn fill(data: &Path) {
    with_store(data, async |store| {
        for wavelet in 0..WAVELETS {
            let mut hashes = Hashes::of(wavelet);
            for at in 0..DELTAS {
                store.append(write(wavelet, at, &mut hashes)).await.unwrap();
            }
            let version = Version::new(DELTAS);
            let data = Bytes::from(vec![wavelet as u8; 400]);
            store
                .keep_summary(&name(wavelet), Summary { version, data })
                .await
                .unwrap();
            store
                .keep_signer(
                    Bytes::from(vec![wavelet as u8; 32]),
                    &"peer.lab".parse().unwrap(),
                    Bytes::from(vec![9; 900]),
                )
                .await
                .unwrap();
            store.add_account(account(wavelet), None).await.unwrap();
            let address = account(wavelet).address;
            store
                .add_session([wavelet as u8; 32], &address, Timestamp(5), "a browser")
                .await
                .unwrap();
            store.add_invitation(invitation(wavelet)).await.unwrap();
            store
                .set_value(&format!("value{wavelet}"), Bytes::from_static(b"something"))
                .await
                .unwrap();
        }
    });
}

fn account(number: u64) -> Account {
    Account {
        address: format!("somebody{number}@initech.lab").parse().unwrap(),
        password: format!("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$hash{number}"),
        created: Timestamp(7),
    }
}

fn invitation(number: u64) -> Invitation {
    Invitation {
        code_hash: [100 + number as u8; 32],
        created: Timestamp(1),
        expires: Timestamp(i64::MAX),
        uses: 3,
        label: "for a friend".into(),
    }
}

/// Everything that a store serves, by a name for it: `Err` where it says that it cannot.
type Contents = BTreeMap<String, Result<String, StoreError>>;

async fn contents(store: &Store) -> Contents {
    let mut all = Contents::new();
    let mut put = |what: String, outcome: Result<String, StoreError>| drop(all.insert(what, outcome));
    for wavelet in 0..WAVELETS {
        let name = name(wavelet);
        let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
        put(
            format!("{wavelet} load"),
            store.load(&name).await.map(|loaded| text(&loaded)),
        );
        let end = Version::new(1 << 40);
        put(
            format!("{wavelet} deltas"),
            store
                .deltas(&name, Version::new(20), end, usize::MAX)
                .await
                .map(|deltas| text(&deltas)),
        );
        put(
            format!("{wavelet} sealed"),
            store
                .sealed(&name, Version::new(10), None, usize::MAX, 1_000)
                .await
                .map(|seals| text(&seals)),
        );
        put(
            format!("{wavelet} hash"),
            store.hash_at(&name, Version::new(30)).await.map(|hash| text(&hash)),
        );
        put(
            format!("{wavelet} people"),
            store.participants(&name).await.map(|people| text(&people)),
        );
        let somebody = format!("person{}@initech.lab", wavelet * 3).parse().unwrap();
        put(
            format!("{wavelet} inbox"),
            store.inbox(&somebody).await.map(|inbox| text(&inbox)),
        );
        put(
            format!("{wavelet} account"),
            store
                .account(&account(wavelet).address)
                .await
                .map(|account| text(&account)),
        );
        put(
            format!("{wavelet} session"),
            store
                .session([wavelet as u8; 32])
                .await
                .map(|session: Option<StoredSession>| text(&session)),
        );
        put(
            format!("{wavelet} invitation"),
            store
                .invitation(invitation(wavelet).code_hash)
                .await
                .map(|invitation| text(&invitation)),
        );
        put(
            format!("{wavelet} signer"),
            store.signer(&[wavelet as u8; 32]).await.map(|signer| text(&signer)),
        );
        put(
            format!("{wavelet} value"),
            store.value(&format!("value{wavelet}")).await.map(|value| text(&value)),
        );
    }
    put(
        "deliveries".into(),
        store.deliveries(None).await.map(|due| format!("{due:?}")),
    );
    all
}

#[derive(Debug, Default)]
struct Seen {
    /// It did not open, or something of it was refused.
    refused: u64,
    /// It was removed as it was opened, which was said, or the scrub found it.
    found: u64,
    /// Everything is as it was: the bit means nothing.
    harmless: u64,
    /// The wavelets that were still served whole while another was not.
    others_served: u64,
}

/// What a store with flipped bits does.
fn look(data: &Path, before: &Contents, seen: &mut Seen) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut opened = Store::open(data);
    // A process that another test starts at this moment has our files until it becomes what it is to be.
    while let Err(OpenError::InUse { .. }) = opened {
        std::thread::sleep(std::time::Duration::from_millis(5));
        opened = Store::open(data);
    }
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            assert!(
                matches!(
                    error,
                    OpenError::Damaged { .. } | OpenError::Database(_) | OpenError::NewerSchema { .. }
                ),
                "{error}"
            );
            seen.refused += 1;
            return;
        }
    };
    runtime.block_on(async {
        let now = contents(&store).await;
        let refused = now.values().filter(|outcome| outcome.is_err()).count();
        let rebuilt = store.is_to_be_rebuilt().await.unwrap_or(true);
        let findings = match tokio::time::timeout(std::time::Duration::from_secs(20), scrub_all(&store)).await {
            Ok(Ok(findings)) => findings,
            other => vec![format!("{other:?}")],
        };
        for (what, served) in &now {
            let Ok(served) = served else { continue };
            let original = before[what].as_ref().unwrap();
            if served == original {
                continue;
            }
            // What can be made anew may be gone. A snapshot or a summary that is gone costs a replay.
            let made_anew = ["session", "invitation", "signer", "inbox"]
                .iter()
                .any(|kind| what.ends_with(kind));
            let gone = made_anew && served.len() < original.len();
            let removed = rebuilt && (what.ends_with("people") || what == "deliveries");
            let resent = what.ends_with("load") && served.contains("outgoing: []");
            let part = difference(served, original);
            assert!(
                gone || removed || resent,
                "served silently: {what}: {part} ({findings:?})"
            );
        }
        let same = now.iter().all(|(what, served)| served == &before[what]);
        if refused > 0 {
            seen.refused += 1;
            let whole = (0..WAVELETS).any(|wavelet| {
                now.iter()
                    .filter(|(what, _)| what.starts_with(&format!("{wavelet} ")))
                    .all(|(_, served)| served.is_ok())
            });
            seen.others_served += u64::from(whole);
        } else if !same || rebuilt || !findings.is_empty() {
            seen.found += 1;
        } else {
            seen.harmless += 1;
        }
    });
}

/// Where two texts part.
fn difference(one: &str, other: &str) -> String {
    let same = one
        .bytes()
        .zip(other.bytes())
        .take_while(|(one, other)| one == other)
        .count();
    let shown = |text: &str| {
        text.chars()
            .skip(same.saturating_sub(100))
            .take(300)
            .collect::<String>()
    };
    format!("{}\nwas {}", shown(one), shown(other))
}

async fn scrub_all(store: &Store) -> Result<Vec<String>, StoreError> {
    let (mut position, mut findings) = (billow_store::ScrubPosition::default(), Vec::new());
    while !position.is_done() {
        let (next, found) = store.scrub(position, 1_000).await?;
        position = next;
        findings.extend(found.into_iter().map(|finding| finding.what));
    }
    Ok(findings)
}

#[test]
fn b_205_flipped_bits_are_found_and_never_served() {
    let dir = folder();
    let data = dir.path().join("data");
    fill(&data);
    let before = with_store(&data, contents);
    assert!(before.values().all(Result::is_ok));
    let file = data.join("billow.db");
    let bytes = fs::read(&file).unwrap();
    let wanted = size("BILLOW_FLIPS", 60);
    let mut random = 0x0b17_f11b_u64;
    for (bits, wanted) in [(1, wanted), (10, wanted / 3), (1_000, wanted / 3)] {
        let (mut seen, mut runs) = (Seen::default(), 0);
        while seen.refused + seen.found < wanted {
            let mut flipped = bytes.clone();
            for _ in 0..bits {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let bit = random % (bytes.len() as u64 * 8);
                flipped[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            let _ = fs::remove_file(data.join("billow.db-wal"));
            let _ = fs::remove_file(data.join("billow.db-shm"));
            fs::write(&file, &flipped).unwrap();
            look(&data, &before, &mut seen);
            runs += 1;
        }
        println!(
            "FIGURE flips bits={bits} runs={runs} detected={} refused={} found={} harmless={} served_silently=0 others_served={}",
            seen.refused + seen.found,
            seen.refused,
            seen.found,
            seen.harmless,
            seen.others_served
        );
        if bits == 1 {
            assert!(
                seen.others_served > 0,
                "one damaged wavelet took all others with it: {seen:?}"
            );
        }
    }
}

#[test]
fn b_205_a_damaged_wavelet_is_refused_others_are_served_and_what_verifies_is_salvaged() {
    let dir = folder();
    let data = dir.path().join("data");
    fill(&data);
    let connection = Connection::open(data.join("billow.db")).unwrap();
    // A word of the 41st delta of the first wavelet is another.
    let changed = connection
        .execute(
            "UPDATE deltas SET ops = CAST('something else' AS BLOB) WHERE wavelet = 1 AND applied_at = 40",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    drop(connection);
    with_store(&data, async |store| {
        let refused = store.load(&name(0)).await.unwrap_err();
        assert!(
            matches!(&refused, StoreError::Damaged(what) if what.contains("version 40")),
            "{refused}"
        );
        for other in 1..WAVELETS {
            assert_eq!(
                store.load(&name(other)).await.unwrap().unwrap().deltas.len() as u64,
                DELTAS
            );
            let mut hashes = Hashes::of(other);
            store.append(write(other, DELTAS, &mut hashes)).await.unwrap();
        }
        assert_eq!(store.failure(), None, "the others are written as before");
        let findings = scrub(store).await;
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].wavelet, Some(name(0)));
    });
    let mut salvaged = Vec::new();
    assert_eq!(salvage(&data, |one| salvaged.push(one)).unwrap(), [] as [String; 0]);
    let lengths: Vec<_> = salvaged
        .iter()
        .map(|one| (one.deltas.len() as u64, one.fault.is_some()))
        .collect();
    assert_eq!(
        lengths,
        [
            (40, true),
            (DELTAS + 1, false),
            (DELTAS + 1, false),
            (DELTAS + 1, false)
        ]
    );
}

#[test]
fn b_217_a_stale_index_row_is_found_within_one_pass() {
    let dir = folder();
    let data = dir.path().join("data");
    with_store(&data, async |store| {
        let mut hashes = Hashes::of(0);
        for at in 0..30 {
            let mut one = write(0, at, &mut hashes);
            if at % 3 == 0 {
                one.deltas[0].submission = None;
                one.deltas[0].signed_digest = Some([at as u8; 32]);
            }
            store.append(one).await.unwrap();
        }
        assert_eq!(scrub(store).await, []);
    });
    // The index is taken out of the schema, the table is changed, and the index put back as it was.
    let connection = Connection::open(data.join("billow.db")).unwrap();
    connection.pragma_update(None, "writable_schema", true).unwrap();
    let index: (String, i64, String) = connection
        .query_row(
            "SELECT tbl_name, rootpage, sql FROM sqlite_schema WHERE name = 'deltas_by_digest'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    connection
        .execute("DELETE FROM sqlite_schema WHERE name = 'deltas_by_digest'", [])
        .unwrap();
    drop(connection);
    let connection = Connection::open(data.join("billow.db")).unwrap();
    connection.pragma_update(None, "writable_schema", true).unwrap();
    connection
        .execute_batch(
            "UPDATE deltas SET signed_digest = x'77' WHERE applied_at = 6;
             UPDATE deltas SET signed_digest = NULL WHERE applied_at = 9;",
        )
        .unwrap();
    connection
        .execute(
            "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES ('index', 'deltas_by_digest', ?, ?, ?)",
            rusqlite::params![index.0, index.1, index.2],
        )
        .unwrap();
    drop(connection);
    with_store(&data, async |store| {
        let findings = scrub(store).await;
        assert!(
            findings
                .iter()
                .any(|finding| finding.what.contains("index of signed deltas")),
            "{findings:?}"
        );
        // And whoever asks the index before the pass is not given another delta.
        let asked = store.find_signed(&name(0), [6; 32]).await;
        assert!(matches!(asked, Err(StoreError::Damaged(_))), "{asked:?}");
    });
}
