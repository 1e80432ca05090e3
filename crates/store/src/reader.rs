//! Connections that read, shared by whoever reads.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rusqlite::Connection;

use crate::error::{OpenError, StoreError};
use crate::folder::Folder;
use crate::health::Health;

const CONNECTIONS: usize = 4;

/// A few connections; a reader waits for a free one.
pub(crate) struct Readers {
    free: Mutex<Vec<Connection>>,
    returned: Condvar,
    health: Arc<Health>,
}

impl Readers {
    pub(crate) fn open(folder: &Folder, health: Arc<Health>) -> Result<Self, OpenError> {
        let free = (0..CONNECTIONS)
            .map(|_| folder.connect_reader())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            free: Mutex::new(free),
            returned: Condvar::new(),
            health,
        })
    }

    /// Reads within one transaction, so that several statements see one state.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let outcome = self.try_read(read);
        if let Err(StoreError::Failed(text)) = &outcome {
            // A disk that cannot be read is not to be written either.
            self.health.fail(text);
        }
        outcome
    }

    fn try_read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut lent = Lent {
            readers: self,
            connection: Some(self.borrow()),
        };
        let connection = lent.connection.as_mut().expect("it is lent until the end");
        let transaction = connection.transaction()?;
        let value = read(&transaction)?;
        transaction.finish()?;
        Ok(value)
    }

    fn borrow(&self) -> Connection {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match free.pop() {
                Some(connection) => return connection,
                None => free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Gives the connection back, whatever happens.
struct Lent<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.readers
                .free
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
            self.readers.returned.notify_one();
        }
    }
}
