//! The manifest read as a tree.

use std::sync::Arc;

use crate::doc::{Document, ItemRef};
use crate::id::DocumentId;

/// Threads within threads below this are not read: no client shows them, and nobody should make us recurse.
pub const DEPTH_MAX: usize = 100;

/// The conversation's blips as a tree of threads. Ids may occur twice, from concurrent changes; the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// The blips directly under `<conversation>`.
    pub root: Thread,
}

/// Blips one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Thread {
    /// The thread's id, which its inline anchor bears too; the root has none.
    pub id: Option<Arc<str>>,
    /// Whether it belongs at an anchor in the text of its parent blip.
    pub inline: bool,
    /// In order.
    pub blips: Vec<BlipEntry>,
    /// The position of its element's start in the manifest.
    pub start: usize,
    /// The position of its element's end.
    pub end: usize,
}

/// A blip in the manifest. Its text is in the document of its id, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlipEntry {
    /// The blip's document.
    pub id: DocumentId,
    /// Marked as deleted; the reference does not write this.
    pub deleted: bool,
    /// The replies to it.
    pub threads: Vec<Thread>,
    /// The position of its element's start in the manifest.
    pub start: usize,
    /// The position of its element's end.
    pub end: usize,
}

/// An element of the manifest that is being read.
enum Open {
    Thread(Thread),
    Blip(BlipEntry),
    /// Nothing of ours, or too deep.
    Other,
}

impl Manifest {
    /// Reads the first `<conversation>` of a manifest. What does not belong there is passed over.
    #[must_use]
    pub fn read(document: &Document) -> Self {
        let mut open: Vec<Open> = Vec::new();
        for (at, (item, _)) in document.items().enumerate() {
            match item {
                ItemRef::Character(_) => {}
                ItemRef::Start { kind, attributes } => {
                    let id = attributes.shared("id");
                    let flag = |name| attributes.value(name) == Some("true");
                    open.push(match (&**kind, open.last()) {
                        _ if open.len() > 2 * DEPTH_MAX => Open::Other,
                        ("conversation", None) => Open::Thread(Thread {
                            start: at,
                            ..Thread::default()
                        }),
                        ("thread", Some(Open::Blip(_))) => {
                            let (id, inline) = (id.cloned(), flag("inline"));
                            Open::Thread(Thread {
                                id,
                                inline,
                                blips: Vec::new(),
                                start: at,
                                end: at,
                            })
                        }
                        ("blip", Some(Open::Thread(_))) => match id.map(|id| DocumentId::new(id)) {
                            Some(Ok(id)) => {
                                let (deleted, threads) = (flag("deleted"), Vec::new());
                                Open::Blip(BlipEntry {
                                    id,
                                    deleted,
                                    threads,
                                    start: at,
                                    end: at,
                                })
                            }
                            _ => Open::Other,
                        },
                        _ => Open::Other,
                    });
                }
                ItemRef::End => match (open.pop(), open.last_mut()) {
                    (Some(Open::Thread(root)), None) => {
                        return Self {
                            root: Thread { end: at, ..root },
                        };
                    }
                    (Some(Open::Thread(thread)), Some(Open::Blip(blip))) => {
                        blip.threads.push(Thread { end: at, ..thread })
                    }
                    (Some(Open::Blip(blip)), Some(Open::Thread(thread))) => {
                        thread.blips.push(BlipEntry { end: at, ..blip })
                    }
                    _ => {}
                },
            }
        }
        Self::default()
    }

    /// All blips, parents before their replies, with how deep they are (0 in the root thread).
    #[must_use]
    pub fn blips(&self) -> Vec<(usize, &BlipEntry)> {
        let mut found = Vec::new();
        collect(&self.root, 0, &mut found);
        found
    }

    /// The first entry of a blip.
    #[must_use]
    pub fn blip(&self, id: &DocumentId) -> Option<&BlipEntry> {
        self.blips()
            .into_iter()
            .map(|(_, blip)| blip)
            .find(|blip| blip.id == *id)
    }

    /// The first thread of an id, with the blip that it replies to.
    #[must_use]
    pub fn thread(&self, id: &str) -> Option<(&BlipEntry, &Thread)> {
        let threads = |(_, blip)| -> Vec<(&BlipEntry, &Thread)> {
            let blip: &BlipEntry = blip;
            blip.threads.iter().map(|thread| (blip, thread)).collect()
        };
        self.blips()
            .into_iter()
            .flat_map(threads)
            .find(|(_, thread)| thread.id.as_deref() == Some(id))
    }

    /// The thread in which a blip is, with the blip that the thread replies to (none for the root).
    #[must_use]
    pub fn thread_of(&self, id: &DocumentId) -> Option<(Option<&BlipEntry>, &Thread)> {
        let holds = |thread: &Thread| thread.blips.iter().any(|blip| blip.id == *id);
        if holds(&self.root) {
            return Some((None, &self.root));
        }
        self.blips().into_iter().find_map(|(_, blip)| {
            let thread = blip.threads.iter().find(|thread| holds(thread))?;
            Some((Some(blip), thread))
        })
    }
}

fn collect<'a>(thread: &'a Thread, depth: usize, found: &mut Vec<(usize, &'a BlipEntry)>) {
    for blip in &thread.blips {
        found.push((depth, blip));
        blip.threads.iter().for_each(|thread| collect(thread, depth + 1, found));
    }
}
