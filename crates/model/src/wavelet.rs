//! A wavelet's state: participants and documents at a version.

use std::collections::BTreeMap;

use crate::delta::{Timestamp, TransformedDelta};
use crate::doc::Document;
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
        let WaveletParts { version, participants, documents, creator, created, last_modified } = parts;
        Self { name, version, participants, documents, creator, created, last_modified }
    }
    /// Applies all operations of a delta or none.
    pub fn apply(&mut self, _delta: &TransformedDelta) -> Result<(), ApplyDeltaError> {
        todo!()
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
        self.documents.iter().map(|(id, (document, metadata))| (id, document, metadata))
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
        todo!()
    }
}
