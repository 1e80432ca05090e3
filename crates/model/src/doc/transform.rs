//! Transformation of two concurrent operations on one document (operations.md §6).
//!
//! Each operation is split into its insertions and the rest. Insertions meet insertions, then each side's insertions meet
//! the other's rest, then rest meets rest; composing the parts gives the results. In every meeting the walk takes one
//! component of the client, then components of the server until it has caught up: ties go to the client.

mod insertions;
mod plain;
mod rest;

use crate::doc::compose::{ComposeError, compose};
use crate::doc::normalize::Normalizer;
use crate::doc::op::{Component, DocOp, IllFormed};
use crate::planted;

/// Why two operations are not concurrent operations on one document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("operations do not transform: {0}")]
pub struct TransformError(pub &'static str);

const LENGTHS: TransformError = TransformError("both start with as many items");

/// `(client', server')` such that server;client' and client;server' give the same document. Ties go to the client.
///
/// As in the reference, a client operation that is shorter than the server's is mostly not noticed, and the result is then
/// without meaning; it does not apply.
pub fn transform(client: &DocOp, server: &DocOp) -> Result<(DocOp, DocOp), TransformError> {
    if planted::is("ties go to the server") {
        return transform_by_parts(server, client).map(|(server, client)| (client, server));
    }
    if let Some(pair) = plain::transform(client, server) {
        return Ok(pair);
    }
    transform_by_parts(client, server)
}

fn transform_by_parts(client: &DocOp, server: &DocOp) -> Result<(DocOp, DocOp), TransformError> {
    let (client_insertions, client_rest) = split(client)?;
    let (server_insertions, server_rest) = split(server)?;
    let (client_insertions, server_insertions) =
        insertions::against_insertions(&client_insertions, &server_insertions)?;
    let (client_insertions, server_rest) = insertions::against_rest(&client_insertions, &server_rest)?;
    let (server_insertions, client_rest) = insertions::against_rest(&server_insertions, &client_rest)?;
    let (client_rest, server_rest) = if planted::is("what two operations both change is not weighed") {
        (client_rest, server_rest)
    } else {
        rest::against_rest(&client_rest, &server_rest)?
    };
    Ok((
        compose(&client_insertions, &client_rest)?,
        compose(&server_insertions, &server_rest)?,
    ))
}

/// The insertions alone, and what remains to be done after them, all annotation boundaries included.
fn split(op: &DocOp) -> Result<(DocOp, DocOp), IllFormed> {
    let (mut insertions, mut rest) = (Normalizer::default(), Normalizer::default());
    for component in op.components() {
        match component {
            Component::Characters(_) | Component::ElementStart { .. } | Component::ElementEnd => {
                insertions.component(component);
                rest.retain(count(component.produces()));
            }
            _ => {
                insertions.retain(count(component.consumes()));
                rest.component(component);
            }
        }
    }
    Ok((insertions.finish()?, rest.finish()?))
}

/// A number of items of an operation.
fn count(items: usize) -> u32 {
    u32::try_from(items).expect("a well-formed operation has less than 2^31 items")
}

impl From<IllFormed> for TransformError {
    fn from(error: IllFormed) -> Self {
        Self(error.reason)
    }
}

impl From<ComposeError> for TransformError {
    fn from(error: ComposeError) -> Self {
        Self(error.0)
    }
}
