//! Wavelets of ours that may be read and not changed until an operator has decided: other servers have, or may have, deltas of
//! them that this store has forgotten, and whatever were written now would be a second history.

use billow_model::WaveletName;
use rusqlite::{Connection, params};

use crate::Store;
use crate::error::StoreError;

/// What the keys begin with; the rest is the wavelet's name, the value says why.
const PREFIX: &str = "fence ";

impl Store {
    /// Why this wavelet may not be changed, if that is so.
    pub async fn fence(&self, name: &WaveletName) -> Result<Option<String>, StoreError> {
        let value = self.value(&key(name)).await?;
        Ok(value.map(|words| String::from_utf8_lossy(&words).into_owned()))
    }

    /// The wavelet may be changed again; whether it might not.
    pub async fn remove_fence(&self, name: &WaveletName) -> Result<bool, StoreError> {
        let key = key(name);
        self.write(move |connection| {
            let mut statement = connection.prepare_cached("DELETE FROM meta WHERE key = ?")?;
            Ok(statement.execute([&key])? > 0)
        })
        .await
    }

    /// All wavelets that may not be changed, and why.
    pub async fn fences(&self) -> Result<Vec<(WaveletName, String)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT key, value FROM meta WHERE key > ?1 AND key < ?1 || x'ff' ORDER BY key")?;
            let mut rows = statement.query([PREFIX])?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                let (key, words): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let name = key.strip_prefix(PREFIX).and_then(|name| name.parse().ok());
                out.extend(name.map(|name| (name, String::from_utf8_lossy(&words).into_owned())));
            }
            Ok(out)
        })
        .await
    }
}

/// All wavelets of ours that another domain has ever been told of.
pub(crate) fn fence_shared(connection: &Connection, words: &str) -> Result<usize, rusqlite::Error> {
    connection.execute(
        "INSERT OR REPLACE INTO meta (key, value) SELECT ?1 || name, CAST(?2 AS BLOB) FROM wavelets
         WHERE id IN (SELECT wavelet FROM cursors)",
        params![PREFIX, words],
    )
}

fn key(name: &WaveletName) -> String {
    format!("{PREFIX}{name}")
}
