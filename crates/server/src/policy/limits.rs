//! How much of something there was within the last hour: of each peer, and of each user the new domains (hardening.md
//! B-078, B-128). An hour begins with the first of it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::{Duration, Instant};

use billow_model::{Domain, ParticipantId};

/// How long is counted together.
const HOUR: Duration = Duration::from_secs(3600);
/// Peers, and users, that are counted apart; what is beyond is counted together.
const APART_MAX: usize = 10_000;

/// What one peer, or one user, may do in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// Wavelets of a domain that are not here yet.
    pub new_wavelets: u32,
    /// Bytes of deltas that a domain sends.
    pub bytes: u64,
    /// Users of a domain who write to wavelets hosted here.
    pub users: u32,
    /// Domains that are new to this server and that one user invites somebody of.
    pub new_domains: u32,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            new_wavelets: 1_000,
            bytes: 1 << 30,
            users: 10_000,
            new_domains: 10,
        }
    }
}

/// The counts of this hour.
#[derive(Debug, Default)]
pub(super) struct Hours {
    hasher: RandomState,
    peers: HashMap<Option<Domain>, Peer>,
    users: HashMap<Option<ParticipantId>, Contacts>,
}

#[derive(Debug)]
struct Peer {
    began: Instant,
    wavelets: HashSet<u64>,
    bytes: u64,
    users: HashSet<u64>,
}

#[derive(Debug)]
struct Contacts {
    began: Instant,
    domains: HashSet<Domain>,
}

impl Hours {
    /// Whether a domain may begin another wavelet; the same one counts once.
    pub(super) fn new_wavelet(&mut self, domain: &Domain, name: &impl Hash, most: u32, now: Instant) -> bool {
        let name = self.hasher.hash_one(name);
        let peer = self.peer(domain, now);
        peer.wavelets.contains(&name) || (peer.wavelets.len() < most as usize && peer.wavelets.insert(name))
    }

    /// Whether so many more bytes of a domain are taken. Those that are not do not count.
    pub(super) fn bytes(&mut self, domain: &Domain, bytes: u64, most: u64, now: Instant) -> bool {
        let peer = self.peer(domain, now);
        let sum = peer.bytes.saturating_add(bytes);
        if sum <= most {
            peer.bytes = sum;
        }
        sum <= most
    }

    /// Whether another user of a domain may write here; the same one counts once.
    pub(super) fn user(&mut self, user: &ParticipantId, most: u32, now: Instant) -> bool {
        let hash = self.hasher.hash_one(user);
        let peer = self.peer(&user.domain(), now);
        peer.users.contains(&hash) || (peer.users.len() < most as usize && peer.users.insert(hash))
    }

    /// Whether a user may invite people of these new domains, all together; if not, after how long there is room again.
    pub(super) fn contacts<'d>(
        &mut self,
        user: &ParticipantId,
        domains: impl IntoIterator<Item = &'d Domain>,
        most: u32,
        now: Instant,
    ) -> Result<(), Duration> {
        let key = key(&mut self.users, user, |contacts| {
            now.duration_since(contacts.began) < HOUR
        });
        let contacts = self.users.entry(key).or_insert_with(|| Contacts {
            began: now,
            domains: HashSet::new(),
        });
        let age = now.duration_since(contacts.began);
        if age >= HOUR {
            (contacts.began, contacts.domains) = (now, HashSet::new());
        }
        let fresh: HashSet<&Domain> = domains
            .into_iter()
            .filter(|domain| !contacts.domains.contains(*domain))
            .collect();
        if contacts.domains.len() + fresh.len() > most as usize {
            return Err(HOUR.saturating_sub(age));
        }
        contacts.domains.extend(fresh.into_iter().cloned());
        Ok(())
    }

    fn peer(&mut self, domain: &Domain, now: Instant) -> &mut Peer {
        let key = key(&mut self.peers, domain, |peer| now.duration_since(peer.began) < HOUR);
        let blank = || Peer {
            began: now,
            wavelets: HashSet::new(),
            bytes: 0,
            users: HashSet::new(),
        };
        let peer = self.peers.entry(key).or_insert_with(blank);
        if now.duration_since(peer.began) >= HOUR {
            *peer = blank();
        }
        peer
    }
}

/// The key to count under: its own, or the common one if there are too many.
fn key<K: Clone + Eq + Hash, V>(counts: &mut HashMap<Option<K>, V>, own: &K, fresh: impl Fn(&V) -> bool) -> Option<K> {
    let own = Some(own.clone());
    if counts.len() >= APART_MAX && !counts.contains_key(&own) {
        counts.retain(|_, count| fresh(count));
        if counts.len() >= APART_MAX {
            return None;
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    #[test]
    fn an_hour_holds_so_much_of_a_peer_and_takes_nothing_from_another() {
        let (mut hours, start) = (Hours::default(), Instant::now());
        let (evil, acme) = (domain("evil.lab"), domain("acme.lab"));
        assert!(hours.new_wavelet(&evil, &"a", 2, start) && hours.new_wavelet(&evil, &"b", 2, start));
        assert!(!hours.new_wavelet(&evil, &"c", 2, start) && hours.new_wavelet(&evil, &"a", 2, start));
        assert!(hours.new_wavelet(&acme, &"c", 2, start));
        assert!(hours.bytes(&evil, 10, 10, start) && !hours.bytes(&evil, 1, 10, start));
        let user = |name: &str| format!("{name}@evil.lab").parse::<ParticipantId>().unwrap();
        assert!(hours.user(&user("a"), 1, start) && hours.user(&user("a"), 1, start));
        assert!(!hours.user(&user("b"), 1, start));
        let later = start + HOUR;
        assert!(hours.new_wavelet(&evil, &"c", 2, later) && hours.bytes(&evil, 10, 10, later));
        assert!(hours.user(&user("b"), 1, later));
    }

    #[test]
    fn new_domains_count_once_and_are_refused_all_together() {
        let (mut hours, start) = (Hours::default(), Instant::now());
        let alice: ParticipantId = "alice@initech.lab".parse().unwrap();
        let names: Vec<Domain> = (0..4).map(|n| domain(&format!("d{n}.lab"))).collect();
        assert_eq!(hours.contacts(&alice, &names[..2], 3, start), Ok(()));
        assert_eq!(hours.contacts(&alice, &names[..2], 3, start), Ok(()));
        let soon = start + HOUR / 4;
        assert_eq!(hours.contacts(&alice, &names[1..], 3, soon), Err(HOUR - HOUR / 4));
        assert_eq!(
            hours.contacts(&alice, &names[3..], 3, soon),
            Ok(()),
            "nothing was counted"
        );
        assert!(hours.contacts(&alice, &names[2..3], 3, soon).is_err());
        let bob = "bob@initech.lab".parse().unwrap();
        assert_eq!(hours.contacts(&bob, &names[..3], 3, soon), Ok(()));
        assert_eq!(hours.contacts(&alice, &names[2..3], 3, start + HOUR), Ok(()));
    }

    #[test]
    fn many_names_cost_no_more_than_so_many_counts() {
        let (mut hours, start) = (Hours::default(), Instant::now());
        for number in 0..APART_MAX + 100 {
            hours.bytes(&domain(&format!("d{number}.lab")), 1, 1 << 20, start);
        }
        assert_eq!(hours.peers.len(), APART_MAX + 1);
        hours.bytes(&domain("late.lab"), 1, 1 << 20, start + HOUR);
        assert_eq!(hours.peers.len(), 1);
    }
}
