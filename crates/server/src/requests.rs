//! First contact: a domain that nobody here knows invites one of our users. The wave is kept and followed like any other,
//! but until the user has accepted it, it shows itself to them only as a request: who, and nothing else.
//!
//! A domain is known to the whole server once somebody here has invited somebody of it or has accepted a request of it; so
//! are those that `federation.policy.known` names, and those that shared a wave with us before there were requests. A
//! request is for one user and one wavelet. Declined, it is kept, so that inviting again changes nothing; the other side is
//! told nothing of all this. A user may block a domain for themselves: its invitations are declined as they come.
//!
//! What is kept is in the store and is written together with the delta that invites; what is in memory here is the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use billow_model::{Domain, ParticipantId, WaveId, WaveletName, WaveletOp};
use billow_store::{Request, Settlement, Store, StoreError, WaveletWrite};
use billow_wavelet::Record;

use crate::clock;
use crate::policy::Policy;
use crate::web::messages::RequestRow;

/// Requests that are shown at once; of others only the number is told.
const SHOWN_MAX: usize = 200;

/// The requests of all users, and which domains are known. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Requests {
    inner: Arc<Inner>,
}

struct Inner {
    local: Domain,
    policy: Policy,
    store: Store,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    known: HashSet<Domain>,
    by_user: HashMap<ParticipantId, BTreeMap<WaveletName, Request>>,
    blocks: HashMap<ParticipantId, BTreeSet<Domain>>,
}

/// What a user is shown of their requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RequestList {
    /// The newest first.
    pub(crate) rows: Vec<RequestRow>,
    /// How many there are besides.
    pub(crate) more: usize,
    /// Domains that the user has blocked.
    pub(crate) blocked: Vec<String>,
}

