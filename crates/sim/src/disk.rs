//! What a server's disk has, and what was written and is not synced: a crash loses that.
//!
//! The rules are the store's: writes become durable in the order in which they were made, each whole or not at all; a
//! delta that does not continue the stored history is refused; what comes back is what the bytes say.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use billow_model::{Domain, HashedVersion, HistoryHash, Timestamp, Version, WaveletName, WaveletOp};
use billow_wavelet::remote::Outgoing;
use billow_wavelet::{Origin, Record, Seal, Standing, StoredRecord, Submission};
use billow_wire::{AppliedDelta, Encoded, Message as _, SignerId, SignerInfo};
use bytes::Bytes;

/// A disk. [`Disk::crash`] is what a power failure leaves of it.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    synced: Stored,
    waiting: VecDeque<(u64, Write)>,
    writes: u64,
}

/// What is durable.
#[derive(Debug, Clone, Default)]
struct Stored {
    wavelets: BTreeMap<WaveletName, StoredWavelet>,
    signers: BTreeMap<SignerId, Bytes>,
    cursors: BTreeMap<(WaveletName, Domain), Cursor>,
}

#[derive(Debug, Clone, Default)]
struct StoredWavelet {
    rows: Vec<Row>,
    sealed: usize,
    snapshot: Option<Snapshot>,
    outgoing: BTreeMap<Submission, Bytes>,
    standing: Option<Standing>,
}

/// A delta as the store has it.
#[derive(Debug, Clone)]
struct Row {
    applied_at: Version,
    resulting: Version,
    timestamp: Timestamp,
    ops: Bytes,
    submission: Option<Submission>,
    signed: Option<Bytes>,
    seal: Option<(HashedVersion, Bytes)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) version: Version,
    pub(crate) sealed: Version,
    pub(crate) state: Bytes,
}

/// What a peer has acknowledged of a wavelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// It has everything before this version.
    pub acknowledged: Version,
    /// Nothing from this version on is for it.
    pub until: Option<Version>,
}

/// What changes together.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Wavelet(WaveletWrite),
    Cursors(BTreeMap<(WaveletName, Domain), Cursor>),
    Signer(SignerInfo),
    Snapshot(WaveletName, Snapshot),
}

#[derive(Debug, Clone)]
pub(crate) struct WaveletWrite {
    pub(crate) name: WaveletName,
    pub(crate) records: Vec<StoredRecord>,
    pub(crate) seals: Vec<Arc<Seal>>,
    pub(crate) sent: Vec<Outgoing>,
    pub(crate) settled: Vec<Submission>,
    pub(crate) reached: Vec<(Domain, Version)>,
    pub(crate) standing: Option<Standing>,
    /// The records take the place of the whole history.
    pub(crate) replaces: bool,
}

impl WaveletWrite {
    pub(crate) fn new(name: WaveletName) -> Self {
        Self {
            name,
            records: Vec::new(),
            seals: Vec::new(),
            sent: Vec::new(),
            settled: Vec::new(),
            reached: Vec::new(),
            standing: None,
            replaces: false,
        }
    }
}

/// What is needed to take a wavelet up again.
pub(crate) struct Loaded {
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) records: Vec<StoredRecord>,
    pub(crate) outgoing: Option<Outgoing>,
    pub(crate) standing: Option<Standing>,
}

impl Disk {
    /// Writes something; it is durable once the returned number is synced.
    pub(crate) fn write(&mut self, write: Write) -> u64 {
        self.writes += 1;
        self.waiting.push_back((self.writes, write));
        self.writes
    }

    /// Makes the oldest unsynced write durable. Gives its number and whether the store took it.
    pub(crate) fn sync_one(&mut self) -> Option<(u64, bool)> {
        let (id, write) = self.waiting.pop_front()?;
        Some((id, self.synced.take(write)))
    }

