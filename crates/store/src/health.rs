//! How the disk is: failed, too full, or good.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use billow_model::planted;

use crate::error::StoreError;

/// Free bytes that are left to the rest of the machine; of a smaller disk a twentieth.
const RESERVE: u64 = 512 * 1024 * 1024;
/// How often the free room is asked for at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Free and total bytes of a file system.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// For us.
    pub free: u64,
    /// In all.
    pub total: u64,
}

impl Room {
    /// Whether it is so little that a store writes nothing.
    #[must_use]
    pub fn is_full(self) -> bool {
        below_reserve(self)
    }
}

/// The room of the file system that a folder is on; `None` if the system does not say.
#[must_use]
pub fn room(folder: &Path) -> Option<Room> {
    let about = rustix::fs::statvfs(folder).ok()?;
    Some(Room {
        free: about.f_bavail.saturating_mul(about.f_frsize),
        total: about.f_blocks.saturating_mul(about.f_frsize),
    })
}

/// Tells the room where the database is; `None` if the system does not say.
pub(crate) type Gauge = Box<dyn Fn() -> Option<Room> + Send + Sync>;

/// What is known of the disk, shared by whoever reads and writes.
pub(crate) struct Health {
    failure: Mutex<Option<String>>,
    gauge: Gauge,
    looked: Mutex<(Option<Instant>, bool)>,
}

impl Health {
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self {
            failure: Mutex::default(),
            gauge,
            looked: Mutex::default(),
        }
    }

    /// Why nothing is written any more, if that is so.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on nothing is written: the disk failed, and what it holds is not known.
    pub(crate) fn fail(&self, text: &str) {
        if planted::is("after a failed sync the store goes on") {
            return;
        }
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            tracing::error!("ALARM: the store is read-only from now on: {text}");
            *failure = Some(text.to_owned());
        }
    }

    /// Whether something may be written now.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.failure() {
            Some(failure) => Err(StoreError::Failed(failure)),
            None if self.is_full() => Err(StoreError::Unavailable),
            None => Ok(()),
        }
    }

    /// Whether there is so little room that the rest must be kept for what is not ours: logs, mail, a person's shell.
    pub(crate) fn is_full(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.0.is_none_or(|when| when.elapsed() >= LOOK_EVERY) {
            let full = (self.gauge)().is_some_and(below_reserve);
            if full != looked.1 {
                if full {
                    tracing::error!("ALARM: the disk is nearly full; nothing is stored until there is room again");
                } else {
                    tracing::info!("there is room on the disk again");
                }
            }
            *looked = (Some(Instant::now()), full);
        }
        looked.1
    }
}

fn below_reserve(Room { free, total }: Room) -> bool {
    free < RESERVE.min(total / 20)
}

/// The room of the file system that a folder is on.
pub(crate) fn gauge(folder: &Path) -> Gauge {
    let folder = folder.to_owned();
    Box::new(move || room(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_half_a_gigabyte_or_a_twentieth() {
        let mib: u64 = 1024 * 1024;
        let full = |free: u64, total: u64| {
            below_reserve(Room {
                free: free * mib,
                total: total * mib,
            })
        };
        assert!(full(511, 100_000) && !full(513, 100_000));
        assert!(full(49, 1_000) && !full(51, 1_000));
        assert!(!full(0, 0), "a file system that says nothing is not full");
    }
}
