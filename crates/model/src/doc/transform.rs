//! Transformation of two concurrent operations on one document (operations.md §6).

use crate::doc::op::DocOp;

/// Why two operations are not concurrent operations on one document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("operations do not transform: {0}")]
pub struct TransformError(pub &'static str);

/// `(client', server')` such that server;client' and client;server' give the same document. Ties go to the client.
pub fn transform(_client: &DocOp, _server: &DocOp) -> Result<(DocOp, DocOp), TransformError> {
    todo!()
}
