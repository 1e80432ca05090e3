//! What wavelets ask of other servers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use billow_model::{Domain, HashedVersion, ParticipantId, Version, WaveletName};
use billow_wavelet::remote::{HistoryFailure, SubmitFailure};
use billow_wavelet::{Readers, Seal};
use billow_wire::exchange::SubmitResponse;
use billow_wire::{AppliedDelta, Encoded, SignedDelta, SignerId, SignerInfo};
use billow_xmpp::{Element, Jid};
use tokio::sync::{Notify, mpsc, oneshot};

use super::asks::Asked;
use super::peers::Peer;
use super::probe::Probe;
use crate::wavelets::Caret;

/// Requests that wait for the driver.
const REQUESTS: usize = 1_024;

/// A request to another server, or about one.
#[derive(Debug)]
pub(crate) enum Request {
    /// Apply this delta of a user of ours.
    Submit {
        /// To which wavelet.
        name: WaveletName,
        /// The delta.
        delta: Encoded<SignedDelta>,
        /// What its host says.
        reply: oneshot::Sender<Result<SubmitResponse, SubmitFailure>>,
    },
    /// Give the deltas of `[from, to)`.
    History {
        /// Of which wavelet.
        name: WaveletName,
        /// What we have.
        from: HashedVersion,
        /// What we know of.
        to: HashedVersion,
        /// Wanted bound in bytes.
        limit: u64,
        /// The first of them.
        reply: oneshot::Sender<Result<Vec<Encoded<AppliedDelta>>, HistoryFailure>>,
    },
    /// Give a signer's chain.
    Signer {
        /// Of which wavelet.
        name: WaveletName,
        /// Whose.
        id: SignerId,
        /// Just after a delta with its signature.
        at: HashedVersion,
        /// The chain.
        reply: oneshot::Sender<Result<SignerInfo, String>>,
    },
    /// Tell other domains what the documents look like.
    Digest {
        /// Of which wavelet.
        name: WaveletName,
        /// At which version.
        at: HashedVersion,
        /// Their digest.
        digest: [u8; 32],
        /// Which domains.
        domains: Vec<Domain>,
    },
    /// Tell other domains where somebody's caret is.
    Caret {
        /// On which wavelet.
        name: WaveletName,
        /// Which domains.
        domains: Vec<Domain>,
        /// The caret.
        caret: Arc<Caret>,
    },
    /// Put this question to another server.
    Ask {
        /// Whom to ask.
        to: Jid,
        /// The payload of an `iq` of type `get`.
        payload: Element,
        /// The answer, or why there is none.
        reply: oneshot::Sender<Asked>,
    },
    /// How are the other domains?
    Peers {
        /// All of them.
        reply: oneshot::Sender<Vec<Peer>>,
    },
    /// Ping a domain.
    Ping {
        /// Which.
        domain: Domain,
        /// How it went.
        reply: oneshot::Sender<Probe>,
    },
    /// Go through all the steps to a domain anew.
    Trace {
        /// Which.
        domain: Domain,
        /// How they went.
        reply: oneshot::Sender<Probe>,
    },
    /// Try a domain now.
    TryNow {
        /// Which.
        domain: Domain,
        /// When it is under way.
        reply: oneshot::Sender<()>,
    },
}

/// The sending side; cheap to clone.
#[derive(Debug, Clone)]
pub struct FederationHandle {
    domain: Domain,
    requests: mpsc::Sender<Request>,
    due: Arc<Due>,
}

/// The driver's side.
#[derive(Debug)]
pub struct Requests {
    pub(super) receiver: mpsc::Receiver<Request>,
    pub(super) due: Arc<Due>,
}

/// What is new of a wavelet for a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealed {
    /// Nothing; somebody wants to know how far the domain is.
    LoadedOnly,
    /// These deltas.
    Range {
        /// The version before the first of them.
        applied_at: Version,
        /// The version after the last of them.
        resulting: Version,
        /// The last of them removes the domain's last participant.
        left: Option<Version>,
    },
}

/// What other domains are to be told: per wavelet and domain only how far, so that it does not grow with the traffic.
#[derive(Debug, Default)]
pub(super) struct Due {
    list: Mutex<BTreeMap<(WaveletName, Domain), Sealed>>,
    noted: Notify,
}

impl FederationHandle {
    /// A handle and the driver's side of it. Without a driver (it was dropped) every request fails at once.
    #[must_use]
    pub fn new(domain: Domain) -> (Self, Requests) {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let due = Arc::<Due>::default();
        (
            Self {
                domain,
                requests,
                due: Arc::clone(&due),
            },
            Requests { receiver, due },
        )
    }

    /// A delta of a wavelet of ours is sealed: these domains are to have it.
    pub(crate) fn sealed(&self, name: &WaveletName, seal: &Seal, domains: &[Domain], readers: &Readers) {
        if self.requests.is_closed() {
            return;
        }
        let (applied_at, resulting) = (seal.applied_at.version, seal.resulting.version);
        for domain in domains.iter().filter(|domain| **domain != self.domain) {
            let left = readers
                .domains()
                .any(|(one, until)| one == domain && until == Some(resulting))
                .then_some(resulting);
            self.due.note(
                name,
                domain,
                Sealed::Range {
                    applied_at,
                    resulting,
                    left,
                },
            );
        }
    }

