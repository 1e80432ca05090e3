//! Components from arbitrary bytes: mostly small numbers, few letters and names, so that operations often nearly fit.

use std::sync::Arc;

use billow_model::doc::{AnnotationBoundary, AnnotationChange, AttributeChange};
use billow_model::{Attributes, AttributesUpdate, Component};

/// Reads components until the bytes end.
pub fn components(bytes: &[u8]) -> Vec<Component> {
    let mut bytes = bytes.iter().copied();
    let mut out = Vec::new();
    while let Some(component) = component(&mut bytes) {
        out.push(component);
    }
    out
}

fn component(bytes: &mut impl Iterator<Item = u8>) -> Option<Component> {
    Some(match bytes.next()? % 12 {
        0 => Component::Retain(u32::from(bytes.next()?)),
        1 => Component::Retain(u32::MAX >> (bytes.next()? % 32)),
        2 | 3 => Component::Characters(text(bytes)?),
        4 => Component::ElementStart {
            kind: name(bytes)?,
            attributes: attributes(bytes)?,
        },
        5 => Component::ElementEnd,
        6 => Component::DeleteCharacters(text(bytes)?),
        7 => Component::DeleteElementStart {
            kind: name(bytes)?,
            attributes: attributes(bytes)?,
        },
        8 => Component::DeleteElementEnd,
        9 => Component::ReplaceAttributes {
            old: attributes(bytes)?,
            new: attributes(bytes)?,
        },
        10 => {
            let changes = (0..bytes.next()? % 3)
                .map(|_| {
                    Some(AttributeChange {
                        name: name(bytes)?,
                        old: value(bytes)?,
                        new: value(bytes)?,
                    })
                })
                .collect::<Option<_>>()?;
            Component::UpdateAttributes(AttributesUpdate::from_changes(changes).unwrap_or_default())
        }
        _ => Component::AnnotationBoundary(AnnotationBoundary {
            ends: (0..bytes.next()? % 3).map(|_| name(bytes)).collect::<Option<_>>()?,
            changes: (0..bytes.next()? % 3)
                .map(|_| {
                    Some(AnnotationChange {
                        key: name(bytes)?,
                        old: value(bytes)?,
                        new: value(bytes)?,
                    })
                })
                .collect::<Option<_>>()?,
        }),
    })
}

fn name(bytes: &mut impl Iterator<Item = u8>) -> Option<Arc<str>> {
    Some(["a", "b", "line", "𐐀", "\u{fb00}", "", "?", "1"][usize::from(bytes.next()? % 8)].into())
}

fn value(bytes: &mut impl Iterator<Item = u8>) -> Option<Option<Arc<str>>> {
    Some([None, Some(""), Some("1"), Some("\u{ffff}")][usize::from(bytes.next()? % 4)].map(Into::into))
}

fn attributes(bytes: &mut impl Iterator<Item = u8>) -> Option<Attributes> {
    let pairs = (0..bytes.next()? % 3).map(|_| Some((name(bytes)?, value(bytes)?.unwrap_or_default())));
    Some(Attributes::from_pairs(pairs.collect::<Option<Vec<_>>>()?))
}

fn text(bytes: &mut impl Iterator<Item = u8>) -> Option<String> {
    (0..bytes.next()? % 4)
        .map(|_| Some(['a', 'b', '日', '😀', '\u{fdd0}', '\0'][usize::from(bytes.next()? % 6)]))
        .collect()
}