impl Requests {
    /// As the store has them.
    pub(crate) async fn load(local: Domain, policy: Policy, store: Store) -> Result<Self, StoreError> {
        let mut state = State {
            known: store.known_domains().await?.into_iter().collect(),
            ..State::default()
        };
        for request in store.requests().await? {
            state.put(request);
        }
        for (user, domain) in store.blocks().await? {
            state.blocks.entry(user).or_default().insert(domain);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                local,
                policy,
                store,
                state: RwLock::new(state),
            }),
        })
    }

    /// Whether a domain is known to this server.
    pub(crate) fn is_known(&self, domain: &Domain) -> bool {
        *domain == self.inner.local || self.inner.policy.is_known(domain) || self.state().known.contains(domain)
    }

    /// Takes note of a delta that is about to be stored: whom it makes known, and who is to be asked.
    pub(crate) fn note(&self, write: &mut WaveletWrite, record: &Record) {
        if write.name.wavelet().is_user_data() {
            return;
        }
        let author = &record.delta.author;
        for op in &record.delta.ops {
            match op {
                WaveletOp::AddParticipant(who) if author.domain() == self.inner.local => self.invited(write, who),
                WaveletOp::AddParticipant(who) if who.domain() == self.inner.local => self.invites(write, author, who),
                WaveletOp::RemoveParticipant(who) => self.removed(write, who),
                WaveletOp::AddParticipant(_) | WaveletOp::NoOp | WaveletOp::MutateDocument { .. } => {}
            }
        }
    }

    /// A user of ours invites somebody: who does so knows the domain.
    fn invited(&self, write: &mut WaveletWrite, who: &ParticipantId) {
        let domain = who.domain();
        if domain != self.inner.local && self.state_mut().known.insert(domain.clone()) {
            write.known.push(domain);
        }
    }

    /// Somebody of another domain invites a user of ours.
    fn invites(&self, write: &mut WaveletWrite, author: &ParticipantId, who: &ParticipantId) {
        let strangers = [author.domain(), write.name.host().clone()];
        let mut declined = false;
        if let Some(blocked) = self.state().blocks.get(who) {
            declined = strangers.iter().any(|domain| blocked.contains(domain));
        }
        let unknown = self.inner.policy.asks_users() && strangers.iter().any(|domain| !self.is_known(domain));
        if !unknown && !declined {
            return;
        }
        let request = Request {
            address: who.clone(),
            name: write.name.clone(),
            inviter: author.clone(),
            since: clock::now(),
            declined,
        };
        let mut state = self.state_mut();
        let there = state.by_user.get(who).is_some_and(|own| own.contains_key(&write.name));
        if !there {
            state.put(request.clone());
            write.requests.push(request);
        }
    }

    /// Somebody is no longer there: there is nothing to be asked. What was declined stays so.
    fn removed(&self, write: &mut WaveletWrite, who: &ParticipantId) {
        let mut state = self.state_mut();
        let Some(own) = state.by_user.get_mut(who) else { return };
        if own.get(&write.name).is_some_and(|request| !request.declined) {
            own.remove(&write.name);
            write.requests.retain(|request| request.address != *who);
        }
    }

    /// Whether this wavelet is kept from this user, until they accept it.
    pub(crate) fn hides(&self, user: &ParticipantId, name: &WaveletName) -> bool {
        let state = self.state();
        if state.by_user.is_empty() {
            return false;
        }
        let of = |address: &ParticipantId| state.by_user.get(address).is_some_and(|own| own.contains_key(name));
        of(user) || self.everybody().is_some_and(|all| of(&all))
    }

    /// What a user is shown.
    pub(crate) fn of(&self, user: &ParticipantId) -> RequestList {
        let state = self.state();
        let mut waiting: Vec<Request> = Vec::new();
        let own = state.by_user.get(user);
        waiting.extend(own.into_iter().flat_map(BTreeMap::values).cloned());
        let shared = self.everybody().and_then(|all| state.by_user.get(&all));
        for request in shared.into_iter().flat_map(BTreeMap::values) {
            if !waiting.iter().any(|one| one.name == request.name) {
                waiting.push(request.clone());
            }
        }
        waiting.retain(|request| !request.declined);
        waiting.sort_by_key(|request| std::cmp::Reverse(request.since));
        let mut seen = HashSet::new();
        waiting.retain(|request| seen.insert(request.name.wave().clone()));
        let more = waiting.len().saturating_sub(SHOWN_MAX);
        waiting.truncate(SHOWN_MAX);
        let blocked = state.blocks.get(user).into_iter().flatten();
        RequestList {
            rows: waiting.iter().map(row).collect(),
            more,
            blocked: blocked.map(ToString::to_string).collect(),
        }
    }

    /// A user accepts what they were invited to; the wavelets that they may see from now on, none if there was no request.
    pub(crate) async fn accept(&self, user: &ParticipantId, wave: &WaveId) -> Result<Vec<WaveletName>, StoreError> {
        let requests = self.of_wave(user, wave, |_| true);
        let mut settlement = Settlement {
            now: clock::now(),
            ..Settlement::default()
        };
        for request in &requests {
            for domain in [request.inviter.domain(), request.name.host().clone()] {
                if domain != self.inner.local && !settlement.known.contains(&domain) {
                    settlement.known.push(domain);
                }
            }
            settlement
                .accepted
                .push((request.address.clone(), request.name.clone()));
        }
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        self.inner.store.settle_requests(settlement.clone()).await?;
        let mut state = self.state_mut();
        state.known.extend(settlement.known);
        for (address, name) in &settlement.accepted {
            state.take(address, name);
        }
        Ok(requests.into_iter().map(|request| request.name).collect())
    }

    /// A user does not want what they were invited to; whether there was a request. The inviter is told nothing.
    pub(crate) async fn decline(&self, user: &ParticipantId, wave: &WaveId) -> Result<bool, StoreError> {
        let requests = self.of_wave(user, wave, |request| !request.declined);
        self.decline_all(user, requests).await
    }

    /// A user wants no invitations of a domain; those that wait are declined.
    pub(crate) async fn block(&self, user: &ParticipantId, domain: &Domain) -> Result<(), StoreError> {
        self.inner.store.keep_block(user, domain, true).await?;
        let waiting: Vec<Request> = {
            let mut state = self.state_mut();
            state.blocks.entry(user.clone()).or_default().insert(domain.clone());
            let own = state.by_user.get(user).into_iter().flat_map(BTreeMap::values);
            let of_domain = |request: &&Request| {
                !request.declined && (request.inviter.domain() == *domain || request.name.host() == domain)
            };
            own.filter(of_domain).cloned().collect()
        };
        self.decline_all(user, waiting).await.map(drop)
    }

    /// A user takes invitations of a domain again; what was declined stays so.
    pub(crate) async fn unblock(&self, user: &ParticipantId, domain: &Domain) -> Result<(), StoreError> {
        self.inner.store.keep_block(user, domain, false).await?;
        if let Some(blocked) = self.state_mut().blocks.get_mut(user) {
            blocked.remove(domain);
        }
        Ok(())
    }

    async fn decline_all(&self, user: &ParticipantId, requests: Vec<Request>) -> Result<bool, StoreError> {
        let declined: Vec<Request> = requests
            .into_iter()
            // What everybody here was invited to is declined for this user alone.
            .map(|request| Request {
                address: user.clone(),
                declined: true,
                ..request
            })
            .collect();
        if declined.is_empty() {
            return Ok(false);
        }
        let settlement = Settlement {
            declined: declined.clone(),
            ..Settlement::default()
        };
        self.inner.store.settle_requests(settlement).await?;
        let mut state = self.state_mut();
        declined.into_iter().for_each(|request| state.put(request));
        Ok(true)
    }

    /// The requests of a user, and of everybody here, in a wave.
    fn of_wave(&self, user: &ParticipantId, wave: &WaveId, wanted: impl Fn(&Request) -> bool) -> Vec<Request> {
        let state = self.state();
        let all = self.everybody();
        let addresses = std::iter::once(user).chain(all.as_ref());
        let own = addresses
            .filter_map(|address| state.by_user.get(address))
            .flat_map(BTreeMap::values);
        own.filter(|request| request.name.wave() == wave && wanted(request))
            .cloned()
            .collect()
    }

    /// The address that stands for everybody here.
    fn everybody(&self) -> Option<ParticipantId> {
        format!("@{}", self.inner.local).parse().ok()
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.inner.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, request: Request) {
        let own = self.by_user.entry(request.address.clone()).or_default();
        own.insert(request.name.clone(), request);
    }

    fn take(&mut self, address: &ParticipantId, name: &WaveletName) {
        if let Some(own) = self.by_user.get_mut(address) {
            own.remove(name);
            if own.is_empty() {
                self.by_user.remove(address);
            }
        }
    }
}

fn row(request: &Request) -> RequestRow {
    let inviter = request.inviter.domain();
    let host = request.name.host();
    RequestRow {
        wave: request.name.wave().to_string(),
        from: request.inviter.to_string(),
        domain: inviter.to_string(),
        host: (*host != inviter).then(|| host.to_string()),
        since: request.since.0,
    }
}
