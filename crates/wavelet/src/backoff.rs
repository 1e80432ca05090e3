//! Delays between retries: doubling, with full jitter, up to a cap (hardening.md §6).

use billow_model::Timestamp;

/// First delay, ms.
const FIRST_MS: u64 = 1_000;
/// Longest delay of a submission, ms. Short, because a person waits; the network layer has its own, longer one for dead hosts.
pub(crate) const SUBMISSION_MS: u64 = 20_000;
/// Longest delay of a request for history, ms.
pub(crate) const HISTORY_MS: u64 = 300_000;

/// Counts failures and says when to try again.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    failures: u32,
    longest_ms: u64,
    state: u64,
}

impl Backoff {
    /// `seed` makes the jitter of one wavelet differ from that of others.
    pub(crate) fn new(longest_ms: u64, seed: u64) -> Self {
        Self {
            failures: 0,
            longest_ms,
            state: seed | 1,
        }
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// When to try again after one more failure at `now`.
    pub(crate) fn failed(&mut self, now: Timestamp) -> Timestamp {
        let most = (FIRST_MS << self.failures.min(10)).min(self.longest_ms);
        self.failures = self.failures.saturating_add(1);
        // xorshift64: enough to keep retries of many wavelets apart.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let delay = FIRST_MS / 4 + self.state % most;
        now.later(i64::try_from(delay).unwrap_or(i64::MAX))
    }
}
