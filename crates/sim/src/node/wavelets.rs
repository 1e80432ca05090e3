//! The wavelets of a node: each has its machine while it is used, loaded from the disk and put away again.

use std::sync::Arc;

use billow_model::{Domain, ParticipantId, Timestamp, Version, WaveletName, WaveletOp};
use billow_signing::VerifyError;
use billow_wavelet::remote::{UpdateRefusal, Verification};
use billow_wavelet::{
    HostedInput, HostedOutput, HostedWavelet, Machine, Readers, Refusal, RemoteInput, RemoteOutput, RemoteWavelet,
    StoredRecord, Submission, Written,
};
use billow_wire::exchange::{HistoryRequest, SignerRequest, SubmitRequest};
use billow_wire::{Encoded, SignedDelta};

use super::{Action, Config, Node, Now, Reply, Writer, remote};
use crate::disk::{Loaded, Snapshot, WaveletWrite, Write, new_domains};

/// How long a wavelet that is not on the disk is kept, ms.
const UNKNOWN_MS: i64 = 1_000;
/// How long a wavelet that could not go on is left alone, ms.
const RELOAD_MS: i64 = 5_000;

/// A loaded wavelet.
pub(super) struct Live {
    pub(super) machine: Machine,
    /// Tells the machine from an earlier one of the same wavelet.
    life: u64,
    used: Timestamp,
    /// The version of the newest snapshot on the disk.
    kept: Version,
    snapshot_under_way: bool,
}

/// What a machine wants stored in one write, as its node works through what it wants.
struct Turn<'a> {
    now: Now,
    name: &'a WaveletName,
    life: u64,
    write: WaveletWrite,
    written: Written,
}

impl Live {
    /// When something is to be done though nothing comes in: the machine's own deadline, and the end of its use.
    pub(super) fn deadline(&self, config: &Config) -> impl Iterator<Item = Timestamp> {
        [self.machine.deadline(), Some(self.idle_at(config))]
            .into_iter()
            .flatten()
    }

    fn idle_at(&self, config: &Config) -> Timestamp {
        let idle = if self.machine.is_admitted() {
            config.idle_ms
        } else {
            config.idle_ms.min(UNKNOWN_MS)
        };
        self.used.later(idle)
    }
}

impl Node {
    /// The wavelet, loaded if need be; `None` if what the disk has makes none.
    pub(super) fn load(&mut self, now: Now, name: &WaveletName) -> Option<&mut Live> {
        if !self.live.contains_key(name) {
            let life = self.fresh();
            let loaded = self.disk.load(name);
            let kept = loaded
                .as_ref()
                .and_then(|loaded| Some(loaded.snapshot.as_ref()?.version));
            let seed = self.config.seed ^ life.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let machine = match load_machine(now.steady, name, &self.config, seed, loaded) {
                Ok(machine) => machine,
                Err(reason) => {
                    let wavelet = name.clone();
                    self.actions.push_back(Action::Damaged { wavelet, reason });
                    return None;
                }
            };
            let live = Live {
                machine,
                life,
                used: now.steady,
                kept: kept.unwrap_or(Version::ZERO),
                snapshot_under_way: false,
            };
            self.live.insert(name.clone(), live);
            self.tell_legacy_to(now, name);
        }
        let live = self.live.get_mut(name)?;
        live.used = now.steady;
        self.touched.insert(name.clone());
        Some(live)
    }

    /// As [`Node::load`], for what another server asks: a wavelet that is nowhere is not made for it.
    pub(super) fn asked_for(&mut self, now: Now, name: &WaveletName) -> Option<&mut Live> {
        if self.live.contains_key(name) || self.disk.has(name) {
            self.load(now, name)
        } else {
            None
        }
    }

    #[allow(clippy::too_many_arguments, reason = "they are the event's")]
    pub(super) fn submit(
        &mut self,
        now: Now,
        ticket: u64,
        name: &WaveletName,
        author: ParticipantId,
        submission: Submission,
        version: Version,
        ops: Vec<WaveletOp>,
    ) {
        if !self.hosts(name) && !self.disk.has(name) {
            return self.actions.push_back(Action::Dropped { ticket });
        }
        let own = self.fresh();
        let Some(live) = self.load(now, name) else {
            return self.actions.push_back(Action::Dropped { ticket });
        };
        let life = live.life;
        match &mut live.machine {
            Machine::Hosted(machine) => {
                let input = HostedInput::Submit {
                    ticket: own,
                    submission,
                    author,
                    version,
                    ops,
                };
                machine.handle(now.wall, input);
            }
            Machine::Remote(machine) => {
                let input = RemoteInput::Submit {
                    ticket: own,
                    submission,
                    author,
                    version,
                    ops,
                };
                machine.handle(now.steady, input);
            }
        }
        self.clients.insert(own, (name.clone(), life, ticket));
    }

