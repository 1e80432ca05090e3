//! Snapshots: a wavelet's state at a version, so that its history need not be gone through from the start.

use billow_model::{Version, WaveletName};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use crate::Store;
use crate::error::StoreError;
use crate::history::{find_or_add, number, version};

/// A state at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The version.
    pub version: Version,
    /// How far the wavelet was sealed then: with the snapshot, the deltas from there on are loaded.
    pub sealed: Version,
    /// The state; the store does not look inside.
    pub state: Bytes,
}

impl Store {
    /// Keeps a snapshot in place of an earlier one. One that is not newer than the one there is changes nothing.
    pub async fn keep_snapshot(&self, name: &WaveletName, snapshot: Snapshot) -> Result<(), StoreError> {
        let name = name.clone();
        self.write(move |connection| {
            let wavelet = find_or_add(connection, &name)?;
            if latest(connection, wavelet)?.is_some_and(|latest| latest.version >= snapshot.version) {
                return Ok(());
            }
            let mut statement = connection.prepare_cached(
                "INSERT OR REPLACE INTO snapshots (wavelet, version, sealed, state) VALUES (?, ?, ?, ?)",
            )?;
            statement.execute(params![
                wavelet,
                number(snapshot.version),
                number(snapshot.sealed),
                snapshot.state.as_ref()
            ])?;
            Ok(())
        })
        .await
    }
}

/// The snapshot of a wavelet. One that is not as it was written is as good as none: the history says the same.
pub(crate) fn latest(connection: &Connection, wavelet: i64) -> Result<Option<Snapshot>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT version, sealed, state, sum IS row_sum(wavelet, version, sealed, state) FROM snapshots WHERE wavelet = ?",
    )?;
    let found = statement
        .query_row([wavelet], |row| {
            let snapshot = Snapshot {
                version: version(row.get(0)?),
                sealed: version(row.get(1)?),
                state: row.get::<_, Vec<u8>>(2)?.into(),
            };
            Ok((snapshot, row.get::<_, bool>(3)?))
        })
        .optional()?;
    match found {
        Some((_, false)) => {
            tracing::error!("ALARM: the snapshot of wavelet {wavelet} is damaged; its history is read instead");
            Ok(None)
        }
        found => Ok(found.map(|(snapshot, _)| snapshot)),
    }
}
