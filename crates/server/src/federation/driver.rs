//! The driver: tells the machines of the federation what comes in, and does what they want.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use billow_federation::discovery::{self, Discovery};
use billow_federation::held::{Held, HeldStanza};
use billow_federation::host::{self, Host, SealedDelta};
use billow_federation::pings::{self, Pings};
use billow_federation::remote::{self, Failure, Remote, Response};
use billow_federation::{Code, FederationError, Ids, inbound};
use billow_model::{Domain, Timestamp, Version, WaveletName};
use billow_net::{BounceReason, Contact, Fingerprint, NetEvent, NetHandle, SendError};
use billow_store::Cursor;
use billow_wavelet::remote::{HistoryFailure, SubmitFailure};
use billow_wire::exchange::{HistoryRequest, SignerRequest, SubmitRequest, SubmitResponse};
use billow_wire::{AppliedDelta, Encoded, SignerId, SignerInfo};
use billow_xmpp::{Condition, Element, IqKind, Jid, Stanza, StanzaError};
use tokio::sync::{mpsc, oneshot, watch};

use super::Setup;
use super::asks::Asks;
use super::handle::{Request, Requests, Sealed};
use super::peers::Book;
use super::probe::Probes;
use super::report::Report;
use super::serve::Serve;
use crate::clock;
use crate::wavelets::Wavelets;

/// Events taken in before the machines are asked what they want.
const ROUND: usize = 64;
/// How long a cursor may wait for its way to the disk.
const CURSORS_EVERY: Duration = Duration::from_millis(250);
/// Peers that are remembered as not listened to.
const TURNED_AWAY_MAX: usize = 1_000;
/// How long a domain that is refused is left, ms; a decision ends it at once.
const REFUSED_WAIT: i64 = 3_600_000;
/// How often machines are told that a peer has spoken, at most.
const SPOKE_EVERY: Duration = Duration::from_secs(1);

/// Something that a task of the driver's has found out.
pub(super) enum Done {
    /// Sealed deltas for a peer.
    Deltas {
        peer: Domain,
        wavelet: WaveletName,
        from: Version,
        outcome: Result<Vec<SealedDelta>, String>,
    },
    /// The peer's last participant was removed before this version.
    Left {
        peer: Domain,
        wavelet: WaveletName,
        from: Version,
        at: Version,
    },
    /// It was tried to reach a domain, only to see how that goes.
    Contacted {
        domain: Domain,
        /// `None`: the XMPP server before us reaches it.
        contact: Option<Box<Contact>>,
    },
    /// Cursors are kept, or not; those that are not are kept with the next ones.
    CursorsKept { unkept: Vec<Cursor> },
}

/// Who waits for the answer of a host.
enum Reply {
    Submit(oneshot::Sender<Result<SubmitResponse, SubmitFailure>>),
    History(oneshot::Sender<Result<Vec<Encoded<AppliedDelta>>, HistoryFailure>>),
    Signer(oneshot::Sender<Result<SignerInfo, String>>),
}

/// Owns the machines.
pub(super) struct Driver {
    pub(super) wavelets: Wavelets,
    pub(super) net: NetHandle,
    pub(super) local: billow_xmpp::Domain,
    pub(super) own: Jid,
    description: String,
    events: mpsc::Receiver<NetEvent>,
    requests: Requests,
    pub(super) discovery: Discovery,
    pub(super) pings: Pings,
    pub(super) hosts: BTreeMap<Domain, Host>,
    pub(super) remotes: BTreeMap<Domain, Remote>,
    /// Whose signatures the hosts have been told of.
    signs: Option<SignerId>,
    /// Stanzas of peers that are just being looked for, and those of them that wait no longer.
    held: Held,
    released: VecDeque<HeldStanza>,
    /// Those that may want something.
    touched_hosts: BTreeSet<Domain>,
    touched_remotes: BTreeSet<Domain>,
    /// When those that wait want to be told the time.
    host_deadlines: BTreeMap<Domain, Timestamp>,
    remote_deadlines: BTreeMap<Domain, Timestamp>,
    /// Whose service is at an address.
    services: HashMap<Jid, BTreeSet<Domain>>,
    replies: HashMap<u64, Reply>,
    pub(super) tickets: u64,
    pub(super) probes: Probes,
    finished: mpsc::UnboundedReceiver<Done>,
    pub(super) done: mpsc::UnboundedSender<Done>,
    cursors: BTreeMap<(WaveletName, Domain), Cursor>,
    cursors_under_way: bool,
    cursors_kept: Instant,
    pub(super) report: Report,
    pub(super) book: Book,
    asks: Asks,
    spoke: HashMap<billow_xmpp::Domain, Instant>,
    /// Domains that wanted something sent and were not sent it, for our own reasons; and what tells of new decisions.
    refused: BTreeSet<Domain>,
    /// Peers that were not listened to.
    turned_away: BTreeSet<Domain>,
    decisions: watch::Receiver<u64>,
    serve: Serve,
}

