//! The reference's XML form of a document, for the tests that compare with it.

use billow_model::doc::utf16_cmp;
use billow_model::{Component, Document};

/// The reference's XML form of a document.
pub(crate) fn xml(document: &Document) -> String {
    let mut out = String::new();
    let components = document.to_op();
    let mut components = components.components().iter().peekable();
    let mut open = Vec::new();
    while let Some(component) = components.next() {
        match component {
            Component::Characters(text) => out.push_str(&escaped(text)),
            Component::ElementStart { kind, attributes } => {
                out.push_str(&format!("<{kind}"));
                attributes
                    .iter()
                    .for_each(|(name, value)| out.push_str(&format!(" {name}=\"{}\"", value.replace('"', "&quot;"))));
                if components.next_if(|next| **next == Component::ElementEnd).is_some() {
                    out.push_str("/>");
                } else {
                    out.push('>');
                    open.push(kind);
                }
            }
            Component::AnnotationBoundary(boundary) => {
                let mut words: Vec<(&str, String)> = boundary.ends.iter().map(|key| (&**key, quoted(key))).collect();
                words.extend(boundary.changes.iter().map(|change| {
                    (
                        &*change.key,
                        format!(
                            "{}={}",
                            quoted(&change.key),
                            quoted(change.new.as_deref().expect("a value"))
                        ),
                    )
                }));
                words.sort_by(|a, b| utf16_cmp(a.0, b.0));
                let words: Vec<String> = words.into_iter().map(|(_, word)| word).collect();
                out.push_str(&format!("<?a {}?>", words.join(" ")));
            }
            _ => out.push_str(&format!("</{}>", open.pop().expect("an open element"))),
        }
    }
    out
}

/// A key or value of an annotation, in which `?` would end the processing instruction.
fn quoted(text: &str) -> String {
    format!(
        "\"{}\"",
        escaped(&text.replace('\\', "\\\\").replace('"', "\\\"").replace('?', "\\q"))
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
