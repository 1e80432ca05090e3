//! What a user has read: the document `m/read` of the user-data wavelet (operations.md §12).

use std::collections::BTreeMap;

use crate::conversation::build::BuildError;
use crate::delta::WaveletOp;
use crate::doc::edit::{self, empty_element};
use crate::doc::{Component, Document, ItemRef};
use crate::id::{DocumentId, WaveletId};
use crate::version::Version;

/// Up to which version each wavelet and blip was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadState(BTreeMap<WaveletId, WaveletRead>);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct WaveletRead {
    all: Option<Version>,
    blips: BTreeMap<DocumentId, Version>,
}

impl ReadState {
    /// Reads `m/read`. Concurrent writers leave an entry twice; the highest version counts.
    #[must_use]
    pub fn read(document: &Document) -> Self {
        let mut state = Self::default();
        let mut wavelet: Option<WaveletId> = None;
        let mut depth = 0;
        for (item, _) in document.items() {
            match item {
                ItemRef::Start { kind, attributes } => {
                    let version = || {
                        attributes
                            .value("v")
                            .and_then(|text| text.parse().ok())
                            .map(Version::new)
                    };
                    match (depth, &**kind, &wavelet) {
                        (0, "wavelet", _) => wavelet = attributes.value("i").and_then(|text| text.parse().ok()),
                        (0, ..) => wavelet = None,
                        (1, "all", Some(id)) => {
                            let read = state.0.entry(id.clone()).or_default();
                            read.all = read.all.max(version());
                        }
                        (1, "blip", Some(id)) => {
                            let blip = attributes.value("i").and_then(|id| DocumentId::new(id).ok());
                            if let (Some(blip), Some(version)) = (blip, version()) {
                                let read = state.0.entry(id.clone()).or_default().blips.entry(blip).or_default();
                                *read = version.max(*read);
                            }
                        }
                        _ => {}
                    }
                    depth += 1;
                }
                ItemRef::End => depth -= 1,
                ItemRef::Character(_) => {}
            }
        }
        state
    }

    /// Every entry: of which wavelet, of which blip or (`None`) all of it, up to which version. [`ReadState`] collects them.
    pub fn entries(&self) -> impl Iterator<Item = (&WaveletId, Option<&DocumentId>, Version)> {
        self.0.iter().flat_map(|(wavelet, read)| {
            let all = read.all.map(|version| (wavelet, None, version));
            all.into_iter().chain(
                read.blips
                    .iter()
                    .map(move |(blip, version)| (wavelet, Some(blip), *version)),
            )
        })
    }

    /// The version up to which a blip was read, by an entry of its own or of the whole wavelet.
    #[must_use]
    pub fn version(&self, wavelet: &WaveletId, blip: &DocumentId) -> Option<Version> {
        let read = self.0.get(wavelet)?;
        read.all.max(read.blips.get(blip).copied())
    }

    /// Whether a blip that was last modified at a version is still to be read.
    #[must_use]
    pub fn is_unread(&self, wavelet: &WaveletId, blip: &DocumentId, last_modified: Version) -> bool {
        self.version(wavelet, blip).is_none_or(|read| read < last_modified)
    }
}

impl FromIterator<(WaveletId, Option<DocumentId>, Version)> for ReadState {
    fn from_iter<T: IntoIterator<Item = (WaveletId, Option<DocumentId>, Version)>>(entries: T) -> Self {
        let mut state = Self::default();
        for (wavelet, blip, version) in entries {
            let read = state.0.entry(wavelet).or_default();
            match blip {
                Some(blip) => {
                    read.blips.insert(blip, version);
                }
                None => read.all = Some(version),
            }
        }
        state
    }
}

/// Notes that a blip was read up to a version; nothing if that is known already. `document` is `m/read` as it is, or the
/// empty document.
pub fn mark_blip_read(
    document: &Document,
    wavelet: &WaveletId,
    blip: &DocumentId,
    version: Version,
) -> Result<Vec<WaveletOp>, BuildError> {
    if !ReadState::read(document).is_unread(wavelet, blip, version) {
        return Ok(Vec::new());
    }
    let is_old = |kind: &str, id: Option<&str>| kind == "blip" && id == Some(blip.as_str());
    let text = version.to_string();
    let new = empty_element("blip", &[("i", blip.as_str()), ("v", &text)]);
    write(document, wavelet, is_old, new, false)
}

/// Notes that everything in a wavelet was read up to a version.
pub fn mark_wavelet_read(
    document: &Document,
    wavelet: &WaveletId,
    version: Version,
) -> Result<Vec<WaveletOp>, BuildError> {
    if ReadState::read(document)
        .0
        .get(wavelet)
        .and_then(|read| read.all)
        .is_some_and(|all| all >= version)
    {
        return Ok(Vec::new());
    }
    let text = version.to_string();
    write(
        document,
        wavelet,
        |kind, _| kind == "all",
        empty_element("all", &[("v", &text)]),
        true,
    )
}

/// Deletes the old entries, then inserts the new one, first or last in the wavelet's element, each its own operation as the
/// reference has it.
fn write(
    document: &Document,
    wavelet: &WaveletId,
    is_old: impl Fn(&str, Option<&str>) -> bool,
    new: Vec<Component>,
    last: bool,
) -> Result<Vec<WaveletOp>, BuildError> {
    let id = DocumentId::new("m/read").expect("not empty");
    let mut steps = Steps {
        document: document.clone(),
        ops: Vec::new(),
    };
    if element_of(&steps.document, wavelet).is_none() {
        let at = steps.document.len();
        steps.push(edit::insert(
            document,
            at,
            empty_element("wavelet", &[("i", &wavelet.to_string())]),
        )?);
    }
    let (start, end) = element_of(&steps.document, wavelet).expect("it was there or was made");
    let mut old: Vec<usize> = Vec::new();
    for at in start + 1..end {
        if let Some(ItemRef::Start { kind, attributes }) = steps.document.item(at)
            && is_old(kind, attributes.value("i"))
            && steps.document.item(at + 1) == Some(ItemRef::End)
        {
            old.push(at);
        }
    }
    for at in old.iter().rev() {
        steps.push(edit::delete(&steps.document, *at, at + 2)?);
    }
    let at = if last { end - 2 * old.len() } else { start + 1 };
    steps.push(edit::insert(&steps.document, at, new)?);
    Ok(steps
        .ops
        .into_iter()
        .map(|op| WaveletOp::MutateDocument { id: id.clone(), op })
        .collect())
}

struct Steps {
    document: Document,
    ops: Vec<crate::doc::DocOp>,
}

impl Steps {
    fn push(&mut self, op: crate::doc::DocOp) {
        self.document
            .apply(&op)
            .expect("an operation built on the document fits it");
        self.ops.push(op);
    }
}

/// Where the element of a wavelet starts and ends.
fn element_of(document: &Document, wavelet: &WaveletId) -> Option<(usize, usize)> {
    let mut depth = 0;
    let mut start = None;
    for (at, (item, _)) in document.items().enumerate() {
        match item {
            ItemRef::Start { kind, attributes } => {
                let id = || attributes.value("i").and_then(|text| text.parse::<WaveletId>().ok());
                if depth == 0 && &**kind == "wavelet" && id().as_ref() == Some(wavelet) {
                    start = Some(at);
                }
                depth += 1;
            }
            ItemRef::End => {
                depth -= 1;
                if let Some(start) = start.filter(|_| depth == 0) {
                    return Some((start, at));
                }
            }
            ItemRef::Character(_) => {}
        }
    }
    None
}