    pub(super) fn seal(&mut self, now: Now, name: &WaveletName) {
        if let Some(Live {
            machine: Machine::Hosted(machine),
            ..
        }) = self.load(now, name)
        {
            machine.handle(now.wall, HostedInput::SealNow);
        }
    }

    /// Another server's delta for a wavelet of ours; `false` if there is no such wavelet.
    pub(super) fn submit_signed(
        &mut self,
        now: Now,
        name: &WaveletName,
        ask: &super::Ask,
        delta: billow_signing::Verified<Encoded<SignedDelta>>,
    ) -> bool {
        let ticket = self.fresh();
        let Some(live) = self.asked_for(now, name) else {
            return false;
        };
        let life = live.life;
        let Machine::Hosted(machine) = &mut live.machine else {
            return false;
        };
        machine.handle(now.wall, HostedInput::RemoteSubmit { ticket, delta });
        self.asks.insert(ticket, (name.clone(), life, ask.clone()));
        true
    }

    /// The host of a wavelet says something; `Err` if there is nobody to tell.
    pub(super) fn update(
        &mut self,
        now: Now,
        update: billow_wire::FromHost<billow_wire::exchange::WaveletUpdate>,
        batch: u64,
        index: usize,
    ) -> Result<(), UpdateRefusal> {
        let name = update.get().name.clone();
        let tag = self.fresh();
        let live = self.load(now, &name).ok_or(UpdateRefusal::Unavailable)?;
        let life = live.life;
        let Machine::Remote(machine) = &mut live.machine else {
            return Err(UpdateRefusal::NoLocalParticipant);
        };
        machine.handle(now.steady, RemoteInput::Update { tag, update });
        self.tags.insert(tag, (name, life, batch, index));
        Ok(())
    }

