//! The operations of a conversation's changes (operations.md §11).

use crate::conversation::manifest::{BlipEntry, Manifest, Thread};
use crate::delta::WaveletOp;
use crate::doc::compose::compose;
use crate::doc::edit::{self, element, empty_element};
use crate::doc::{Component, DocOp, Document, IllFormed, ItemRef};
use crate::id::DocumentId;
use crate::participant::ParticipantId;
use crate::wavelet::{ApplyDeltaError, Wavelet};

/// Why a change cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The wavelet has no manifest.
    #[error("the wavelet holds no conversation")]
    NoConversation,
    /// The manifest does not name the blip.
    #[error("the conversation has no blip {0}")]
    NoBlip(DocumentId),
    /// The manifest does not name the thread.
    #[error("the conversation has no thread {0}")]
    NoThread(String),
    /// Content or place are not acceptable.
    #[error(transparent)]
    IllFormed(#[from] IllFormed),
    /// What was built does not fit what is there.
    #[error(transparent)]
    Apply(#[from] Box<ApplyDeltaError>),
    /// What was built does not compose into one operation for each document.
    #[error(transparent)]
    Compose(#[from] crate::doc::compose::ComposeError),
}

/// A thread to append to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// The root thread.
    Root,
    /// The thread of this id.
    Thread(&'a str),
}

/// A blip with nothing in it: `<body><line/></body>`.
#[must_use]
pub fn empty_blip() -> DocOp {
    DocOp::new(element("body", &[], empty_element("line", &[]))).expect("an empty blip is well-formed")
}

/// A blip of some lines.
pub fn blip_of_text(text: &str) -> Result<DocOp, IllFormed> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        lines.extend(empty_element("line", &[]));
        if !line.is_empty() {
            lines.push(Component::Characters(line.to_owned()));
        }
    }
    DocOp::new(element("body", &[], lines))
}

/// The beginning of a conversation wavelet: its creator and an empty manifest.
#[must_use]
pub fn start_conversation(creator: &ParticipantId) -> Vec<WaveletOp> {
    let empty = DocOp::new(empty_element("conversation", &[])).expect("an empty manifest is well-formed");
    vec![
        WaveletOp::AddParticipant(creator.clone()),
        mutate(&manifest_id(), empty),
    ]
}

/// A whole new wave for version 0: its creator, the manifest with one blip, the blip, and further participants.
pub fn create_wave(
    creator: &ParticipantId,
    blip: &DocumentId,
    content: DocOp,
    others: &[ParticipantId],
) -> Result<Vec<WaveletOp>, IllFormed> {
    let manifest = DocOp::new(element(
        "conversation",
        &[],
        empty_element("blip", &[("id", blip.as_str())]),
    ))?;
    let mut ops = vec![
        WaveletOp::AddParticipant(creator.clone()),
        mutate(&manifest_id(), manifest),
        mutate(blip, content),
    ];
    ops.extend(
        others
            .iter()
            .filter(|other| *other != creator)
            .map(|other| WaveletOp::AddParticipant(other.clone())),
    );
    Ok(ops)
}

/// A new blip at the end of a thread: its document, then its entry in the manifest.
pub fn append_blip(
    wavelet: &Wavelet,
    place: Place<'_>,
    blip: &DocumentId,
    content: DocOp,
) -> Result<Vec<WaveletOp>, BuildError> {
    let (document, manifest) = read(wavelet)?;
    let at = match place {
        Place::Root => manifest.root.end,
        Place::Thread(id) => {
            manifest
                .thread(id)
                .ok_or_else(|| BuildError::NoThread(id.to_owned()))?
                .1
                .end
        }
    };
    insert_blip(document, at, blip, content)
}

/// A new blip before another one, in its thread.
pub fn insert_blip_before(
    wavelet: &Wavelet,
    before: &DocumentId,
    blip: &DocumentId,
    content: DocOp,
) -> Result<Vec<WaveletOp>, BuildError> {
    let (document, manifest) = read(wavelet)?;
    insert_blip(document, entry(&manifest, before)?.start, blip, content)
}

