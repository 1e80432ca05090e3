//! What can go wrong, by what the caller can do about it.

use std::path::PathBuf;

use billow_model::Domain;
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
    /// The database is not there, or there is nothing in it, where there was one.
    #[error(
        "{path} is missing or empty, but there was a database; put it back (`billow restore` does that from a backup), \
         or move the whole folder away to begin anew"
    )]
    MissingDatabase {
        /// Where the file should be.
        path: PathBuf,
    },
    /// The log of a database that was not closed is not there.
    #[error(
        "the log {path} is missing, and the database was not closed: what was written last is only in the log. Put the log \
         back, or restore a backup made with `billow backup`. To go on without what was in it, move the folder away and run \
         `billow restore` from there"
    )]
    MissingLog {
        /// Where the file should be.
        path: PathBuf,
    },
    /// The folder or a file in it belongs to somebody else.
    #[error(
        "{path} belongs to user {owner}, but this process runs as user {user}; run it as that user, or change the owner"
    )]
    WrongOwner {
        /// The folder or file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// It can be read and not written.
    #[error("{path} cannot be written (a read-only file system, or its permissions); nothing was changed")]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// The log needs memory shared through the file system, and locks that hold.
    #[error("{path} is on a network file system ({kind}), where SQLite's log does not work; use a local disk")]
    NetworkFileSystem {
        /// The folder.
        path: PathBuf,
        /// Which.
        kind: &'static str,
    },
    /// The log cannot be begun.
    #[error("the log {path} cannot be begun: the disk is full or has failed")]
    NoLog {
        /// Where it should be.
        path: PathBuf,
    },
    /// Something is damaged that everything else depends on.
    #[error(
        "{path} is damaged: {what}. Nothing was changed. `billow salvage` copies out what verifies; `billow restore` puts a \
         backup in its place"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        what: String,
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
    /// Wavelets of this domain that nobody here has opened take too much already; nothing has changed.
    #[error("too much of {0} is here that nobody has opened")]
    OverQuota(Domain),
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
            // The memory beside the log could not grow: the disk is full as well, and nothing was begun.
            Some(ErrorCode::SystemIoFailure) if extended(&error) == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => {
                Self::Unavailable
            }
            Some(ErrorCode::ConstraintViolation) => Self::Conflict(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => Self::Damaged(text),
            // Input and output errors, a read-only file, no memory: the state of the disk is not known.
            Some(_) => Self::Failed(text),
        }
    }
}

fn extended(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(0, |error| error.extended_code)
}

impl StoreError {
    /// A stored text that does not parse.
    pub(crate) fn unreadable(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Damaged(format!("{what}: {error}"))
    }
}
