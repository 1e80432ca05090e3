//! The data folder: who has it, and connections to the database in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use billow_model::planted;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::OpenError;
use crate::{opened, sum};

/// SQLite before this may damage a database when a checkpoint meets a writer.
const SQLITE_MIN: i32 = 3_051_003;
const STATEMENTS: usize = 100;

/// A folder that this process alone has.
pub(crate) struct Folder {
    path: PathBuf,
    lock: File,
}

/// What the lock file says in its second line once there was a database in the folder.
const HAS_DATABASE: &str = "has a database";

impl Folder {
    /// Takes the folder, or says who has it; looks whether what should be there is.
    pub(crate) fn lock(path: &Path) -> Result<Self, OpenError> {
        let (folder, had_database) = Self::take(path)?;
        folder.check_files(had_database)?;
        Ok(folder)
    }

    /// Takes the folder to put a database into it.
    pub(crate) fn lock_for_restore(path: &Path) -> Result<Self, OpenError> {
        Ok(Self::take(path)?.0)
    }

    fn take(path: &Path) -> Result<(Self, bool), OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| OpenError::Folder { path, error }
        };
        check_library(rusqlite::version_number(), rusqlite::version())?;
        create(path).map_err(failed(path))?;
        check_place(path)?;
        let lock_path = path.join("billow.lock");
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if planted::is("a folder has any number of owners") => {}
            Err(TryLockError::WouldBlock) => {
                // An owner that has not written its number yet is unknown, not an error.
                let owner = read_lock(&lock).unwrap_or_default();
                let pid = owner.lines().next().map(str::trim).filter(|pid| !pid.is_empty());
                return Err(OpenError::InUse {
                    path: path.to_owned(),
                    pid: pid.unwrap_or("unknown").to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&lock_path)(error)),
        }
        let had_database = read_lock(&lock).map_err(failed(&lock_path))?.contains(HAS_DATABASE);
        let folder = Self {
            path: path.to_owned(),
            lock,
        };
        folder.write_lock(had_database).map_err(failed(&lock_path))?;
        Ok((folder, had_database))
    }

    /// Says in the lock file that there is a database, so that it is missed if it goes.
    pub(crate) fn note_database(&self) -> Result<(), OpenError> {
        let written = self.write_lock(true).and_then(|()| self.lock.sync_all());
        written.map_err(|error| OpenError::Folder {
            path: self.path.join("billow.lock"),
            error,
        })
    }

    /// One write of one size, so that it is never half there.
    fn write_lock(&self, has_database: bool) -> std::io::Result<()> {
        let mark = if has_database { HAS_DATABASE } else { "" };
        let text = format!("{:<10}\n{mark:<14}\n", std::process::id());
        self.lock.write_all_at(text.as_bytes(), 0)?;
        self.lock.set_len(text.len() as u64)
    }

    /// SQLite would begin an empty database where there is none, and take one without its log for the whole.
    fn check_files(&self, had_database: bool) -> Result<(), OpenError> {
        let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        let (database, log) = (self.database(), self.log());
        let (there, logged) = (length(&database) > 0, length(&log) > 0);
        if !there && (had_database || logged) {
            return Err(OpenError::MissingDatabase { path: database });
        }
        if there && !logged {
            self.check_length()?;
        }
        let was_open = there && !logged && opened::is_open(&database).map_err(|error| open_error(&database, error))?;
        if was_open && !planted::is("a database without its log is taken for the whole") {
            return Err(OpenError::MissingLog { path: log });
        }
        check_owner(&database)?;
        check_owner(&log)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("billow.db")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("billow.db-wal")
    }

    /// Whether the database has as many bytes as it says; to be asked when nothing is in its log alone.
    fn check_length(&self) -> Result<(), OpenError> {
        let path = self.database();
        let failed = |error| OpenError::Folder {
            path: path.clone(),
            error,
        };
        let file = File::open(&path).map_err(failed)?;
        let mut header = [0; 32];
        if file.read_exact_at(&mut header, 0).is_err() {
            let what = "it is shorter than the head of a database".to_owned();
            return Err(OpenError::Damaged { path, what });
        }
        let page = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65_536,
            size => u64::from(size),
        };
        let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
        let (expected, length) = (page * u64::from(pages), file.metadata().map_err(failed)?.len());
        if length < expected {
            let what = format!("expected {expected} bytes, found {length}");
            return Err(OpenError::Damaged { path, what });
        }
        Ok(())
    }

    /// The one connection that writes.
    pub(crate) fn connect_writer(&self) -> Result<Connection, OpenError> {
        let failed = |error| open_error(&self.database(), error);
        let flags = flags() | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = Connection::open_with_flags(self.database(), flags).map_err(failed)?;
        if connection.is_readonly(rusqlite::MAIN_DB).map_err(failed)? {
            return Err(OpenError::ReadOnly { path: self.database() });
        }
        begin_log(&connection).map_err(failed)?;
        // Checkpoints are made beside the writer's path (writer.rs).
        connection
            .pragma_update(None, "wal_autocheckpoint", 0)
            .map_err(failed)?;
        prepare(&connection).map_err(failed)?;
        Ok(connection)
    }

    /// Whether what was just written is in a log, as it should be.
    pub(crate) fn check_log(&self) -> Result<(), OpenError> {
        if fs::metadata(self.log()).is_ok_and(|log| log.len() > 0) {
            return Ok(());
        }
        Err(OpenError::NoLog { path: self.log() })
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

/// To the end of the statement: that its sync has failed is said only after the row which says that all is well.
fn begin_log(connection: &Connection) -> Result<(), rusqlite::Error> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Why a database does not open, in words that say what to do.
pub(crate) fn open_error(database: &Path, error: rusqlite::Error) -> OpenError {
    let path = database.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Damaged {
            path,
            what: error.to_string(),
        },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => OpenError::ReadOnly { path },
        _ => OpenError::Database(error),
    }
}

