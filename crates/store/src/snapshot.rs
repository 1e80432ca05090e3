//! Snapshots: a wavelet's state at a version, so that its history need not be gone through from the start.

use billow_model::{Version, WaveletName};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use crate::Store;
use crate::error::StoreError;
use crate::history::{LastSubmission, Submission, find_or_add, number, version};

/// A state at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The version.
    pub version: Version,
    /// The state; the store does not look inside.
    pub state: Bytes,
}

impl Store {
    /// Keeps a snapshot in place of an earlier one, with the last submission of each editor up to it.
    /// One that is not newer than the one there is changes nothing.
    pub async fn keep_snapshot(
        &self,
        name: &WaveletName,
        snapshot: Snapshot,
        submissions: Vec<LastSubmission>,
    ) -> Result<(), StoreError> {
        let name = name.clone();
        self.write(move |connection| {
            let wavelet = find_or_add(connection, &name)?;
            if latest(connection, wavelet)?.is_some_and(|latest| latest.version >= snapshot.version) {
                return Ok(());
            }
            connection
                .prepare_cached("INSERT OR REPLACE INTO snapshots (wavelet, version, state) VALUES (?, ?, ?)")?
                .execute(params![wavelet, number(snapshot.version), snapshot.state.as_ref()])?;
            connection.prepare_cached("DELETE FROM snapshot_submissions WHERE wavelet = ?")?.execute([wavelet])?;
            for last in &submissions {
                connection
                    .prepare_cached(
                        "INSERT INTO snapshot_submissions (wavelet, session, sequence, applied_at, resulting) VALUES (?, ?, ?, ?, ?)",
                    )?
                    .execute(params![
                        wavelet,
                        last.submission.session,
                        last.submission.sequence.cast_signed(),
                        number(last.applied_at),
                        number(last.resulting)
                    ])?;
            }
            Ok(())
        })
        .await
    }
}

pub(crate) fn latest(connection: &Connection, wavelet: i64) -> Result<Option<Snapshot>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT version, state FROM snapshots WHERE wavelet = ?")?;
    let found = statement
        .query_row([wavelet], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    Ok(found.map(|(number, state)| Snapshot {
        version: version(number),
        state: state.into(),
    }))
}

pub(crate) fn submissions(connection: &Connection, wavelet: i64) -> Result<Vec<LastSubmission>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT session, sequence, applied_at, resulting FROM snapshot_submissions WHERE wavelet = ? ORDER BY applied_at",
    )?;
    let mut rows = statement.query([wavelet])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(LastSubmission {
            submission: Submission {
                session: row.get(0)?,
                sequence: row.get::<_, i64>(1)?.cast_unsigned(),
            },
            applied_at: version(row.get(2)?),
            resulting: version(row.get(3)?),
        });
    }
    Ok(out)
}
