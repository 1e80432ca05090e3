//! A copy of the store while it is written, and back again.
//!
//! A backup is one database file that is whole by itself: it is as the store was at one moment, with no log beside it. It is
//! checked before it is called one. What is restored says so in itself, so that the server asks the other servers whether they
//! have seen more than it remembers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, params};

use crate::error::{OpenError, StoreError};
use crate::folder::{Folder, open_error};
use crate::{directory, fence, opened, schema, sum};

/// The key under which a restored store has the time of its restoring (milliseconds, eight bytes, big end first).
pub const RESTORED: &str = "store.restored";
/// Why a wavelet that others take part in may not be changed after a restore.
const WORDS: &str = "it was restored from a backup, and the servers that take part may have changes that are newer";
const FILE: &str = "billow.db";

/// Why there is no backup, or none was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file is in the way, or missing.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store is not to be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy is not good.
    #[error("the copy is damaged, or what was copied is: {0}")]
    Damaged(String),
    /// The database.
    #[error("the database: {0}")]
    Database(#[from] rusqlite::Error),
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Bytes.
    pub bytes: u64,
    /// Wavelets in it.
    pub wavelets: u64,
    /// Deltas in it.
    pub deltas: u64,
}

/// Copies the store in a data folder into another folder, whether or not a server is running on it.
pub fn back_up(data: &Path, into: &Path) -> Result<Copied, BackupError> {
    let from = data.join(FILE);
    if !from.exists() {
        return Err(file(&from, "there is no store"));
    }
    let (target, part) = (into.join(FILE), into.join("billow.db.part"));
    if target.exists() {
        return Err(file(&target, "there is a backup already; name another folder"));
    }
    fs::create_dir_all(into).map_err(|error| file(into, error))?;
    remove(&part)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(&from, flags).map_err(|error| open_error(&from, error))?;
    copy(&source, &part)?;
    drop(source);
    let copied = finish(&part, None)?;
    fs::rename(&part, &target).map_err(|error| file(&target, error))?;
    sync_folder(into)?;
    Ok(copied)
}

/// Puts a backup into a data folder that has no store, and marks it as restored.
pub fn restore(backup: &Path, data: &Path, now_ms: i64) -> Result<Copied, BackupError> {
    let from = if backup.is_dir() {
        backup.join(FILE)
    } else {
        backup.to_owned()
    };
    if !from.exists() {
        return Err(file(&from, "there is no backup"));
    }
    let (target, part) = (data.join(FILE), data.join("billow.db.part"));
    for there in [&target, &data.join("billow.db-wal")] {
        if fs::metadata(there).is_ok_and(|file| file.len() > 0) {
            return Err(file(
                there,
                "there is a store already; move it away first, it may hold what the backup does not",
            ));
        }
    }
    // Takes the folder from a server that might be starting.
    let _folder = Folder::lock_for_restore(data)?;
    remove(&part)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(&from, flags).map_err(|error| open_error(&from, error))?;
    copy(&source, &part)?;
    drop(source);
    let copied = finish(&part, Some(now_ms))?;
    for left in ["billow.db-wal", "billow.db-shm"] {
        remove(&data.join(left))?;
    }
    fs::rename(&part, &target).map_err(|error| file(&target, error))?;
    sync_folder(data)?;
    Ok(copied)
}

/// In one step, which sees one state however much is written meanwhile.
fn copy(source: &Connection, part: &Path) -> Result<(), BackupError> {
    let mut target = Connection::open(part)?;
    let backup = Backup::new(source, &mut target)?;
    match backup.step(-1)? {
        StepResult::Done => Ok(()),
        other => Err(BackupError::Damaged(format!("the copy ended with {other:?}"))),
    }
}

/// Makes the copy whole by itself, checks it and brings it to the disk.
fn finish(part: &Path, restored: Option<i64>) -> Result<Copied, BackupError> {
    let mut connection = Connection::open(part)?;
    sum::register(&connection)?;
    let damaged = |error: &dyn std::fmt::Display| BackupError::Damaged(error.to_string());
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    schema::migrate(&mut connection)?;
    let faults: Vec<String> = {
        let mut statement = connection.prepare("PRAGMA integrity_check(10)")?;
        let lines = statement.query_map([], |row| row.get(0))?;
        lines.collect::<Result<_, _>>()?
    };
    if faults != ["ok"] {
        return Err(BackupError::Damaged(faults.join("; ")));
    }
    let found = directory::findings(&connection).map_err(|error| damaged(&error))?;
    if !found.is_empty() {
        return Err(BackupError::Damaged(found.join("; ")));
    }
    opened::set(&connection, false).map_err(|error| damaged(&error))?;
    if let Some(now) = restored {
        fence::fence_shared(&connection, WORDS)?;
        connection.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
            params![RESTORED, now.to_be_bytes()],
        )?;
    }
    let count =
        |table: &str| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
    let (wavelets, deltas) = (count("wavelets")?.cast_unsigned(), count("deltas")?.cast_unsigned());
    drop(connection);
    let synced = File::open(part).and_then(|file| file.sync_all().map(|()| file.metadata()));
    let bytes = synced.and_then(|about| about).map_err(|error| file(part, error))?.len();
    Ok(Copied {
        bytes,
        wavelets,
        deltas,
    })
}

fn file(path: &Path, reason: impl ToString) -> BackupError {
    BackupError::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file(path, error)),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> Result<(), BackupError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| file(path, error))
}

impl crate::Store {
    /// When this store was restored from a backup, if it was and that is not settled yet: milliseconds since 1970.
    pub async fn restored(&self) -> Result<Option<i64>, StoreError> {
        let value = self.value(RESTORED).await?;
        let bytes = value.and_then(|value| <[u8; 8]>::try_from(value.as_ref()).ok());
        Ok(bytes.map(i64::from_be_bytes))
    }
}
