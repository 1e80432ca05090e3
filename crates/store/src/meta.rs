//! Small values of the server's own, by name: secrets it made for itself, marks of what was done.

use bytes::Bytes;
use rusqlite::{OptionalExtension, params};

use crate::Store;
use crate::error::StoreError;

impl Store {
    /// The value of that name.
    pub async fn value(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let key = key.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = ?")?;
            Ok(statement
                .query_row([key], |row| row.get::<_, Vec<u8>>(0))
                .optional()?
                .map(Bytes::from))
        })
        .await
    }

    /// Sets the value of that name.
    pub async fn set_value(&self, key: &str, value: Bytes) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.write(move |connection| {
            let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)")?;
            statement.execute(params![key, value.as_ref()])?;
            Ok(())
        })
        .await
    }
}
