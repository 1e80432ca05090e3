//! The title of a wave, and a line of what is in it.

use crate::conversation::manifest::Manifest;
use crate::doc::{Document, ItemRef};
use crate::id::DocumentId;
use crate::wavelet::Wavelet;

/// The annotation that makes a title (operations.md §10).
const TITLE_KEY: &str = "conv/title";
/// No title is longer, in characters.
const TITLE_MAX: usize = 200;

/// A blip's title: what `conv/title` says (its value, or where that is empty the text it covers), else the first line that
/// is not empty.
#[must_use]
pub fn title(blip: &Document) -> String {
    shorten(&find(blip).title, TITLE_MAX)
}

/// What follows the title, in one line of at most `max` characters.
#[must_use]
pub fn snippet(blip: &Document, max: usize) -> String {
    shorten(&find(blip).rest, max)
}

/// The title of the first blip of a conversation.
#[must_use]
pub fn wave_title(wavelet: &Wavelet) -> String {
    blips(wavelet).first().map(|blip| title(blip)).unwrap_or_default()
}

/// The first text of a conversation that is not its title, in one line of at most `max` characters.
#[must_use]
pub fn wave_snippet(wavelet: &Wavelet, max: usize) -> String {
    let blips = blips(wavelet);
    let Some((first, others)) = blips.split_first() else {
        return String::new();
    };
    let snippet = snippet(first, max);
    if !snippet.is_empty() {
        return snippet;
    }
    others
        .iter()
        .map(|blip| shorten(&blip.text(), max))
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

fn blips(wavelet: &Wavelet) -> Vec<&Document> {
    let manifest_id = DocumentId::new("conversation").expect("not empty");
    let Some((manifest, _)) = wavelet.document(&manifest_id) else {
        return Vec::new();
    };
    let shown = Manifest::read(manifest);
    shown
        .blips()
        .into_iter()
        .filter_map(|(_, blip)| wavelet.document(&blip.id))
        .map(|(document, _)| document)
        .collect()
}

#[derive(Default)]
struct Found {
    title: String,
    rest: String,
}

fn find(blip: &Document) -> Found {
    let mut value: Option<&str> = None;
    let (mut covered, mut others) = (String::new(), String::new());
    let mut over = false;
    for (item, annotations) in blip.items() {
        let here = annotations.value(TITLE_KEY);
        over |= value.is_some() && here != value;
        let out = if !over && here.is_some() {
            value = here;
            &mut covered
        } else {
            &mut others
        };
        match item {
            ItemRef::Character(c) => out.push(c),
            ItemRef::Start { kind, .. } if &**kind == "line" => out.push('\n'),
            _ => {}
        }
    }
    match value {
        Some("") if !covered.trim().is_empty() => Found {
            title: covered,
            rest: others,
        },
        Some(value) if !value.is_empty() => Found {
            title: value.to_owned(),
            rest: format!("{covered}\n{others}"),
        },
        _ => {
            let text = format!("{covered}{others}");
            let (title, rest) = text.trim_start().split_once('\n').unwrap_or((text.trim_start(), ""));
            Found {
                title: title.to_owned(),
                rest: rest.to_owned(),
            }
        }
    }
}

/// In one line, runs of white space made one space, cut at `max` characters with an ellipsis.
fn shorten(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (count, c) in text
        .split_whitespace()
        .flat_map(|word| std::iter::once(' ').chain(word.chars()))
        .skip(1)
        .enumerate()
    {
        if count == max {
            out.pop();
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}
