//! How our copies of others' wavelets stand to their hosts, as far as that was ever in doubt, and what speaks against them.

use std::collections::HashMap;

use billow_model::{HashedVersion, Timestamp, Version, WaveletName};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::Store;
use crate::error::StoreError;
use crate::history::{Chain, Submission, WaveletWrite, find, number, readable, seal_at, version};

/// A standing as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStanding {
    /// Which; the store knows only `dropped`.
    pub state: String,
    /// The store does not look inside.
    pub evidence: Bytes,
}

impl Store {
    /// All wavelets whose standing was ever in doubt.
    pub async fn standings(&self) -> Result<Vec<(WaveletName, StoredStanding)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT w.name, s.state, s.evidence FROM standings s JOIN wavelets w ON w.id = s.wavelet ORDER BY w.name",
            )?;
            let mut rows = statement.query([])?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                let Some(name) = readable(row, 0)? else { continue };
                let (state, evidence) = (row.get(1)?, row.get::<_, Vec<u8>>(2)?.into());
                out.push((name, StoredStanding { state, evidence }));
            }
            Ok(out)
        })
        .await
    }

    /// Up to where the sealed history of a wavelet verifies. If its end follows from what is before it, that is the end.
    pub async fn verified_end(&self, name: &WaveletName) -> Result<HashedVersion, StoreError> {
        let name = name.clone();
        self.read(move |connection| {
            let mut chain = Chain::start(&name);
            let Some(wavelet) = find(connection, &name)? else {
                return Ok(chain.end().clone());
            };
            let mut last = connection.prepare_cached(
                "SELECT applied_at, resulting, hash, applied FROM seals WHERE wavelet = ? ORDER BY applied_at DESC LIMIT 1",
            )?;
            let mut rows = last.query([wavelet])?;
            if let Ok(Some(row)) = rows.next() {
                let seal = seal_at(row, 0)?;
                let mut end = Chain::before(connection, wavelet, &name, seal.applied_at)?;
                if end.follow(&seal).is_ok() {
                    return Ok(end.end().clone());
                }
            }
            let mut all = connection.prepare_cached(
                "SELECT applied_at, resulting, hash, applied FROM seals WHERE wavelet = ? ORDER BY applied_at",
            )?;
            let mut rows = all.query([wavelet])?;
            while let Ok(Some(row)) = rows.next()
                && chain.follow(&seal_at(row, 0)?).is_ok()
            {}
            Ok(chain.end().clone())
        })
        .await
    }

    /// Forgets a copy whose stored history is damaged, so that all of it is fetched again. What is outgoing stays, and people
    /// find the wave in their lists while it is on its way.
    pub async fn drop_damaged(&self, name: &WaveletName, standing: StoredStanding) -> Result<(), StoreError> {
        let name = name.clone();
        self.write(move |connection| {
            let Some(wavelet) = find(connection, &name)? else {
                return Ok(());
            };
            let StoredStanding { state, evidence } = &standing;
            connection
                .prepare_cached(
                    "INSERT INTO standings (wavelet, state, evidence, rebuilt)
                     VALUES (?1, ?2, ?3, (SELECT max(resulting) FROM deltas WHERE wavelet = ?1))
                     ON CONFLICT (wavelet) DO UPDATE SET state = excluded.state, evidence = excluded.evidence,
                        rebuilt = coalesce(excluded.rebuilt, rebuilt)",
                )?
                .execute(params![wavelet, state, evidence.as_ref()])?;
            forget_history(connection, wavelet)
        })
        .await
    }

    /// Drops our copy of a wavelet, so that all of it is fetched again and whatever the host gives is taken: the operator has
    /// decided so. Its sealed history is kept as a transcript, what is outgoing stays. `false`: its standing is not in doubt.
    pub async fn drop_copy(&self, name: &WaveletName, now: Timestamp) -> Result<bool, StoreError> {
        let name = name.clone();
        self.write(move |connection| {
            let Some(wavelet) = find(connection, &name)? else {
                return Ok(false);
            };
            let changed = connection
                .prepare_cached(
                    "UPDATE standings SET state = 'dropped', rebuilt = coalesce((SELECT max(resulting) FROM deltas WHERE wavelet = ?1), rebuilt)
                     WHERE wavelet = ?1 AND state <> 'following'",
                )?
                .execute([wavelet])?;
            if changed == 0 {
                return Ok(false);
            }
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO transcripts (wavelet, dropped, applied_at, resulting, hash, applied)
                     SELECT wavelet, ?2, applied_at, resulting, hash, applied FROM seals WHERE wavelet = ?1",
                )?
                .execute(params![wavelet, now.0])?;
            // People find the wave in their lists while it is on its way.
            forget_history(connection, wavelet)?;
            Ok(true)
        })
        .await
    }
}

/// Removes a stored history with all that was made from it. Gives the submissions of our users by where they were applied.
pub(crate) fn clear(connection: &Connection, wavelet: i64) -> Result<HashMap<Version, Submission>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT applied_at, session, sequence FROM deltas WHERE wavelet = ? AND session IS NOT NULL AND sequence IS NOT NULL",
    )?;
    let rows = statement.query_map([wavelet], |row| {
        let sequence = row.get::<_, i64>(2)?.cast_unsigned();
        let submission = Submission {
            session: row.get(1)?,
            sequence,
        };
        Ok((version(row.get(0)?), submission))
    })?;
    let submissions = rows.collect::<Result<_, _>>()?;
    forget_history(connection, wavelet)?;
    connection
        .prepare_cached("DELETE FROM participants WHERE wavelet = ?")?
        .execute([wavelet])?;
    Ok(submissions)
}

fn forget_history(connection: &Connection, wavelet: i64) -> Result<(), StoreError> {
    for table in ["snapshots", "summaries", "originals", "seals", "deltas"] {
        connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE wavelet = ?"))?
            .execute([wavelet])?;
    }
    Ok(())
}

pub(crate) fn keep(connection: &Connection, wavelet: i64, write: &WaveletWrite) -> Result<(), StoreError> {
    if let Some(StoredStanding { state, evidence }) = &write.standing {
        connection
            .prepare_cached(
                "INSERT INTO standings (wavelet, state, evidence) VALUES (?1, ?2, ?3)
                 ON CONFLICT (wavelet) DO UPDATE SET state = ?2, evidence = ?3",
            )?
            .execute(params![wavelet, state, evidence.as_ref()])?;
    }
    if let Some(last) = write.deltas.last().filter(|_| write.replaces) {
        connection
            .prepare_cached("UPDATE standings SET rebuilt = ?2 WHERE wavelet = ?1")?
            .execute(params![wavelet, number(last.resulting)])?;
    }
    Ok(())
}

pub(crate) fn load(
    connection: &Connection,
    wavelet: i64,
) -> Result<(Option<StoredStanding>, Option<Version>), StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT state, evidence, rebuilt FROM standings WHERE wavelet = ?")?;
    let found = statement
        .query_row([wavelet], |row| {
            let (state, evidence) = (row.get(0)?, row.get::<_, Vec<u8>>(1)?.into());
            Ok((StoredStanding { state, evidence }, row.get::<_, Option<i64>>(2)?))
        })
        .optional()?;
    Ok(found.map_or((None, None), |(standing, rebuilt)| {
        (Some(standing), rebuilt.map(version))
    }))
}
