//! A document written as insertions, in the one normal form of the vectors: maximal runs of text, a boundary exactly where
//! annotations differ from the item before, `old` always none.

use sha2::{Digest, Sha256};
use std::sync::Arc;

use crate::doc::annotations::Annotations;
use crate::doc::document::{Document, ItemRef};
use crate::doc::op::{AnnotationBoundary, AnnotationChange, Attributes, Component, DocOp};

pub(crate) fn write(document: &Document) -> DocOp {
    let mut out: Vec<Component> = Vec::new();
    let mut before = &Annotations::default();
    let none = Annotations::default();
    for (item, annotations) in document.items() {
        if annotations != before {
            out.push(Component::AnnotationBoundary(step(before, annotations)));
            before = annotations;
        }
        match (item, out.last_mut()) {
            (ItemRef::Character(c), Some(Component::Characters(text))) => text.push(c),
            (ItemRef::Character(c), _) => out.push(Component::Characters(c.into())),
            (ItemRef::Start { kind, attributes }, _) => {
                out.push(Component::ElementStart {
                    kind: kind.clone(),
                    attributes: attributes.clone(),
                });
            }
            (ItemRef::End, _) => out.push(Component::ElementEnd),
        }
    }
    if !before.is_empty() {
        out.push(Component::AnnotationBoundary(step(before, &none)));
    }
    DocOp::trusted(out)
}

fn step(from: &Annotations, to: &Annotations) -> AnnotationBoundary {
    let ends = from
        .iter()
        .filter(|(key, _)| to.value(key).is_none())
        .map(|(key, _)| key.clone())
        .collect();
    let changes = to
        .iter()
        .filter(|(key, value)| from.shared(key) != Some(value))
        .map(|(key, value)| AnnotationChange {
            key: key.clone(),
            old: None,
            new: Some(value.clone()),
        })
        .collect();
    AnnotationBoundary { ends, changes }
}

/// Feeds the normal form to a hash; every text goes in with its length, every component with a letter.
pub(crate) fn hash(document: &Document, hash: &mut Sha256) {
    for component in write(document).components() {
        match component {
            Component::Characters(text) => {
                hash.update(b"t");
                hash_text(hash, text);
            }
            Component::ElementStart { kind, attributes } => {
                hash.update(b"s");
                hash_text(hash, kind);
                hash_attributes(hash, attributes);
            }
            Component::AnnotationBoundary(boundary) => {
                hash.update(b"a");
                hash_count(hash, boundary.ends.len());
                boundary.ends.iter().for_each(|key| hash_text(hash, key));
                hash_count(hash, boundary.changes.len());
                for change in &boundary.changes {
                    hash_text(hash, &change.key);
                    hash_text(hash, change.new.as_deref().unwrap_or_default());
                }
            }
            _ => hash.update(b"e"),
        }
    }
}

fn hash_count(hash: &mut Sha256, count: usize) {
    hash.update((count as u64).to_be_bytes());
}

fn hash_text(hash: &mut Sha256, text: &str) {
    hash_count(hash, text.len());
    hash.update(text);
}

fn hash_attributes(hash: &mut Sha256, attributes: &Attributes) {
    let pairs: Vec<(&Arc<str>, &Arc<str>)> = attributes.iter().collect();
    hash_count(hash, pairs.len());
    for (name, value) in pairs {
        hash_text(hash, name);
        hash_text(hash, value);
    }
}
