//! What must hold in every world, looked at from outside the nodes (hardening.md §4.2 d).
//!
//! * **S1** equal versions have equal history hashes and equal documents; **S2** what a replica has is on its host's disk;
//! * **S3** what was answered or shown is on the disk, and stays there; a receipt is sent for what is on the disk;
//! * **S4** each accepted submission is in the history once, and no refused one is;
//! * **S5** nobody has a delta that its honest author's server has not signed for that wavelet, or whose author was not on it;
//! * **S6** nothing goes to a domain that it may not read; **S7** tables are bounded, and nobody spins;
//! * **S8** a server signs what its own users have submitted, and nothing else;
//! * **S9** one owner for each wavelet and version: trivially so, for a server here is one node.
//!
//! Of wavelets that the hostile server hosts nobody can promise S1 and S2; but what honest users signed there is what they
//! saw (an author's target is in the history of everybody who took the delta), and nobody honest is harmed elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use billow_federation::stanza::{history, update};
use billow_model::{Delta, Domain, HashedVersion, ParticipantId, Version, WaveletName, WaveletOp};
use billow_wavelet::remote::Evidence;
use billow_wavelet::{Record, Refusal, Submission};
use billow_wire::{AppliedDelta, Encoded};
use billow_xmpp::{Element, IqKind, Stanza, receipts};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::world::Violation;
use crate::{Disk, Node};

type Sum = [u8; 32];
type Verdict = Result<(), Violation>;

/// How large a table of a node may get.
const TABLES_MAX: usize = 1_200;

/// A submission: whose, on what, which.
type Key = (WaveletName, ParticipantId, Submission);

/// Sees everything, knows what is right.
pub(crate) struct Oracle {
    domains: Vec<Domain>,
    /// The hostile server, if there is one: the last.
    evil: Option<usize>,
    signed: HashSet<Sum>,
    submitted: BTreeSet<(WaveletName, ParticipantId)>,
    digests: HashMap<(WaveletName, Version), Sum>,
    logs: BTreeMap<WaveletName, Log>,
    /// How much of a server's disk has been looked at.
    looked: HashMap<(usize, WaveletName), (usize, HashedVersion)>,
    /// The hashes in a copy of a wavelet that the hostile server hosts.
    chains: HashMap<(usize, WaveletName), HashMap<Version, HashedVersion>>,
    accepted: BTreeMap<Key, (usize, Version)>,
    refused: BTreeSet<Key>,
    /// What an update to a server would bring, by its id.
    updates: HashMap<(usize, String), Vec<(WaveletName, Version)>>,
    /// Which wavelet an applied delta is of, and the version after it.
    applied: HashMap<Sum, (WaveletName, Version)>,
}

/// The history of a wavelet as its honest host has it on the disk.
#[derive(Default)]
struct Log {
    deltas: Vec<(Bytes, HashedVersion)>,
    participants: Vec<ParticipantId>,
    /// The participants after each delta that changes them.
    people: BTreeMap<Version, Vec<ParticipantId>>,
    /// Domains that took part: up to where they may read.
    readers: BTreeMap<Domain, Option<Version>>,
    followed: Version,
}

impl Oracle {
    pub(crate) fn new(domains: Vec<Domain>, evil: bool) -> Self {
        Self {
            evil: evil.then(|| domains.len() - 1),
            domains,
            signed: HashSet::new(),
            submitted: BTreeSet::new(),
            digests: HashMap::new(),
            logs: BTreeMap::new(),
            looked: HashMap::new(),
            chains: HashMap::new(),
            accepted: BTreeMap::new(),
            refused: BTreeSet::new(),
            updates: HashMap::new(),
            applied: HashMap::new(),
        }
    }

    fn is_evil(&self, server: usize) -> bool {
        self.evil == Some(server)
    }

    fn is_honest(&self, domain: &Domain) -> bool {
        self.domains
            .iter()
            .position(|one| one == domain)
            .is_some_and(|server| !self.is_evil(server))
    }

    /// The deltas in the histories of honest hosts.
    pub(crate) fn deltas(&self) -> u64 {
        self.logs.values().map(|log| log.deltas.len() as u64).sum()
    }

