//! What the inbox shows of a conversation wavelet, whoever looks: made from the wavelet, kept beside it.

use std::collections::BTreeSet;

use billow_model::conversation::{Manifest, ReadState, snippet, title};
use billow_model::{Document, DocumentId, Timestamp, Version, Wavelet};
use serde::{Deserialize, Serialize};

/// Characters of a snippet.
const SNIPPET_MAX: usize = 140;

/// A conversation in a few lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    /// As of this version of the wavelet.
    pub(super) version: u64,
    pub(super) title: String,
    pub(super) snippet: String,
    pub(super) people: Vec<String>,
    /// Shown blips in the order of the conversation, with the version of their last change.
    pub(super) blips: Vec<(String, u64)>,
    pub(super) last_modified: i64,
    pub(super) last_author: String,
}

impl Summary {
    /// Of a wavelet; who changed it last is not in it.
    pub(super) fn of(wavelet: &Wavelet, last_author: String) -> Self {
        let blips = shown_blips(wavelet);
        let newest = (0..blips.len()).max_by_key(|at| blips[*at].modified);
        let Timestamp(last_modified) = wavelet.last_modified();
        Self {
            version: wavelet.version().number(),
            title: blips.first().map(|first| title(first.document)).unwrap_or_default(),
            snippet: newest
                .map(|at| beginning(blips[at].document, at == 0))
                .unwrap_or_default(),
            people: wavelet.participants().iter().map(ToString::to_string).collect(),
            blips: blips
                .iter()
                .map(|blip| (blip.id.to_string(), blip.modified.number()))
                .collect(),
            last_modified,
            last_author,
        }
    }
}

struct ShownBlip<'a> {
    id: DocumentId,
    document: &'a Document,
    modified: Version,
}

/// The blips that the manifest names and that have a document.
fn shown_blips(wavelet: &Wavelet) -> Vec<ShownBlip<'_>> {
    let manifest = DocumentId::new("conversation").expect("this is an id");
    let Some((manifest, _)) = wavelet.document(&manifest) else {
        return Vec::new();
    };
    let manifest = Manifest::read(manifest);
    let mut seen = BTreeSet::new();
    let shown = manifest
        .blips()
        .into_iter()
        .filter(|(_, blip)| !blip.deleted && seen.insert(blip.id.clone()));
    shown
        .filter_map(|(_, blip)| {
            let (document, metadata) = wavelet.document(&blip.id)?;
            Some(ShownBlip {
                id: blip.id.clone(),
                document,
                modified: metadata.last_modified_version,
            })
        })
        .collect()
}

/// The beginning of a blip's text in one line; of the first blip, what follows the title.
fn beginning(blip: &Document, first: bool) -> String {
    if first {
        return snippet(blip, SNIPPET_MAX);
    }
    let (title, rest) = (title(blip), snippet(blip, SNIPPET_MAX));
    let line: String = format!("{title} {rest}").trim().chars().take(SNIPPET_MAX + 1).collect();
    match line.char_indices().nth(SNIPPET_MAX) {
        Some((at, _)) => format!("{}…", line[..at].trim_end()),
        None => line,
    }
}

/// A read state as it is stored: wavelet, blip (none: all of the wavelet), version.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredReadState(Vec<(String, Option<String>, u64)>);

impl StoredReadState {
    pub(super) fn of(state: &ReadState) -> Self {
        let entry = |(wavelet, blip, version): (_, Option<&DocumentId>, Version)| {
            let wavelet: &billow_model::WaveletId = wavelet;
            (wavelet.to_string(), blip.map(ToString::to_string), version.number())
        };
        Self(state.entries().map(entry).collect())
    }

    /// `None` if it is not as we write it.
    pub(super) fn read(self) -> Option<ReadState> {
        let entry = |(wavelet, blip, version): (String, Option<String>, u64)| {
            let blip = blip.map(|blip| DocumentId::new(&blip)).transpose().ok()?;
            Some((wavelet.parse().ok()?, blip, Version::new(version)))
        };
        self.0.into_iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use billow_model::WaveletId;

    #[test]
    fn a_read_state_is_stored_and_read_again() {
        let wavelet = WaveletId::root("example.org".parse().unwrap());
        let blip = DocumentId::new("b+1").unwrap();
        let state: ReadState = [
            (wavelet.clone(), Some(blip.clone()), Version::new(7)),
            (wavelet.clone(), None, Version::new(3)),
        ]
        .into_iter()
        .collect();
        let json = serde_json::to_string(&StoredReadState::of(&state)).unwrap();
        let again = serde_json::from_str::<StoredReadState>(&json).unwrap().read().unwrap();
        assert_eq!(again, state);
        assert_eq!(again.version(&wavelet, &blip), Some(Version::new(7)));
    }
}
