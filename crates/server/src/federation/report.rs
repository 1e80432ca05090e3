//! What clients are told about other domains: how far each is, and where people there have their carets.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use billow_federation::discovery::Software;
use billow_federation::host::{Delivery, DeliveryState as State, Hindrance};
use billow_federation::stanza::presence::{self, Presence};
use billow_model::{DocumentId, Domain, WaveletName};

use super::driver::Driver;
use crate::clock;
use crate::wavelets::Caret;
use crate::web::messages::{DeliveryState, PeerDelivery};

/// How often clients are told at most.
const EVERY: Duration = Duration::from_millis(200);

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The peers of each wavelet that has any.
    peers: HashMap<WaveletName, BTreeSet<Domain>>,
    changed: BTreeSet<WaveletName>,
    told: Option<Instant>,
    legacy: BTreeSet<Domain>,
}

impl Report {
    pub(super) fn is_at(&mut self, wavelet: &WaveletName, peer: &Domain) {
        if let Some(peers) = self.peers.get_mut(wavelet) {
            if !peers.contains(peer) {
                peers.insert(peer.clone());
            }
        } else {
            self.peers.insert(wavelet.clone(), [peer.clone()].into());
        }
    }

    pub(super) fn changed(&mut self, wavelet: &WaveletName, peer: &Domain) {
        self.is_at(wavelet, peer);
        if !self.changed.contains(wavelet) {
            self.changed.insert(wavelet.clone());
        }
    }

    /// Notes what a domain runs; whether that is news about its being legacy.
    pub(super) fn found(&mut self, domain: &Domain, legacy: bool) -> bool {
        if legacy {
            self.legacy.insert(domain.clone())
        } else {
            self.legacy.remove(domain)
        }
    }

    pub(super) fn legacy(&self) -> &BTreeSet<Domain> {
        &self.legacy
    }

    /// When clients are to be told next, if there is something.
    pub(super) fn wake(&self) -> Option<Instant> {
        (!self.changed.is_empty()).then(|| self.told.map_or_else(Instant::now, |told| told + EVERY))
    }
}

impl Driver {
    /// Tells the wavelets that have changed, unless that was done a moment ago.
    pub(super) fn tell_clients(&mut self) {
        if self.report.changed.is_empty() || self.report.told.is_some_and(|told| told.elapsed() < EVERY) {
            return;
        }
        self.report.told = Some(Instant::now());
        for name in std::mem::take(&mut self.report.changed) {
            let peers = self.peers(&name);
            self.wavelets.set_delivery(&name, peers);
        }
    }

    fn peers(&self, name: &WaveletName) -> Vec<PeerDelivery> {
        let peers = self.report.peers.get(name).into_iter().flatten();
        let known = peers.filter_map(|peer| Some((peer, self.hosts.get(peer)?.delivery(name)?)));
        let policy = &self.wavelets.shared().policy;
        let told = known.map(|(peer, delivery)| {
            let mut told = peer_delivery(peer, delivery, self.report.legacy.contains(peer));
            if told.state != DeliveryState::Delivered
                && let Some(words) = policy.refusal(peer)
            {
                (told.state, told.next_try, told.reason) = (DeliveryState::Blocked, None, Some(words));
            }
            told
        });
        told.collect()
    }

    /// Sends a caret to those of the domains that take carets.
    pub(super) fn caret(&mut self, name: &WaveletName, domains: &[Domain], caret: &Arc<Caret>) -> anyhow::Result<()> {
        for domain in domains {
            let Some(service) = self.discovery.service(domain) else {
                continue;
            };
            if !matches!(service.software, Software::Billow { presence: true, .. }) {
                continue;
            }
            let Some(presence) = to_presence(name, caret) else {
                continue;
            };
            let message = presence::message(self.own.clone(), service.jid.clone(), &presence);
            self.send(message.to_element())?;
        }
        Ok(())
    }
}

fn peer_delivery(domain: &Domain, delivery: Delivery, legacy: bool) -> PeerDelivery {
    let (state, hindrance) = match delivery.state {
        State::Delivered => (DeliveryState::Delivered, None),
        State::Sending => (DeliveryState::Sending, None),
        State::Waiting(hindrance) => (DeliveryState::Waiting, Some(hindrance)),
        State::NeverReached(hindrance) => (DeliveryState::NeverReached, Some(hindrance)),
        State::Refused(hindrance) => (DeliveryState::Refused, Some(hindrance)),
    };
    let (since, next_try, reason) = match hindrance {
        Some(Hindrance {
            since,
            next_try,
            reason,
        }) => (since.0, Some(next_try.0), Some(reason)),
        None => (clock::now().0, None, None),
    };
    PeerDelivery {
        domain: domain.to_string(),
        state,
        version: delivery.acknowledged.number(),
        pending: u32::try_from(delivery.pending).unwrap_or(u32::MAX),
        since,
        next_try,
        reason,
        host: false,
        legacy,
    }
}

/// A caret as it travels.
fn to_presence(name: &WaveletName, caret: &Caret) -> Option<Presence> {
    let at = match &caret.document {
        Some(document) => Some(presence::Caret {
            document: DocumentId::new(document).ok()?,
            anchor: u64::from(caret.anchor),
            focus: u64::from(caret.focus),
        }),
        None => None,
    };
    Some(Presence {
        name: name.clone(),
        address: caret.address.clone(),
        session: caret.session.to_string(),
        version: caret.version,
        gone: at.is_none(),
        caret: at,
        typing: caret.typing,
    })
}

/// A caret as it came.
pub(super) fn from_presence(presence: &Presence) -> Caret {
    let position = |position: u64| u32::try_from(position).unwrap_or(u32::MAX);
    let at = presence.caret.as_ref().filter(|_| !presence.gone);
    Caret {
        address: presence.address.clone(),
        session: presence.session.as_str().into(),
        version: presence.version,
        document: at.map(|at| at.document.to_string()),
        anchor: at.map_or(0, |at| position(at.anchor)),
        focus: at.map_or(0, |at| position(at.focus)),
        typing: presence.typing,
    }
}
