//! Certificate chains of signers, by their id. What they are worth is decided elsewhere, each time anew.

use billow_model::{Domain, Timestamp};
use bytes::Bytes;
use rusqlite::{OptionalExtension, params};

use crate::Store;
use crate::error::StoreError;

impl Store {
    /// Keeps a signer's chain.
    pub async fn keep_signer(&self, id: Bytes, domain: &Domain, info: Bytes) -> Result<(), StoreError> {
        let domain = domain.to_string();
        self.write(move |connection| {
            let mut statement =
                connection.prepare_cached("INSERT OR REPLACE INTO signers (id, domain, info) VALUES (?, ?, ?)")?;
            statement.execute(params![id.as_ref(), domain, info.as_ref()])?;
            Ok(())
        })
        .await
    }

    /// The chain with this id.
    pub async fn signer(&self, id: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let id = id.to_vec();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT info FROM signers WHERE id = ?")?;
            Ok(statement
                .query_row([id], |row| row.get::<_, Vec<u8>>(0))
                .optional()?
                .map(Bytes::from))
        })
        .await
    }

    /// All chains, to be known from the start.
    pub async fn signers(&self) -> Result<Vec<Bytes>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT info FROM signers ORDER BY id")?;
            let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
            Ok(rows.map(|row| row.map(Bytes::from)).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Keeps which certificate a peer has shown; gives the one before, if there was one.
    pub async fn keep_peer_key(
        &self,
        peer: &str,
        fingerprint: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        let peer = peer.to_owned();
        self.write(move |connection| {
            let before = connection
                .prepare_cached("SELECT fingerprint FROM peer_keys WHERE peer = ?")?
                .query_row([&peer], |row| row.get::<_, [u8; 32]>(0))
                .optional()?;
            if before != Some(fingerprint) {
                connection
                    .prepare_cached("INSERT OR REPLACE INTO peer_keys (peer, fingerprint, since) VALUES (?, ?, ?)")?
                    .execute(params![peer, fingerprint, now.0])?;
            }
            Ok(before)
        })
        .await
    }
}
