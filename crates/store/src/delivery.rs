//! How far each peer is with each wavelet that we host.

use billow_model::{Domain, HashedVersion, Version, WaveletName};
use rusqlite::params;

use crate::Store;
use crate::error::StoreError;
use crate::history::{find_or_add, number, readable, sealed_head, version};

/// What a peer has acknowledged of a wavelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The wavelet.
    pub name: WaveletName,
    /// The peer.
    pub peer: Domain,
    /// It has everything before this version.
    pub version: Version,
    /// Nothing from this version on is for it: its last participant was removed there.
    pub until: Option<Version>,
}

/// A cursor and how far it could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDelivery {
    /// The cursor.
    pub cursor: Cursor,
    /// How far the wavelet is sealed; `None`: not at all.
    pub sealed: Option<HashedVersion>,
}

impl Store {
    /// Keeps cursors; each replaces the one of the same wavelet and peer.
    pub async fn keep_cursors(&self, cursors: Vec<Cursor>) -> Result<(), StoreError> {
        self.write(move |connection| {
            for cursor in &cursors {
                let wavelet = find_or_add(connection, &cursor.name)?;
                let mut statement = connection.prepare_cached(
                    "INSERT OR REPLACE INTO cursors (wavelet, peer, version, until) VALUES (?, ?, ?, ?)",
                )?;
                statement.execute(params![
                    wavelet,
                    cursor.peer.as_str(),
                    number(cursor.version),
                    cursor.until.map(number)
                ])?;
            }
            Ok(())
        })
        .await
    }

    /// All cursors of a peer, or of all peers, by wavelet.
    pub async fn deliveries(&self, peer: Option<&Domain>) -> Result<Vec<DueDelivery>, StoreError> {
        let peer = peer.map(ToString::to_string);
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT w.name, c.peer, c.version, c.until, w.id FROM cursors c JOIN wavelets w ON w.id = c.wavelet
                 WHERE ?1 IS NULL OR c.peer = ?1 ORDER BY c.peer, w.name",
            )?;
            let mut rows = statement.query([peer])?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                let (Some(name), Some(peer)) = (readable(row, 0)?, readable(row, 1)?) else {
                    continue;
                };
                out.push(DueDelivery {
                    cursor: Cursor {
                        name,
                        peer,
                        version: version(row.get(2)?),
                        until: row.get::<_, Option<i64>>(3)?.map(version),
                    },
                    sealed: sealed_head(connection, row.get(4)?)?,
                });
            }
            Ok(out)
        })
        .await
    }
}
