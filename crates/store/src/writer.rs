//! The one thread that writes: what waits goes into one transaction, and is answered after its commit.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use billow_model::planted;
use rusqlite::Connection;

use crate::error::StoreError;
use crate::health::Health;
use crate::opened;

/// Writes that may wait before senders do.
const QUEUE: usize = 4_096;
/// Writes in one transaction.
const BATCH: usize = 1_024;
/// Commits between two copies of the log into the database.
const COMMITS_PER_CHECKPOINT: usize = 256;
/// Rows written between two such copies: commits of a long history are large.
const ROWS_PER_CHECKPOINT: u64 = 16_384;
/// A log of so many pages is copied by the writer itself, so that it can start over.
const LOG_PAGES_MAX: i64 = 16_384;

/// A write and what becomes of its answer.
trait Work: Send {
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError>;
    fn done(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Job<T, W, D> {
    write: W,
    value: Option<T>,
    done: D,
}

impl<T, W, D> Work for Job<T, W, D>
where
    T: Send,
    W: FnMut(&Connection) -> Result<T, StoreError> + Send,
    D: FnOnce(Result<T, StoreError>) + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError> {
        self.value = Some((self.write)(connection)?);
        Ok(())
    }

    fn done(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { value, done, .. } = *self;
        done(outcome.and_then(|()| value.ok_or(StoreError::Closed)));
    }
}

/// The way to the writing thread; dropping it waits for what was sent.
pub(crate) struct Writer {
    sender: Option<tokio::sync::mpsc::Sender<Box<dyn Work>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(
        connection: Connection,
        checkpointer: Connection,
        health: Arc<Health>,
    ) -> Result<Self, rusqlite::Error> {
        let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE);
        let loop_ = Loop {
            connection,
            health,
            commits: 0,
            copied_at: 0,
        };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || loop_.run(receiver, checkpointer))
            .expect("a thread can be started");
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    pub(crate) async fn send<T: Send + 'static>(
        &self,
        write: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
        done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let sender = self.sender.as_ref().expect("the sender is there until the drop");
        sender
            .send(Box::new(Job {
                write,
                value: None,
                done,
            }))
            .await
            .map_err(|_| StoreError::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sender = None;
        let Some(thread) = self.thread.take() else { return };
        // The last clone may be held by an answer, which is given on the thread itself.
        if thread.thread().id() != std::thread::current().id() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

struct Loop {
    connection: Connection,
    health: Arc<Health>,
    commits: usize,
    /// How many rows had been written when the log was last to be copied.
    copied_at: u64,
}

impl Loop {
    fn run(mut self, mut receiver: tokio::sync::mpsc::Receiver<Box<dyn Work>>, checkpointer: Connection) {
        let (ask, asked) = mpsc::sync_channel::<()>(1);
        let copying = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn({
                let health = Arc::clone(&self.health);
                move || {
                    while asked.recv().is_ok() {
                        checkpoint(&checkpointer, "PASSIVE", &health);
                    }
                }
            })
            .expect("a thread can be started");
        while let Some(first) = receiver.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = receiver.try_recv()
            {
                batch.push(next);
            }
            self.commit(batch);
            if self.health.failure().is_none() && self.is_much_in_log() {
                self.commits = 0;
                self.copied_at = self.connection.total_changes();
                // Already asked: once is enough.
                let _ = ask.try_send(());
                self.bound_log();
            }
        }
        drop(ask);
        let _ = copying.join();
        self.close();
    }

    /// Whether the log should be copied into the database.
    fn is_much_in_log(&self) -> bool {
        let rows = self.connection.total_changes().saturating_sub(self.copied_at);
        self.commits >= COMMITS_PER_CHECKPOINT || rows >= ROWS_PER_CHECKPOINT
    }

    /// Says in the database that everything is in it, and makes that true. After a failure the log stays as it is: it may
    /// hold what the database does not.
    fn close(&self) {
        let outcome = self.health.check().and_then(|()| opened::set(&self.connection, false));
        if outcome.is_ok() {
            checkpoint(&self.connection, "TRUNCATE", &self.health);
        }
    }

    /// A log that only grows, because there is always a writer, is copied and begun anew by this thread.
    fn bound_log(&self) {
        let pages = std::fs::metadata(format!("{}-wal", self.connection.path().unwrap_or_default()))
            .map_or(0, |log| i64::try_from(log.len() / 4_096).unwrap_or(i64::MAX));
        if pages > LOG_PAGES_MAX {
            checkpoint(&self.connection, "RESTART", &self.health);
        }
    }

    /// All of it in one transaction; where the disk has no room for all, one by one, so that what fits is stored.
    fn commit(&mut self, mut batch: Vec<Box<dyn Work>>) {
        let outcomes = self.try_commit(&mut batch);
        match outcomes {
            Ok(outcomes) => {
                for (work, outcome) in batch.into_iter().zip(outcomes) {
                    work.done(outcome);
                }
            }
            Err(StoreError::Unavailable) if batch.len() > 1 && !self.health.is_full() => {
                for work in batch {
                    self.commit(vec![work]);
                }
            }
            Err(error) => {
                for work in batch {
                    work.done(Err(error.clone()));
                }
            }
        }
    }

    /// One outcome per write, after the commit; or an error that holds for all, after which nothing of it is stored.
    fn try_commit(&mut self, batch: &mut [Box<dyn Work>]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        self.health.check()?;
        self.commits += 1;
        let outcome = self.transact(batch);
        if let Err(error) = &outcome {
            if !self.connection.is_autocommit() {
                // If not even this works the next BEGIN fails, and that is seen.
                let _ = self.connection.execute_batch("ROLLBACK");
            }
            if let StoreError::Failed(text) | StoreError::Damaged(text) = error {
                self.health.fail(text);
                return Err(StoreError::Failed(text.clone()));
            }
        }
        outcome
    }

    fn transact(&self, batch: &mut [Box<dyn Work>]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        // With the planted bug every other commit is left to the next one.
        let lazy = planted::is("a write is answered before its commit");
        if !lazy || self.connection.is_autocommit() {
            self.statement("BEGIN IMMEDIATE")?;
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        for work in batch.iter_mut() {
            self.statement("SAVEPOINT one")?;
            let outcome = work.run(&self.connection);
            match &outcome {
                Ok(()) => self.statement("RELEASE one")?,
                // SQLite has given up the whole transaction, or the disk has failed: that concerns all.
                Err(error) if self.connection.is_autocommit() || matches!(error, StoreError::Failed(_)) => {
                    return Err(error.clone());
                }
                Err(_) => {
                    self.statement("ROLLBACK TO one")?;
                    self.statement("RELEASE one")?;
                }
            }
            outcomes.push(outcome);
        }
        if !lazy || self.commits.is_multiple_of(2) {
            self.statement("COMMIT")?;
        }
        Ok(outcomes)
    }

    fn statement(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

/// Copies the log into the database; whether it is all there. A full disk is no loss: the log keeps everything. After a
/// failed sync the copy must not be tried again: it would seem to be there, and the log would be overwritten.
fn checkpoint(connection: &Connection, mode: &str, health: &Health) -> bool {
    if health.failure().is_some() {
        return false;
    }
    let outcome = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        row.get::<_, i64>(0)
    });
    match outcome.map_err(StoreError::from) {
        Ok(busy) => busy == 0,
        Err(StoreError::Failed(text)) => {
            health.fail(&text);
            false
        }
        Err(error) => {
            tracing::warn!("the log could not be copied into the database: {error}");
            false
        }
    }
}