    /// The host of these wavelets has spoken.
    pub(super) fn heard(&mut self, now: Now, host: &Domain) {
        let names = self.live.iter().filter(|(name, _)| name.host() == host);
        for name in names.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            if let Some(Machine::Remote(machine)) = self.live.get_mut(&name).map(|live| &mut live.machine) {
                machine.handle(now.steady, RemoteInput::HostSpoke);
                self.touched.insert(name);
            }
        }
    }

    pub(super) fn tell_remote_wavelet(&mut self, now: Now, name: &WaveletName, life: u64, input: RemoteInput) {
        if let Some(live) = self.live.get_mut(name).filter(|live| live.life == life)
            && let Machine::Remote(machine) = &mut live.machine
        {
            machine.handle(now.steady, input);
            self.touched.insert(name.clone());
        }
    }

    pub(super) fn tell_legacy(&mut self, now: Now) {
        for name in self.live.keys().cloned().collect::<Vec<_>>() {
            self.tell_legacy_to(now, &name);
        }
    }

    fn tell_legacy_to(&mut self, now: Now, name: &WaveletName) {
        if let Some(live) = self.live.get_mut(name) {
            live.machine.tell_legacy(now.steady, self.legacy.clone());
        }
    }

    pub(super) fn signed(&mut self, now: Now, job: u64, delta: Option<Encoded<SignedDelta>>) {
        let Some((name, life)) = self.signing.remove(&job) else {
            return;
        };
        let Some(live) = self.live.get_mut(&name).filter(|live| live.life == life) else {
            return;
        };
        match &mut live.machine {
            Machine::Hosted(machine) => {
                let input = delta.map_or(HostedInput::SignFailed, |delta| HostedInput::Signed { delta });
                machine.handle(now.steady, input);
            }
            Machine::Remote(machine) => {
                let input = delta.map_or(RemoteInput::SignFailed, |delta| RemoteInput::Signed { delta });
                machine.handle(now.steady, input);
            }
        }
        self.touched.insert(name);
    }

    /// A write of a wavelet is durable, or not.
    pub(super) fn stored(&mut self, now: Now, name: &WaveletName, life: u64, written: Written, taken: bool) {
        let Some(live) = self.live.get_mut(name).filter(|live| live.life == life) else {
            return;
        };
        self.touched.insert(name.clone());
        match &mut live.machine {
            machine if taken => machine.stored(now.steady, written),
            Machine::Hosted(machine) => machine.handle(now.steady, HostedInput::PersistFailed),
            Machine::Remote(machine) => machine.handle(now.steady, RemoteInput::PersistFailed),
        }
    }

    pub(super) fn snapshot_kept(&mut self, name: &WaveletName, life: u64, version: Version, taken: bool) {
        if let Some(live) = self.live.get_mut(name).filter(|live| live.life == life) {
            live.snapshot_under_way = false;
            // One that could not be kept is tried again after as many operations more.
            live.kept = if taken {
                version
            } else {
                live.machine.wavelet().version()
            };
        }
    }

    /// Asks the machine until it wants nothing more. What is to be stored is stored in one write.
    pub(super) fn drive_wavelet(&mut self, now: Now, name: &WaveletName) {
        let Some(live) = self.live.get(name) else { return };
        let life = live.life;
        let mut turn = Turn {
            now,
            name,
            life,
            write: WaveletWrite::new(name.clone()),
            written: Written::default(),
        };
        match &live.machine {
            Machine::Hosted(_) => self.drive_hosted(&mut turn),
            Machine::Remote(_) => self.drive_replica(&mut turn),
        }
        let Turn { write, written, .. } = turn;
        let records = written.records_upto.is_some() || written.seals_upto.is_some();
        if records || write.standing.is_some() || written.replaced || written.outgoing {
            self.write(now, Write::Wavelet(write), Writer::Wavelet(name.clone(), life, written));
        }
        let Some(live) = self.live.get(name) else { return };
        if live.machine.failed() {
            return self.give_up(now, name, life);
        }
        let shown = live.machine.wavelet().version().number();
        if !live.snapshot_under_way && shown >= live.kept.number().saturating_add(self.config.snapshot_every) {
            self.keep_snapshot(now, name);
        }
    }

    fn drive_hosted(&mut self, turn: &mut Turn<'_>) {
        let Turn {
            now,
            name,
            life,
            write,
            written,
        } = turn;
        let (now, life) = (*now, *life);
        loop {
            let Some(Machine::Hosted(machine)) = self.live.get_mut(name).map(|live| &mut live.machine) else {
                return;
            };
            let Some(output) = machine.poll() else { return };
            match output {
                HostedOutput::Persist(record) => {
                    write.reached.extend(new_domains(&record, &self.config.domain));
                    written.records_upto = Some(record.resulting());
                    write.records.push(StoredRecord { record, seal: None });
                }
                HostedOutput::PersistSeal(seal) => {
                    written.seals_upto = Some(seal.resulting.version);
                    write.seals.push(seal);
                }
                HostedOutput::Show(record) => {
                    if self.config.seal_at_once {
                        machine.handle(now.wall, HostedInput::SealNow);
                    }
                    let wavelet = name.clone();
                    self.actions.push_back(Action::Shown { wavelet, record });
                }
                HostedOutput::Answer { ticket, outcome } => self.answer_client(ticket, outcome),
                HostedOutput::Sign(delta) => self.sign(name, life, delta),
                HostedOutput::Sealed { seal, domains } => {
                    let readers = machine.readers().clone();
                    self.sealed(now, name, &seal, &domains, &readers);
                }
                HostedOutput::Digest { at, digest, domains } => {
                    for domain in domains {
                        let (wavelet, at) = (name.clone(), at.clone());
                        let input = super::host::Input::Digest { wavelet, at, digest };
                        self.tell_host(now, &domain, input);
                    }
                }
                HostedOutput::AnswerRemote { ticket, outcome } => self.answer_remote(ticket, outcome),
            }
        }
    }

    fn drive_replica(&mut self, turn: &mut Turn<'_>) {
        let Turn {
            now,
            name,
            life,
            write,
            written,
        } = turn;
        let (now, life) = (*now, *life);
        loop {
            let Some(Machine::Remote(machine)) = self.live.get_mut(name).map(|live| &mut live.machine) else {
                return;
            };
            let Some(output) = machine.poll() else { return };
            match output {
                RemoteOutput::Verify { check, delta, at } => {
                    let outcome = self.verify(delta, at);
                    self.tell_remote_wavelet(now, name, life, RemoteInput::Verified { check, outcome });
                }
                RemoteOutput::Persist { record, seal, outgoing } => {
                    write.settled.extend(outgoing);
                    written.records_upto = Some(record.resulting());
                    let seal = Some(seal);
                    write.records.push(StoredRecord { record, seal });
                }
                RemoteOutput::PersistOutgoing(outgoing) => {
                    write.sent.push(outgoing);
                    written.outgoing = true;
                }
                RemoteOutput::DropOutgoing(submission) => {
                    write.settled.push(submission);
                    written.outgoing = true;
                }
                RemoteOutput::Show(record) => {
                    let wavelet = name.clone();
                    self.actions.push_back(Action::Shown { wavelet, record });
                }
                RemoteOutput::Answer { ticket, outcome } => self.answer_client(ticket, outcome),
                RemoteOutput::Sign(delta) => self.sign(name, life, delta),
                RemoteOutput::Receipt { tag } => self.answer_update(tag, Ok(())),
                RemoteOutput::Refuse { tag, reason } => self.answer_update(tag, Err(reason)),
                RemoteOutput::FetchSigner { id, at, time } => {
                    if self.know_signer(&id, time) {
                        let outcome = Ok(());
                        self.tell_remote_wavelet(now, name, life, RemoteInput::SignerFetched { id, outcome });
                    } else {
                        let request = SignerRequest {
                            name: name.clone(),
                            signer: id.clone(),
                            at,
                        };
                        let reply = Reply::Signer { id, time };
                        self.ask_host(now, name, life, remote::Request::Signer(request), reply);
                    }
                }
                RemoteOutput::FetchHistory {
                    request,
                    from,
                    to,
                    limit,
                } => {
                    let wanted = HistoryRequest {
                        name: name.clone(),
                        from,
                        to,
                        limit: Some(limit),
                    };
                    let reply = Reply::History { request };
                    self.ask_host(now, name, life, remote::Request::History(wanted), reply);
                }
                RemoteOutput::LoadOlder { from, to } => {
                    let records = self.disk.older(name, from, to);
                    self.tell_remote_wavelet(now, name, life, RemoteInput::Older { records });
                }
                RemoteOutput::Submit { attempt, delta } => {
                    let request = SubmitRequest {
                        name: name.clone(),
                        delta,
                    };
                    let reply = Reply::Submit { attempt };
                    self.ask_host(now, name, life, remote::Request::Submit(request), reply);
                }
                RemoteOutput::HostState(_) | RemoteOutput::Reset | RemoteOutput::Diverged(_) => {}
                RemoteOutput::PersistStanding(standing) => write.standing = Some(standing),
                RemoteOutput::Replace { records } => {
                    // What was handed out before belongs to the old history.
                    let standing = write.standing.take();
                    let before = std::mem::replace(write, WaveletWrite::new(name.clone()));
                    let done = std::mem::take(written);
                    if done.records_upto.is_some() || done.outgoing {
                        self.write(now, Write::Wavelet(before), Writer::Wavelet(name.clone(), life, done));
                    }
                    let stored = |(record, seal)| StoredRecord {
                        record,
                        seal: Some(seal),
                    };
                    write.records = records.into_iter().map(stored).collect();
                    (write.standing, write.replaces, written.replaced) = (standing, true, true);
                }
                RemoteOutput::Quarantined(evidence) => {
                    let wavelet = name.clone();
                    self.actions.push_back(Action::Quarantined { wavelet, evidence });
                }
            }
        }
    }

    /// What a signature is worth.
    pub(super) fn verify(&self, delta: Encoded<SignedDelta>, at: Timestamp) -> Verification {
        match self.verifier.verify(delta, at) {
            Ok(verified) => Verification::Good(verified),
            Err(VerifyError::UnknownSigner(id)) => Verification::UnknownSigner(id),
            Err(error) => Verification::Bad(error.to_string()),
        }
    }

    fn answer_client(&mut self, ticket: u64, outcome: Result<billow_wavelet::hosted::Applied, Refusal>) {
        if let Some((_, _, ticket)) = self.clients.remove(&ticket) {
            self.actions.push_back(Action::Answered { ticket, outcome });
        }
    }

    fn sign(&mut self, name: &WaveletName, life: u64, delta: Encoded<billow_model::Delta>) {
        let job = self.fresh();
        self.signing.insert(job, (name.clone(), life));
        let wavelet = name.clone();
        self.actions.push_back(Action::Sign { job, delta, wavelet });
    }

    /// A delta of a wavelet of ours is sealed: these domains are to have it.
    fn sealed(
        &mut self,
        now: Now,
        name: &WaveletName,
        seal: &Arc<billow_wavelet::Seal>,
        domains: &[Domain],
        readers: &Readers,
    ) {
        let (applied_at, resulting) = (seal.applied_at.version, seal.resulting.version);
        let own = self.config.domain.clone();
        for domain in domains.iter().filter(|domain| **domain != own) {
            let input = super::host::Input::Sealed {
                wavelet: name.clone(),
                applied_at,
                resulting,
                digest: None,
            };
            self.tell_host(now, domain, input);
            if readers
                .domains()
                .any(|(one, until)| one == domain && until == Some(resulting))
            {
                let input = super::host::Input::Left {
                    wavelet: name.clone(),
                    at: resulting,
                };
                self.tell_host(now, domain, input);
            }
        }
    }

    /// The machine could not go on: everybody who waits is told, and the next use loads it again.
    fn give_up(&mut self, now: Now, name: &WaveletName, life: u64) {
        self.live.remove(name);
        let clients = self
            .clients
            .extract_if(.., |_, (one, of, _)| one == name && *of == life);
        let clients: Vec<_> = clients.collect();
        let asks = self.asks.extract_if(.., |_, (one, of, _)| one == name && *of == life);
        let asks: Vec<_> = asks.collect();
        let tags = self.tags.extract_if(.., |_, (one, of, ..)| one == name && *of == life);
        let tags: Vec<_> = tags.collect();
        for (_, (_, _, ticket)) in clients {
            self.actions.push_back(Action::Dropped { ticket });
        }
        for (_, (_, _, ask)) in asks {
            self.refuse_submission(&ask, name, &Refusal::Unavailable);
        }
        for (_, (_, _, batch, index)) in tags {
            self.settle_update(batch, index, Err(UpdateRefusal::Unavailable));
        }
        // What it had under way is on the disk, and goes on when it is loaded again.
        self.reload.insert(name.clone(), now.steady.later(RELOAD_MS));
    }

    /// Loads again what could not go on, once its pause is over.
    pub(super) fn reload(&mut self, now: Now) {
        let passed = self.reload.extract_if(.., |_, at| *at <= now.steady);
        for (name, _) in passed.collect::<Vec<_>>() {
            if self.disk.has(&name) {
                self.load(now, &name);
            }
        }
    }

    fn keep_snapshot(&mut self, now: Now, name: &WaveletName) {
        let Some(live) = self.live.get_mut(name) else { return };
        live.snapshot_under_way = true;
        let (version, life) = (live.machine.wavelet().version(), live.life);
        let snapshot = Snapshot {
            version,
            sealed: live.machine.sealed().version,
            state: live.machine.snapshot(),
        };
        let write = Write::Snapshot(name.clone(), snapshot);
        self.write(now, write, Writer::Snapshot(name.clone(), life, version));
    }

    /// Wakes the machines whose time has come, and puts away what nobody uses.
    pub(super) fn tick_wavelets(&mut self, now: Now) {
        for name in self.live.keys().cloned().collect::<Vec<_>>() {
            let Some(live) = self.live.get_mut(&name) else { continue };
            if live.machine.deadline().is_some_and(|deadline| deadline <= now.steady) {
                live.machine.tick(now.steady);
                self.touched.insert(name.clone());
            }
            if live.idle_at(&self.config) <= now.steady {
                self.put_away(now, &name);
            }
        }
    }

    fn put_away(&mut self, now: Now, name: &WaveletName) {
        let Some(live) = self.live.get_mut(name) else { return };
        live.used = now.steady;
        if !live.machine.is_idle() || live.snapshot_under_way {
            return;
        }
        let shown = live.machine.wavelet().version();
        if live.machine.is_admitted() {
            if shown > live.machine.sealed().version {
                if let Machine::Hosted(machine) = &mut live.machine {
                    machine.handle(now.wall, HostedInput::SealNow);
                    self.touched.insert(name.clone());
                }
                return;
            }
            if shown > live.kept {
                return self.keep_snapshot(now, name);
            }
        }
        self.live.remove(name);
    }
}

/// The machine of a wavelet, from what the disk has.
fn load_machine(
    now: Timestamp,
    name: &WaveletName,
    config: &Config,
    seed: u64,
    loaded: Option<Loaded>,
) -> Result<Machine, String> {
    let local = [config.domain.clone()].into();
    let hosted = *name.host() == config.domain;
    let Some(Loaded {
        snapshot,
        records,
        outgoing,
        standing,
    }) = loaded
    else {
        return Ok(if hosted {
            Machine::Hosted(Box::new(HostedWavelet::new(name.clone())))
        } else {
            Machine::Remote(Box::new(RemoteWavelet::new(name.clone(), local, seed)))
        });
    };
    let state = snapshot.as_ref().map(|snapshot| snapshot.state.as_ref());
    if hosted {
        let machine = HostedWavelet::load(name.clone(), state, records).map_err(|error| error.to_string())?;
        return Ok(Machine::Hosted(Box::new(machine)));
    }
    let machine = RemoteWavelet::load(name.clone(), local, seed, state, records, outgoing);
    let mut machine = machine.map_err(|error| error.to_string())?;
    if let Some(standing) = standing {
        machine.restore(now, standing);
    }
    Ok(Machine::Remote(Box::new(machine)))
}
