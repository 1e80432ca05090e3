//! A wavelet's state: participants and documents at a version.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

use crate::delta::{Timestamp, TransformedDelta, WaveletOp};
use crate::doc::invert::invert;
use crate::doc::{DocOp, Document};
use crate::id::{DocumentId, WaveletName};
use crate::participant::ParticipantId;
use crate::version::Version;

/// What is known about a document besides its content (operations.md §10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlipMetadata {
    /// Author of the first operation on it.
    pub author: ParticipantId,
    /// In order of first contribution.
    pub contributors: Vec<ParticipantId>,
    /// The wavelet's version after the last worthy operation.
    pub last_modified_version: Version,
    /// When that was.
    pub last_modified_time: Timestamp,
}

/// Participants and documents of a wavelet at one version.
#[derive(Debug, Clone)]
pub struct Wavelet {
    name: WaveletName,
    version: Version,
    participants: Vec<ParticipantId>,
    documents: BTreeMap<DocumentId, (Document, BlipMetadata)>,
    creator: Option<ParticipantId>,
    created: Timestamp,
    last_modified: Timestamp,
}

/// All that a wavelet's state is made of, for taking it up again from a snapshot.
#[derive(Debug, Clone)]
pub struct WaveletParts {
    /// See [`Wavelet::version`].
    pub version: Version,
    /// See [`Wavelet::participants`].
    pub participants: Vec<ParticipantId>,
    /// See [`Wavelet::documents`].
    pub documents: BTreeMap<DocumentId, (Document, BlipMetadata)>,
    /// See [`Wavelet::creator`].
    pub creator: Option<ParticipantId>,
    /// See [`Wavelet::created`].
    pub created: Timestamp,
    /// See [`Wavelet::last_modified`].
    pub last_modified: Timestamp,
}

/// Why a delta does not apply; the wavelet is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyDeltaError {
    /// The delta belongs to another version.
    #[error("expected a delta at version {expected}, got one at {given}")]
    Version {
        /// Where the wavelet is.
        expected: Version,
        /// Where the delta would be.
        given: Version,
    },
    /// Add of a present participant.
    #[error("{0} is already a participant")]
    AlreadyParticipant(ParticipantId),
    /// Removal of an absent participant.
    #[error("{0} is not a participant")]
    NoSuchParticipant(ParticipantId),
    /// A document operation does not fit.
    #[error("document {document}: {error}")]
    Document {
        /// Which document.
        document: DocumentId,
        /// Why.
        error: crate::doc::ApplyError,
    },
}

impl Wavelet {
    /// A wavelet without history.
    #[must_use]
    pub fn new(name: WaveletName) -> Self {
        Self {
            name,
            version: Version::ZERO,
            participants: Vec::new(),
            documents: BTreeMap::new(),
            creator: None,
            created: Timestamp::default(),
            last_modified: Timestamp::default(),
        }
    }
    /// A wavelet as a snapshot of our own has it.
    #[must_use]
    pub fn from_parts(name: WaveletName, parts: WaveletParts) -> Self {
        let WaveletParts {
            version,
            participants,
            documents,
            creator,
            created,
            last_modified,
        } = parts;
        Self {
            name,
            version,
            participants,
            documents,
            creator,
            created,
            last_modified,
        }
    }
    /// Applies all operations of a delta or none.
    pub fn apply(&mut self, delta: &TransformedDelta) -> Result<(), ApplyDeltaError> {
        if delta.applied_at != self.version {
            return Err(ApplyDeltaError::Version {
                expected: self.version,
                given: delta.applied_at,
            });
        }
        let mut undo = Undo::default();
        for (index, op) in delta.ops.iter().enumerate() {
            let after = self.version.plus(index as u64 + 1);
            if let Err(error) = self.apply_op(op, delta, after, &mut undo) {
                self.undo(undo);
                return Err(error);
            }
        }
        if !delta.ops.is_empty() {
            if self.creator.is_none() {
                self.creator = Some(delta.author.clone());
                self.created = delta.timestamp;
            }
            self.last_modified = delta.timestamp;
            self.version = delta.resulting();
        }
        Ok(())
    }