    /// Drops the oldest unsynced write: there was no room for it.
    pub(crate) fn refuse_one(&mut self) -> Option<u64> {
        self.waiting.pop_front().map(|(id, _)| id)
    }

    /// The numbers of the writes that are not synced, oldest first.
    pub fn unsynced(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().map(|(id, _)| *id)
    }

    /// What a crash leaves: everything synced and the first `kept` of the other writes, whole.
    #[must_use]
    pub fn crash(mut self, kept: usize) -> Self {
        let lost = self.waiting.split_off(kept.min(self.waiting.len()));
        while self.sync_one().is_some() {}
        drop(lost);
        self
    }

    /// The durable wavelets.
    pub fn wavelets(&self) -> impl Iterator<Item = &WaveletName> {
        self.synced
            .wavelets
            .iter()
            .filter(|(_, stored)| !stored.rows.is_empty())
            .map(|(name, _)| name)
    }

    /// The durable deltas of a wavelet as they are federated, with the hashed version after each; unsealed ones left out.
    pub fn seals(&self, name: &WaveletName) -> impl Iterator<Item = (&Bytes, &HashedVersion)> {
        let rows = self
            .synced
            .wavelets
            .get(name)
            .map(|stored| &stored.rows[..stored.sealed]);
        rows.into_iter()
            .flatten()
            .filter_map(|row| row.seal.as_ref().map(|(resulting, applied)| (applied, resulting)))
    }

    /// How many durable deltas of a wavelet are sealed.
    #[must_use]
    pub fn sealed_count(&self, name: &WaveletName) -> usize {
        self.synced.wavelets.get(name).map_or(0, |stored| stored.sealed)
    }

    /// The submission that the durable delta at this version is.
    #[must_use]
    pub fn submission_at(&self, name: &WaveletName, at: Version) -> Option<&Submission> {
        let rows = &self.synced.wavelets.get(name)?.rows;
        let index = rows.binary_search_by_key(&at, |row| row.applied_at).ok()?;
        rows[index].submission.as_ref()
    }

    /// The version after the last durable delta.
    #[must_use]
    pub fn head(&self, name: &WaveletName) -> Version {
        self.synced
            .wavelets
            .get(name)
            .map_or(Version::ZERO, StoredWavelet::head)
    }

    /// The durable cursors.
    pub fn cursors(&self) -> impl Iterator<Item = (&WaveletName, &Domain, Cursor)> {
        self.synced
            .cursors
            .iter()
            .map(|((name, peer), cursor)| (name, peer, *cursor))
    }

    /// The records that are durable, as they are loaded.
    #[must_use]
    pub fn records(&self, name: &WaveletName) -> Vec<StoredRecord> {
        self.older(name, Version::ZERO, Version::new(u64::MAX))
    }

    pub(crate) fn has(&self, name: &WaveletName) -> bool {
        self.synced.wavelets.contains_key(name)
    }

    pub(crate) fn signer(&self, id: &SignerId) -> Option<SignerInfo> {
        SignerInfo::decode(self.synced.signers.get(id)?).ok()
    }

    pub(crate) fn sealed(&self, name: &WaveletName) -> Version {
        self.synced
            .wavelets
            .get(name)
            .map_or(Version::ZERO, StoredWavelet::sealed_head)
    }

