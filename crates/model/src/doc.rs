//! Documents and the operations on them (operations.md §1 to §6).
//!
//! A document is a flat sequence of items: a character (one Unicode scalar value), an element start or an element end.
//! Each item carries annotations. Positions and lengths count items.

mod annotations;
pub mod compose;
mod document;
pub mod edit;
mod initialization;
pub mod invert;
mod items;
mod normalize;
mod op;
pub mod schema;
mod text;
pub mod transform;
mod update;
mod well_formed;
mod worthy;

pub use annotations::Annotations;
pub use document::{ApplyError, Document, ItemRef};
pub use normalize::normalize;
pub use op::{
    AnnotationBoundary, AnnotationChange, AttributeChange, Attributes, AttributesUpdate, Component, DocOp, IllFormed,
    utf16_cmp,
};
