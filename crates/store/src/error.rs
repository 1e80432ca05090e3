//! What can go wrong, by what the caller can do about it.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made, read or locked.
    #[error("cannot use the data folder {path}: {error}")]
    Folder {
        /// The folder or the file in it.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Another process has it.
    #[error("the data folder {path} is in use by process {pid}; stop that one first")]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other process, as it wrote itself into the lock file.
        pid: String,
    },
    /// The SQLite library has a known fault.
    #[error("SQLite {found} may damage databases; 3.51.3 or later is needed")]
    OldSqlite {
        /// Its version.
        found: String,
    },
    /// A later Billow wrote this.
    #[error("the data folder {path} was written by a later version (schema {found}; this one knows {known})")]
    NewerSchema {
        /// The folder.
        path: PathBuf,
        /// The schema's number in the file.
        found: u32,
        /// The latest that this program knows.
        known: u32,
    },
    /// Half of the database is there.
    #[error("{path} is missing but its log is there; put the file back, or move the log away to begin anew")]
    MissingDatabase {
        /// Where the file should be.
        path: PathBuf,
    },
    /// The database itself.
    #[error("cannot open the database: {0}")]
    Database(#[from] rusqlite::Error),
}

/// Why something was not stored or not found out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No room; nothing has changed. Trying again later makes sense.
    #[error("the disk is full; nothing was stored")]
    Unavailable,
    /// The disk failed. Nothing is written any more until a person has looked and the server was started anew.
    #[error("the store is read-only since a disk error: {0}")]
    Failed(String),
    /// It contradicts what is stored; nothing has changed.
    #[error("it contradicts what is stored: {0}")]
    Conflict(String),
    /// What is stored makes no sense.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Unavailable,
            Some(ErrorCode::ConstraintViolation) => Self::Conflict(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => Self::Damaged(text),
            // Input and output errors, a read-only file, no memory: the state of the disk is not known.
            Some(_) => Self::Failed(text),
        }
    }
}

impl StoreError {
    /// A stored text that does not parse.
    pub(crate) fn unreadable(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Damaged(format!("{what}: {error}"))
    }
}
