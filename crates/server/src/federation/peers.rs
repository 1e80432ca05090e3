//! The book of peers: how each other domain is, for the operator.

use std::collections::{BTreeMap, BTreeSet};

use billow_federation::discovery::{self, Software};
use billow_federation::host;
use billow_model::{Domain, Timestamp};
use billow_net::Contact;
use serde::Serialize;

use super::driver::Driver;
use crate::clock;

/// Most domains that are remembered; at the bound the one that was heard of longest ago goes.
const MOST: usize = 10_000;

/// How another domain is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its name.
    pub domain: String,
    /// Whether it is there.
    pub state: PeerState,
    /// What was decided about it: `allow`, `block` or `ask`.
    pub verdict: &'static str,
    /// Where its wave service is, if that was found.
    pub service: Option<String>,
    /// Whether it runs Billow; `None`: that is not known.
    pub billow: Option<bool>,
    /// Waves of ours in which it takes part.
    pub waves: usize,
    /// Those of them of which it lacks something.
    pub waiting_waves: usize,
    /// How many operations it lacks.
    pub queue: u64,
    /// When it was last heard or reached, ms since 1970.
    pub last_good: Option<i64>,
    /// What last went wrong.
    pub last_error: Option<PeerError>,
}

/// Whether another domain is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PeerState {
    /// The last contact went well.
    Well,
    /// It is not reached now, and was before.
    Waiting,
    /// It was never reached.
    NeverReached,
    /// Nothing was tried yet.
    Untried,
}

/// What went wrong with another domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerError {
    /// When, ms since 1970.
    pub at: i64,
    /// In words; the same as in the log and at the waves that wait.
    pub reason: String,
    /// When it is tried again, ms since 1970.
    pub next_try: i64,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: BTreeMap<Domain, Entry>,
    /// The last attempt to reach each XMPP domain.
    contacts: BTreeMap<String, Contact>,
}

#[derive(Debug, Default)]
struct Entry {
    good: Option<Timestamp>,
    error: Option<PeerError>,
}

impl Book {
    fn entry(&mut self, domain: &Domain) -> &mut Entry {
        if self.entries.len() >= MOST && !self.entries.contains_key(domain) {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last());
            if let Some(oldest) = oldest.map(|(domain, _)| domain.clone()) {
                self.entries.remove(&oldest);
            }
        }
        self.entries.entry(domain.clone()).or_default()
    }

    /// Notes an attempt to reach an XMPP domain.
    pub(super) fn contact(&mut self, contact: Contact) {
        if self.contacts.len() >= MOST && !self.contacts.contains_key(&contact.host) {
            let oldest = self.contacts.iter().min_by_key(|(_, contact)| contact.at);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                self.contacts.remove(&oldest);
            }
        }
        self.contacts.insert(contact.host.clone(), contact);
    }

    /// The last attempt to reach an XMPP domain.
    pub(super) fn contact_with(&self, host: &str) -> Option<&Contact> {
        self.contacts.get(host)
    }

    /// The domain was heard or reached.
    pub(super) fn good(&mut self, domain: &Domain) {
        self.entry(domain).good = Some(clock::now());
    }

    /// The domain was not reached, and is tried again after so many milliseconds. Whether the reason is another than
    /// the last time.
    pub(super) fn bad(&mut self, domain: &Domain, reason: &str, wait: i64) -> bool {
        let now = clock::now();
        let entry = self.entry(domain);
        let is_news = entry.error.as_ref().is_none_or(|error| error.reason != reason);
        entry.error = Some(PeerError {
            at: now.0,
            reason: reason.to_owned(),
            next_try: now.0.saturating_add(wait.max(0)),
        });
        is_news
    }
}

impl Entry {
    fn last(&self) -> i64 {
        let good = self.good.map_or(i64::MIN, |good| good.0);
        self.error.as_ref().map_or(good, |error| good.max(error.at))
    }

    fn state(&self) -> PeerState {
        match (self.good, &self.error) {
            (None, None) => PeerState::Untried,
            (None, Some(_)) => PeerState::NeverReached,
            (Some(good), Some(error)) if error.at > good.0 => PeerState::Waiting,
            (Some(_), _) => PeerState::Well,
        }
    }
}

impl Driver {
    /// All other domains that we have to do with.
    pub(super) fn peers_shown(&self) -> Vec<Peer> {
        let known: BTreeSet<&Domain> = self
            .hosts
            .keys()
            .chain(self.remotes.keys())
            .chain(self.book.entries.keys())
            .collect();
        known.into_iter().map(|domain| self.peer_shown(domain)).collect()
    }

    /// Whether somebody here has to do with a domain.
    pub(super) fn is_known(&self, domain: &Domain) -> bool {
        self.hosts.contains_key(domain) || self.remotes.contains_key(domain)
    }

    fn peer_shown(&self, domain: &Domain) -> Peer {
        let nothing = Entry::default();
        let entry = self.book.entries.get(domain).unwrap_or(&nothing);
        let service = self.discovery.service(domain);
        let (mut waves, mut waiting_waves, mut queue) = (0, 0, 0);
        for (_, delivery) in self.hosts.get(domain).into_iter().flat_map(host::Host::deliveries) {
            waves += 1;
            waiting_waves += usize::from(delivery.pending > 0);
            queue += delivery.pending;
        }
        Peer {
            domain: domain.to_string(),
            state: entry.state(),
            verdict: self.wavelets.shared().policy.verdict(domain).word(),
            service: service.map(|service| service.jid.to_string()),
            billow: service.map(|service| service.software != Software::Legacy),
            waves,
            waiting_waves,
            queue,
            last_good: entry.good.map(|good| good.0),
            last_error: entry.error.clone(),
        }
    }

    /// Tries a domain now, whatever was found out about it before.
    pub(super) fn try_now(&mut self, domain: &Domain) {
        let service = self
            .discovery
            .service(domain)
            .map(|service| service.jid.domain().as_str().to_owned());
        for name in service.iter().map(String::as_str).chain([domain.as_str()]) {
            if let Ok(peer) = name.parse() {
                self.net.retry_now(&peer);
                self.net.connect(&self.local, &peer);
            }
        }
        self.discovery
            .handle(clock::steady(), discovery::Input::Again(domain.clone()));
        self.tell_known_host(domain, host::Input::Reachable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_bound_the_one_heard_of_longest_ago_is_forgotten() {
        let mut book = Book::default();
        for n in 0..MOST {
            let domain: Domain = format!("d{n}.lab").parse().unwrap();
            book.entry(&domain).good = Some(Timestamp(n as i64 + 1));
        }
        book.bad(&"new.lab".parse().unwrap(), "gone", 0);
        assert_eq!(book.entries.len(), MOST);
        assert!(!book.entries.contains_key(&"d0.lab".parse::<Domain>().unwrap()));
        assert!(book.entries.contains_key(&"new.lab".parse::<Domain>().unwrap()));
    }

    #[test]
    fn the_last_contact_says_how_a_peer_is() {
        let mut entry = Entry::default();
        assert_eq!(entry.state(), PeerState::Untried);
        let error = |at| {
            Some(PeerError {
                at,
                reason: "gone".to_owned(),
                next_try: at,
            })
        };
        entry.error = error(5);
        assert_eq!(entry.state(), PeerState::NeverReached);
        entry.good = Some(Timestamp(7));
        assert_eq!(entry.state(), PeerState::Well);
        entry.error = error(9);
        assert_eq!(entry.state(), PeerState::Waiting);
    }
}
