//! A disk that fails when a test says so, for a process of its own: disk.c, preloaded into it, stands between the process
//! and the files of one folder. Works wherever there is a C compiler and a dynamic loader; no rights are needed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What a call on a file is.
pub(crate) const WRITE: u64 = 1;
/// See [`WRITE`].
pub(crate) const SYNC: u64 = 2;
/// See [`WRITE`].
pub(crate) const READ: u64 = 4;
/// See [`WRITE`].
pub(crate) const TRUNCATE: u64 = 8;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Calls are only counted.
    Nothing = 0,
    /// The process is killed instead.
    KillBefore = 1,
    /// The process is killed when it is done.
    KillAfter = 2,
    /// Half of a write is done, then the process is killed.
    KillTorn = 3,
    /// This one call fails.
    FailOnce = 4,
    /// From this call on all fail, until the test says otherwise.
    FailOn = 5,
}

/// What becomes of un-synced writes when the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// They are kept: only the process has died.
    None = 0,
    /// They are gone: the power was cut.
    All = 1,
    /// Some of them are gone, by the seed: the disk had begun with them, in its own order.
    Some = 2,
}

/// Which files are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    /// All in the folder.
    Any = 0,
    /// The database.
    Database = 1,
    /// Its write-ahead log.
    Log = 2,
}

/// The disk of one process.
pub(crate) struct Disk {
    control: File,
    path: PathBuf,
    folder: PathBuf,
}

impl Disk {
    /// A disk under this folder, which is made; nothing fails yet.
    pub(crate) fn new(folder: &Path, control: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder can be made");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(control)
            .expect("a file can be made");
        file.set_len(4096).expect("it can be as large as a page");
        Self {
            control: file,
            path: control.to_owned(),
            folder: folder.to_owned(),
        }
    }

    /// Puts the process to be started onto this disk.
    pub(crate) fn under(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("BILLOW_DISK_CONTROL", &self.path)
            .env("BILLOW_DISK_FOLDER", &self.folder);
    }

    /// Counts calls of these kinds on these files from now on, and does this at the one with that number.
    pub(crate) fn arm(&self, mask: u64, files: Files, action: Action, at: u64) {
        self.set(2, Action::Nothing as u64);
        self.set(0, 0);
        self.set(1, 0);
        self.set(8, files as u64);
        self.set(4, mask);
        self.set(3, at);
        self.set(2, action as u64);
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        self.set(2, Action::Nothing as u64);
    }

    /// With which error calls fail: an errno.
    pub(crate) fn set_error(&self, errno: u64) {
        self.set(5, errno);
    }

    /// What becomes of un-synced writes at a kill; to be said before the process is started.
    pub(crate) fn set_loss(&self, loss: Loss, seed: u64) {
        self.set(7, seed);
        self.set(6, loss as u64);
    }

    /// Syncs are answered well and do nothing, as some disks do.
    pub(crate) fn set_lies(&self) {
        self.set(13, 1);
    }

    /// The folder is on a read-only file system.
    pub(crate) fn set_read_only(&self) {
        self.set(14, 1);
    }

    /// The system gives no more threads.
    pub(crate) fn set_no_threads(&self) {
        self.set(15, 1);
    }

    /// How often it was asked for one since.
    pub(crate) fn refused_threads(&self) -> u64 {
        self.get(16)
    }

    /// Moves the time of day by so many milliseconds.
    pub(crate) fn set_clock(&self, ms: i64) {
        self.set(9, ms.cast_unsigned());
    }

    /// How many calls were counted.
    pub(crate) fn calls(&self) -> u64 {
        self.get(0)
    }

    /// How often the action was taken.
    pub(crate) fn fired(&self) -> u64 {
        self.get(1)
    }

    /// The kind of the call at which the action was taken, and its file.
    pub(crate) fn last(&self) -> (u64, u64) {
        let last = self.get(10);
        (last % 16, last / 16)
    }

    /// How many un-synced changes the kill took away.
    pub(crate) fn lost(&self) -> u64 {
        self.get(12)
    }

    fn set(&self, field: u64, value: u64) {
        self.control
            .write_all_at(&value.to_ne_bytes(), field * 8)
            .expect("the control file can be written");
    }

    fn get(&self, field: u64) -> u64 {
        let mut bytes = [0; 8];
        self.control
            .read_exact_at(&mut bytes, field * 8)
            .expect("the control file can be read");
        u64::from_ne_bytes(bytes)
    }
}

/// The library, compiled once for each process that tests.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let source = folder.join("disk.c");
        let (library, own) = (
            folder.join("disk.so"),
            folder.join(format!("disk-{}.so", std::process::id())),
        );
        std::fs::write(&source, include_str!("disk.c")).expect("the folder for tests can be written");
        let compiled = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .args([&own, &source])
            .args(["-lpthread", "-ldl"])
            .output()
            .expect("a C compiler (cc) is needed to test what happens when a disk fails");
        assert!(
            compiled.status.success(),
            "disk.c does not compile: {}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        // Another test process may be doing the same: whole files only.
        std::fs::rename(&own, &library).expect("a file can be renamed");
        library
    })
}
