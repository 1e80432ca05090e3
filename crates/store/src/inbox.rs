//! Who is on which wavelet, and what the inbox shows of it.

use billow_model::{Domain, ParticipantId, Version, WaveletName};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::Store;
use crate::directory;
use crate::error::StoreError;
use crate::history::{find, find_or_add, names, number, readable, version};

/// What the inbox shows of a wavelet as of a version; it can be made anew from the wavelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The version it was made at.
    pub version: Version,
    /// The store does not look inside.
    pub data: Bytes,
}

/// A wavelet that somebody is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxEntry {
    /// The wavelet.
    pub name: WaveletName,
    /// The latest stored version of it.
    pub version: Version,
    /// Its summary, if one was kept; it may be older than the wavelet.
    pub summary: Option<Summary>,
}

impl Store {
    /// The wavelets that this address is on, with their summaries.
    pub async fn inbox(&self, address: &ParticipantId) -> Result<Vec<InboxEntry>, StoreError> {
        let address = address.to_string();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT w.name, s.version, s.data, (SELECT max(resulting) FROM deltas d WHERE d.wavelet = w.id AND d.applied_at =
                        (SELECT max(applied_at) FROM deltas l WHERE l.wavelet = w.id))
                 FROM participants p JOIN wavelets w ON w.id = p.wavelet LEFT JOIN summaries s ON s.wavelet = w.id
                      AND s.sum IS row_sum(s.wavelet, s.version, s.data)
                 WHERE p.address = ? ORDER BY w.name",
            )?;
            let mut rows = statement.query([address])?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                let Some(name) = readable(row, 0)? else { continue };
                let summary = row.get::<_, Option<i64>>(1)?.zip(row.get::<_, Option<Vec<u8>>>(2)?);
                out.push(InboxEntry {
                    name,
                    version: version(row.get::<_, Option<i64>>(3)?.unwrap_or(0)),
                    summary: summary.map(|(number, data)| Summary { version: version(number), data: data.into() }),
                });
            }
            Ok(out)
        })
        .await
    }

    /// Who wrote the newest delta of a wavelet.
    pub async fn last_author(&self, name: &WaveletName) -> Result<Option<ParticipantId>, StoreError> {
        let name = name.clone();
        self.read(move |connection| {
            let Some(wavelet) = find(connection, &name)? else {
                return Ok(None);
            };
            let mut statement = connection
                .prepare_cached("SELECT author FROM deltas WHERE wavelet = ? ORDER BY applied_at DESC LIMIT 1")?;
            let author: Option<String> = statement.query_row([wavelet], |row| row.get(0)).optional()?;
            author
                .map(|author| author.parse().map_err(|e| StoreError::unreadable("an author", e)))
                .transpose()
        })
        .await
    }

    /// Who is on a wavelet, by address.
    pub async fn participants(&self, name: &WaveletName) -> Result<Vec<ParticipantId>, StoreError> {
        let name = name.clone();
        self.read(move |connection| {
            let Some(wavelet) = find(connection, &name)? else {
                return Ok(Vec::new());
            };
            let mut statement =
                connection.prepare_cached("SELECT address FROM participants WHERE wavelet = ? ORDER BY address")?;
            let mut rows = statement.query([wavelet])?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                let address: String = row.get(0)?;
                out.push(
                    address
                        .parse()
                        .map_err(|e| StoreError::unreadable("a participant", e))?,
                );
            }
            Ok(out)
        })
        .await
    }

    /// The wavelets that have a participant of this domain.
    pub async fn wavelets_with_domain(&self, domain: &Domain) -> Result<Vec<WaveletName>, StoreError> {
        let pattern = format!("%@{domain}");
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT name FROM wavelets WHERE id IN (SELECT wavelet FROM participants WHERE address LIKE ?) ORDER BY name",
            )?;
            names(statement.query([pattern])?)
        })
        .await
    }

    /// Keeps a wavelet's summary in place of an older one.
    pub async fn keep_summary(&self, name: &WaveletName, summary: Summary) -> Result<(), StoreError> {
        let name = name.clone();
        self.write(move |connection| {
            let wavelet = find_or_add(connection, &name)?;
            let mut statement = connection.prepare_cached(
                "INSERT INTO summaries (wavelet, version, data) VALUES (?, ?, ?)
                 ON CONFLICT (wavelet) DO UPDATE SET version = excluded.version, data = excluded.data WHERE excluded.version >= version",
            )?;
            statement.execute(params![wavelet, number(summary.version), summary.data.as_ref()])?;
            Ok(())
        })
        .await
    }
}

impl Store {
    /// Whether the rows that say who is where, and which domains are told, were damaged and are to be made anew.
    pub async fn is_to_be_rebuilt(&self) -> Result<bool, StoreError> {
        Ok(self.value(directory::REBUILD).await?.is_some())
    }

    /// Puts the rows of a wavelet right: exactly these people are on it, and each of these domains has a cursor; one that had
    /// none begins at the start, for it is not known how far it was.
    pub async fn rebuild(
        &self,
        name: &WaveletName,
        people: Vec<ParticipantId>,
        domains: Vec<Domain>,
    ) -> Result<(), StoreError> {
        let name = name.clone();
        self.write(move |connection| {
            let wavelet = find_or_add(connection, &name)?;
            connection
                .prepare_cached("DELETE FROM participants WHERE wavelet = ?")?
                .execute([wavelet])?;
            change_participants(connection, wavelet, &people, &[])?;
            for domain in &domains {
                connection
                    .prepare_cached("INSERT OR IGNORE INTO cursors (wavelet, peer, version) VALUES (?, ?, 0)")?
                    .execute(params![wavelet, domain.as_str()])?;
            }
            Ok(())
        })
        .await
    }

    /// Everything is made anew.
    pub async fn rebuilt(&self) -> Result<(), StoreError> {
        self.write(|connection| {
            connection
                .prepare_cached("DELETE FROM meta WHERE key = ?")?
                .execute([directory::REBUILD])?;
            Ok(())
        })
        .await
    }

    /// The names of all wavelets.
    pub async fn all_wavelets(&self) -> Result<Vec<WaveletName>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT name FROM wavelets ORDER BY name")?;
            names(statement.query([])?)
        })
        .await
    }
}

pub(crate) fn change_participants(
    connection: &Connection,
    wavelet: i64,
    joined: &[ParticipantId],
    left: &[ParticipantId],
) -> Result<(), StoreError> {
    for address in left {
        let mut statement = connection.prepare_cached("DELETE FROM participants WHERE address = ? AND wavelet = ?")?;
        statement.execute(params![address.as_str(), wavelet])?;
    }
    for address in joined {
        let mut statement =
            connection.prepare_cached("INSERT OR IGNORE INTO participants (address, wavelet) VALUES (?, ?)")?;
        statement.execute(params![address.as_str(), wavelet])?;
    }
    Ok(())
}
