//! Composition: two operations into one (operations.md §4).

use crate::doc::op::DocOp;

/// Why two operations do not follow one another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("operations do not compose: {0}")]
pub struct ComposeError(pub &'static str);

/// The one operation that does what `a` and then `b` does.
pub fn compose(_a: &DocOp, _b: &DocOp) -> Result<DocOp, ComposeError> {
    todo!()
}