    /// What is known of a wavelet's history, for a hostile server that has its spies.
    pub(crate) fn head(&self, name: &WaveletName) -> Option<&HashedVersion> {
        self.logs.get(name)?.deltas.last().map(|(_, resulting)| resulting)
    }

    pub(crate) fn submits(&mut self, name: &WaveletName, author: &ParticipantId) {
        self.submitted.insert((name.clone(), author.clone()));
    }

    /// S8.
    pub(crate) fn signs(&mut self, server: usize, name: &WaveletName, delta: &Encoded<Delta>) -> Verdict {
        if self.is_evil(server) {
            return Ok(());
        }
        let author = &delta.author;
        if author.domain() != self.domains[server] || !self.submitted.contains(&(name.clone(), author.clone())) {
            return broken(
                "S8",
                format!("server {server} signs a delta by {author} on {name} that nobody submitted"),
            );
        }
        self.signed.insert(sum(name, delta.bytes()));
        Ok(())
    }

    /// S1 and S3.
    pub(crate) fn shows(&mut self, server: usize, node: &Node, name: &WaveletName, record: &Record) -> Verdict {
        if self.is_evil(server) {
            return Ok(());
        }
        if node.disk().head(name) < record.resulting() {
            let at = record.applied_at();
            return broken(
                "S3",
                format!("server {server} shows the delta at {at} of {name}, which is not on its disk"),
            );
        }
        if !self.is_honest(name.host()) {
            return Ok(());
        }
        let Some(wavelet) = node
            .wavelet(name)
            .filter(|wavelet| wavelet.version() == record.resulting())
        else {
            return Ok(());
        };
        let digest = wavelet.digest();
        let known = *self.digests.entry((name.clone(), wavelet.version())).or_insert(digest);
        if known != digest {
            let version = wavelet.version();
            return broken(
                "S1",
                format!("server {server} has other documents in {name} at version {version}"),
            );
        }
        Ok(())
    }

    /// A server's word to a user counts: S3.
    pub(crate) fn accepted(
        &mut self,
        server: usize,
        disk: &Disk,
        name: &WaveletName,
        author: &ParticipantId,
        submission: Submission,
        at: Version,
    ) -> Verdict {
        // A hostile host may say of a submission what it likes.
        if self.is_evil(server) || !self.is_honest(name.host()) {
            return Ok(());
        }
        if disk.submission_at(name, at) != Some(&submission) {
            let what = format!("server {server} accepts {submission:?} of {author} at {at} of {name}, not on its disk");
            return broken("S3", what);
        }
        let key = (name.clone(), author.clone(), submission);
        if self.refused.contains(&key) {
            return broken("S4", format!("{key:?} is accepted after it was refused"));
        }
        self.accepted.insert(key, (server, at));
        Ok(())
    }

    pub(crate) fn refused(
        &mut self,
        name: &WaveletName,
        author: &ParticipantId,
        submission: Submission,
        refusal: &Refusal,
    ) -> Verdict {
        let key = (name.clone(), author.clone(), submission);
        if *refusal == Refusal::OutOfOrder || self.accepted.contains_key(&key) {
            return broken("S4", format!("{key:?} is refused: {refusal}"));
        }
        self.refused.insert(key);
        Ok(())
    }

    pub(crate) fn quarantines(&mut self, server: usize, name: &WaveletName, evidence: &Evidence) -> Verdict {
        if self.is_evil(server) || !self.is_honest(name.host()) {
            return Ok(());
        }
        broken(
            "S1",
            format!("server {server} puts {name} in quarantine, whose host is honest: {evidence:?}"),
        )
    }

    /// A server starts from its disk: nothing that counted is missing (S3).
    pub(crate) fn restarted(&mut self, server: usize, disk: &Disk) -> Verdict {
        if self.is_evil(server) {
            return Ok(());
        }
        for ((name, author, submission), (by, at)) in &self.accepted {
            if *by == server && disk.submission_at(name, *at) != Some(submission) {
                return broken(
                    "S3",
                    format!("server {server} has lost {submission:?} of {author} on {name}"),
                );
            }
        }
        for ((by, name), (looked, _)) in &self.looked {
            if *by == server && self.is_honest(name.host()) && disk.sealed_count(name) < *looked {
                return broken("S3", format!("server {server} has lost deltas of {name}"));
            }
        }
        Ok(())
    }

