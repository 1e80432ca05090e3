//! The recent records of a wavelet, and its state at the newest and at the persisted version.
//!
//! The records in memory are contiguous and end at the newest version. They are bounded by [`KEPT_VERSIONS`] and
//! [`KEPT_BYTES`]; the oldest go first, but none that is not persisted or not sealed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use billow_model::transform::{Side, TransformError, transform_delta, transform_delta_like_reference};
use billow_model::wavelet::ApplyDeltaError;
use billow_model::{
    Component, Domain, HashedVersion, HistoryHash, ParticipantId, Timestamp, TransformedDelta, Version, Wavelet,
    WaveletName, WaveletOp,
};

use crate::access::Readers;
use crate::limits::{CARRY_WORK_MAX, VERSIONS_BEHIND_MAX, has_astral_text};
use crate::record::{LoadError, Origin, Record, Seal, SignedDigest, StoredRecord, Submission};
use crate::snapshot::Snapshot;

/// Versions that the records in memory reach back.
pub(crate) const KEPT_VERSIONS: u64 = VERSIONS_BEHIND_MAX;
/// Bytes that the records in memory take, roughly.
pub(crate) const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Sessions and signed digests by which resends are recognised; the oldest go first.
pub(crate) const MARKS_MAX: usize = 20_000;

/// An editor: its user, and the name it has given itself. The name alone says nothing, others see it and may use it too.
pub(crate) type Editor = (ParticipantId, Arc<str>);

/// The last submission of an editor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionMark {
    pub(crate) sequence: u64,
    pub(crate) applied_at: Version,
}

/// What became of a delta that another server signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedMark {
    pub(crate) applied_at: Version,
    pub(crate) operations: u32,
    pub(crate) timestamp: Timestamp,
    /// Known once it is sealed.
    pub(crate) resulting: Option<HashedVersion>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) record: Arc<Record>,
    pub(crate) seal: Option<Arc<Seal>>,
    /// Domains to be told once it is sealed; set when it is shown.
    pub(crate) domains: Vec<Domain>,
    bytes: usize,
    /// Of its operations, as applied.
    weight: u64,
}

#[derive(Debug)]
pub(crate) struct Log {
    head: Wavelet,
    shown: Wavelet,
    entries: VecDeque<Entry>,
    bytes: usize,
    base: Version,
    base_hash: Option<HistoryHash>,
    chain: HashedVersion,
    readers: Readers,
    sessions: HashMap<Editor, SessionMark>,
    signed: HashMap<SignedDigest, SignedMark>,
    keeps_signed: Signed,
    astral: bool,
}

/// Whether the digests of signed deltas are kept: a host must know a resend, a remote never gets one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Known,
    Forgotten,
}

/// Why operations do not get to the newest version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarryError {
    /// They do not fit what has come since.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// It would take too long.
    #[error("too much has changed since the version that it was made against")]
    TooMuch,
}

/// Operations on their way to the newest version.
#[derive(Debug, Clone)]
pub(crate) struct Carrying {
    ops: Vec<WaveletOp>,
    /// The version that they fit by now.
    at: Version,
    /// What may still be spent on it, in bytes that are gone through.
    left: u64,
}

impl Carrying {
    /// Operations made against a version.
    pub(crate) fn new(ops: Vec<WaveletOp>, at: Version) -> Self {
        Self {
            ops,
            at,
            left: CARRY_WORK_MAX,
        }
    }

    /// As [`Carrying::new`] for what a host has taken already; it counts the work as it likes.
    pub(crate) fn patient(ops: Vec<WaveletOp>, at: Version) -> Self {
        Self {
            left: 4 * CARRY_WORK_MAX,
            ..Self::new(ops, at)
        }
    }

    /// The version that they fit by now.
    pub(crate) fn at(&self) -> Version {
        self.at
    }

    fn spend(&mut self, server: u64) -> Result<(), CarryError> {
        let cost = weight(&self.ops).saturating_add(server);
        self.left = self.left.checked_sub(cost).ok_or(CarryError::TooMuch)?;
        Ok(())
    }

    /// Past one delta, by the correct rules.
    fn past(&mut self, author: &ParticipantId, server: &TransformedDelta, weight: u64) -> Result<(), CarryError> {
        if meet(&self.ops, author, &server.ops) {
            self.spend(weight)?;
            let (client, _) = transform_delta(side(author, &self.ops), side(&server.author, &server.ops))?;
            self.ops = client;
        }
        self.at = server.resulting();
        Ok(())
    }

