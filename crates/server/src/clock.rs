//! The time, read where the server acts: the machines below are told it.
//!
//! The time of day may jump; what waits for something must not notice (a pause would last for a year). So waits and
//! deadlines go by a time that began as the time of day and only grows.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use billow_model::Timestamp;

/// The time of day, as deltas and sessions carry it.
#[must_use]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The time of day when the server started, and how long that is ago: for the deadlines of machines.
#[must_use]
pub(crate) fn steady() -> Timestamp {
    static START: OnceLock<(Timestamp, Instant)> = OnceLock::new();
    let (start, since) = START.get_or_init(|| (now(), Instant::now()));
    let elapsed = i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX);
    start.later(elapsed)
}

/// The time for waits and deadlines of our own.
#[must_use]
pub(crate) fn tick() -> Instant {
    Instant::now()
}
