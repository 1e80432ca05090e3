//! Inversion (operations.md §5).

use crate::doc::op::DocOp;

/// The operation that undoes `op`, component by component.
#[must_use]
pub fn invert(_op: &DocOp) -> DocOp {
    todo!()
}
