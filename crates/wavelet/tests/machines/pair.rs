//! A host and two remotes in one test: random edits of several users on a bad network, with restarts.
//!
//! The network loses, repeats and reorders what is sent; a server that stops forgets what its disk has not yet taken. In
//! the end, with the network good again, all copies are equal in version, history hash and content, every submission
//! that was accepted is in the history once, and no other is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use billow_model::{Component, DocOp, Document, HashedVersion, ParticipantId, Timestamp, Version, Wavelet, WaveletOp};
use billow_signing::{Verifier, VerifyError};
use billow_wavelet::hosted::Applied;
use billow_wavelet::remote::{HistoryFailure, Outgoing, SubmitFailure, Verification};
use billow_wavelet::{
    HostedInput, HostedOutput, HostedWavelet, Origin, Record, Refusal, RemoteInput, RemoteOutput, RemoteWavelet, Seal,
    StoredRecord, Submission,
};
use billow_wire::exchange::{CommitNotice, SubmitResponse, WaveletUpdate};
use billow_wire::{AppliedDelta, Encoded, FromHost, SignedDelta};
use bytes::Bytes;

use crate::lab::{DOMAINS, START, address, domain, keys, local, name, notes, verifier};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % sides as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }
}

/// What a server's disk has, and what is on its way there.
#[derive(Default)]
struct Disk {
    records: Vec<StoredRecord>,
    snapshot: Option<Bytes>,
    outgoing: Option<Outgoing>,
    writes: VecDeque<Write>,
}

enum Write {
    Record(Arc<Record>, Option<Arc<Seal>>, Option<Submission>),
    Seal(Arc<Seal>),
    Outgoing(Outgoing),
    DropOutgoing(Submission),
}

impl Disk {
    fn write(&mut self, write: Write) {
        match write {
            Write::Record(record, seal, done) => {
                self.records.push(StoredRecord { record, seal });
                self.outgoing
                    .take_if(|outgoing| Some(&outgoing.submission) == done.as_ref());
            }
            Write::Seal(seal) => {
                let at = seal.applied_at.version;
                self.records
                    .iter_mut()
                    .find(|stored| stored.record.applied_at() == at)
                    .unwrap()
                    .seal = Some(seal);
            }
            Write::Outgoing(outgoing) => self.outgoing = Some(outgoing),
            Write::DropOutgoing(submission) => {
                drop(self.outgoing.take_if(|outgoing| outgoing.submission == submission))
            }
        }
    }
}

enum Message {
    Update {
        to: usize,
        update: WaveletUpdate,
    },
    Submit {
        from: usize,
        life: u32,
        host_life: u32,
        attempt: u64,
        delta: Encoded<SignedDelta>,
    },
    Submitted {
        to: usize,
        life: u32,
        attempt: u64,
        outcome: Result<SubmitResponse, SubmitFailure>,
    },
    History {
        from: usize,
        life: u32,
        request: u64,
        since: HashedVersion,
        to: HashedVersion,
    },
    Past {
        to: usize,
        life: u32,
        request: u64,
        outcome: Result<Vec<Encoded<AppliedDelta>>, HistoryFailure>,
    },
}

struct Client {
    server: usize,
    author: ParticipantId,
    submission: Submission,
    /// The state that the next edit is made against.
    seen: Wavelet,
    under_way: Option<(Version, Vec<WaveletOp>)>,
    accepted: BTreeSet<Submission>,
    refused: BTreeMap<Submission, Refusal>,
}

