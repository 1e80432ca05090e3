//! Wavelet operations and deltas against each other (operations.md §7 and §8).

use crate::delta::WaveletOp;
use crate::doc;
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
    Document(#[from] doc::transform::TransformError),
}

/// Operations of one author, as one side of a transformation.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Who made them.
    pub author: &'a ParticipantId,
    /// In order.
    pub ops: &'a [WaveletOp],
}

/// Whether the client's delta is one that is in the history already: same author, equal operations (operations.md §8).
/// Two deltas may be equal by chance; tell resends by something better where there is something better.
#[must_use]
pub fn is_duplicate(client: Side<'_>, server: Side<'_>) -> bool {
    client.author == server.author && client.ops == server.ops
}

/// `(client', server')`, single operations. No operation is dropped: what has no effect any more becomes a `NoOp`.
pub fn transform_op(
    client: &WaveletOp,
    client_author: &ParticipantId,
    server: &WaveletOp,
    _server_author: &ParticipantId,
) -> Result<(WaveletOp, WaveletOp), TransformError> {
    use WaveletOp::{AddParticipant, MutateDocument, NoOp, RemoveParticipant};
    // Whatever the client does: also when it removes itself.
    if matches!(server, RemoveParticipant(removed) if removed == client_author) {
        return Err(TransformError::RemovedAuthor);
    }
    match (client, server) {
        (AddParticipant(a), AddParticipant(b)) | (RemoveParticipant(a), RemoveParticipant(b)) if a == b => {
            Ok((NoOp, NoOp))
        }
        (AddParticipant(a), RemoveParticipant(b)) | (RemoveParticipant(a), AddParticipant(b)) if a == b => {
            Err(TransformError::Participants)
        }
        (MutateDocument { id, op: client }, MutateDocument { id: other, op: server }) if id == other => {
            let (client, server) = doc::transform::transform(client, server)?;
            Ok((
                MutateDocument {
                    id: id.clone(),
                    op: client,
                },
                MutateDocument {
                    id: id.clone(),
                    op: server,
                },
            ))
        }
        _ => Ok((client.clone(), server.clone())),
    }
}

/// The correct transform of two lists: each side carried past the other's earlier operations.
pub fn transform_delta(client: Side<'_>, server: Side<'_>) -> Result<(Vec<WaveletOp>, Vec<WaveletOp>), TransformError> {
    let mut server_ops = server.ops.to_vec();
    let mut client_ops = Vec::with_capacity(client.ops.len());
    for op in client.ops {
        let mut op = op.clone();
        for server_op in &mut server_ops {
            (op, *server_op) = transform_op(&op, client.author, server_op, server.author)?;
        }
        client_ops.push(op);
    }
    Ok((client_ops, server_ops))
}

/// What the reference server computes: each client operation against the server's operations as they were
/// (operations.md §8, "known defect"). Only the client's side has a meaning.
pub fn transform_delta_like_reference(client: Side<'_>, server: Side<'_>) -> Result<Vec<WaveletOp>, TransformError> {
    let past_all = |op: &WaveletOp| {
        server.ops.iter().try_fold(op.clone(), |op, server_op| {
            transform_op(&op, client.author, server_op, server.author).map(|(client, _)| client)
        })
    };
    client.ops.iter().map(past_all).collect()
}