    fn apply_op<'a>(
        &mut self,
        op: &'a WaveletOp,
        delta: &TransformedDelta,
        after: Version,
        undo: &mut Undo<'a>,
    ) -> Result<(), ApplyDeltaError> {
        match op {
            WaveletOp::NoOp => {}
            WaveletOp::AddParticipant(participant) => {
                if self.participants.contains(participant) {
                    return Err(ApplyDeltaError::AlreadyParticipant(participant.clone()));
                }
                undo.participants.get_or_insert_with(|| self.participants.clone());
                self.participants.push(participant.clone());
            }
            WaveletOp::RemoveParticipant(participant) => {
                let at = self.participants.iter().position(|other| other == participant);
                let at = at.ok_or_else(|| ApplyDeltaError::NoSuchParticipant(participant.clone()))?;
                undo.participants.get_or_insert_with(|| self.participants.clone());
                self.participants.remove(at);
            }
            WaveletOp::MutateDocument { id, op } => {
                if let Some((document, metadata)) = self.documents.get_mut(id) {
                    document.apply(op).map_err(|error| ApplyDeltaError::Document {
                        document: id.clone(),
                        error,
                    })?;
                    undo.operations.push((id, op));
                    if id.is_worthy() && op.is_worthy() {
                        undo.metadata.entry(id).or_insert_with(|| Some(metadata.clone()));
                        metadata.touch(delta, after);
                    }
                } else {
                    let mut document = Document::new();
                    document.apply(op).map_err(|error| ApplyDeltaError::Document {
                        document: id.clone(),
                        error,
                    })?;
                    undo.metadata.insert(id, None);
                    self.documents
                        .insert(id.clone(), (document, BlipMetadata::new(delta, after)));
                }
            }
        }
        Ok(())
    }

    /// Takes back what part of a delta did: documents that it made go, operations are undone from the last to the first.
    fn undo(&mut self, undo: Undo<'_>) {
        if let Some(participants) = undo.participants {
            self.participants = participants;
        }
        let made: Vec<&DocumentId> = undo
            .metadata
            .iter()
            .filter(|(_, before)| before.is_none())
            .map(|(id, _)| *id)
            .collect();
        made.iter().for_each(|id| drop(self.documents.remove(*id)));
        for (id, op) in undo.operations.into_iter().rev() {
            if let Some((document, _)) = self.documents.get_mut(id) {
                document
                    .apply(&invert(op))
                    .expect("the inverse of what was just applied fits");
            }
        }
        for (id, before) in undo.metadata {
            if let (Some((_, metadata)), Some(before)) = (self.documents.get_mut(id), before) {
                *metadata = before;
            }
        }
    }
    /// Changes one document and nothing else: for looking ahead on a copy.
    pub(crate) fn change_document(&mut self, id: &DocumentId, op: &DocOp) -> Result<(), ApplyDeltaError> {
        let refused = |error| ApplyDeltaError::Document {
            document: id.clone(),
            error,
        };
        match self.documents.get_mut(id) {
            Some((document, _)) => document.apply(op).map_err(refused),
            None => Document::new().check(op).map_err(refused),
        }
    }
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &WaveletName {
        &self.name
    }
    /// How many operations it has had.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }
    /// In order of addition.
    #[must_use]
    pub fn participants(&self) -> &[ParticipantId] {
        &self.participants
    }
    /// A document with its metadata.
    #[must_use]
    pub fn document(&self, id: &DocumentId) -> Option<(&Document, &BlipMetadata)> {
        self.documents.get(id).map(|(document, metadata)| (document, metadata))
    }
    /// All documents by id.
    pub fn documents(&self) -> impl Iterator<Item = (&DocumentId, &Document, &BlipMetadata)> {
        self.documents
            .iter()
            .map(|(id, (document, metadata))| (id, document, metadata))
    }
    /// Author of the first delta.
    #[must_use]
    pub fn creator(&self) -> Option<&ParticipantId> {
        self.creator.as_ref()
    }
    /// When the first delta was applied.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.created
    }
    /// When the last delta was applied.
    #[must_use]
    pub fn last_modified(&self) -> Timestamp {
        self.last_modified
    }
    /// SHA-256 over participants and all documents by id: equal exactly when the states are.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((self.participants.len() as u64).to_be_bytes());
        for participant in &self.participants {
            hash_text(&mut hash, participant.as_str());
        }
        for (id, (document, _)) in &self.documents {
            hash_text(&mut hash, id.as_str());
            hash.update(document.digest());
        }
        hash.finalize().into()
    }
}

fn hash_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
}

/// What it takes to undo the beginning of a delta.
#[derive(Default)]
struct Undo<'a> {
    participants: Option<Vec<ParticipantId>>,
    operations: Vec<(&'a DocumentId, &'a DocOp)>,
    /// Metadata from before, or `None` for a document that the delta made.
    metadata: BTreeMap<&'a DocumentId, Option<BlipMetadata>>,
}

impl BlipMetadata {
    fn new(delta: &TransformedDelta, after: Version) -> Self {
        Self {
            author: delta.author.clone(),
            contributors: vec![delta.author.clone()],
            last_modified_version: after,
            last_modified_time: delta.timestamp,
        }
    }

    fn touch(&mut self, delta: &TransformedDelta, after: Version) {
        if !self.contributors.contains(&delta.author) {
            self.contributors.push(delta.author.clone());
        }
        self.last_modified_version = after;
        self.last_modified_time = delta.timestamp;
    }
}
