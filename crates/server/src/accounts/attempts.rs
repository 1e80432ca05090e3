//! Who has tried too often. Failures are counted per address and guesser, per guesser, and per address from anywhere; past
//! a number of free ones each doubles the wait. An owner elsewhere is not locked out by one guesser.
//!
//! At the bound of remembered counts the ones that are over are forgotten, then all of them: a flood of guessers costs no
//! memory, and each guess still costs them a hash.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const REMEMBERED: usize = 20_000;
const LONGEST_WAIT: Duration = Duration::from_secs(900);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pair(IpAddr, String),
    Guesser(IpAddr),
    Address(String),
    Registering(IpAddr),
}

impl Key {
    /// How many failures cost nothing.
    fn free(&self) -> u32 {
        match self {
            Self::Pair(..) => 5,
            Self::Guesser(_) => 30,
            Self::Address(_) => 200,
            Self::Registering(_) => u32::MAX,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    last: Instant,
}

/// The counts, in memory only.
pub(super) struct Attempts {
    counts: Mutex<HashMap<Key, Count>>,
    registrations_per_hour: u32,
}

impl Attempts {
    pub(super) fn new(registrations_per_hour: u32) -> Self {
        Self {
            counts: Mutex::default(),
            registrations_per_hour,
        }
    }

    /// Whether this guesser may try this address now, or for how many seconds not.
    pub(super) fn allow_sign_in(&self, from: IpAddr, address: &str, now: Instant) -> Result<(), u64> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = keys(from, address)
            .iter()
            .map(|key| wait(key, counts.get(key), now))
            .max()
            .unwrap_or_default();
        if wait.is_zero() {
            Ok(())
        } else {
            Err(wait.as_secs() + 1)
        }
    }

    /// Counts a failure.
    pub(super) fn failed(&self, from: IpAddr, address: &str, now: Instant) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys(from, address) {
            add(&mut counts, key, now);
        }
    }

    /// Forgets the failures of who has got in.
    pub(super) fn succeeded(&self, from: IpAddr, address: &str) {
        let [pair, ..] = keys(from, address);
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(&pair);
    }

    /// Counts a registration, or says for how many seconds there are to be no more of them.
    pub(super) fn allow_registration(&self, from: IpAddr, now: Instant) -> Result<(), u64> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key::Registering(network(from));
        let made = counts.get(&key).filter(|count| now.duration_since(count.last) < HOUR);
        match made {
            Some(count) if count.failures >= self.registrations_per_hour => {
                Err((HOUR - now.duration_since(count.last)).as_secs() + 1)
            }
            None if self.registrations_per_hour == 0 => Err(HOUR.as_secs()),
            // The hour runs from the first one, so `last` stays.
            Some(count) => {
                let count = Count {
                    failures: count.failures + 1,
                    last: count.last,
                };
                counts.insert(key, count);
                Ok(())
            }
            None => {
                counts.remove(&key);
                add(&mut counts, key, now);
                Ok(())
            }
        }
    }
}

fn keys(from: IpAddr, address: &str) -> [Key; 3] {
    let (from, address) = (network(from), address.chars().take(255).collect::<String>());
    [
        Key::Pair(from, address.clone()),
        Key::Guesser(from),
        Key::Address(address),
    ]
}

/// One customer's IPv6 addresses are a /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        },
        v4 => v4,
    }
}

fn wait(key: &Key, count: Option<&Count>, now: Instant) -> Duration {
    let Some(count) = count else { return Duration::ZERO };
    let beyond = count.failures.saturating_sub(key.free());
    if beyond == 0 {
        return Duration::ZERO;
    }
    let wait = Duration::from_secs(1 << beyond.min(16)).min(LONGEST_WAIT);
    wait.saturating_sub(now.duration_since(count.last))
}

fn add(counts: &mut HashMap<Key, Count>, key: Key, now: Instant) {
    if counts.len() >= REMEMBERED && !counts.contains_key(&key) {
        counts.retain(|_, count| now.duration_since(count.last) < LONGEST_WAIT);
        if counts.len() >= REMEMBERED {
            counts.clear();
        }
    }
    let count = counts.entry(key).or_insert(Count { failures: 0, last: now });
    // A quiet hour is forgiven.
    let before = if now.duration_since(count.last) > HOUR {
        0
    } else {
        count.failures
    };
    *count = Count {
        failures: before.saturating_add(1),
        last: now,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUESSER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn each_failure_past_the_free_ones_doubles_the_wait() {
        let attempts = Attempts::new(10);
        let now = Instant::now();
        for _ in 0..5 {
            attempts.failed(GUESSER, "alice", now);
        }
        assert_eq!(attempts.allow_sign_in(GUESSER, "alice", now), Ok(()));
        attempts.failed(GUESSER, "alice", now);
        assert_eq!(attempts.allow_sign_in(GUESSER, "alice", now), Err(3));
        attempts.failed(GUESSER, "alice", now);
        assert_eq!(attempts.allow_sign_in(GUESSER, "alice", now), Err(5));
        assert_eq!(
            attempts.allow_sign_in(GUESSER, "alice", now + Duration::from_secs(5)),
            Ok(())
        );
        assert_eq!(attempts.allow_sign_in(GUESSER, "bob", now), Ok(()));
    }

    #[test]
    fn one_guesser_of_many_addresses_waits_too() {
        let attempts = Attempts::new(10);
        let now = Instant::now();
        for guess in 0..31 {
            attempts.failed(GUESSER, &format!("user{guess}"), now);
        }
        assert!(attempts.allow_sign_in(GUESSER, "alice", now).is_err());
        assert!(
            attempts
                .allow_sign_in("192.0.2.2".parse().unwrap(), "alice", now)
                .is_ok()
        );
    }

    #[test]
    fn registrations_are_counted_by_the_hour() {
        let attempts = Attempts::new(2);
        let now = Instant::now();
        assert!(attempts.allow_registration(GUESSER, now).is_ok());
        assert!(attempts.allow_registration(GUESSER, now).is_ok());
        assert!(attempts.allow_registration(GUESSER, now).is_err());
        assert!(attempts.allow_registration(GUESSER, now + HOUR).is_ok());
    }
}
