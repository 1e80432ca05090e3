//! What wavelets of other domains may take of the disk before one of our users has opened them: anybody may add our users
//! to anything, and so much of that is kept for each domain and no more (hardening.md B-128).

use billow_model::WaveletName;
use rusqlite::{Connection, OptionalExtension, params};

use crate::Store;
use crate::error::StoreError;
use crate::history::{WaveletWrite, find};

/// What a delta takes besides its bytes, roughly: rows and indexes.
const DELTA_BYTES: usize = 256;

/// The bound for each domain, over its wavelets here that nobody has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many there may be.
    pub wavelets: u32,
    /// How many bytes they may have.
    pub bytes: u64,
}

/// Room for a wavelet of a hundred thousand deltas and for others beside it: somebody who is added to a long one may open it
/// only when all of it is here.
impl Default for Quota {
    fn default() -> Self {
        Self {
            wavelets: 10_000,
            bytes: 256 << 20,
        }
    }
}

impl Store {
    /// One of our users has opened a wavelet of another domain: from now on it takes nothing of that domain's quota.
    pub async fn opened(&self, name: &WaveletName) -> Result<(), StoreError> {
        let name = name.clone();
        self.write(move |connection| {
            let Some(wavelet) = find(connection, &name)? else {
                return Ok(());
            };
            let mut statement = connection.prepare_cached("DELETE FROM unopened WHERE wavelet = ? RETURNING bytes")?;
            let bytes: Option<i64> = statement.query_row([wavelet], |row| row.get(0)).optional()?;
            if let Some(bytes) = bytes {
                let mut statement = connection.prepare_cached(
                    "UPDATE unopened_of SET wavelets = wavelets - 1, bytes = bytes - ?2 WHERE domain = ?1",
                )?;
                statement.execute(params![name.host().as_str(), bytes])?;
            }
            Ok(())
        })
        .await
    }
}

/// Puts a write on the account of the wavelet's domain, unless somebody has opened the wavelet; refuses what is too much.
pub(crate) fn charge(
    connection: &Connection,
    wavelet: i64,
    is_new: bool,
    write: &WaveletWrite,
    quota: Quota,
) -> Result<(), StoreError> {
    let sizes = write.deltas.iter().map(|delta| {
        let seal = delta.seal.as_ref().map_or(0, |seal| seal.applied.len());
        DELTA_BYTES + delta.ops.len() + seal
    });
    let bytes = i64::try_from(sizes.sum::<usize>()).unwrap_or(i64::MAX);
    if is_new {
        let mut statement = connection.prepare_cached("INSERT INTO unopened (wavelet, bytes) VALUES (?, 0)")?;
        statement.execute([wavelet])?;
    }
    let mut statement = connection.prepare_cached("UPDATE unopened SET bytes = bytes + ?2 WHERE wavelet = ?1")?;
    if statement.execute(params![wavelet, bytes])? == 0 {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO unopened_of (domain, wavelets, bytes) VALUES (?1, ?2, ?3)
         ON CONFLICT (domain) DO UPDATE SET wavelets = wavelets + ?2, bytes = bytes + ?3 RETURNING wavelets, bytes",
    )?;
    let domain = write.name.host();
    let (wavelets, bytes): (i64, i64) = statement
        .query_row(params![domain.as_str(), i64::from(is_new), bytes], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if wavelets > i64::from(quota.wavelets) || u64::try_from(bytes).unwrap_or(0) > quota.bytes {
        return Err(StoreError::OverQuota(domain.clone()));
    }
    Ok(())
}