fn insert_blip(
    manifest: &Document,
    at: usize,
    blip: &DocumentId,
    content: DocOp,
) -> Result<Vec<WaveletOp>, BuildError> {
    let new = edit::insert(manifest, at, empty_element("blip", &[("id", blip.as_str())]))?;
    Ok(vec![mutate(blip, content), mutate(&manifest_id(), new)])
}

/// An empty reply thread under a blip. The reference calls it by the id of the blip that comes next.
pub fn add_thread(wavelet: &Wavelet, parent: &DocumentId, thread: &str) -> Result<Vec<WaveletOp>, BuildError> {
    let (document, manifest) = read(wavelet)?;
    let at = entry(&manifest, parent)?.end;
    Ok(vec![mutate(
        &manifest_id(),
        edit::insert(document, at, empty_element("thread", &[("id", thread)]))?,
    )])
}

/// An empty thread at a place in the text of a blip: the anchor there, then the thread.
pub fn add_inline_thread(
    wavelet: &Wavelet,
    parent: &DocumentId,
    at: usize,
    thread: &str,
) -> Result<Vec<WaveletOp>, BuildError> {
    let (document, manifest) = read(wavelet)?;
    let end = entry(&manifest, parent)?.end;
    let (text, _) = wavelet
        .document(parent)
        .ok_or_else(|| BuildError::NoBlip(parent.clone()))?;
    let anchor = edit::insert(text, at, empty_element("reply", &[("id", thread)]))?;
    let new = edit::insert(
        document,
        end,
        empty_element("thread", &[("id", thread), ("inline", "true")]),
    )?;
    Ok(vec![mutate(parent, anchor), mutate(&manifest_id(), new)])
}

/// A reply to a blip: a new thread with a first blip, one operation for each document.
pub fn reply(
    wavelet: &Wavelet,
    parent: &DocumentId,
    blip: &DocumentId,
    content: DocOp,
) -> Result<Vec<WaveletOp>, BuildError> {
    let (document, manifest) = read(wavelet)?;
    let new = first_of_thread(document, entry(&manifest, parent)?.end, blip, &[("id", blip.as_str())])?;
    Ok(vec![mutate(blip, content), mutate(&manifest_id(), new)])
}

/// A reply at a place in the text of a blip: anchor, thread and first blip, one operation for each document.
pub fn reply_inline(
    wavelet: &Wavelet,
    parent: &DocumentId,
    at: usize,
    blip: &DocumentId,
    content: DocOp,
) -> Result<Vec<WaveletOp>, BuildError> {
    let (document, manifest) = read(wavelet)?;
    let id = blip.as_str();
    let new = first_of_thread(
        document,
        entry(&manifest, parent)?.end,
        blip,
        &[("id", id), ("inline", "true")],
    )?;
    let (text, _) = wavelet
        .document(parent)
        .ok_or_else(|| BuildError::NoBlip(parent.clone()))?;
    let anchor = edit::insert(text, at, empty_element("reply", &[("id", id)]))?;
    Ok(vec![
        mutate(parent, anchor),
        mutate(blip, content),
        mutate(&manifest_id(), new),
    ])
}

fn first_of_thread(
    manifest: &Document,
    at: usize,
    blip: &DocumentId,
    thread: &[(&str, &str)],
) -> Result<DocOp, IllFormed> {
    edit::insert(
        manifest,
        at,
        element("thread", thread, empty_element("blip", &[("id", blip.as_str())])),
    )
}

/// Deletes a blip: its replies, its entry, its content, and its thread with its anchors if it was the last in it.
pub fn delete_blip(wavelet: &Wavelet, blip: &DocumentId) -> Result<Vec<WaveletOp>, BuildError> {
    let mut deletion = Deletion {
        wavelet: wavelet.clone(),
        ops: Vec::new(),
    };
    deletion.blip(blip)?;
    Ok(deletion.ops)
}

/// A deletion in steps, each built on the state after the one before.
struct Deletion {
    wavelet: Wavelet,
    ops: Vec<WaveletOp>,
}

