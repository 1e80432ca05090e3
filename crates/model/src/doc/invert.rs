//! Inversion (operations.md §5).

use crate::doc::op::{AnnotationBoundary, AnnotationChange, Component, DocOp};

/// The operation that undoes `op`, component by component; not normalised.
#[must_use]
pub fn invert(op: &DocOp) -> DocOp {
    DocOp::trusted(op.components().iter().map(invert_component).collect())
}

fn invert_component(component: &Component) -> Component {
    match component {
        Component::Retain(count) => Component::Retain(*count),
        Component::Characters(text) => Component::DeleteCharacters(text.clone()),
        Component::ElementStart { kind, attributes } => Component::DeleteElementStart {
            kind: kind.clone(),
            attributes: attributes.clone(),
        },
        Component::ElementEnd => Component::DeleteElementEnd,
        Component::DeleteCharacters(text) => Component::Characters(text.clone()),
        Component::DeleteElementStart { kind, attributes } => Component::ElementStart {
            kind: kind.clone(),
            attributes: attributes.clone(),
        },
        Component::DeleteElementEnd => Component::ElementEnd,
        Component::ReplaceAttributes { old, new } => Component::ReplaceAttributes {
            old: new.clone(),
            new: old.clone(),
        },
        Component::UpdateAttributes(update) => Component::UpdateAttributes(update.inverted()),
        Component::AnnotationBoundary(boundary) => Component::AnnotationBoundary(AnnotationBoundary {
            ends: boundary.ends.clone(),
            changes: boundary.changes.iter().map(invert_change).collect(),
        }),
    }
}

fn invert_change(change: &AnnotationChange) -> AnnotationChange {
    AnnotationChange {
        key: change.key.clone(),
        old: change.new.clone(),
        new: change.old.clone(),
    }
}