    /// Past one delta as the reference goes; whether it takes them for that very delta (operations.md §8).
    fn past_like_reference(
        &mut self,
        author: &ParticipantId,
        server: &TransformedDelta,
        weight: u64,
    ) -> Result<bool, CarryError> {
        if server.author == *author && server.ops == self.ops {
            return Ok(true);
        }
        if meet(&self.ops, author, &server.ops) {
            self.spend(weight)?;
            self.ops = transform_delta_like_reference(side(author, &self.ops), side(&server.author, &server.ops))?;
        }
        self.at = server.resulting();
        Ok(false)
    }

    /// Past stored records as the reference goes; the one that it takes them for, if there is one.
    pub(crate) fn past_stored(
        &mut self,
        author: &ParticipantId,
        records: &[StoredRecord],
    ) -> Result<Option<Arc<Record>>, CarryError> {
        for StoredRecord { record, .. } in records {
            if self.past_like_reference(author, &record.delta, weight(&record.delta.ops))? {
                return Ok(Some(record.clone()));
            }
        }
        Ok(None)
    }
}

fn side<'a>(author: &'a ParticipantId, ops: &'a [WaveletOp]) -> Side<'a> {
    Side { author, ops }
}

/// Where a client's operations end up when the reference carries them to the newest version.
pub(crate) enum Carried {
    Ops(Vec<WaveletOp>),
    /// The reference takes them for this delta of the same author (operations.md §8).
    Duplicate(Arc<Record>),
}

impl Log {
    pub(crate) fn new(name: WaveletName, keeps_signed: Signed) -> Self {
        let chain = HashedVersion::zero(&name);
        let shown = Wavelet::new(name);
        Self {
            head: shown.clone(),
            shown,
            entries: VecDeque::new(),
            bytes: 0,
            base: Version::ZERO,
            base_hash: Some(chain.hash.clone()),
            chain,
            readers: Readers::default(),
            sessions: HashMap::new(),
            signed: HashMap::new(),
            keeps_signed,
            astral: false,
        }
    }

    /// See [`crate::HostedWavelet::load`].
    pub(crate) fn load(
        name: WaveletName,
        keeps_signed: Signed,
        snapshot: Option<&[u8]>,
        records: Vec<StoredRecord>,
    ) -> Result<Self, LoadError> {
        let mut log = Self::new(name.clone(), keeps_signed);
        if let Some(bytes) = snapshot {
            let snapshot = Snapshot::decode(name, bytes)?;
            log.base = records
                .first()
                .map_or(snapshot.wavelet.version(), |first| first.record.applied_at());
            log.base_hash = (snapshot.sealed.version == log.base).then(|| snapshot.sealed.hash.clone());
            log.chain = snapshot.sealed;
            log.readers = snapshot.readers;
            log.sessions = snapshot.sessions;
            log.signed = snapshot.signed;
            log.astral = snapshot.astral;
            log.shown = snapshot.wavelet;
        }
        let first_needed = log.shown.version().min(log.chain.version);
        if log.base > first_needed {
            return Err(LoadError::Gap {
                expected: first_needed,
                given: log.base,
            });
        }
        let mut expected = log.base;
        for stored in records {
            if stored.record.applied_at() != expected {
                return Err(LoadError::Gap {
                    expected,
                    given: stored.record.applied_at(),
                });
            }
            expected = stored.record.resulting();
            log.take_up(stored)?;
        }
        if expected < log.shown.version() {
            return Err(LoadError::Gap {
                expected,
                given: log.shown.version(),
            });
        }
        log.head = log.shown.clone();
        log.trim();
        Ok(log)
    }

    fn take_up(&mut self, stored: StoredRecord) -> Result<(), LoadError> {
        let StoredRecord { record, seal } = stored;
        let at = record.applied_at();
        if let Some(seal) = &seal {
            if at == self.base && self.entries.is_empty() {
                self.base_hash = Some(seal.applied_at.hash.clone());
            }
            let follows = seal.applied_at.version == at && seal.resulting.version == record.resulting();
            let chained = if at == self.chain.version {
                seal.applied_at == self.chain
            } else {
                at < self.chain.version
            };
            if !follows || !chained {
                return Err(LoadError::Seal { at });
            }
            if at == self.chain.version {
                self.chain = seal.resulting.clone();
            }
        }
        let unsealed_domains = if at < self.shown.version() {
            let resulting = record.resulting();
            self.readers
                .domains()
                .filter(|(_, until)| until.is_none_or(|until| until >= resulting))
                .map(|(domain, _)| domain.clone())
                .collect()
        } else {
            self.shown.apply(&record.delta).map_err(|error| LoadError::Record {
                at,
                reason: error.to_string(),
            })?;
            self.mark(&record);
            self.follow(&record)
        };
        if let (Origin::Remote { signed }, Some(seal)) = (&record.origin, &seal)
            && let Some(mark) = self.signed.get_mut(&SignedDigest::of(signed))
        {
            mark.resulting = Some(seal.resulting.clone());
        }
        self.keep(record, seal, unsealed_domains);
        Ok(())
    }