    /// Takes note of what an honest host has on its disk: who is on its wavelets, who was.
    pub(crate) fn follows(&mut self, server: usize, disk: &Disk) {
        if self.is_evil(server) {
            return;
        }
        for name in disk.wavelets().filter(|name| *name.host() == self.domains[server]) {
            let known = self.logs.get(name).map_or(Version::ZERO, |log| log.followed);
            if disk.head(name) > known {
                let log = self.logs.entry(name.clone()).or_default();
                let new = disk.older(name, known, Version::new(u64::MAX));
                new.iter().for_each(|stored| log.follow(&stored.record));
            }
        }
    }

    /// S2, S5 and S7.
    pub(crate) fn looks(&mut self, server: usize, node: &Node) -> Verdict {
        if self.is_evil(server) {
            return Ok(());
        }
        if let Some((table, size)) = node.sizes().into_iter().find(|(_, size)| *size > TABLES_MAX) {
            return broken("S7", format!("server {server} has {size} {table}"));
        }
        let names: Vec<WaveletName> = node.disk().wavelets().cloned().collect();
        for name in names {
            let key = (server, name.clone());
            let (mut from, last) = self
                .looked
                .get(&key)
                .cloned()
                .unwrap_or((0, HashedVersion::zero(&name)));
            let count = node.disk().sealed_count(&name);
            let same = from == 0
                || node
                    .disk()
                    .seals(&name)
                    .nth(from - 1)
                    .is_some_and(|(_, now)| *now == last);
            if !same {
                // The copy was fetched anew.
                from = 0;
                self.chains.remove(&key);
            }
            if count == from {
                continue;
            }
            let mut last = last;
            for (index, (applied, resulting)) in node.disk().seals(&name).enumerate().skip(from) {
                self.look_at(server, node, &name, index, applied, resulting)?;
                last = resulting.clone();
            }
            self.looked.insert(key, (count, last));
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        server: usize,
        node: &Node,
        name: &WaveletName,
        index: usize,
        applied: &Bytes,
        resulting: &HashedVersion,
    ) -> Verdict {
        let Ok(delta) = Encoded::<AppliedDelta>::decode(applied.clone()) else {
            return broken(
                "S5",
                format!("server {server} has something on its disk that is no delta"),
            );
        };
        let (author, at) = (delta.signed.delta.author.clone(), delta.applied_at().version);
        if self.is_honest(&author.domain()) && !self.signed.contains(&sum(name, delta.signed.delta.bytes())) {
            let what =
                format!("server {server} has a delta by {author} at {at} of {name} that its server never signed");
            return broken("S5", what);
        }
        if !self.is_honest(name.host()) {
            let chain = self.chains.entry((server, name.clone())).or_default();
            if chain.is_empty() {
                chain.insert(Version::ZERO, HashedVersion::zero(name));
            }
            chain.insert(resulting.version, resulting.clone());
            let target = &delta.signed.delta.target;
            if chain.get(&target.version) != Some(target) {
                return broken(
                    "S5",
                    format!("server {server} has a delta at {at} of {name} against another history"),
                );
            }
            return Ok(());
        }
        let log = self.logs.entry(name.clone()).or_default();
        if !node.hosts(name) {
            return match log.deltas.get(index) {
                None => broken(
                    "S2",
                    format!("server {server} has a delta at {at} of {name} that its host has not"),
                ),
                Some((theirs, hash)) if theirs != applied || hash != resulting => broken(
                    "S1",
                    format!("server {server} has another delta at {at} of {name} than its host"),
                ),
                Some(_) => Ok(()),
            };
        }
        let known = log.deltas.get(index);
        if known.is_some_and(|(before, _)| before != applied) {
            return broken("S1", format!("the host of {name} has changed the delta at {at}"));
        }
        if known.is_none() {
            log.deltas.push((applied.clone(), resulting.clone()));
            self.applied
                .insert(Sha256::digest(applied).into(), (name.clone(), resulting.version));
            if !log.was_on(&author, at) {
                return broken(
                    "S5",
                    format!("the host of {name} takes a delta by {author} at {at}, who is not on it"),
                );
            }
        }
        Ok(())
    }

    /// S6, and S3 for receipts: of what an honest server sends.
    pub(crate) fn sends(&mut self, from: usize, to: usize, stanza: &Element, disk: Option<&Disk>) -> Verdict {
        match Stanza::parse(stanza) {
            Ok(Stanza::Message(message)) => {
                if let Some(event) = update::event(&message) {
                    let updates = update::parse(event).unwrap_or_default();
                    let brings = self.sends_update(from, to, updates.into_iter().flatten())?;
                    if let Some(id) = message.id {
                        self.updates.insert((to, id), brings);
                    }
                } else if let Some(id) = receipts::acknowledged(&message)
                    && let Some(brought) = self.updates.get(&(from, id.to_owned()))
                    && let Some(disk) = disk
                {
                    let missing = brought.iter().find(|(name, upto)| disk.head(name) < *upto);
                    if let Some((name, upto)) = missing {
                        return broken(
                            "S3",
                            format!("server {from} acknowledges {upto} of {name}, not on its disk"),
                        );
                    }
                }
                Ok(())
            }
            Ok(Stanza::Iq(iq)) => {
                let IqKind::Result(Some(payload)) = &iq.kind else {
                    return Ok(());
                };
                let Ok(response) = history::parse_response(payload) else {
                    return Ok(());
                };
                for delta in &response.deltas {
                    let digest: Sum = Sha256::digest(delta.bytes()).into();
                    if let Some((name, resulting)) = self.applied.get(&digest) {
                        self.may_have(to, name, *resulting)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sends_update(
        &self,
        from: usize,
        to: usize,
        updates: impl Iterator<Item = billow_wire::exchange::WaveletUpdate>,
    ) -> Result<Vec<(WaveletName, Version)>, Violation> {
        let mut brings = Vec::new();
        for update in updates {
            let name = update.name;
            if *name.host() != self.domains[from] {
                return Err(violation(
                    "S6",
                    format!("server {from} speaks for {name}, which it does not host"),
                ));
            }
            for delta in &update.deltas {
                self.may_have(to, &name, delta.resulting())?;
                brings.push((name.clone(), delta.resulting()));
            }
            if let Some(commit) = update.commit {
                self.may_have(to, &name, commit.version)?;
            }
        }
        Ok(brings)
    }

    fn may_have(&self, to: usize, name: &WaveletName, version: Version) -> Verdict {
        let domain = &self.domains[to];
        let readers = self.logs.get(name).map(|log| &log.readers);
        let readable = |domain| readers.and_then(|readers| readers.get(domain));
        let may = |domain| matches!(readable(domain), Some(until) if until.is_none_or(|until| version <= until));
        let readable = readable(domain);
        // A hostile server may say that its service is at another's address, and give what it may have to that one.
        match readable {
            _ if may(domain) || self.evil.is_some_and(|evil| may(&self.domains[evil])) => Ok(()),
            _ => broken(
                "S6",
                format!("{domain} is sent version {version} of {name}; it may have {readable:?}"),
            ),
        }
    }

    /// What is not yet as it should be in the end: who lacks something that it should have.
    pub(crate) fn disagreement(&self, nodes: &[Option<&Node>]) -> Option<String> {
        for (name, log) in &self.logs {
            let host = self.domains.iter().position(|domain| domain == name.host())?;
            let Some(node) = nodes[host] else {
                return Some(format!("server {host} is down"));
            };
            let shared = log
                .readers
                .iter()
                .any(|(domain, until)| domain != name.host() && until.is_none());
            let head = node.disk().head(name);
            if shared && log.deltas.last().map(|(_, last)| last.version) != Some(head) {
                return Some(format!("server {host} has not sealed {name} up to {head}"));
            }
            for (domain, until) in &log.readers {
                let server = self.domains.iter().position(|one| one == domain);
                let Some(server) = server.filter(|server| *server != host && !self.is_evil(*server)) else {
                    continue;
                };
                let Some(replica) = nodes[server] else {
                    return Some(format!("server {server} is down"));
                };
                let (has, wants) = (replica.disk().head(name), until.unwrap_or(head));
                // Who was removed before it ever had anything needs nothing.
                if has < wants && (until.is_none() || has > Version::ZERO) {
                    return Some(format!("server {server} has {name} up to {has} of {wants}"));
                }
            }
            let lacks = node
                .undelivered()
                .find(|(one, peer, _)| *one == name && self.is_honest(peer));
            if let Some((name, peer, pending)) = lacks {
                return Some(format!(
                    "server {host} has {pending} operations of {name} to deliver to {peer}"
                ));
            }
        }
        let busy = nodes
            .iter()
            .flatten()
            .find(|node| self.evil.is_none() && !node.is_quiet());
        busy.map(|node| format!("{node:?} is not quiet"))
    }

    /// S4, when everything has been answered; and nobody keeps what a flood was about.
    pub(crate) fn ends(&self, nodes: &[Option<&Node>]) -> Verdict {
        for (server, node) in nodes.iter().enumerate() {
            let Some(node) = node.filter(|_| !self.is_evil(server)) else {
                continue;
            };
            // Those that a flood is about have never invited anybody.
            let flood = |name: &&WaveletName| name.wave().id().starts_with("w+evil");
            if let Some(name) = node.disk().wavelets().find(flood) {
                let what = format!("server {server} keeps {name}, which none of its users was ever on");
                return broken("R-10", what);
            }
        }
        let mut accepted: BTreeMap<(&WaveletName, &ParticipantId), usize> = BTreeMap::new();
        for (name, author, _) in self.accepted.keys() {
            *accepted.entry((name, author)).or_default() += 1;
        }
        for name in self.logs.keys() {
            let host = self.domains.iter().position(|domain| domain == name.host());
            let Some(node) = host.and_then(|host| nodes[host]) else {
                continue;
            };
            let mut applied: BTreeMap<ParticipantId, usize> = BTreeMap::new();
            for stored in node.disk().records(name) {
                *applied.entry(stored.record.delta.author.clone()).or_default() += 1;
            }
            let authors: BTreeSet<ParticipantId> = applied
                .keys()
                .cloned()
                .chain(
                    accepted
                        .keys()
                        .filter(|(one, _)| *one == name)
                        .map(|(_, who)| (*who).clone()),
                )
                .collect();
            for author in authors.into_iter().filter(|author| self.is_honest(&author.domain())) {
                let (has, should) = (applied.get(&author), accepted.get(&(name, &author)));
                if has != should {
                    let what = format!("{name} has {has:?} deltas by {author}, of whom {should:?} were accepted");
                    return broken("S4", what);
                }
            }
        }
        Ok(())
    }
}

impl Log {
    /// Takes note of a delta on the host's disk.
    fn follow(&mut self, record: &Record) {
        let resulting = record.resulting();
        if resulting <= self.followed {
            return;
        }
        self.followed = resulting;
        let mut touched = BTreeSet::new();
        for op in &record.delta.ops {
            match op {
                WaveletOp::AddParticipant(who) => {
                    self.participants.push(who.clone());
                    touched.insert(who.domain());
                }
                WaveletOp::RemoveParticipant(who) => {
                    self.participants.retain(|one| one != who);
                    touched.insert(who.domain());
                }
                WaveletOp::NoOp | WaveletOp::MutateDocument { .. } => {}
            }
        }
        for domain in &touched {
            let present = self.participants.iter().any(|one| one.domain() == *domain);
            self.readers.insert(domain.clone(), (!present).then_some(resulting));
        }
        if !touched.is_empty() {
            self.people.insert(resulting, self.participants.clone());
        }
    }

    /// Whether somebody was a participant at a version; the first delta is its author's own.
    fn was_on(&self, who: &ParticipantId, at: Version) -> bool {
        let then = self.people.range(..=at).next_back();
        at == Version::ZERO || then.is_some_and(|(_, people)| people.contains(who))
    }
}

fn sum(name: &WaveletName, bytes: &[u8]) -> Sum {
    Sha256::new()
        .chain_update(name.to_string())
        .chain_update([0])
        .chain_update(bytes)
        .finalize()
        .into()
}

fn violation(promise: &'static str, what: String) -> Violation {
    Violation { promise, what }
}

fn broken(promise: &'static str, what: String) -> Verdict {
    Err(violation(promise, what))
}
