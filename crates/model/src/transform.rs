//! Wavelet operations and deltas against each other (operations.md §7 and §8).

use crate::delta::WaveletOp;
use crate::participant::ParticipantId;

/// Why two concurrent deltas cannot both stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// The server's side removes the author of the client's side.
    #[error("the author was removed from the wavelet meanwhile")]
    RemovedAuthor,
    /// One side adds the participant that the other removes.
    #[error("one adds and the other removes the same participant")]
    Participants,
    /// The document operations do not fit one document.
    #[error(transparent)]
    Document(#[from] crate::doc::transform::TransformError),
}

/// Operations of one author, as one side of a transformation.
pub struct Side<'a> {
    /// Who made them.
    pub author: &'a ParticipantId,
    /// In order.
    pub ops: &'a [WaveletOp],
}

/// `(client', server')`, single operations.
pub fn transform_op(
    _client: &WaveletOp,
    _client_author: &ParticipantId,
    _server: &WaveletOp,
    _server_author: &ParticipantId,
) -> Result<(WaveletOp, WaveletOp), TransformError> {
    todo!()
}

/// The correct transform of two lists: each side carried past the other's earlier operations.
pub fn transform_delta(_client: Side<'_>, _server: Side<'_>) -> Result<(Vec<WaveletOp>, Vec<WaveletOp>), TransformError> {
    todo!()
}

/// What the reference server computes: each client operation against the server's operations as they were
/// (operations.md §8, "known defect"). Only the client's side has a meaning.
pub fn transform_delta_like_reference(_client: Side<'_>, _server: Side<'_>) -> Result<Vec<WaveletOp>, TransformError> {
    todo!()
}