struct World {
    dice: Dice,
    now: Timestamp,
    host: HostedWavelet,
    host_life: u32,
    remotes: Vec<RemoteWavelet>,
    lives: Vec<u32>,
    disks: Vec<Disk>,
    verifiers: Vec<Verifier>,
    network: Vec<Message>,
    clients: Vec<Client>,
    /// Remote submissions that the host owes an answer: ticket → who asked.
    asked: BTreeMap<u64, (usize, u32, u64)>,
    tickets: u64,
    tags: u64,
    counts: BTreeMap<&'static str, usize>,
    bad: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let clients = [(0, "alice"), (0, "anna"), (1, "bob"), (1, "bert"), (2, "carol")];
        let client = |(server, who): (usize, &str)| Client {
            server,
            author: address(&format!("{who}@{}", DOMAINS[server])),
            submission: Submission {
                session: who.into(),
                sequence: 0,
            },
            seen: Wavelet::new(name()),
            under_way: None,
            accepted: BTreeSet::new(),
            refused: BTreeMap::new(),
        };
        Self {
            dice: Dice(seed * 2_654_435_761 + 1),
            now: Timestamp(START),
            host: HostedWavelet::new(name()),
            host_life: 0,
            remotes: (1..3)
                .map(|server| RemoteWavelet::new(name(), local(server), seed))
                .collect(),
            lives: vec![0; 3],
            disks: (0..3).map(|_| Disk::default()).collect(),
            verifiers: (0..3).map(|_| verifier()).collect(),
            network: Vec::new(),
            clients: clients.into_iter().map(client).collect(),
            asked: BTreeMap::new(),
            tickets: 0,
            tags: 0,
            counts: BTreeMap::new(),
            bad: true,
        }
    }

    fn shown(&self, server: usize) -> &Wavelet {
        if server == 0 {
            self.host.wavelet()
        } else {
            self.remotes[server - 1].wavelet()
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn step(&mut self) {
        self.now.0 += 20;
        match self.dice.roll(10) {
            0..=2 => self.edit(),
            3..=5 => self.deliver(),
            6 | 7 => {
                let server = self.dice.roll(3);
                self.write(server);
            }
            8 if self.bad && self.dice.chance(6) => {
                let server = self.dice.roll(3);
                self.restart(server);
            }
            _ => self.tick(),
        }
        self.drive();
    }

    /// One client looks at the newest state, or edits what it has seen, or sends again what was not answered.
    fn edit(&mut self) {
        let index = self.dice.roll(self.clients.len());
        let server = self.clients[index].server;
        let state = self.shown(server).clone();
        let client = &mut self.clients[index];
        if let Some((version, ops)) = client.under_way.clone() {
            if self.dice.chance(2) {
                self.submit(index, version, ops);
            }
        } else if self.dice.chance(50) || client.seen.version() == Version::ZERO {
            client.seen = state;
        } else {
            let mut document = client
                .seen
                .document(&notes())
                .map(|(document, _)| document.clone())
                .unwrap_or_default();
            let mut ops = Vec::new();
            // Two operations on one document are what the reference transforms wrongly.
            for _ in 0..if self.dice.chance(15) { 2 } else { 1 } {
                let op = edit(&document, &mut self.dice, index);
                document.apply(&op).unwrap();
                ops.push(WaveletOp::MutateDocument { id: notes(), op });
            }
            client.submission.sequence += 1;
            let version = client.seen.version();
            client.under_way = Some((version, ops.clone()));
            self.submit(index, version, ops);
        }
    }

    fn submit(&mut self, index: usize, version: Version, ops: Vec<WaveletOp>) {
        let Client {
            server,
            author,
            submission,
            ..
        } = &self.clients[index];
        let (submission, author) = (submission.clone(), author.clone());
        // The ticket names the client and, to tell stale answers, the submission.
        let ticket = index as u64 + 100 * submission.sequence;
        match *server {
            0 => self.host.handle(
                self.now,
                HostedInput::Submit {
                    ticket,
                    submission,
                    author,
                    version,
                    ops,
                },
            ),
            server => {
                self.remotes[server - 1].handle(
                    self.now,
                    RemoteInput::Submit {
                        ticket,
                        submission,
                        author,
                        version,
                        ops,
                    },
                );
            }
        }
    }

    fn answered(&mut self, ticket: u64, outcome: Result<Applied, Refusal>) {
        let client = &mut self.clients[usize::try_from(ticket % 100).unwrap()];
        if client.submission.sequence != ticket / 100 || client.under_way.is_none() {
            return;
        }
        match outcome {
            Ok(_) => drop(client.accepted.insert(client.submission.clone())),
            Err(Refusal::Unavailable) => return,
            Err(refusal) => drop(client.refused.insert(client.submission.clone(), refusal)),
        }
        client.under_way = None;
    }

    fn send(&mut self, message: Message) {
        self.network.push(message);
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let index = if self.bad {
            self.dice.roll(self.network.len())
        } else {
            0
        };
        let message = self.network.remove(index);
        let lost = self.bad && self.dice.chance(15);
        let twice = self.bad && self.dice.chance(10);
        match message {
            Message::Update { to, update } => {
                if twice {
                    self.send(Message::Update {
                        to,
                        update: update.clone(),
                    });
                }
                if !lost {
                    self.tags += 1;
                    let update = FromHost::check(&domain(DOMAINS[0]), update).unwrap();
                    self.remotes[to - 1].handle(self.now, RemoteInput::Update { tag: self.tags, update });
                }
            }
            Message::Submit {
                from,
                life,
                host_life,
                attempt,
                delta,
            } => {
                let verifier = &mut self.verifiers[0];
                verifier.add(keys().signers[from].info().clone(), self.now).unwrap();
                let verified = verifier.verify(delta, self.now).unwrap();
                self.count("submissions sent");
                // What was on its way to a host that has stopped is gone with the connection.
                if lost || host_life != self.host_life {
                    let outcome = Err(SubmitFailure::Unreachable("lost".to_owned()));
                    return self.send(Message::Submitted {
                        to: from,
                        life,
                        attempt,
                        outcome,
                    });
                }
                self.tickets += 1;
                self.asked.insert(self.tickets, (from, life, attempt));
                if twice {
                    self.tickets += 1;
                    let again = HostedInput::RemoteSubmit {
                        ticket: self.tickets,
                        delta: verified.clone(),
                    };
                    self.host.handle(self.now, again);
                    self.host.handle(
                        self.now,
                        HostedInput::RemoteSubmit {
                            ticket: self.tickets - 1,
                            delta: verified,
                        },
                    );
                } else {
                    self.host.handle(
                        self.now,
                        HostedInput::RemoteSubmit {
                            ticket: self.tickets,
                            delta: verified,
                        },
                    );
                }
            }
            Message::Submitted {
                to,
                life,
                attempt,
                outcome,
            } => {
                if self.lives[to] == life {
                    let outcome = if lost {
                        Err(SubmitFailure::Unreachable("lost".to_owned()))
                    } else {
                        outcome
                    };
                    self.remotes[to - 1].handle(self.now, RemoteInput::SubmitAnswered { attempt, outcome });
                }
            }
            Message::History {
                from,
                life,
                request,
                since,
                to,
            } => {
                let outcome = if lost {
                    Err(HistoryFailure::NotNow("lost".to_owned()))
                } else {
                    self.past(from, &since, &to).map_err(HistoryFailure::Refused)
                };
                self.send(Message::Past {
                    to: from,
                    life,
                    request,
                    outcome,
                });
            }
            Message::Past {
                to,
                life,
                request,
                outcome,
            } => {
                if self.lives[to] == life {
                    self.remotes[to - 1].handle(self.now, RemoteInput::History { request, outcome });
                }
            }
        }
    }

    /// The host's answer from its store: a few deltas of the asked range.
    fn past(
        &mut self,
        who: usize,
        since: &HashedVersion,
        to: &HashedVersion,
    ) -> Result<Vec<Encoded<AppliedDelta>>, String> {
        if !self
            .host
            .readers()
            .may_read(&domain(DOMAINS[who]), since.version, to.version)
        {
            return Err("not for you".to_owned());
        }
        let seals: Vec<&Arc<Seal>> = self.disks[0]
            .records
            .iter()
            .filter_map(|stored| stored.seal.as_ref())
            .collect();
        let start = seals
            .iter()
            .position(|seal| seal.applied_at == *since)
            .ok_or("no such start")?;
        let end = seals
            .iter()
            .position(|seal| seal.resulting == *to)
            .ok_or("no such end")?;
        let most = 1 + self.dice.roll(8);
        Ok(seals[start..=end]
            .iter()
            .take(most)
            .map(|seal| seal.applied.clone())
            .collect())
    }

    fn write(&mut self, server: usize) {
        let Some(write) = self.disks[server].writes.pop_front() else {
            return;
        };
        let input = match &write {
            Write::Record(record, ..) => Some((record.resulting(), true)),
            Write::Seal(seal) => Some((seal.resulting.version, false)),
            Write::Outgoing(_) | Write::DropOutgoing(_) => None,
        };
        self.disks[server].write(write);
        let now = self.now;
        match (server, input) {
            (0, Some((upto, true))) => self.host.handle(now, HostedInput::Persisted { upto }),
            (0, Some((upto, false))) => self.host.handle(now, HostedInput::SealPersisted { upto }),
            (_, Some((upto, _))) => self.remotes[server - 1].handle(now, RemoteInput::Persisted { upto }),
            (_, None) => self.remotes[server - 1].handle(now, RemoteInput::OutgoingPersisted),
        }
    }

    /// The server loses everything that is not on its disk, and starts again.
    fn restart(&mut self, server: usize) {
        self.lives[server] += 1;
        self.count("restarts");
        if self.dice.chance(50) {
            let snapshot = if server == 0 {
                self.host.snapshot()
            } else {
                self.remotes[server - 1].snapshot()
            };
            self.disks[server].snapshot = Some(snapshot);
        }
        self.disks[server].writes.clear();
        let Disk {
            records,
            snapshot,
            outgoing,
            ..
        } = &self.disks[server];
        let (records, snapshot) = (records.clone(), snapshot.as_deref());
        if server == 0 {
            let before = self.host.sealed().clone();
            self.host = HostedWavelet::load(name(), snapshot, records).unwrap();
            self.host_life += 1;
            assert_eq!(*self.host.sealed(), before, "what was sealed stays sealed");
            for (_, (from, life, attempt)) in std::mem::take(&mut self.asked) {
                let outcome = Err(SubmitFailure::Unreachable("gone".to_owned()));
                self.send(Message::Submitted {
                    to: from,
                    life,
                    attempt,
                    outcome,
                });
            }
        } else {
            let seed = self.dice.0;
            self.remotes[server - 1] =
                RemoteWavelet::load(name(), local(server), seed, snapshot, records, outgoing.clone()).unwrap();
        }
        // The clients connect again, and send again what was not answered.
        for index in 0..self.clients.len() {
            if self.clients[index].server == server
                && let Some((version, ops)) = self.clients[index].under_way.clone()
            {
                self.submit(index, version, ops);
            }
        }
    }

    fn tick(&mut self) {
        // A host goes on with an update until it is receipted; here it matters only for the one that invites.
        let invitation = self.disks[0].records.first().and_then(|stored| stored.seal.clone());
        if let Some(seal) = invitation.filter(|seal| seal.resulting.version <= self.host.sealed().version) {
            for to in (1..3)
                .filter(|to| !self.remotes[*to - 1].is_admitted())
                .collect::<Vec<_>>()
            {
                let update = WaveletUpdate {
                    name: name(),
                    deltas: vec![seal.applied.clone()],
                    commit: None,
                };
                self.send(Message::Update { to, update });
            }
        }
        if self.host.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.host.handle(self.now, HostedInput::Tick);
        }
        for remote in &mut self.remotes {
            if remote.deadline().is_some_and(|deadline| deadline <= self.now) {
                remote.handle(self.now, RemoteInput::Tick);
            }
        }
    }

    fn drive(&mut self) {
        loop {
            if let Some(output) = self.host.poll() {
                self.drive_host(output);
            } else if let Some((server, output)) =
                (1..3).find_map(|server| Some((server, self.remotes[server - 1].poll()?)))
            {
                self.drive_remote(server, output);
            } else {
                return;
            }
        }
    }

    fn drive_host(&mut self, output: HostedOutput) {
        match output {
            HostedOutput::Persist(record) => self.disks[0].writes.push_back(Write::Record(record, None, None)),
            HostedOutput::PersistSeal(seal) => self.disks[0].writes.push_back(Write::Seal(seal)),
            HostedOutput::Show(record) => {
                assert!(
                    self.disks[0].records.iter().any(|stored| stored.record == record),
                    "shown before it was on disk"
                );
            }
            HostedOutput::Answer { ticket, outcome } => self.answered(ticket, outcome),
            HostedOutput::Sign(delta) => {
                let delta = keys().signers[0].sign(delta).unwrap();
                self.host.handle(self.now, HostedInput::Signed { delta });
            }
            HostedOutput::Sealed { seal, domains } => {
                let stored = self.disks[0]
                    .records
                    .iter()
                    .find(|stored| stored.record.applied_at() == seal.applied_at.version);
                assert_eq!(
                    stored.unwrap().seal.as_ref(),
                    Some(&seal),
                    "told before the seal was on disk"
                );
                for to in (1..3).filter(|to| domains.contains(&domain(DOMAINS[*to]))) {
                    let update = WaveletUpdate {
                        name: name(),
                        deltas: vec![seal.applied.clone()],
                        commit: None,
                    };
                    self.send(Message::Update { to, update });
                }
            }
            HostedOutput::Digest { at, digest, domains } => {
                self.count("digests");
                for to in (1..3).filter(|to| domains.contains(&domain(DOMAINS[*to]))) {
                    let commit = CommitNotice {
                        version: at.version,
                        hash: Some(at.hash.clone()),
                        digest: Some(digest),
                    };
                    let update = WaveletUpdate {
                        name: name(),
                        deltas: Vec::new(),
                        commit: Some(commit),
                    };
                    self.send(Message::Update { to, update });
                }
            }
            HostedOutput::AnswerRemote { ticket, outcome } => {
                let Some((to, life, attempt)) = self.asked.remove(&ticket) else {
                    return;
                };
                if matches!(outcome, Err(Refusal::Rebase | Refusal::DoesNotApply(_))) {
                    self.count("submissions to be made anew");
                }
                let outcome = outcome.map_err(|refusal| match refusal {
                    Refusal::Unavailable => SubmitFailure::NotNow(refusal.to_string()),
                    Refusal::Rebase | Refusal::InvalidHash(_) | Refusal::UnknownVersion | Refusal::DoesNotApply(_) => {
                        SubmitFailure::Stale(refusal.to_string())
                    }
                    other => SubmitFailure::Refused(other.to_string()),
                });
                self.send(Message::Submitted {
                    to,
                    life,
                    attempt,
                    outcome,
                });
            }
        }
    }

    fn drive_remote(&mut self, server: usize, output: RemoteOutput) {
        let life = self.lives[server];
        let now = self.now;
        match output {
            RemoteOutput::Verify { check, delta, at } => {
                let outcome = match self.verifiers[server].verify(delta, at) {
                    Ok(verified) => Verification::Good(verified),
                    Err(VerifyError::UnknownSigner(id)) => Verification::UnknownSigner(id),
                    Err(error) => Verification::Bad(error.to_string()),
                };
                self.remotes[server - 1].handle(now, RemoteInput::Verified { check, outcome });
            }
            RemoteOutput::FetchSigner { id, time, .. } => {
                self.count("signers fetched");
                let outcome = if self.bad && self.dice.chance(30) {
                    Err("lost".to_owned())
                } else {
                    let info = keys()
                        .signers
                        .iter()
                        .find(|signer| *signer.id() == id)
                        .unwrap()
                        .info()
                        .clone();
                    self.verifiers[server]
                        .add(info, time)
                        .map(drop)
                        .map_err(|error| error.to_string())
                };
                self.remotes[server - 1].handle(now, RemoteInput::SignerFetched { id, outcome });
            }
            RemoteOutput::FetchHistory { request, from, to, .. } => {
                self.count("requests for history");
                self.send(Message::History {
                    from: server,
                    life,
                    request,
                    since: from,
                    to,
                });
            }
            RemoteOutput::LoadOlder { from, to } => {
                self.count("older records loaded");
                let wanted =
                    |stored: &&StoredRecord| stored.record.applied_at() >= from && stored.record.resulting() <= to;
                let records = self.disks[server].records.iter().filter(wanted).cloned().collect();
                self.remotes[server - 1].handle(now, RemoteInput::Older { records });
            }
            RemoteOutput::Persist { record, seal, outgoing } => {
                self.disks[server]
                    .writes
                    .push_back(Write::Record(record, Some(seal), outgoing));
            }
            RemoteOutput::PersistOutgoing(outgoing) => self.disks[server].writes.push_back(Write::Outgoing(outgoing)),
            RemoteOutput::DropOutgoing(submission) => {
                self.disks[server].writes.push_back(Write::DropOutgoing(submission))
            }
            RemoteOutput::Show(record) => {
                assert!(
                    self.disks[server].records.iter().any(|stored| stored.record == record),
                    "shown before it was on disk"
                );
            }
            RemoteOutput::Answer { ticket, outcome } => self.answered(ticket, outcome),
            RemoteOutput::Sign(delta) => {
                let delta = keys().signers[server].sign(delta).unwrap();
                self.remotes[server - 1].handle(now, RemoteInput::Signed { delta });
            }
            RemoteOutput::Submit { attempt, delta } => {
                let on_disk = self.disks[server].outgoing.as_ref().map(|outgoing| &outgoing.signed);
                assert_eq!(on_disk, Some(&delta), "sent before it was on disk");
                self.send(Message::Submit {
                    from: server,
                    life,
                    host_life: self.host_life,
                    attempt,
                    delta,
                });
            }
            RemoteOutput::Receipt { .. } => self.count("receipts"),
            RemoteOutput::Refuse { .. } | RemoteOutput::HostState(_) => {}
            other @ (RemoteOutput::Diverged(_)
            | RemoteOutput::PersistStanding(_)
            | RemoteOutput::Replace { .. }
            | RemoteOutput::Reset
            | RemoteOutput::Quarantined(_)) => panic!("an honest host is not believed: {other:?}"),
        }
    }

    /// The network is good and nobody edits any more: everything settles.
    fn settle(&mut self) {
        self.bad = false;
        for _ in 0..400 {
            self.now.0 += 500;
            for server in 0..3 {
                while !self.disks[server].writes.is_empty() {
                    self.write(server);
                    self.drive();
                }
            }
            while !self.network.is_empty() {
                self.deliver();
                self.drive();
            }
            self.tick();
            self.drive();
            let HashedVersion { version, hash } = self.host.sealed().clone();
            for to in 1..3 {
                let commit = Some(CommitNotice {
                    version,
                    hash: Some(hash.clone()),
                    digest: None,
                });
                self.send(Message::Update {
                    to,
                    update: WaveletUpdate {
                        name: name(),
                        deltas: Vec::new(),
                        commit,
                    },
                });
            }
        }
    }
}