    /// Wavelets that have something under way: submissions to other hosts, or deltas to be sealed for others.
    pub(crate) fn unfinished(&self) -> Vec<WaveletName> {
        let shared = |name: &WaveletName| self.synced.cursors.keys().any(|(one, _)| one == name);
        let unfinished = self.synced.wavelets.iter().filter(|(name, stored)| {
            let refetching = matches!(stored.standing, Some(Standing::Refetching(_)));
            refetching || !stored.outgoing.is_empty() || (stored.sealed < stored.rows.len() && shared(name))
        });
        unfinished.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn load(&self, name: &WaveletName) -> Option<Loaded> {
        let stored = self.synced.wavelets.get(name)?;
        let snapshot = stored.snapshot.clone();
        let from = snapshot
            .as_ref()
            .map_or(Version::ZERO, |snapshot| snapshot.version.min(snapshot.sealed));
        let outgoing = stored.outgoing.first_key_value().map(|(submission, signed)| Outgoing {
            submission: submission.clone(),
            signed: Encoded::decode(signed.clone()).expect("what was written reads"),
        });
        Some(Loaded {
            snapshot,
            records: self.older(name, from, Version::new(u64::MAX)),
            outgoing,
            standing: stored.standing.clone(),
        })
    }

    /// The records from the one that `from` lies in or begins up to `to`.
    pub(crate) fn older(&self, name: &WaveletName, from: Version, to: Version) -> Vec<StoredRecord> {
        let rows = self
            .synced
            .wavelets
            .get(name)
            .map(|stored| stored.rows.as_slice())
            .unwrap_or_default();
        rows.iter()
            .filter(|row| row.resulting > from && row.applied_at < to)
            .map(Row::load)
            .collect()
    }

    /// The sealed deltas from the one applied at `from`, below `to`, up to about so many bytes, at least one.
    pub(crate) fn sealed_deltas(
        &self,
        name: &WaveletName,
        from: Version,
        to: Version,
        bytes_max: usize,
        count_max: usize,
    ) -> Vec<(HashedVersion, Bytes)> {
        let rows = self
            .synced
            .wavelets
            .get(name)
            .map(|stored| &stored.rows[..stored.sealed])
            .unwrap_or_default();
        let mut room = bytes_max;
        let seals = rows.iter().filter(|row| row.applied_at >= from && row.applied_at < to);
        let seals = seals.filter_map(|row| row.seal.clone()).take(count_max).enumerate();
        let fits = |(index, (_, applied)): &(usize, (HashedVersion, Bytes))| {
            let fits = applied.len() <= room;
            room = room.saturating_sub(applied.len());
            *index == 0 || fits
        };
        seals.take_while(fits).map(|(_, seal)| seal).collect()
    }

    pub(crate) fn hash_at(&self, name: &WaveletName, version: Version) -> Option<&HistoryHash> {
        let rows = &self.synced.wavelets.get(name)?.rows;
        let row = rows.iter().find(|row| row.resulting == version)?;
        row.seal.as_ref().map(|(resulting, _)| &resulting.hash)
    }
}

impl Stored {
    fn take(&mut self, write: Write) -> bool {
        match write {
            Write::Wavelet(write) => return self.append(write),
            Write::Cursors(cursors) => self.cursors.extend(cursors),
            Write::Signer(info) => drop(self.signers.insert(info.id(), info.encode())),
            Write::Snapshot(name, snapshot) => {
                let stored = self.wavelets.entry(name).or_default();
                let newer = stored
                    .snapshot
                    .as_ref()
                    .is_none_or(|kept| kept.version <= snapshot.version);
                if newer {
                    stored.snapshot = Some(snapshot);
                }
            }
        }
        true
    }

    fn append(&mut self, write: WaveletWrite) -> bool {
        let known = self.wavelets.get(&write.name).filter(|_| !write.replaces);
        if !known.map_or_else(|| StoredWavelet::default().fits(&write), |stored| stored.fits(&write)) {
            return false;
        }
        self.wavelets.entry(write.name.clone()).or_default().append(&write);
        for (domain, from) in write.reached {
            let fresh = Cursor {
                acknowledged: from,
                until: None,
            };
            self.cursors.entry((write.name.clone(), domain)).or_insert(fresh).until = None;
        }
        true
    }
}

impl StoredWavelet {
    fn head(&self) -> Version {
        self.rows.last().map_or(Version::ZERO, |row| row.resulting)
    }

    fn sealed_head(&self) -> Version {
        self.sealed
            .checked_sub(1)
            .map_or(Version::ZERO, |last| self.rows[last].resulting)
    }

