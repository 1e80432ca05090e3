//! How often the digest of a whole wavelet is computed: it costs as much as the wavelet is large.

use billow_model::{Timestamp, Wavelet};

/// The pause after a digest of a small wavelet, ms.
pub(crate) const HOST_MS: i64 = 1_000;
/// As much on the side that compares: shorter, so that what an honest host sends is looked at.
pub(crate) const REMOTE_MS: i64 = 500;
/// One more ms of pause for so many items; an item costs some ten nanoseconds.
const ITEMS_PER_MS: usize = 100;

/// Says when the next digest may be computed, so that digests take a hundredth of the time at most.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    pause_ms: i64,
    next: Timestamp,
}

impl Pace {
    pub(crate) const fn new(pause_ms: i64) -> Self {
        Self {
            pause_ms,
            next: Timestamp(0),
        }
    }

    pub(crate) fn next(&self) -> Timestamp {
        self.next
    }

    /// The digest of a wavelet, unless it is too early for one.
    pub(crate) fn digest(&mut self, now: Timestamp, wavelet: &Wavelet) -> Option<[u8; 32]> {
        // A clock that was set back does not hold it up for longer than a pause.
        let until = self.next.0.min(now.0.saturating_add(self.pause(wavelet)));
        if now.0 < until {
            self.next = Timestamp(until);
            return None;
        }
        self.next = now.later(self.pause(wavelet));
        Some(wavelet.digest())
    }

    fn pause(&self, wavelet: &Wavelet) -> i64 {
        let items: usize = wavelet.documents().map(|(_, document, _)| document.len()).sum();
        self.pause_ms
            .saturating_add(i64::try_from(items / ITEMS_PER_MS).unwrap_or(i64::MAX))
    }
}
