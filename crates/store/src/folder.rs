//! The data folder: who has it, and connections to the database in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::error::OpenError;

/// SQLite before this may damage a database when a checkpoint meets a writer.
const SQLITE_MIN: i32 = 3_051_003;
const STATEMENTS: usize = 100;

/// A folder that this process alone has.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder, or says who has it.
    pub(crate) fn lock(path: &Path) -> Result<Self, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| OpenError::Folder { path, error }
        };
        if rusqlite::version_number() < SQLITE_MIN {
            return Err(OpenError::OldSqlite {
                found: rusqlite::version().to_owned(),
            });
        }
        create(path).map_err(failed(path))?;
        let lock_path = path.join("billow.lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // An owner that has not written its number yet is unknown, not an error.
                let _ = lock.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() {
                    "unknown".to_owned()
                } else {
                    pid.trim().to_owned()
                };
                return Err(OpenError::InUse {
                    path: path.to_owned(),
                    pid,
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&lock_path)(error)),
        }
        lock.set_len(0).map_err(failed(&lock_path))?;
        lock.rewind().map_err(failed(&lock_path))?;
        writeln!(lock, "{}", std::process::id()).map_err(failed(&lock_path))?;
        let folder = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        let log = path.join("billow.db-wal");
        if !folder.database().exists() && fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            // SQLite would begin an empty database and delete the log.
            return Err(OpenError::MissingDatabase {
                path: folder.database(),
            });
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("billow.db")
    }

    /// The one connection that writes.
    pub(crate) fn connect_writer(&self) -> Result<Connection, OpenError> {
        let connection = Connection::open_with_flags(self.database(), flags() | OpenFlags::SQLITE_OPEN_CREATE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Checkpoints are made beside the writer's path (writer.rs).
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        prepare(&connection)?;
        Ok(connection)
    }

    /// A connection that only copies the log into the database.
    pub(crate) fn connect_checkpointer(&self) -> Result<Connection, OpenError> {
        let connection = Connection::open_with_flags(self.database(), flags())?;
        prepare(&connection)?;
        Ok(connection)
    }

    /// A connection that cannot write.
    pub(crate) fn connect_reader(&self) -> Result<Connection, OpenError> {
        let connection = Connection::open_with_flags(self.database(), flags())?;
        prepare(&connection)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// Makes the folder if it is not there, for its owner only: passwords' hashes and a signing key may be in it.
fn create(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}
