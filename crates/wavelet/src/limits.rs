//! How large a submission may be, which text a legacy peer takes, and the reasons for which a submission is refused.

use billow_model::doc::ItemRef;
use billow_model::id::ID_BYTES_MAX;
use billow_model::{Component, DocOp, Document, Domain, HashedVersion, ParticipantId, WaveletOp};

/// Operations in a delta.
pub const DELTA_OPS_MAX: usize = 1_000;
/// Components in a document operation.
pub const OP_COMPONENTS_MAX: usize = 10_000;
/// Bytes of an encoded delta: a signed delta cannot be split and must fit into one stanza of common servers.
pub const DELTA_BYTES_MAX: usize = 64 * 1024;
/// Participants of a wavelet.
pub const PARTICIPANTS_MAX: usize = 1_000;
/// Items of a document.
pub const DOCUMENT_ITEMS_MAX: usize = 1_000_000;
/// Elements inside one another in a document.
pub const NESTING_MAX: usize = 256;
/// Annotation keys that change at one place.
pub const BOUNDARY_KEYS_MAX: usize = 100;
/// How far behind the newest version a submission may be.
pub const VERSIONS_BEHIND_MAX: u64 = 10_000;

/// What carrying a submission to the newest version may cost, in bytes of operations that are gone through: a second or less.
pub(crate) const CARRY_WORK_MAX: u64 = 256 * 1024 * 1024;

/// Why a submission was not applied. Nothing has changed, and this very submission never will be applied, except where
/// the variant says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The author does not take part (or does so no longer).
    #[error("{0} is not a participant")]
    NotParticipant(ParticipantId),
    /// The author was removed by a delta that the author had not seen.
    #[error("{0} was removed from the wavelet meanwhile")]
    AuthorRemoved(ParticipantId),
    /// A delta without operations.
    #[error("a delta needs at least one operation")]
    NoOperations,
    /// The first delta of a wavelet must come from its own server (protocol.md §6.5).
    #[error("Remote users may not create wavelets.")]
    CreatesWavelet,
    /// The first delta of a wavelet must begin by adding its author.
    #[error("the first operation of a wavelet adds its author")]
    FirstAddsAuthor,
    /// The target has the newest version's number and another hash. It is the sender's own hash that is named.
    #[error("Mismatched hash at version {}: {}", .0.version, .0)]
    InvalidHash(HashedVersion),
    /// The target is no boundary of the history, or lies too far back, or in the future. A fresh snapshot is needed.
    #[error("too-old: the version it was made against is not known, or too much has come since")]
    UnknownVersion,
    /// The operations do not fit the wavelet.
    #[error("it does not apply: {0}")]
    DoesNotApply(String),
    /// The reference server and the correct rules disagree on the outcome (decision 7): to be made again at the newest version.
    #[error("rebase: concurrent changes; submit again at the newest version")]
    Rebase,
    /// The rules of the document forbid it.
    #[error("{0}")]
    Schema(String),
    /// A limit is exceeded; the text says which.
    #[error("{0}")]
    TooLarge(String),
    /// This domain's server takes no text beyond U+FFFF, and this is, or would show it, such text.
    #[error("the server of {0} cannot take characters beyond U+FFFF, such as emoji")]
    LegacyPeer(Domain),
    /// A submission of this session that is older than its newest one and is no longer remembered.
    #[error("this submission is older than one of the same session that is already applied")]
    OutOfOrder,
    /// The host of the wavelet refused it, for this reason.
    #[error("{0}")]
    HostRefused(String),
    /// Not now: it could not be stored, or too much is waiting. The same submission may be sent again.
    #[error("it cannot be stored now (the disk is full, or too much is waiting); try again")]
    Unavailable,
}

/// Checks counts and sizes of a delta; `encoded_len` is that of the delta message.
pub(crate) fn check_size(ops: &[WaveletOp], encoded_len: usize) -> Result<(), Refusal> {
    if ops.is_empty() {
        return Err(Refusal::NoOperations);
    }
    if ops.len() > DELTA_OPS_MAX {
        return Err(Refusal::TooLarge(format!(
            "a delta has at most {DELTA_OPS_MAX} operations, this one has {}",
            ops.len()
        )));
    }
    let strange = ops.iter().find_map(|op| match op {
        WaveletOp::MutateDocument { id, .. } if !id.is_acceptable() => Some(id),
        _ => None,
    });
    if let Some(id) = strange {
        let start: String = id.as_str().chars().take(40).collect();
        return Err(Refusal::TooLarge(format!(
            "a document's id has at most {ID_BYTES_MAX} bytes, all of which can be seen; this one begins with {start:?}"
        )));
    }
    let longest = ops
        .iter()
        .map(|op| doc_op(op).map_or(0, |op| op.components().len()))
        .max()
        .unwrap_or(0);
    if longest > OP_COMPONENTS_MAX {
        return Err(Refusal::TooLarge(format!(
            "an operation has at most {OP_COMPONENTS_MAX} components, this one has {longest}"
        )));
    }
    if ops.iter().filter_map(doc_op).any(has_empty_key) {
        return Err(Refusal::DoesNotApply("an annotation key is not empty".to_owned()));
    }
    if encoded_len > DELTA_BYTES_MAX {
        return Err(Refusal::TooLarge(format!(
            "a delta has at most {DELTA_BYTES_MAX} bytes, this one has {encoded_len}"
        )));
    }
    Ok(())
}