/// An insertion or a deletion somewhere in the text.
fn edit(document: &Document, dice: &mut Dice, client: usize) -> DocOp {
    let text: Vec<char> = document.text().chars().collect();
    let retain = |items: usize| (items > 0).then(|| Component::Retain(u32::try_from(items).unwrap()));
    let at = dice.roll(text.len() + 1);
    let (middle, rest) = if at < text.len() && dice.chance(35) {
        let end = (at + 1 + dice.roll(4)).min(text.len());
        (
            Component::DeleteCharacters(text[at..end].iter().collect()),
            text.len() - end,
        )
    } else {
        let letter = ['a', 'b', 'c', 'd', 'e'][client];
        (
            Component::Characters(std::iter::repeat_n(letter, 1 + dice.roll(3)).collect()),
            text.len() - at,
        )
    };
    DocOp::new(retain(at).into_iter().chain([middle]).chain(retain(rest)).collect()).unwrap()
}

fn created(seed: u64) -> World {
    let mut world = World::new(seed);
    let everybody = world
        .clients
        .iter()
        .map(|client| WaveletOp::AddParticipant(client.author.clone()));
    let ops: Vec<WaveletOp> = everybody.collect();
    world.clients[0].submission.sequence = 1;
    world.clients[0].under_way = Some((Version::ZERO, ops.clone()));
    world.submit(0, Version::ZERO, ops);
    world.drive();
    world
}