impl Deletion {
    fn blip(&mut self, id: &DocumentId) -> Result<(), BuildError> {
        let (_, manifest) = read(&self.wavelet)?;
        let replies: Vec<DocumentId> = entry(&manifest, id)?
            .threads
            .iter()
            .flat_map(|thread| &thread.blips)
            .map(|blip| blip.id.clone())
            .collect();
        for reply in replies {
            // The reply may be an entry twice, and gone with the first.
            if read(&self.wavelet)?.1.blip(&reply).is_some() {
                self.blip(&reply)?;
            }
        }
        let (document, manifest) = read(&self.wavelet)?;
        let BlipEntry { start, end, .. } = entry(&manifest, id)?;
        let without = edit::delete(document, *start, end + 1)?;
        let thread = manifest
            .thread_of(id)
            .map(|(parent, thread)| (parent.map(|parent| parent.id.clone()), thread.id.clone()));
        self.push(&manifest_id(), without)?;
        if let Some((content, _)) = self.wavelet.document(id).filter(|(document, _)| !document.is_empty()) {
            let emptied = edit::delete(content, 0, content.len())?;
            self.push(id, emptied)?;
        }
        if let Some((Some(parent), Some(thread))) = thread {
            self.empty_thread(&parent, &thread)?;
        }
        Ok(())
    }

    /// Removes a thread that has no blips, then its anchors.
    fn empty_thread(&mut self, parent: &DocumentId, id: &str) -> Result<(), BuildError> {
        let (document, manifest) = read(&self.wavelet)?;
        let Some((_, Thread { blips, start, end, .. })) = manifest.thread(id) else {
            return Ok(());
        };
        if !blips.is_empty() {
            return Ok(());
        }
        let without = edit::delete(document, *start, end + 1)?;
        self.push(&manifest_id(), without)?;
        while let Some((text, _)) = self.wavelet.document(parent)
            && let Some(at) = anchor(text, id)
        {
            let without = edit::delete(text, at, at + 2)?;
            self.push(parent, without)?;
        }
        Ok(())
    }

    fn push(&mut self, id: &DocumentId, op: DocOp) -> Result<(), BuildError> {
        self.wavelet.change_document(id, &op).map_err(Box::new)?;
        self.ops.push(mutate(id, op));
        Ok(())
    }
}

/// The first empty anchor of a thread.
fn anchor(text: &Document, thread: &str) -> Option<usize> {
    let found = |(_, (item, _)): &(usize, (ItemRef<'_>, _))| matches!(item, ItemRef::Start { kind, attributes } if &***kind == "reply" && attributes.value("id") == Some(thread));
    let at = text.items().enumerate().find(found)?.0;
    (text.item(at + 1) == Some(ItemRef::End)).then_some(at)
}

/// The same change with one operation for each document, at the place of the document's first.
pub fn merged(ops: Vec<WaveletOp>) -> Result<Vec<WaveletOp>, BuildError> {
    let mut out: Vec<WaveletOp> = Vec::new();
    for op in ops {
        let earlier = out.iter_mut().find_map(|other| match (other, &op) {
            (WaveletOp::MutateDocument { id, op: first }, WaveletOp::MutateDocument { id: same, op }) if id == same => {
                Some((first, op))
            }
            _ => None,
        });
        match earlier {
            Some((first, second)) => *first = compose(first, second)?,
            None => out.push(op),
        }
    }
    Ok(out)
}

fn read(wavelet: &Wavelet) -> Result<(&Document, Manifest), BuildError> {
    let (document, _) = wavelet.document(&manifest_id()).ok_or(BuildError::NoConversation)?;
    let manifest = Manifest::read(document);
    if manifest.root.end == 0 {
        Err(BuildError::NoConversation)
    } else {
        Ok((document, manifest))
    }
}

fn entry<'a>(manifest: &'a Manifest, blip: &DocumentId) -> Result<&'a BlipEntry, BuildError> {
    manifest.blip(blip).ok_or_else(|| BuildError::NoBlip(blip.clone()))
}

fn manifest_id() -> DocumentId {
    DocumentId::new("conversation").expect("not empty")
}

fn mutate(id: &DocumentId, op: DocOp) -> WaveletOp {
    WaveletOp::MutateDocument { id: id.clone(), op }
}