/// Whether an annotation has an empty key: well-formed, but no server reads it (operations.md §1).
fn has_empty_key(op: &DocOp) -> bool {
    op.components().iter().any(|component| {
        matches!(component, Component::AnnotationBoundary(boundary) if boundary.changes.iter().any(|change| change.key.is_empty()))
    })
}

/// Checks what an operation would make of a document, which it need not fit.
pub(crate) fn check_document(document: &Document, op: &DocOp) -> Result<(), Refusal> {
    let (mut before, mut after, mut inserted, mut around) = (0, 0, 0, 0);
    for component in op.components() {
        match component {
            Component::ElementStart { .. } => {
                if inserted == 0 {
                    around = depth(document, before);
                }
                inserted += 1;
                if around + inserted > NESTING_MAX {
                    return Err(Refusal::TooLarge(format!(
                        "a document has at most {NESTING_MAX} elements inside one another"
                    )));
                }
            }
            Component::ElementEnd => inserted = inserted.saturating_sub(1),
            Component::AnnotationBoundary(boundary) => {
                let keys = boundary.ends.len() + boundary.changes.len();
                let texts = boundary.changes.iter().flat_map(|change| {
                    std::iter::once(&change.key)
                        .chain(change.old.iter())
                        .chain(change.new.iter())
                });
                if texts.flat_map(|text| text.chars()).any(char::is_control) {
                    return Err(Refusal::Schema(
                        "keys and values of annotations hold no control characters".to_owned(),
                    ));
                }
                if keys > BOUNDARY_KEYS_MAX {
                    return Err(Refusal::TooLarge(format!(
                        "at most {BOUNDARY_KEYS_MAX} annotations change at one place, here {keys} do"
                    )));
                }
            }
            _ => {}
        }
        before += component.consumes();
        after += component.produces();
    }
    let items = (document.len() + after).saturating_sub(before);
    if after > before && items > DOCUMENT_ITEMS_MAX {
        return Err(Refusal::TooLarge(format!(
            "a document has at most {DOCUMENT_ITEMS_MAX} items, this one would have {items}"
        )));
    }
    Ok(())
}

/// A blip has one body. The reference's schema lets more of them pass, and no client can show them.
pub(crate) fn check_one_body(document: &Document, op: &DocOp) -> Result<(), Refusal> {
    let (mut inserted, mut deleted, mut covered) = (0, 0, 0);
    for component in op.components() {
        covered += component.consumes();
        match component {
            Component::ElementStart { kind, .. } if &**kind == BODY => inserted += 1,
            Component::DeleteElementStart { kind, .. } if &**kind == BODY => deleted += 1,
            _ => {}
        }
    }
    // Only then is the document looked through; an operation that does not fit is told so by others.
    let is_body = |item: ItemRef<'_>| matches!(item, ItemRef::Start { kind, .. } if &**kind == BODY);
    if inserted > 0
        && covered == document.len()
        && inserted + document.items().filter(|(item, _)| is_body(*item)).count() > 1 + deleted
    {
        return Err(Refusal::Schema("a blip has one body".to_owned()));
    }
    Ok(())
}

const BODY: &str = "body";

/// How many elements are open at a position; counted up to one more than there may be.
fn depth(document: &Document, position: usize) -> usize {
    std::iter::successors(document.parent(position), |&start| document.parent(start))
        .take(NESTING_MAX + 1)
        .count()
}

/// Whether any text in these operations is beyond U+FFFF, which the reference's servers refuse in `characters`.
pub(crate) fn has_astral_text(ops: &[WaveletOp]) -> bool {
    let astral = |text: &str| text.chars().any(|c| c > '\u{ffff}');
    ops.iter()
        .filter_map(doc_op)
        .flat_map(DocOp::components)
        .any(|component| match component {
            Component::Characters(text) | Component::DeleteCharacters(text) => astral(text),
            _ => false,
        })
}

fn doc_op(op: &WaveletOp) -> Option<&DocOp> {
    match op {
        WaveletOp::MutateDocument { op, .. } => Some(op),
        WaveletOp::AddParticipant(_) | WaveletOp::RemoveParticipant(_) | WaveletOp::NoOp => None,
    }
}
