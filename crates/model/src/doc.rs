//! Documents and the operations on them (operations.md §1 to §6).
//!
//! A document is a flat sequence of items: a character (one Unicode scalar value), an element start or an element end.
//! Each item carries annotations. Positions and lengths count items.

mod op;
mod document;
pub mod compose;
pub mod invert;
pub mod schema;
pub mod transform;

pub use document::{ApplyError, Document};
pub use op::{AnnotationBoundary, AnnotationChange, AttributeChange, Attributes, AttributesUpdate, Component, DocOp, IllFormed, utf16_cmp};