    pub(crate) fn head(&self) -> &Wavelet {
        &self.head
    }

    pub(crate) fn shown(&self) -> &Wavelet {
        &self.shown
    }

    /// The newest version that has a seal, persisted or not.
    pub(crate) fn chain(&self) -> &HashedVersion {
        &self.chain
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Whether any text in the whole history is beyond U+FFFF.
    pub(crate) fn astral(&self) -> bool {
        self.astral
    }

    /// Where the records in memory begin.
    pub(crate) fn base(&self) -> Version {
        self.base
    }

    /// How many records are applied and not yet persisted.
    pub(crate) fn under_way(&self) -> usize {
        self.entries.len() - self.index(self.shown.version()).unwrap_or(self.entries.len())
    }

    pub(crate) fn session(&self, author: &ParticipantId, session: &Arc<str>) -> Option<SessionMark> {
        self.sessions.get(&(author.clone(), session.clone())).copied()
    }

    pub(crate) fn signed(&self, digest: &SignedDigest) -> Option<&SignedMark> {
        self.signed.get(digest)
    }

    /// The position of the record that begins at this version, or the end for the newest version.
    pub(crate) fn index(&self, version: Version) -> Option<usize> {
        if version == self.head.version() {
            return Some(self.entries.len());
        }
        self.entries
            .binary_search_by_key(&version, |entry| entry.record.applied_at())
            .ok()
    }

    pub(crate) fn entry(&self, version: Version) -> Option<&Entry> {
        self.index(version).and_then(|index| self.entries.get(index))
    }

    /// The entry that results in this version.
    pub(crate) fn entry_before(&self, version: Version) -> Option<&Entry> {
        self.index(version)
            .and_then(|index| self.entries.get(index.checked_sub(1)?))
    }

    /// The hash at a boundary in memory; `None` where it is not one, or is not sealed yet.
    pub(crate) fn hash(&self, version: Version) -> Option<&HistoryHash> {
        match self.index(version)?.checked_sub(1) {
            None => self.base_hash.as_ref(),
            Some(before) => self.entries[before].seal.as_ref().map(|seal| &seal.resulting.hash),
        }
    }

    /// The newest version with its hash, if it is sealed.
    pub(crate) fn hashed_head(&self) -> Option<&HashedVersion> {
        (self.chain.version == self.head.version()).then_some(&self.chain)
    }

    /// The record of an author's submission, if it is in memory.
    pub(crate) fn find(&self, author: &ParticipantId, submission: &Submission) -> Option<&Arc<Record>> {
        self.entries
            .iter()
            .rev()
            .map(|entry| &entry.record)
            .find(|record| record.submission() == Some(submission) && record.delta.author == *author)
    }

    /// The last record, if it is equal to this: for a planted bug.
    pub(crate) fn twin(&self, author: &ParticipantId, ops: &[WaveletOp]) -> Option<Arc<Record>> {
        let last = self.entries.back().map(|entry| &entry.record);
        last.filter(|last| last.delta.author == *author && last.delta.ops == ops)
            .cloned()
    }

    pub(crate) fn records(&self, from: Version, to: Version) -> Option<Vec<Arc<Record>>> {
        let index = self.index(from)?;
        Some(
            self.entries
                .range(index..)
                .map(|entry| &entry.record)
                .take_while(|record| record.resulting() <= to)
                .cloned()
                .collect(),
        )
    }

    pub(crate) fn seals(&self, from: Version, to: Version) -> Option<Vec<Arc<Seal>>> {
        let index = self.index(from).filter(|_| from <= to)?;
        Some(
            self.entries
                .range(index..)
                .map_while(|entry| entry.seal.clone())
                .take_while(|seal| seal.resulting.version <= to)
                .collect(),
        )
    }

    /// Carries operations that fit the boundary `from` to the newest version, by the correct rules.
    pub(crate) fn carry(
        &self,
        author: &ParticipantId,
        ops: Vec<WaveletOp>,
        from: Version,
    ) -> Result<Vec<WaveletOp>, CarryError> {
        let mut carrying = Carrying::new(ops, from);
        for entry in self.since(from) {
            carrying.past(author, &entry.record.delta, entry.weight)?;
        }
        Ok(carrying.ops)
    }

    /// Whether carrying operations from this version may take so long that others should not wait for it.
    pub(crate) fn takes_long(&self, from: Version, ops: &[WaveletOp]) -> bool {
        const LONG: u64 = 1_000_000;
        let behind = self.head.version().number().saturating_sub(from.number());
        behind > 16 && behind.saturating_mul(weight(ops)) > LONG
    }

    /// Carries operations to the newest version as the reference does, its rule of duplicates included.
    pub(crate) fn carry_like_reference(
        &self,
        author: &ParticipantId,
        mut carrying: Carrying,
    ) -> Result<Carried, CarryError> {
        for entry in self.since(carrying.at) {
            if carrying.past_like_reference(author, &entry.record.delta, entry.weight)? {
                return Ok(Carried::Duplicate(entry.record.clone()));
            }
        }
        Ok(Carried::Ops(carrying.ops))
    }

    fn since(&self, from: Version) -> impl Iterator<Item = &Entry> {
        let index = self.index(from).unwrap_or(self.entries.len());
        self.entries.range(index..)
    }

    /// Applies a delta at the newest version, or changes nothing.
    pub(crate) fn apply(&mut self, delta: TransformedDelta, origin: Origin) -> Result<Arc<Record>, ApplyDeltaError> {
        self.head.apply(&delta)?;
        let record = Arc::new(Record { delta, origin });
        self.mark(&record);
        self.keep(record.clone(), None, Vec::new());
        Ok(record)
    }

    /// Takes note that everything up to a version is persisted; gives the records that may be shown now.
    pub(crate) fn persisted(&mut self, upto: Version) -> Vec<Arc<Record>> {
        let mut shown = Vec::new();
        while self.shown.version() < upto {
            let Some(index) = self.index(self.shown.version()) else {
                break;
            };
            let Some(record) = self.entries.get(index).map(|entry| entry.record.clone()) else {
                break;
            };
            if record.resulting() > upto {
                break;
            }
            self.shown
                .apply(&record.delta)
                .expect("a delta that applied to the newest version applies again");
            let domains = self.follow(&record);
            self.entries[index].domains = domains;
            shown.push(record);
        }
        self.trim();
        shown
    }

    /// Takes over from another log of the same history what only that one knows: which submissions its records are.
    pub(crate) fn adopt(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.sessions, &mut other.sessions);
        for entry in &mut self.entries {
            let own = other.entry(entry.record.applied_at()).map(|entry| &entry.record.origin);
            if let Some(origin @ Origin::Local(_)) = own {
                entry.record = Arc::new(Record {
                    delta: entry.record.delta.clone(),
                    origin: origin.clone(),
                });
            }
        }
    }

