//! The document itself.

use crate::doc::op::DocOp;

/// A document: items with annotations. Applying a small operation costs the same whatever the document's size.
#[derive(Debug, Clone, Default)]
pub struct Document {}

/// Why an operation does not fit a document; the document is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("operation does not fit the document at item {item}: {reason}")]
pub struct ApplyError {
    /// The item's position in the document before the operation.
    pub item: usize,
    /// What was expected there.
    pub reason: &'static str,
}

impl Document {
    /// The empty document.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Length in items.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Applies an operation; on error nothing has changed.
    pub fn apply(&mut self, _op: &DocOp) -> Result<(), ApplyError> {
        todo!()
    }
    /// The document as an operation of insertions, in the one normal form of the vectors' README.
    #[must_use]
    pub fn to_op(&self) -> DocOp {
        todo!()
    }
    /// All its characters, elements left out; a `line` element that is not the first of its parent reads as a newline.
    #[must_use]
    pub fn text(&self) -> String {
        todo!()
    }
    /// SHA-256 over the normal form: equal exactly when two documents are equal in items and annotations.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        todo!()
    }
}