    /// Whether the deltas continue the history, and the seals its sealed part.
    fn fits(&self, write: &WaveletWrite) -> bool {
        let mut head = self.head();
        for stored in &write.records {
            if stored.record.applied_at() != head {
                return false;
            }
            head = stored.record.resulting();
        }
        let unsealed = self.rows[self.sealed..]
            .iter()
            .map(|row| (row.applied_at, row.resulting));
        let new = write
            .records
            .iter()
            .map(|stored| (stored.record.applied_at(), stored.record.resulting()));
        let mut unsealed = unsealed.chain(new);
        let mut seals = write
            .records
            .iter()
            .filter_map(|stored| stored.seal.as_ref())
            .chain(&write.seals);
        seals.all(|seal| unsealed.next() == Some((seal.applied_at.version, seal.resulting.version)))
    }

    fn append(&mut self, write: &WaveletWrite) {
        let mut old = Vec::new();
        if write.replaces {
            old = std::mem::take(&mut self.rows);
            self.sealed = 0;
            self.snapshot = None;
        }
        if let Some(standing) = &write.standing {
            self.standing = Some(standing.clone());
        }
        self.rows
            .extend(write.records.iter().map(|stored| Row::new(&stored.record)));
        // Whose submission a delta was, only the old history may know.
        for (row, old) in self.rows.iter_mut().zip(&old) {
            row.submission = row.submission.take().or_else(|| old.submission.clone());
        }
        for seal in write
            .records
            .iter()
            .filter_map(|stored| stored.seal.as_ref())
            .chain(&write.seals)
        {
            let row = &mut self.rows[self.sealed];
            row.seal = Some((seal.resulting.clone(), seal.applied.bytes().clone()));
            row.signed = None;
            self.sealed += 1;
        }
        for outgoing in &write.sent {
            self.outgoing
                .insert(outgoing.submission.clone(), outgoing.signed.bytes().clone());
        }
        for submission in &write.settled {
            self.outgoing.remove(submission);
        }
    }
}

impl Row {
    fn new(record: &Record) -> Self {
        let signed = match &record.origin {
            Origin::Remote { signed } => Some(signed.clone()),
            Origin::Local(_) => None,
        };
        Self {
            applied_at: record.applied_at(),
            resulting: record.resulting(),
            timestamp: record.delta.timestamp,
            ops: record.encode_ops(),
            submission: record.submission().cloned(),
            signed,
            seal: None,
        }
    }

    fn load(&self) -> StoredRecord {
        let seal = self.seal.as_ref().map(|(resulting, applied)| {
            let applied: Encoded<AppliedDelta> = Encoded::decode(applied.clone()).expect("what was written reads");
            Arc::new(Seal {
                applied_at: applied.applied_at().clone(),
                resulting: resulting.clone(),
                applied,
            })
        });
        let origin = match (&self.submission, &self.signed, &seal) {
            (Some(submission), ..) => Origin::Local(submission.clone()),
            (None, Some(signed), _) => Origin::Remote { signed: signed.clone() },
            (None, None, Some(seal)) => Origin::Remote {
                signed: seal.applied.signed.bytes().clone(),
            },
            (None, None, None) => unreachable!("a delta has a submission or a signature"),
        };
        let record = Record::decode(self.ops.clone(), self.timestamp, origin).expect("what was written reads");
        StoredRecord {
            record: Arc::new(record),
            seal,
        }
    }
}

/// Other domains that the delta adds somebody of: from there on they are told of everything.
pub(crate) fn new_domains(record: &Record, ours: &Domain) -> Vec<(Domain, Version)> {
    let added = record.delta.ops.iter().filter_map(|op| match op {
        WaveletOp::AddParticipant(who) => Some(who.domain()),
        WaveletOp::RemoveParticipant(_) | WaveletOp::NoOp | WaveletOp::MutateDocument { .. } => None,
    });
    added
        .filter(|domain| domain != ours)
        .map(|domain| (domain, record.applied_at()))
        .collect()
}