    /// The first record without a seal.
    pub(crate) fn unsealed(&self) -> Option<&Arc<Record>> {
        self.entry(self.chain.version).map(|entry| &entry.record)
    }

    /// Seals the first record without a seal.
    pub(crate) fn seal(&mut self, seal: Arc<Seal>) {
        assert!(seal.applied_at == self.chain, "a seal continues the chain");
        let index = self
            .index(self.chain.version)
            .expect("the record to be sealed is in memory");
        let entry = &mut self.entries[index];
        if let Origin::Remote { signed } = &entry.record.origin
            && let Some(mark) = self.signed.get_mut(&SignedDigest::of(signed))
        {
            mark.resulting = Some(seal.resulting.clone());
        }
        let bytes = seal.applied.bytes().len();
        entry.bytes += bytes;
        self.bytes += bytes;
        self.chain = seal.resulting.clone();
        entry.seal = Some(seal);
    }

    pub(crate) fn snapshot(&self, sealed: &HashedVersion) -> Snapshot {
        let shown = self.shown.version();
        Snapshot {
            wavelet: self.shown.clone(),
            sealed: sealed.clone(),
            readers: self.readers.clone(),
            sessions: self
                .sessions
                .iter()
                .filter(|(_, mark)| mark.applied_at < shown)
                .map(|(key, mark)| (key.clone(), *mark))
                .collect(),
            signed: self
                .signed
                .iter()
                .filter(|(_, mark)| mark.applied_at < shown)
                .map(|(key, mark)| (*key, mark.clone()))
                .collect(),
            astral: self.astral,
        }
    }

