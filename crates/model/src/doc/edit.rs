//! Operations for one simple change to a document as it is.

use std::sync::Arc;

use crate::doc::annotations::Annotations;
use crate::doc::document::{Document, ItemRef};
use crate::doc::normalize::Normalizer;
use crate::doc::op::{AttributeChange, Attributes, AttributesUpdate, Component, DocOp, IllFormed};
use crate::doc::update::OldNew;

/// Inserts components (text and whole elements) before the item at `at`; it inherits the annotations on its left.
pub fn insert(document: &Document, at: usize, content: Vec<Component>) -> Result<DocOp, IllFormed> {
    let mut out = Normalizer::default();
    out.retain(items(at));
    content.iter().for_each(|component| out.component(component));
    out.retain(items(rest(document, at)?));
    out.finish()
}

/// Deletes the items from `from` up to `to`, which must be whole elements and text.
pub fn delete(document: &Document, from: usize, to: usize) -> Result<DocOp, IllFormed> {
    let none = Annotations::default();
    let left = from
        .checked_sub(1)
        .and_then(|left| document.annotations(left))
        .unwrap_or(&none);
    let mut out = Normalizer::default();
    out.retain(items(from));
    let mut before = &none;
    for at in from..to {
        let (Some(item), Some(annotations)) = (document.item(at), document.annotations(at)) else {
            return Err(PAST_END);
        };
        // Each key that the item or its new left neighbour has goes from the one's value to the other's.
        for (key, _) in before
            .iter()
            .filter(|(key, _)| annotations.value(key).or(left.value(key)).is_none())
        {
            out.end(key);
        }
        for (key, _) in annotations.iter().chain(left.iter()) {
            out.change(
                key,
                OldNew {
                    old: annotations.shared(key).cloned(),
                    new: left.shared(key).cloned(),
                },
            );
        }
        before = annotations;
        match item {
            ItemRef::Character(c) => out.delete_characters(c.encode_utf8(&mut [0; 4])),
            ItemRef::Start { kind, attributes } => out.delete_element_start(kind, attributes),
            ItemRef::End => out.delete_element_end(),
        }
    }
    before.iter().chain(left.iter()).for_each(|(key, _)| out.end(key));
    out.retain(items(rest(document, to)?));
    out.finish()
}

/// Gives an annotation to the items from `from` up to `to`, or takes it from them.
pub fn annotate(
    document: &Document,
    from: usize,
    to: usize,
    key: &str,
    value: Option<&str>,
) -> Result<DocOp, IllFormed> {
    let key: Arc<str> = key.into();
    let new: Option<Arc<str>> = value.map(Into::into);
    let mut out = Normalizer::default();
    out.retain(items(from));
    for at in from..to {
        let old = document.annotations(at).ok_or(PAST_END)?.shared(&key).cloned();
        if old == new {
            out.end(&key);
        } else {
            out.change(&key, OldNew { old, new: new.clone() });
        }
        out.retain(1);
    }
    out.end(&key);
    out.retain(items(rest(document, to)?));
    out.finish()
}

/// Sets one attribute of the element that starts at `at`, or takes it away.
pub fn set_attribute(document: &Document, at: usize, name: &str, value: Option<&str>) -> Result<DocOp, IllFormed> {
    let Some(ItemRef::Start { attributes, .. }) = document.item(at) else {
        return Err(IllFormed {
            index: 0,
            reason: "an element starts where an attribute is set",
        });
    };
    let change = AttributeChange {
        name: name.into(),
        old: attributes.shared(name).cloned(),
        new: value.map(Into::into),
    };
    let mut out = Normalizer::default();
    out.retain(items(at));
    out.update(AttributesUpdate::new(vec![change])?);
    out.retain(items(rest(document, at + 1)?));
    out.finish()
}

/// An element without content: start and end.
#[must_use]
pub fn empty_element(kind: &str, attributes: &[(&str, &str)]) -> Vec<Component> {
    element(kind, attributes, Vec::new())
}

/// An element around components.
#[must_use]
pub fn element(kind: &str, attributes: &[(&str, &str)], content: Vec<Component>) -> Vec<Component> {
    let attributes = Attributes::from_pairs(attributes.iter().map(|&(name, value)| (name.into(), value.into())));
    let mut out = vec![Component::ElementStart {
        kind: kind.into(),
        attributes,
    }];
    out.extend(content);
    out.push(Component::ElementEnd);
    out
}

const PAST_END: IllFormed = IllFormed {
    index: 0,
    reason: "the place is inside the document",
};

fn rest(document: &Document, at: usize) -> Result<usize, IllFormed> {
    document.len().checked_sub(at).ok_or(PAST_END)
}

/// Too many items stay too many, and the check of the finished operation refuses them.
fn items(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