fn read_lock(mut lock: &File) -> std::io::Result<String> {
    let mut text = String::new();
    lock.rewind()?;
    lock.read_to_string(&mut text)?;
    Ok(text)
}

pub(crate) fn check_library(number: i32, found: &str) -> Result<(), OpenError> {
    if number < SQLITE_MIN {
        return Err(OpenError::OldSqlite {
            found: found.to_owned(),
        });
    }
    Ok(())
}

/// The folder must be ours, and on a disk of this machine.
fn check_place(path: &Path) -> Result<(), OpenError> {
    check_owner(path)?;
    match rustix::fs::statfs(path) {
        Ok(about) => check_kind(path, about.f_type),
        Err(_) => Ok(()),
    }
}

/// Refuses a file system whose locks and shared memory do not hold what the log needs of them.
pub(crate) fn check_kind(path: &Path, number: rustix::fs::FsWord) -> Result<(), OpenError> {
    match network_file_system(number) {
        None => Ok(()),
        Some(kind) => Err(OpenError::NetworkFileSystem {
            path: path.to_owned(),
            kind,
        }),
    }
}

/// The file systems (by their numbers in Linux) that are shared by machines.
#[allow(clippy::unnecessary_cast, reason = "the number's type differs between machines")]
fn network_file_system(number: rustix::fs::FsWord) -> Option<&'static str> {
    match number as u64 & 0xffff_ffff {
        0x6969 => Some("NFS"),
        0x517b => Some("SMB"),
        0xff53_4d42 => Some("CIFS"),
        0xfe53_4d42 => Some("SMB2"),
        0x0102_1997 => Some("9p"),
        0x00c3_6400 => Some("Ceph"),
        _ => None,
    }
}

/// What is somebody else's cannot be kept in order; and what root writes there, its owner could not.
fn check_owner(path: &Path) -> Result<(), OpenError> {
    let user = rustix::process::geteuid().as_raw();
    match fs::metadata(path) {
        Ok(about) if about.uid() != user => Err(OpenError::WrongOwner {
            path: path.to_owned(),
            owner: about.uid(),
            user,
        }),
        _ => Ok(()),
    }
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    sum::register(connection)?;
    // The log is copied and emptied by the writer, when it knows that all is well, and not by whoever closes last.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    let synchronous = if planted::is("a commit is not synced") {
        "OFF"
    } else {
        "FULL"
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    // No files in other places, which may be full when this one is not.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
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
