//! Whether the database is open, written into it. While it is, the newest changes may be in its log alone: a database that
//! was not closed and has no log is a copy, or what is left of one, and is not taken for the whole.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use crate::error::StoreError;

/// The key of the mark.
pub(crate) const KEY: &str = "store.open";

/// Writes it down; in effect when the write is committed.
pub(crate) fn set(connection: &Connection, open: bool) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)")?;
    statement.execute(params![KEY, [u8::from(open)]])?;
    Ok(())
}

/// Whether the database file itself, without its log, says that it is open. The file is only looked at.
pub(crate) fn is_open(database: &Path) -> Result<bool, rusqlite::Error> {
    let path = database.to_string_lossy();
    let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)?;
    let has_values: bool =
        connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |row| {
            row.get(0)
        })?;
    if !has_values {
        return Ok(false);
    }
    let value: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE key = ?", [KEY], |row| row.get(0))
        .optional()?;
    Ok(value == Some(vec![1]))
}
