//! What documents of a conversation may contain (operations.md §9). Our host enforces it on its own users' operations.

use crate::doc::document::Document;
use crate::doc::op::DocOp;
use crate::id::{DocumentId, WaveletId};

/// Which rules a document follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// No rules.
    None,
    /// A blip.
    Blip,
    /// The conversation manifest.
    Manifest,
}

/// Why an operation breaks a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not allowed in this document: {0}")]
pub struct SchemaError(pub String);

impl Schema {
    /// The schema of a document by the ids of its wavelet and itself.
    #[must_use]
    pub fn of(_wavelet: &WaveletId, _document: &DocumentId) -> Self {
        todo!()
    }
    /// Whether the operation keeps to the schema; what was there already is not judged.
    pub fn check(self, _document: &Document, _op: &DocOp) -> Result<(), SchemaError> {
        todo!()
    }
}
