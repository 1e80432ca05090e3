//! The time, read where the server acts: the machines below are told it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use billow_model::Timestamp;

/// The time of day, as deltas and sessions carry it.
#[must_use]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The time for waits and deadlines.
#[must_use]
pub(crate) fn tick() -> Instant {
    Instant::now()
}