fn check(seed: u64, steps: usize, counts: &mut BTreeMap<&str, usize>) {
    let mut world = created(seed);
    for _ in 0..steps {
        world.step();
    }
    world.settle();
    let context = format!("seed {seed}");
    let (version, digest) = (world.host.sealed().clone(), world.host.wavelet().digest());
    assert_eq!(
        version.version,
        world.host.wavelet().version(),
        "{context}: everything is sealed"
    );
    for remote in &world.remotes {
        assert_eq!(remote.sealed(), version, "{context}");
        assert_eq!(remote.wavelet().digest(), digest, "{context}");
        assert_eq!(remote.waiting(), 0, "{context}");
    }
    for client in &world.clients {
        assert!(client.under_way.is_none(), "{context}: {} has no answer", client.author);
        let mine = |stored: &&StoredRecord| stored.record.delta.author == client.author;
        let at_home: Vec<Submission> = world.disks[client.server]
            .records
            .iter()
            .filter(mine)
            .map(|stored| stored.record.submission().unwrap().clone())
            .collect();
        let once: BTreeSet<Submission> = at_home.iter().cloned().collect();
        assert_eq!(
            once.len(),
            at_home.len(),
            "{context}: a submission of {} twice",
            client.author
        );
        assert_eq!(
            once, client.accepted,
            "{context}: what {} was told is what is there; refused: {:?}",
            client.author, client.refused
        );
        assert_eq!(
            world.disks[0].records.iter().filter(mine).count(),
            once.len(),
            "{context}: the same at the host"
        );
        *counts.entry("submissions refused").or_default() += client.refused.len();
    }
    assert!(
        world.disks[0]
            .records
            .iter()
            .any(|stored| matches!(stored.record.origin, Origin::Remote { .. })),
        "{context}"
    );
    assert!(world.counts["receipts"] > 0, "{context}: updates are receipted");
    *counts.entry("deltas everywhere").or_default() += world.disks[0].records.len();
    world
        .counts
        .into_iter()
        .for_each(|(what, count)| *counts.entry(what).or_default() += count);
}

#[test]
fn all_copies_are_equal_after_losses_repetitions_and_restarts() {
    let seeds = std::env::var("BILLOW_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    let mut counts = BTreeMap::new();
    for seed in 1..=seeds {
        check(seed, 2_500, &mut counts);
    }
    println!("{counts:?}");
    assert!(
        counts["submissions refused"] * 20 < counts["deltas everywhere"],
        "hardly anything is refused"
    );
}
