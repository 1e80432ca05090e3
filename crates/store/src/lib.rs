//! What must survive: deltas, snapshots, signers, delivery cursors, outgoing submissions, accounts and sessions,
//! in one SQLite file.
//!
//! The promises, all of them held by `tests.rs`:
//!
//! * **Durable first.** A write is answered after the commit that holds it reached the disk (WAL, `synchronous=FULL`).
//!   One thread writes; what waits for it goes into one transaction (group commit), each write under a savepoint, so that
//!   one that fails takes no other with it and is not itself acknowledged.
//! * **All or nothing.** Everything that a delta changes is one [`WaveletWrite`], and that is one write.
//! * **A history has no gaps.** A delta that does not start where the stored history ends is refused ([`StoreError::Conflict`]).
//! * **A failed disk is not argued with.** After an I/O error nothing is written any more ([`StoreError::Failed`]), and the log
//!   is neither copied nor removed; reading goes on. A full disk is different: the write is refused
//!   ([`StoreError::Unavailable`]), later ones are tried; and nothing is written before the disk is quite full (health.rs).
//! * **What is read is what was written.** Rows have checksums, histories a chain of hashes (sum.rs). What does not verify is
//!   [`StoreError::Damaged`], and only it: other wavelets are read and written as before.
//! * **Nothing is taken for empty that was full.** A database or a log that is missing where there was one is said, not made anew.
//! * **One process per folder**, by a lock on `billow.lock`, which names the process.
//!
//! The store knows wavelet names, versions, addresses and byte strings. What the bytes mean is for others to say.

mod account;
mod backup;
mod delivery;
mod directory;
mod error;
mod fence;
mod folder;
mod health;
mod history;
mod inbox;
mod meta;
mod opened;
mod policy;
mod quota;
mod reader;
mod request;
mod salvage;
mod schema;
mod scrub;
mod signer;
mod snapshot;
mod standing;
mod sum;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

pub use account::{Account, AddAccount, Invitation, StoredSession, TokenHash};
pub use backup::{BackupError, Copied, RESTORED, back_up, restore};
pub use delivery::{Cursor, DueDelivery};
pub use error::{OpenError, StoreError};
pub use health::{Room, room};
pub use history::{Outgoing, StoredDelta, StoredSeal, StoredWavelet, Submission, WaveletWrite};
pub use inbox::{InboxEntry, Summary};
pub use policy::{StoredDecision, Undecided};
pub use quota::Quota;
pub use request::{Request, Settlement};
pub use salvage::{Salvaged, salvage};
pub use scrub::{Finding, ScrubPosition};
pub use snapshot::Snapshot;
pub use standing::StoredStanding;

use folder::Folder;
use health::Health;
use reader::Readers;
use writer::Writer;

/// The store of one server. Cheap to clone; the file is closed when the last clone is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    // Fields are dropped in this order: the lock on the folder goes last.
    writer: Writer,
    readers: Readers,
    health: Arc<Health>,
    folder: Folder,
}

/// Says in the database itself, not only in its log, that it is open.
fn begin(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES (?, x'01')",
        [opened::KEY],
    )?;
    connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))
}

impl Store {
    /// Opens the store in a folder, which is made if it is not there, and brings its schema up to date. What leads to
    /// everything else is looked through; the histories are checked as they are read.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_on(dir.as_ref(), health::gauge(dir.as_ref()))
    }

    pub(crate) fn open_on(dir: &Path, gauge: health::Gauge) -> Result<Self, OpenError> {
        let folder = Folder::lock(dir)?;
        let mut connection = folder.connect_writer()?;
        schema::migrate(&mut connection)?;
        directory::check(&connection)?;
        begin(&connection).map_err(|error| folder::open_error(&folder.database(), error))?;
        folder.check_log()?;
        folder.note_database()?;
        let health = Arc::new(Health::new(gauge));
        let readers = Readers::open(&folder, Arc::clone(&health))?;
        let writer = Writer::start(connection, folder.connect_checkpointer()?, Arc::clone(&health))?;
        Ok(Self {
            inner: Arc::new(Inner {
                writer,
                readers,
                health,
                folder,
            }),
        })
    }

    /// The folder it lives in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.inner.folder.path()
    }

    /// The database file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.inner.folder.database()
    }

    /// Whether this is the last clone, so that dropping it closes the file.
    #[must_use]
    pub fn is_last(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }

    /// Why nothing is written any more, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.inner.health.failure()
    }

    /// Whether nothing is stored for want of room on the disk. That ends by itself when there is room again.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inner.health.is_full()
    }

    /// Does a write; answers after it is on the disk.
    async fn write<T: Send + 'static>(
        &self,
        write: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // The asker may have gone away; the write counts all the same.
        self.write_then(write, move |outcome| drop(sender.send(outcome)))
            .await?;
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// Queues a write; `done` is called on the writer's thread after it is on the disk, or was refused.
    async fn write_then<T: Send + 'static>(
        &self,
        write: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
        done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.inner.writer.send(write, done).await
    }

    /// Reads on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.readers.read(read))
            .await
            .map_err(|_| StoreError::Closed)?
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.dir())
            .finish_non_exhaustive()
    }
}