    fn follow(&mut self, record: &Record) -> Vec<Domain> {
        let host = self.shown.name().host();
        let resulting = record.resulting();
        self.readers
            .follow(&record.delta.ops, self.shown.participants(), resulting);
        self.readers
            .told_of(resulting)
            .filter(|domain| *domain != host)
            .cloned()
            .collect()
    }

    fn mark(&mut self, record: &Record) {
        self.astral = self.astral || has_astral_text(&record.delta.ops);
        let applied_at = record.applied_at();
        match &record.origin {
            Origin::Local(Submission { session, sequence }) => {
                self.sessions.insert(
                    (record.delta.author.clone(), session.clone()),
                    SessionMark {
                        sequence: *sequence,
                        applied_at,
                    },
                );
                forget_oldest(&mut self.sessions, |mark| mark.applied_at);
            }
            Origin::Remote { .. } if self.keeps_signed == Signed::Forgotten => {}
            Origin::Remote { signed } => {
                let operations = u32::try_from(record.delta.ops.len()).unwrap_or(u32::MAX);
                let mark = SignedMark {
                    applied_at,
                    operations,
                    timestamp: record.delta.timestamp,
                    resulting: None,
                };
                self.signed.insert(SignedDigest::of(signed), mark);
                forget_oldest(&mut self.signed, |mark| mark.applied_at);
            }
        }
    }

    fn keep(&mut self, record: Arc<Record>, seal: Option<Arc<Seal>>, domains: Vec<Domain>) {
        let weight = weight(&record.delta.ops);
        let bytes = cost(weight, &record, seal.as_deref());
        self.bytes += bytes;
        self.entries.push_back(Entry {
            record,
            seal,
            domains,
            bytes,
            weight,
        });
    }

    /// Forgets the oldest records beyond the bounds.
    pub(crate) fn trim(&mut self) {
        let shown = self.shown.version();
        while let Some(first) = self.entries.front() {
            let resulting = first.record.resulting();
            let far = self.head.version().number() - self.base.number() > KEPT_VERSIONS || self.bytes > KEPT_BYTES;
            let Some(seal) = first.seal.as_ref().filter(|_| far && resulting <= shown) else {
                break;
            };
            self.base_hash = Some(seal.resulting.hash.clone());
            self.base = resulting;
            self.bytes -= first.bytes;
            self.entries.pop_front();
        }
    }
}

/// Drops the older half once there are too many, so that the search for them is rare.
fn forget_oldest<K: Clone + Eq + std::hash::Hash, V>(marks: &mut HashMap<K, V>, version: impl Fn(&V) -> Version) {
    if marks.len() > MARKS_MAX {
        let mut versions: Vec<Version> = marks.values().map(&version).collect();
        let middle = versions.len() / 2;
        let (_, middle, _) = versions.select_nth_unstable(middle);
        let middle = *middle;
        marks.retain(|_, mark| version(mark) >= middle);
    }
}

/// Whether the server's operations can change the client's, or be in their way (the table of operations.md §7).
fn meet(client: &[WaveletOp], author: &ParticipantId, server: &[WaveletOp]) -> bool {
    let names = |who: &ParticipantId| {
        client
            .iter()
            .any(|op| matches!(op, WaveletOp::AddParticipant(one) | WaveletOp::RemoveParticipant(one) if one == who))
    };
    server.iter().any(|op| match op {
        WaveletOp::NoOp => false,
        WaveletOp::AddParticipant(who) => names(who),
        WaveletOp::RemoveParticipant(who) => who == author || names(who),
        WaveletOp::MutateDocument { id, .. } => client
            .iter()
            .any(|op| matches!(op, WaveletOp::MutateDocument { id: own, .. } if own == id)),
    })
}

/// Roughly the bytes that a record takes in memory.
fn cost(weight: u64, record: &Record, seal: Option<&Seal>) -> usize {
    let signed = match &record.origin {
        Origin::Remote { signed } => signed.len(),
        Origin::Local(_) => 0,
    };
    let ops = usize::try_from(weight).unwrap_or(usize::MAX);
    160 + ops + signed + seal.map_or(0, |seal| seal.applied.bytes().len())
}

/// Roughly the bytes of operations in memory: what has to be gone through to transform them.
fn weight(ops: &[WaveletOp]) -> u64 {
    let component = |component: &Component| {
        48 + match component {
            Component::Characters(text) | Component::DeleteCharacters(text) => text.len(),
            _ => 0,
        }
    };
    let op = |op: &WaveletOp| match op {
        WaveletOp::MutateDocument { op, .. } => 96 + op.components().iter().map(component).sum::<usize>(),
        _ => 96,
    };
    ops.iter().map(op).sum::<usize>() as u64
}
