//! How many carets another server may send to one wavelet; what is more is dropped, for nobody misses a caret.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use billow_model::Domain;

/// One caret may come in this time, of all people that the server tells of.
const INTERVAL: Duration = Duration::from_millis(20);
/// So many may come at once.
const BURST: u32 = 100;

/// The carets of each server.
#[derive(Debug, Default)]
pub(super) struct CaretRate {
    /// When the last one would have come, had they come evenly.
    even: HashMap<Domain, Instant>,
}

impl CaretRate {
    /// Whether one more is taken from this server.
    pub(super) fn takes(&mut self, peer: &Domain, now: Instant) -> bool {
        let even = self.even.get(peer).map_or(now, |even| now.max(*even));
        let takes = even.duration_since(now) < INTERVAL * BURST;
        if takes {
            self.even.insert(peer.clone(), even + INTERVAL);
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn a_flood_is_cut_to_the_rate_and_others_are_not_hindered() {
        let (evil, acme): (Domain, Domain) = ("evil.lab".parse().unwrap(), "acme.lab".parse().unwrap());
        let (mut rate, start) = (CaretRate::default(), Instant::now());
        let mut taken =
            |peer: &Domain, after: Duration| (0..10_000).filter(|_| rate.takes(peer, start + after)).count();
        assert_eq!(taken(&evil, Duration::ZERO), 100);
        assert_eq!(taken(&evil, Duration::from_secs(1)), 50);
        assert_eq!(taken(&acme, Duration::from_secs(1)), 100);
        assert_eq!(taken(&evil, Duration::from_secs(60)), 100);
    }
}