    /// A wavelet of ours is loaded: its delivery's state is wanted.
    pub(crate) fn loaded(&self, name: &WaveletName, readers: &Readers) {
        if self.requests.is_closed() {
            return;
        }
        for (domain, _) in readers.domains().filter(|(domain, _)| **domain != self.domain) {
            self.due.note(name, domain, Sealed::LoadedOnly);
        }
    }

    /// Sends a delta to its wavelet's host.
    pub(crate) async fn submit(
        &self,
        name: &WaveletName,
        delta: Encoded<SignedDelta>,
    ) -> Result<SubmitResponse, SubmitFailure> {
        let name = name.clone();
        let unreachable = || SubmitFailure::Unreachable("this server does not talk to others now".to_owned());
        self.ask(|reply| Request::Submit { name, delta, reply })
            .await
            .ok_or_else(unreachable)?
    }

    /// Asks a wavelet's host for history.
    pub(crate) async fn history(
        &self,
        name: &WaveletName,
        from: HashedVersion,
        to: HashedVersion,
        limit: u64,
    ) -> Result<Vec<Encoded<AppliedDelta>>, HistoryFailure> {
        let name = name.clone();
        self.ask(|reply| Request::History {
            name,
            from,
            to,
            limit,
            reply,
        })
        .await
        .ok_or_else(|| HistoryFailure::NotNow(unreachable()))?
    }

    /// Asks a wavelet's host for a signer's chain.
    pub(crate) async fn signer(
        &self,
        name: &WaveletName,
        id: SignerId,
        at: HashedVersion,
    ) -> Result<SignerInfo, String> {
        let name = name.clone();
        self.ask(|reply| Request::Signer { name, id, at, reply })
            .await
            .ok_or_else(unreachable)?
    }

    /// Puts a question to another server, for an operator; `None`: there is no federation. Waits for as long as it takes.
    pub(crate) async fn question(&self, to: Jid, payload: Element) -> Option<Asked> {
        self.ask(|reply| Request::Ask { to, payload, reply }).await
    }

    /// How the other domains are; `None`: there is no federation.
    pub(crate) async fn peers(&self) -> Option<Vec<Peer>> {
        self.ask(|reply| Request::Peers { reply }).await
    }

    /// Pings a domain; `None`: there is no federation.
    pub(crate) async fn ping(&self, domain: &Domain) -> Option<Probe> {
        let domain = domain.clone();
        self.ask(|reply| Request::Ping { domain, reply }).await
    }

    /// Goes through all the steps to a domain anew; `None`: there is no federation.
    pub(crate) async fn trace(&self, domain: &Domain) -> Option<Probe> {
        let domain = domain.clone();
        self.ask(|reply| Request::Trace { domain, reply }).await
    }

    /// Has a domain tried now, whatever was found out about it before; `None`: there is no federation.
    pub(crate) async fn try_now(&self, domain: &Domain) -> Option<()> {
        let domain = domain.clone();
        self.ask(|reply| Request::TryNow { domain, reply }).await
    }

    /// Tells other domains the digest of the documents at a version. Forgotten if there is no room: there will be another one.
    pub(crate) fn digest(&self, name: &WaveletName, at: HashedVersion, digest: [u8; 32], domains: Vec<Domain>) {
        let name = name.clone();
        let _ = self.requests.try_send(Request::Digest {
            name,
            at,
            digest,
            domains,
        });
    }

    /// Passes a caret on: from the host to all domains but the one it came from, from others to the host. Forgotten if there is no room.
    pub(crate) fn caret(
        &self,
        name: &WaveletName,
        people: &[ParticipantId],
        from: Option<&Domain>,
        caret: &Arc<Caret>,
    ) {
        let mut domains: Vec<Domain> = if *name.host() == self.domain {
            people.iter().map(ParticipantId::domain).collect()
        } else {
            vec![name.host().clone()]
        };
        domains.sort();
        domains.dedup();
        domains.retain(|domain| *domain != self.domain && Some(domain) != from);
        if !domains.is_empty() {
            let _ = self.requests.try_send(Request::Caret {
                name: name.clone(),
                domains,
                caret: Arc::clone(caret),
            });
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}

fn unreachable() -> String {
    "this server does not talk to others now".to_owned()
}

impl Due {
    fn note(&self, name: &WaveletName, domain: &Domain, news: Sealed) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = list.entry((name.clone(), domain.clone())).or_insert(news);
        if let Sealed::Range {
            applied_at,
            resulting,
            left,
        } = news
        {
            let first = match *entry {
                Sealed::Range { applied_at, .. } => applied_at,
                Sealed::LoadedOnly => applied_at,
            };
            *entry = Sealed::Range {
                applied_at: first,
                resulting,
                left,
            };
        }
        drop(list);
        self.noted.notify_one();
    }

    /// What was noted since the last time; waits until there is something.
    pub(super) async fn take(&self) -> BTreeMap<(WaveletName, Domain), Sealed> {
        loop {
            let list = std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner));
            if !list.is_empty() {
                return list;
            }
            self.noted.notified().await;
        }
    }
}
