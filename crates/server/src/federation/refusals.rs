//! What is logged of refusals: for each peer and reason one line in a while, with the number of those that were not
//! logged, so that a flood of them fills no disk (hardening.md B-237).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines of the same peer and reason.
const INTERVAL: Duration = Duration::from_secs(10);
/// Pairs of peer and reason that are told apart; what is beyond shares one line.
const KNOWN_MAX: usize = 1_000;

/// The refusals of the last while. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals {
    lines: Arc<Mutex<HashMap<(String, String), Line>>>,
}

#[derive(Debug)]
struct Line {
    logged: Instant,
    unlogged: u64,
}

impl Refusals {
    /// Takes note of a refusal. `Some`: it is to be logged, with the number of those before it that were not.
    pub(super) fn note(&self, peer: &str, reason: &str, now: Instant) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (peer.to_owned(), reason.to_owned());
        if lines.len() >= KNOWN_MAX && !lines.contains_key(&key) {
            lines.retain(|_, line| now.duration_since(line.logged) < INTERVAL || line.unlogged > 0);
            if lines.len() >= KNOWN_MAX {
                key = (String::new(), String::new());
            }
        }
        let Some(line) = lines.get_mut(&key) else {
            lines.insert(
                key,
                Line {
                    logged: now,
                    unlogged: 0,
                },
            );
            return Some(0);
        };
        if now.duration_since(line.logged) < INTERVAL {
            line.unlogged += 1;
            return None;
        }
        line.logged = now;
        Some(std::mem::take(&mut line.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_in_a_while_with_a_count_and_hides_nobody_else() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.note("evil.lab", "signature", start), Some(0));
        for _ in 0..100_000 {
            assert_eq!(refusals.note("evil.lab", "signature", start), None);
        }
        assert_eq!(refusals.note("evil.lab", "history", start), Some(0));
        assert_eq!(refusals.note("acme.lab", "signature", start), Some(0));
        assert_eq!(refusals.note("evil.lab", "signature", start + INTERVAL), Some(100_000));
        assert_eq!(refusals.note("evil.lab", "signature", start + 2 * INTERVAL), Some(0));
    }

    #[test]
    fn many_names_cost_no_more_than_so_many_lines() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let logged = |from: usize, now| {
            let names = (from..from + 10_000).map(|number| format!("w{number}.lab"));
            names.filter(|name| refusals.note(name, "x", now).is_some()).count()
        };
        assert_eq!(logged(0, start), KNOWN_MAX + 1);
        assert!(logged(10_000, start + INTERVAL) <= KNOWN_MAX + 1);
        assert!(refusals.lines.lock().unwrap_or_else(PoisonError::into_inner).len() <= KNOWN_MAX + 1);
    }
}
