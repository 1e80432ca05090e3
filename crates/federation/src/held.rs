//! Stanzas that wait until discovery says whether their sender may speak for a domain.
//!
//! A component's address proves nothing about the domain that it serves; only our own discovery of that domain does, and it takes
//! a moment. Whoever is turned away in that moment does not come again: the reference sends nothing twice (protocol.md §6.2). So
//! what it sends waits here, in order, and is read again when discovery has ended, or when the sender would soon stop
//! waiting for an answer.
//!
//! Bounds: [`PEER_BYTES`] of each peer, [`ALL_BYTES`] of all, [`HOLD_MS`] of time. What does not fit is judged by what is known.

use std::collections::{BTreeMap, VecDeque};

use billow_model::{Domain, Timestamp};
use billow_xmpp::Element;

/// How long a stanza waits; its sender waits [`crate::remote::TIMEOUT_MS`] for an answer.
pub const HOLD_MS: i64 = 20_000;
/// Most bytes of stanzas of one peer that wait.
pub const PEER_BYTES: usize = 2 * 1024 * 1024;
/// Most bytes of stanzas of all peers that wait.
pub const ALL_BYTES: usize = 16 * 1024 * 1024;
/// What a stanza takes beside its text.
const STANZA_BYTES: usize = 1024;

/// The stanzas that wait.
#[derive(Debug, Default)]
pub struct Held {
    waiting: VecDeque<Waiting>,
    bytes: BTreeMap<billow_xmpp::Domain, usize>,
    all_bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    stanza: HeldStanza,
    domain: Domain,
    until: Timestamp,
    bytes: usize,
}

/// A stanza as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldStanza {
    /// The domain that the stream proved.
    pub peer: billow_xmpp::Domain,
    /// The stanza.
    pub element: Element,
}

impl Held {
    /// Nothing waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a stanza until it is known who speaks for the domain; whether there was room for it.
    pub fn hold(&mut self, now: Timestamp, domain: Domain, peer: &billow_xmpp::Domain, element: &Element) -> bool {
        let bytes = STANZA_BYTES + String::from(element).len();
        let of_peer = self.bytes.get(peer).copied().unwrap_or(0);
        if of_peer + bytes > PEER_BYTES || self.all_bytes + bytes > ALL_BYTES {
            return false;
        }
        self.bytes.insert(peer.clone(), of_peer + bytes);
        self.all_bytes += bytes;
        self.waiting.push_back(Waiting {
            stanza: HeldStanza {
                peer: peer.clone(),
                element: element.clone(),
            },
            domain,
            until: now.later(HOLD_MS),
            bytes,
        });
        true
    }

    /// Discovery of the domain has ended: gives what has waited for it, in the order in which it came.
    pub fn settled(&mut self, domain: &Domain) -> Vec<HeldStanza> {
        self.take(|waiting| waiting.domain == *domain)
    }

    /// Gives what cannot wait any longer.
    pub fn expired(&mut self, now: Timestamp) -> Vec<HeldStanza> {
        self.take(|waiting| waiting.until <= now)
    }

    /// When [`Held::expired`] will have something.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.waiting.front().map(|waiting| waiting.until)
    }

    fn take(&mut self, goes: impl Fn(&Waiting) -> bool) -> Vec<HeldStanza> {
        let (gone, kept): (VecDeque<Waiting>, VecDeque<Waiting>) =
            std::mem::take(&mut self.waiting).into_iter().partition(goes);
        self.waiting = kept;
        for waiting in &gone {
            self.all_bytes -= waiting.bytes;
            if let Some(bytes) = self.bytes.get_mut(&waiting.stanza.peer) {
                *bytes -= waiting.bytes;
                if *bytes == 0 {
                    self.bytes.remove(&waiting.stanza.peer);
                }
            }
        }
        gone.into_iter().map(|waiting| waiting.stanza).collect()
    }
}

#[cfg(test)]
mod tests {
    use billow_xmpp::element;

    use super::*;

    fn stanza(number: usize, length: usize) -> Element {
        element("message", "jabber:client")
            .attr("id", number.to_string())
            .text("x".repeat(length))
            .done()
    }

    fn ids(stanzas: &[HeldStanza]) -> Vec<&str> {
        stanzas
            .iter()
            .map(|stanza| stanza.element.attr("id").unwrap())
            .collect()
    }

    #[test]
    fn what_waits_comes_back_in_order_once_it_is_known_who_speaks_or_when_time_is_up() {
        let mut held = Held::new();
        let (beta, gamma): (Domain, Domain) = ("beta.test".parse().unwrap(), "gamma.test".parse().unwrap());
        let peer = "wave.beta.test".parse().unwrap();
        for (at, domain) in [&beta, &gamma, &beta].into_iter().enumerate() {
            assert!(held.hold(Timestamp(at as i64), domain.clone(), &peer, &stanza(at, 1)));
        }
        assert_eq!(held.deadline(), Some(Timestamp(HOLD_MS)));
        assert_eq!(ids(&held.settled(&beta)), ["0", "2"]);
        assert!(held.settled(&beta).is_empty());
        assert!(held.expired(Timestamp(HOLD_MS)).is_empty());
        assert_eq!(ids(&held.expired(Timestamp(HOLD_MS + 1))), ["1"]);
        assert_eq!((held.deadline(), held.all_bytes, held.bytes.len()), (None, 0, 0));
    }

    #[test]
    fn a_peer_has_its_room_and_takes_nobody_elses() {
        let mut held = Held::new();
        let domain: Domain = "beta.test".parse().unwrap();
        let (evil, acme) = ("evil.test".parse().unwrap(), "acme.test".parse().unwrap());
        let mut taken = 0;
        while held.hold(Timestamp(0), domain.clone(), &evil, &stanza(taken, 100_000)) {
            taken += 1;
        }
        assert_eq!(taken, PEER_BYTES / (100_000 + STANZA_BYTES + 60), "about 20");
        assert!(held.hold(Timestamp(0), domain.clone(), &acme, &stanza(0, 100_000)));
        assert_eq!(held.settled(&domain).len(), taken + 1);
        assert!(held.hold(Timestamp(0), domain, &evil, &stanza(0, 100_000)));
    }
}