impl Driver {
    /// Machines for what the store says is not delivered.
    pub(super) async fn new(setup: Setup) -> anyhow::Result<Self> {
        let Setup {
            wavelets,
            requests,
            net,
            events,
            description,
            name,
            lives: (found_ms, failed_ms),
        } = setup;
        let is_component = name.is_some();
        let local = match name {
            Some(name) => name,
            None => wavelets.shared().domain.as_str().parse()?,
        };
        let own = local.to_jid();
        let mut discovery = Discovery::new(own.clone(), ids()?).with_lives(found_ms, failed_ms);
        // The XMPP server before us does not tell by which certificate a peer is known: then nothing is guessed (T-09).
        if !is_component {
            discovery = discovery.guessing();
        }
        let (done, finished) = mpsc::unbounded_channel();
        let mut driver = Self {
            refused: BTreeSet::new(),
            turned_away: BTreeSet::new(),
            decisions: wavelets.shared().policy.changes(),
            serve: Serve::new(wavelets.clone(), net.clone(), local.clone()),
            discovery,
            pings: Pings::new(own.clone(), ids()?),
            wavelets,
            net,
            local,
            own,
            description,
            events,
            requests,
            hosts: BTreeMap::new(),
            remotes: BTreeMap::new(),
            signs: None,
            held: Held::new(),
            released: VecDeque::new(),
            touched_hosts: BTreeSet::new(),
            touched_remotes: BTreeSet::new(),
            host_deadlines: BTreeMap::new(),
            remote_deadlines: BTreeMap::new(),
            services: HashMap::new(),
            replies: HashMap::new(),
            tickets: 0,
            probes: Probes::default(),
            finished,
            done,
            cursors: BTreeMap::new(),
            cursors_under_way: false,
            cursors_kept: Instant::now(),
            report: Report::default(),
            book: Book::default(),
            asks: Asks::new(ids()?),
            spoke: HashMap::new(),
        };
        driver.resume().await?;
        Ok(driver)
    }

    /// Takes up what was under way: deliveries, deltas that are to be sealed for others, submissions to other hosts.
    async fn resume(&mut self) -> anyhow::Result<()> {
        let store = self.wavelets.shared().store.clone();
        // What a domain runs is known again before anybody writes for it.
        for domain in self.serve.kept_legacy().await? {
            self.report.found(&domain, true);
        }
        self.wavelets.set_legacy(self.report.legacy().clone());
        for due in store.deliveries(None).await? {
            let Cursor {
                name,
                peer,
                version,
                until,
            } = due.cursor;
            let sealed = due.sealed.map_or(Version::ZERO, |sealed| sealed.version);
            self.report.is_at(&name, &peer);
            self.tell_host(
                &peer,
                host::Input::Resume {
                    wavelet: name,
                    acknowledged: version,
                    until,
                    sealed: sealed.max(version),
                },
            )?;
        }
        let mut waiting = store.wavelets_with_outgoing().await?;
        waiting.extend(store.unsealed_shared().await?);
        waiting.extend(self.wavelets.shared().take_up_standings().await?);
        for name in waiting {
            let wavelets = self.wavelets.clone();
            // Being loaded is enough: the wavelet goes on by itself.
            tokio::spawn(async move { wavelets.of_peer(&name).readers().await });
        }
        Ok(())
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            if let Err(error) = self.drive() {
                tracing::error!("the federation cannot go on: {error}");
                return;
            }
            self.keep_cursors();
            let wake = tokio::time::Instant::from_std(self.wake());
            let taken = tokio::select! {
                biased;
                _ = &mut stopped => return self.end().await,
                Some(done) = self.finished.recv() => self.finish(done),
                event = self.events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                due = self.requests.due.take() => self.due(due),
                Some(request) = self.requests.receiver.recv() => self.request(request),
                Ok(()) = self.decisions.changed() => {
                    self.decided();
                    Ok(())
                }
                () = tokio::time::sleep_until(wake) => self.tick(),
            };
            let mut taken = taken.map(|()| true);
            for _ in 0..ROUND {
                taken = match taken {
                    Ok(true) => self.take_another(),
                    _ => break,
                };
            }
            if let Err(error) = taken {
                tracing::error!("the federation cannot go on: {error}");
                return;
            }
        }
    }

    /// Takes in what was still said, and keeps how far the peers are.
    async fn end(mut self) {
        while let Ok(true) = self.take_another() {}
        if self.drive().is_err() || self.cursors.is_empty() {
            return;
        }
        let cursors = std::mem::take(&mut self.cursors).into_values().collect();
        if let Err(error) = self.wavelets.shared().store.keep_cursors(cursors).await {
            tracing::warn!("how far peers are is not kept, they get some of it again: {error}");
        }
    }

    /// Takes in what is there already; whether there was something.
    fn take_another(&mut self) -> anyhow::Result<bool> {
        if let Ok(done) = self.finished.try_recv() {
            self.finish(done)?;
        } else if let Ok(event) = self.events.try_recv() {
            self.event(event)?;
        } else if let Ok(request) = self.requests.receiver.try_recv() {
            self.request(request)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn wake(&self) -> Instant {
        let now = clock::steady();
        let deadlines = self
            .host_deadlines
            .values()
            .chain(self.remote_deadlines.values())
            .copied();
        let next = deadlines
            .chain(self.discovery.deadline())
            .chain(self.pings.deadline())
            .chain(self.held.deadline())
            .min();
        let mut wake = Instant::now() + Duration::from_secs(60);
        if let Some(next) = next {
            let wait = u64::try_from(next.0.saturating_sub(now.0)).unwrap_or(0);
            wake = wake.min(Instant::now() + Duration::from_millis(wait.max(1)));
        }
        if !self.cursors.is_empty() && !self.cursors_under_way {
            wake = wake.min(self.cursors_kept + CURSORS_EVERY);
        }
        self.report.wake().map_or(wake, |report| wake.min(report))
    }

    /// Asks all machines that were told something until they want nothing more.
    fn drive(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(output) = self.discovery.poll() {
                self.do_discovery(output)?;
            } else if let Some(output) = self.pings.poll() {
                self.do_ping(output)?;
            } else if let Some(peer) = self.touched_hosts.pop_first() {
                self.drive_host(&peer)?;
            } else if let Some(peer) = self.touched_remotes.pop_first() {
                self.drive_remote(&peer)?;
            } else if let Some(HeldStanza { peer, element }) = self.released.pop_front() {
                self.stanza(&peer, &element, false)?;
            } else {
                break;
            }
        }
        self.tell_clients();
        Ok(())
    }

    fn drive_host(&mut self, peer: &Domain) -> anyhow::Result<()> {
        while let Some(output) = self.hosts.get_mut(peer).and_then(Host::poll) {
            if matches!(output, host::Output::Discover | host::Output::Send(_))
                && let Some(reason) = self.refusal(peer)
            {
                let retry_at = Timestamp(clock::steady().0.saturating_add(REFUSED_WAIT));
                self.tell_known_host(peer, host::Input::NoService { reason, retry_at });
                continue;
            }
            match output {
                host::Output::Discover => self
                    .discovery
                    .handle(clock::steady(), discovery::Input::Find(peer.clone())),
                host::Output::NeedDeltas {
                    wavelet,
                    from,
                    to,
                    max_bytes,
                } => {
                    self.serve
                        .read_deltas(self.done.clone(), peer.clone(), wavelet, from, to, max_bytes);
                }
                host::Output::Send(stanza) => self.send(stanza)?,
                host::Output::PersistCursor {
                    wavelet,
                    acknowledged,
                    until,
                } => {
                    let cursor = Cursor {
                        name: wavelet.clone(),
                        peer: peer.clone(),
                        version: acknowledged,
                        until,
                    };
                    self.cursors.insert((wavelet, peer.clone()), cursor);
                }
                host::Output::Changed { wavelet, .. } => self.report.changed(&wavelet, peer),
            }
        }
        note_deadline(
            &mut self.host_deadlines,
            peer,
            self.hosts.get(peer).and_then(Host::deadline),
        );
        Ok(())
    }

    fn drive_remote(&mut self, peer: &Domain) -> anyhow::Result<()> {
        while let Some(output) = self.remotes.get_mut(peer).and_then(Remote::poll) {
            if matches!(output, remote::Output::Discover | remote::Output::Send(_))
                && let Some(reason) = self.refusal(peer)
            {
                if let Some(remote) = self.remotes.get_mut(peer) {
                    remote.handle(clock::steady(), remote::Input::NoService(reason));
                }
                continue;
            }
            match output {
                remote::Output::Discover => self
                    .discovery
                    .handle(clock::steady(), discovery::Input::Find(peer.clone())),
                remote::Output::Send(stanza) => self.send(stanza)?,
                remote::Output::Answered { ticket, outcome } => {
                    if let Some(reply) = self.replies.remove(&ticket) {
                        reply.give(outcome);
                    }
                }
            }
        }
        note_deadline(
            &mut self.remote_deadlines,
            peer,
            self.remotes.get(peer).and_then(Remote::deadline),
        );
        Ok(())
    }

    /// Why nothing is sent to a domain, if that is so for our own reasons.
    fn refusal(&mut self, domain: &Domain) -> Option<String> {
        let words = self.wavelets.shared().policy.outbound(domain).err()?;
        self.refused.insert(domain.clone());
        Some(words)
    }

    /// The administrator has decided something: who is refused no longer is tried at once, and who is from now on is told so.
    fn decided(&mut self) {
        let policy = self.wavelets.shared().policy.clone();
        for domain in std::mem::take(&mut self.refused) {
            if policy.refusal(&domain).is_some() {
                self.refused.insert(domain);
                continue;
            }
            self.discovery
                .handle(clock::steady(), discovery::Input::Heard(domain.clone()));
            self.tell_known_host(&domain, host::Input::Reachable);
            self.wavelets.heard(&domain);
        }
        let now = clock::steady();
        for domain in std::mem::take(&mut self.turned_away) {
            if policy.inbound(&[domain.clone()].into()).is_err() {
                self.turned_away.insert(domain);
            } else {
                // Being asked is how it learns that it may try again.
                self.discovery.handle(now, discovery::Input::Find(domain));
            }
        }
        let domains: Vec<Domain> = self.hosts.keys().cloned().collect();
        for domain in domains {
            if let Some(reason) = policy.refusal(&domain) {
                let retry_at = Timestamp(now.0.saturating_add(REFUSED_WAIT));
                self.tell_known_host(&domain, host::Input::NoService { reason, retry_at });
                self.refused.insert(domain);
            }
        }
    }

    /// Refuses a stanza of a peer that is not listened to, in words that it can read.
    fn turn_away(&mut self, peer: &billow_xmpp::Domain, element: &Element, words: String) -> anyhow::Result<()> {
        self.wavelets.shared().metrics.count("refused", "policy");
        if self.turned_away.len() < TURNED_AWAY_MAX
            && let Ok(domain) = peer.as_str().parse()
        {
            self.turned_away.insert(domain);
        }
        let error = FederationError::new(Code::NotAuthorized, words);
        self.serve.log_refused(&peer.to_jid(), "a stanza", &error);
        match billow_xmpp::stanza::error_reply(element, &error.to_stanza()) {
            Some(answer) => self.send(answer),
            None => Ok(()),
        }
    }

    fn do_discovery(&mut self, output: discovery::Output) -> anyhow::Result<()> {
        match output {
            discovery::Output::Send(stanza) => self.send(stanza)?,
            discovery::Output::Guess { host, base } => {
                if let (Ok(host), Ok(base)) = (billow_xmpp::Domain::of(&host), base.as_str().parse()) {
                    self.net.guess(&host, &base);
                }
            }
            discovery::Output::NoGuess { host } => {
                if let Ok(host) = billow_xmpp::Domain::of(&host) {
                    self.net.no_guess(&host);
                }
            }
            discovery::Output::Found { domain, service } => {
                tracing::debug!(%domain, service = %service.jid, "found");
                self.book.good(&domain);
                self.services
                    .entry(service.jid.clone())
                    .or_default()
                    .insert(domain.clone());
                if self.report.found(&domain, !service.software.is_billow()) {
                    self.wavelets.set_legacy(self.report.legacy().clone());
                    self.serve.keep_legacy(self.report.legacy());
                }
                if let Some(remote) = self.remotes.get_mut(&domain) {
                    remote.handle(clock::steady(), remote::Input::Service(service.clone()));
                    self.touched_remotes.insert(domain.clone());
                }
                self.released.extend(self.held.settled(&domain));
                let found = pings::Input::Service(domain.clone(), service.clone());
                self.pings.handle(clock::steady(), found);
                self.tell_known_host(&domain, host::Input::Service(service));
            }
            discovery::Output::Failed {
                domain,
                reason,
                retry_at,
            } => {
                // Strangers make us look for many names.
                if self.is_known(&domain) && self.book.bad(&domain, &reason, retry_at.0 - clock::steady().0) {
                    tracing::info!(%domain, reason, "no wave service found");
                } else {
                    tracing::debug!(%domain, reason, "no wave service found");
                }
                if let Some(remote) = self.remotes.get_mut(&domain) {
                    remote.handle(clock::steady(), remote::Input::NoService(reason.clone()));
                    self.touched_remotes.insert(domain.clone());
                }
                self.released.extend(self.held.settled(&domain));
                let gone = pings::Input::Unreachable(domain.clone(), reason.clone());
                self.pings.handle(clock::steady(), gone);
                self.tell_known_host(&domain, host::Input::NoService { reason, retry_at });
            }
        }
        Ok(())
    }

    fn event(&mut self, event: NetEvent) -> anyhow::Result<()> {
        match event {
            NetEvent::Stanza { peer, element, .. } => {
                let policy = &self.wavelets.shared().policy;
                if !policy.is_open()
                    && let Err(words) = policy.inbound(&self.domains_at(&peer))
                {
                    return self.turn_away(&peer, &element, words);
                }
                if !is_undelivered(&element) {
                    self.spoke(&peer, SPOKE_EVERY);
                }
                self.stanza(&peer, &element, true)?;
            }
            NetEvent::Contact { contact, .. } => self.book.contact(*contact),
            NetEvent::Connected { peer, .. } => self.spoke(&peer, Duration::ZERO),
            NetEvent::Heard { peer, .. } => {
                self.net.retry_now(&peer);
                self.spoke(&peer, Duration::ZERO);
            }
            NetEvent::Unreachable {
                peer, reason, retry_at, ..
            } => {
                let wait = retry_at.duration_since(SystemTime::now()).unwrap_or_default();
                let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
                let retry_at = clock::steady().later(wait);
                self.unreachable(&peer, &reason, retry_at);
            }
            NetEvent::Bounced {
                peer, stanza, reason, ..
            } => self.bounced(&peer, &stanza, &reason),
            NetEvent::KeyShown { peer, old, new } => self.note_key(&peer, old, new),
        }
        Ok(())
    }

    /// Keeps which certificate a peer has shown, and tells the operator of another one than the last, before a restart too
    /// (T-40). It is accepted: certificates are renewed all the time, and who wants more pins the domain.
    fn note_key(&self, peer: &billow_xmpp::Domain, old: Option<Fingerprint>, new: Fingerprint) {
        let (shared, peer) = (std::sync::Arc::clone(self.wavelets.shared()), peer.to_string());
        tokio::spawn(async move {
            let kept = shared.store.keep_peer_key(&peer, new.0, clock::now()).await;
            let kept = kept.unwrap_or_else(|error| {
                tracing::error!(%peer, "the certificate of a peer cannot be kept: {error}");
                None
            });
            match old.or(kept.map(Fingerprint)) {
                None => {
                    shared.metrics.count("peer_keys", "first seen");
                    tracing::info!(%peer, %new, "peer-key-first-seen");
                }
                Some(old) if old == new => {}
                Some(old) => {
                    shared.metrics.count("peer_keys", "changed");
                    tracing::warn!(%peer, %old, %new, "peer-key-changed: a peer has another key than before");
                }
            }
        });
    }

    /// A peer is there: what waits for it is tried at once.
    fn spoke(&mut self, peer: &billow_xmpp::Domain, every: Duration) {
        if self.spoke.get(peer).is_some_and(|last| last.elapsed() < every) {
            return;
        }
        self.spoke.insert(peer.clone(), Instant::now());
        for domain in self.domains_at(peer) {
            self.discovery
                .handle(clock::steady(), discovery::Input::Heard(domain.clone()));
            self.tell_known_host(&domain, host::Input::Reachable);
            if self.discovery.service(&domain).is_some() {
                self.book.good(&domain);
            }
            self.wavelets.heard(&domain);
        }
    }

    fn unreachable(&mut self, peer: &billow_xmpp::Domain, reason: &str, retry_at: Timestamp) {
        tracing::debug!(%peer, reason, "not reached");
        self.asks.give_up(peer, reason);
        let now = clock::steady();
        self.discovery.handle(
            now,
            discovery::Input::Unreachable {
                host: peer.as_str().to_owned(),
                reason: reason.to_owned(),
            },
        );
        for domain in self.domains_at(peer) {
            // One whose service is elsewhere is not reached here, and need not be.
            let service = self.discovery.service(&domain);
            if service.is_some_and(|service| service.jid.domain().as_str() != peer.as_str()) {
                continue;
            }
            if self.is_known(&domain) {
                self.book.bad(&domain, reason, retry_at.0 - now.0);
            }
            if service.is_some() {
                let gone = pings::Input::Unreachable(domain.clone(), reason.to_owned());
                self.pings.handle(now, gone);
            }
            if let Some(remote) = self.remotes.get_mut(&domain) {
                remote.handle(now, remote::Input::Unreachable(reason.to_owned()));
                self.touched_remotes.insert(domain.clone());
            }
            self.tell_known_host(
                &domain,
                host::Input::Unreachable {
                    reason: reason.to_owned(),
                    retry_at,
                },
            );
        }
    }

    /// A stanza of ours came back from our own net.
    fn bounced(&mut self, peer: &billow_xmpp::Domain, stanza: &Element, bounce: &BounceReason) {
        let reason = bounce.to_string();
        match Stanza::parse(stanza) {
            Ok(Stanza::Message(message)) => {
                let Some(id) = message.id else { return };
                if self.pings.sent(&message.to, &id) {
                    return self.ping_answered(message.to, id, Some(reason));
                }
                let error = StanzaError::new(bounce_condition(bounce), reason);
                self.tell_hosts_at(
                    &message.to,
                    &host::Input::Bounced {
                        from: message.to.clone(),
                        id,
                        error,
                    },
                );
            }
            // No fault of the peer's: the request is answered for it.
            Ok(Stanza::Iq(iq)) if is_request(&iq) && matches!(bounce, BounceReason::NotSendable(_)) => {
                self.answer(iq.error(StanzaError::new(bounce_condition(bounce), reason)));
            }
            Ok(Stanza::Iq(iq)) if is_request(&iq) => {
                self.unreachable(peer, &reason, clock::steady().later(1_000));
            }
            // Answers that do not get through: the asker asks again.
            Ok(_) | Err(_) => {}
        }
    }

    /// Takes in a stanza. If it `may_wait`, it waits where its sender speaks for a domain that is just being looked for.
    fn stanza(&mut self, peer: &billow_xmpp::Domain, element: &Element, may_wait: bool) -> anyhow::Result<()> {
        let inbound = inbound::read(peer, element, self);
        if let Some(domain) = inbound.unproved(self).filter(|_| may_wait)
            && self.is_held(domain, peer, element)
        {
            return Ok(());
        }
        match inbound {
            inbound::Inbound::Updates(updates) => self.serve.updates(updates),
            inbound::Inbound::Submit(ask, request) => {
                let domains = self.domains_of(ask.from());
                self.serve.submit(ask, request, domains);
            }
            inbound::Inbound::History(ask, request) => {
                let domains = self.domains_of(ask.from());
                let legacy = domains.iter().any(|domain| self.report.legacy().contains(domain));
                self.serve.history(ask, request, domains, legacy);
            }
            inbound::Inbound::GetSigner(ask, request) => {
                let domains = self.domains_of(ask.from());
                self.serve.signer(ask, request, domains);
            }
            inbound::Inbound::PostSigner(ask, info) => {
                let domains = self.domains_of(ask.from());
                self.serve.posted_signer(ask, info, &domains);
            }
            inbound::Inbound::Presence(from, presence) => {
                let domains = self.domains_of(&from);
                self.serve.presence(presence, &domains);
            }
            inbound::Inbound::Reach(ask) => self.serve.reach(ask),
            inbound::Inbound::Clock(ask) => self.send(ask.clock(clock::now()))?,
            inbound::Inbound::Answer(iq) => self.answer(iq),
            inbound::Inbound::Receipt(from, id) if self.pings.sent(&from, &id) => self.ping_answered(from, id, None),
            inbound::Inbound::Bounced(from, id, error) if self.pings.sent(&from, &id) => {
                self.ping_answered(from, id, Some(error.to_string()));
            }
            inbound::Inbound::Receipt(from, id) => {
                self.tell_hosts_at(&from, &host::Input::Receipt { from: from.clone(), id })
            }
            inbound::Inbound::Bounced(from, id, error) => {
                self.wavelets.shared().metrics.count("updates_refused_by_peer", "error");
                let refused = FederationError::from_stanza(&error);
                self.serve.log_refused(&from, "an update of ours", &refused);
                self.tell_hosts_at(
                    &from,
                    &host::Input::Bounced {
                        from: from.clone(),
                        id,
                        error,
                    },
                );
            }
            inbound::Inbound::Reply(answer) => {
                if answer.attr("type") == Some("error") {
                    self.wavelets.shared().metrics.count("refused", "bad request");
                }
                self.send(answer)?;
            }
            inbound::Inbound::Ignored(reason) => {
                self.wavelets.shared().metrics.count("stanzas_ignored", reason);
            }
        }
        Ok(())
    }

    /// Has the domain looked for, and keeps the stanza until that has ended; whether it does.
    fn is_held(&mut self, domain: Domain, peer: &billow_xmpp::Domain, element: &Element) -> bool {
        if !self.wavelets.shared().policy.hears(&domain) {
            return false;
        }
        let now = clock::steady();
        let claimed = discovery::Input::Claimed {
            domain: domain.clone(),
            by: peer.as_str().to_owned(),
        };
        self.discovery.handle(now, claimed);
        self.discovery.is_looking_for(&domain) && self.held.hold(now, domain, peer, element)
    }

    fn answer(&mut self, iq: billow_xmpp::Iq) {
        if self.asks.take(&iq) {
            return;
        }
        if self.discovery.asked(&iq) {
            self.discovery.handle(clock::steady(), discovery::Input::Answer(iq));
            return;
        }
        if self.pings.asked(&iq) {
            self.pings.handle(clock::steady(), pings::Input::Answer(iq));
            return;
        }
        let Some((domain, remote)) = self.remotes.iter_mut().find(|(_, remote)| remote.asked(&iq)) else {
            self.wavelets
                .shared()
                .metrics
                .count("stanzas_ignored", "an answer that nobody waits for");
            return;
        };
        remote.handle(clock::steady(), remote::Input::Answer(iq));
        self.touched_remotes.insert(domain.clone());
    }

    fn due(&mut self, due: BTreeMap<(WaveletName, Domain), Sealed>) -> anyhow::Result<()> {
        for ((wavelet, peer), sealed) in due {
            self.report.is_at(&wavelet, &peer);
            match sealed {
                Sealed::LoadedOnly => self.report.changed(&wavelet, &peer),
                Sealed::Range {
                    applied_at,
                    resulting,
                    left,
                } => {
                    let input = host::Input::Sealed {
                        wavelet: wavelet.clone(),
                        applied_at,
                        resulting,
                        digest: None,
                    };
                    self.tell_host(&peer, input)?;
                    if let Some(at) = left {
                        self.tell_host(&peer, host::Input::Left { wavelet, at })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn request(&mut self, request: Request) -> anyhow::Result<()> {
        let (peer, request, reply) = match request {
            Request::Submit { name, delta, reply } => (
                name.host().clone(),
                remote::Request::Submit(SubmitRequest { name, delta }),
                Reply::Submit(reply),
            ),
            Request::History {
                name,
                from,
                to,
                limit,
                reply,
            } => {
                let peer = name.host().clone();
                (
                    peer,
                    remote::Request::History(HistoryRequest {
                        name,
                        from,
                        to,
                        limit: Some(limit),
                    }),
                    Reply::History(reply),
                )
            }
            Request::Signer { name, id, at, reply } => (
                name.host().clone(),
                remote::Request::Signer(SignerRequest { name, signer: id, at }),
                Reply::Signer(reply),
            ),
            Request::Ask { to, payload, reply } => {
                // Without room the one who asks hears that there is no answer.
                return match self.asks.open(&self.own, to, payload, reply) {
                    Some(question) => self.send(question),
                    None => Ok(()),
                };
            }
            // Whoever asked may be gone.
            Request::Peers { reply } => {
                let _ = reply.send(self.peers_shown());
                return Ok(());
            }
            Request::Ping { domain, reply } => {
                self.ping(domain, reply);
                return Ok(());
            }
            Request::Trace { domain, reply } => {
                self.trace(domain, reply);
                return Ok(());
            }
            Request::TryNow { domain, reply } => {
                self.try_now(&domain);
                let _ = reply.send(());
                return Ok(());
            }
            Request::Caret { name, domains, caret } => return self.caret(&name, &domains, &caret),
            Request::Digest {
                name,
                at,
                digest,
                domains,
            } => {
                for domain in domains {
                    let (wavelet, at) = (name.clone(), at.clone());
                    self.tell_known_host(&domain, host::Input::Digest { wavelet, at, digest });
                }
                return Ok(());
            }
        };
        self.tickets += 1;
        self.replies.insert(self.tickets, reply);
        let chain = self.wavelets.shared().own_chain();
        if self.signs != Some(chain.id()) {
            // Its chain has been replaced: hosts are told the new one before they are sent what it signed.
            for (domain, remote) in &mut self.remotes {
                remote.handle(clock::steady(), remote::Input::Signer(chain.clone()));
                self.touched_remotes.insert(domain.clone());
            }
            self.signs = Some(chain.id());
        }
        let remote = match self.remotes.entry(peer.clone()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Remote::new(self.own.clone(), chain, ids()?))
            }
        };
        remote.handle(
            clock::steady(),
            remote::Input::Ask {
                ticket: self.tickets,
                request,
            },
        );
        self.touched_remotes.insert(peer);
        Ok(())
    }

    fn finish(&mut self, done: Done) -> anyhow::Result<()> {
        match done {
            Done::Deltas {
                peer,
                wavelet,
                from,
                outcome,
            } => {
                let input = match outcome {
                    Ok(deltas) => host::Input::Deltas { wavelet, from, deltas },
                    Err(reason) => host::Input::NoDeltas { wavelet, from, reason },
                };
                self.tell_known_host(&peer, input);
            }
            Done::Left {
                peer,
                wavelet,
                from,
                at,
            } => {
                self.tell_known_host(
                    &peer,
                    host::Input::Left {
                        wavelet: wavelet.clone(),
                        at,
                    },
                );
                let reason = "the domain takes part no longer".to_owned();
                self.tell_known_host(&peer, host::Input::NoDeltas { wavelet, from, reason });
            }
            Done::Contacted { contact, domain } => self.contacted(contact, &domain),
            Done::CursorsKept { unkept } => {
                self.cursors_under_way = false;
                for cursor in unkept {
                    // One that has moved on since counts.
                    self.cursors
                        .entry((cursor.name.clone(), cursor.peer.clone()))
                        .or_insert(cursor);
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        let now = clock::steady();
        if self.discovery.deadline().is_some_and(|deadline| deadline <= now) {
            self.discovery.handle(now, discovery::Input::Tick);
        }
        if self.pings.deadline().is_some_and(|deadline| deadline <= now) {
            self.pings.handle(now, pings::Input::Tick);
        }
        self.released.extend(self.held.expired(now));
        for peer in passed(&mut self.host_deadlines, now) {
            self.tell_known_host(&peer, host::Input::Tick);
        }
        for peer in passed(&mut self.remote_deadlines, now) {
            if let Some(remote) = self.remotes.get_mut(&peer) {
                remote.handle(now, remote::Input::Tick);
                self.touched_remotes.insert(peer);
            }
        }
        Ok(())
    }

    fn tell_host(&mut self, peer: &Domain, input: host::Input) -> anyhow::Result<()> {
        if !self.hosts.contains_key(peer) {
            // It has answered before if it has acknowledged anything.
            let reached = matches!(&input, host::Input::Resume { acknowledged, .. } if *acknowledged > Version::ZERO);
            self.hosts
                .insert(peer.clone(), Host::new(self.own.clone(), reached, ids()?));
        }
        self.tell_known_host(peer, input);
        Ok(())
    }

    pub(super) fn tell_known_host(&mut self, peer: &Domain, input: host::Input) {
        if let Some(host) = self.hosts.get_mut(peer) {
            host.handle(clock::steady(), input);
            self.touched_hosts.insert(peer.clone());
        }
    }

    /// Tells the machines of all domains whose service is at an address.
    fn tell_hosts_at(&mut self, jid: &Jid, input: &host::Input) {
        for domain in self.services.get(jid).cloned().unwrap_or_default() {
            self.tell_known_host(&domain, input.clone());
        }
    }

    /// The domains for which an address speaks: its own, and those whose service we found there.
    fn domains_of(&self, jid: &Jid) -> BTreeSet<Domain> {
        let own = jid
            .node()
            .is_none()
            .then(|| jid.domain().as_str().parse().ok())
            .flatten();
        let policy = &self.wavelets.shared().policy;
        let found = self.discovery.domains_of(jid).cloned().chain(own);
        let domains = found.filter(|domain| !self.is_our_domain(domain));
        domains.filter(|domain| policy.hears(domain)).collect()
    }

    /// Whether a domain is that of our own users, for which nobody speaks who speaks to us: behind an XMPP server that
    /// server has its name.
    fn is_our_domain(&self, domain: &Domain) -> bool {
        *domain == self.wavelets.shared().domain
    }

    /// The domains whose service is reached at this XMPP domain.
    fn domains_at(&self, peer: &billow_xmpp::Domain) -> BTreeSet<Domain> {
        let found = self
            .services
            .iter()
            .filter(|(jid, _)| jid.domain().as_str() == peer.as_str());
        found
            .flat_map(|(_, domains)| domains.iter().cloned())
            .chain(peer.as_str().parse())
            .collect()
    }

    pub(super) fn send(&mut self, stanza: Element) -> anyhow::Result<()> {
        let to = stanza.attr("to").and_then(|to| Jid::new(to).ok());
        let Some(peer) = to.and_then(|to| billow_xmpp::Domain::of(&to).ok()) else {
            return Ok(());
        };
        if let Err(SendError { stanza, reason }) = self.net.send(&self.local, &peer, stanza) {
            self.bounced(&peer, &stanza, &reason);
        }
        Ok(())
    }

    fn keep_cursors(&mut self) {
        if self.cursors.is_empty() || self.cursors_under_way || self.cursors_kept.elapsed() < CURSORS_EVERY {
            return;
        }
        self.cursors_under_way = true;
        self.cursors_kept = Instant::now();
        let cursors: Vec<Cursor> = std::mem::take(&mut self.cursors).into_values().collect();
        let (store, done) = (self.wavelets.shared().store.clone(), self.done.clone());
        tokio::spawn(async move {
            let unkept = match store.keep_cursors(cursors.clone()).await {
                Ok(()) => Vec::new(),
                Err(error) => {
                    tracing::warn!("how far peers are cannot be kept now: {error}");
                    cursors
                }
            };
            // The driver may have ended.
            let _ = done.send(Done::CursorsKept { unkept });
        });
    }
}

impl inbound::Surroundings for Driver {
    fn is_ours(&self, jid: &Jid) -> bool {
        *jid == self.own
    }

    fn speaks_for(&self, jid: &Jid, domain: &Domain) -> bool {
        let known = !self.is_our_domain(domain) && self.discovery.speaks_for(jid, domain);
        known && self.wavelets.shared().policy.hears(domain)
    }

    fn takes_part(&self, domain: &Domain) -> bool {
        self.hosts.contains_key(domain)
    }

    fn description(&self) -> &str {
        &self.description
    }
}

impl Reply {
    /// Answers; whoever asked may be gone.
    fn give(self, outcome: Result<Response, Failure>) {
        const OTHER: &str = "an answer to another question";
        match self {
            Self::Submit(reply) => drop(reply.send(match outcome {
                Ok(Response::Submitted(response)) => Ok(response),
                Ok(_) => Err(SubmitFailure::NotNow(OTHER.to_owned())),
                Err(Failure::Unreachable(reason)) => Err(SubmitFailure::Unreachable(reason)),
                Err(Failure::NotNow(reason)) => Err(SubmitFailure::NotNow(reason)),
                Err(Failure::Stale(reason)) => Err(SubmitFailure::Stale(reason)),
                Err(Failure::Refused(reason)) => Err(SubmitFailure::Refused(reason)),
            })),
            Self::History(reply) => drop(reply.send(match outcome {
                Ok(Response::History(response)) => Ok(response.deltas),
                Ok(_) => Err(HistoryFailure::Refused(OTHER.to_owned())),
                Err(Failure::Unreachable(reason)) => Err(HistoryFailure::NotNow(reason)),
                Err(Failure::NotNow(reason) | Failure::Stale(reason) | Failure::Refused(reason)) => {
                    Err(HistoryFailure::Refused(reason))
                }
            })),
            Self::Signer(reply) => drop(reply.send(match outcome {
                Ok(Response::Signer(info)) => Ok(info),
                Ok(_) => Err(OTHER.to_owned()),
                Err(failure) => Err(failure.to_string()),
            })),
        }
    }
}

/// What a stanza that our own net gave back means to who sent it: one that cannot be written is tried in smaller pieces.
fn bounce_condition(bounce: &BounceReason) -> Condition {
    match bounce {
        BounceReason::NotSendable(_) => Condition::PolicyViolation,
        _ => Condition::RemoteServerTimeout,
    }
}

/// Whether a stanza says that one of ours did not reach its peer: an XMPP server between us says so in the peer's name, and
/// the peer is none the more there for it.
fn is_undelivered(stanza: &Element) -> bool {
    stanza.attr("type") == Some("error")
        && matches!(
            StanzaError::of(stanza).condition,
            Condition::RemoteServerNotFound
                | Condition::RemoteServerTimeout
                | Condition::RecipientUnavailable
                | Condition::ServiceUnavailable
                | Condition::Gone
        )
}

fn is_request(iq: &billow_xmpp::Iq) -> bool {
    matches!(iq.kind, IqKind::Get(_) | IqKind::Set(_))
}

fn note_deadline(deadlines: &mut BTreeMap<Domain, Timestamp>, peer: &Domain, deadline: Option<Timestamp>) {
    match deadline {
        Some(deadline) => drop(deadlines.insert(peer.clone(), deadline)),
        None => drop(deadlines.remove(peer)),
    }
}

fn passed(deadlines: &mut BTreeMap<Domain, Timestamp>, now: Timestamp) -> Vec<Domain> {
    deadlines
        .extract_if(.., |_, deadline| *deadline <= now)
        .map(|(peer, _)| peer)
        .collect()
}

fn ids() -> anyhow::Result<Ids> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(Ids::new(seed))
}

#[cfg(test)]
mod tests {
    use billow_xmpp::Message;

    use super::*;

    #[test]
    fn what_an_xmpp_server_says_for_a_peer_that_is_away_is_no_sign_of_the_peer() {
        let (ours, theirs) = (Jid::new("wave.a.lab").unwrap(), Jid::new("wave.b.lab").unwrap());
        let message = Message::new(ours, theirs, "1");
        let error = |condition| {
            let error = message.error(StanzaError::new(condition, "")).unwrap();
            is_undelivered(&error.to_element())
        };
        assert!(error(Condition::RemoteServerTimeout) && error(Condition::RemoteServerNotFound));
        assert!(!error(Condition::BadRequest) && !error(Condition::ResourceConstraint));
        assert!(!is_undelivered(&message.to_element()));
    }

    #[test]
    fn only_what_cannot_be_written_is_made_smaller() {
        let too_big = BounceReason::NotSendable("too big".to_owned());
        assert_eq!(bounce_condition(&too_big), Condition::PolicyViolation);
        for other in [BounceReason::QueueFull, BounceReason::TimedOut("no".to_owned())] {
            assert_eq!(bounce_condition(&other), Condition::RemoteServerTimeout);
        }
    }
}
