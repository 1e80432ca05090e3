//! Whether an operation makes its author a contributor (operations.md §10).

use crate::doc::op::{AnnotationChange, Component, DocOp};

/// Annotations of these beginnings are made by programs, not by people.
const UNWORTHY_KEYS: [&str; 5] = ["user", "spell", "link", "tr", "lang"];

impl DocOp {
    /// Whether it adds its author to the contributors and touches the last-modified time and version; the document's id
    /// counts too ([`DocumentId::is_worthy`](crate::DocumentId::is_worthy)).
    #[must_use]
    pub fn is_worthy(&self) -> bool {
        self.components().iter().any(|component| match component {
            Component::Characters(_) | Component::DeleteCharacters(_) => true,
            Component::ElementStart { kind, .. } | Component::DeleteElementStart { kind, .. } => &**kind != "reply",
            Component::ReplaceAttributes { .. } | Component::UpdateAttributes(_) => true,
            Component::AnnotationBoundary(boundary) => boundary.changes.iter().any(is_worthy_change),
            Component::Retain(_) | Component::ElementEnd | Component::DeleteElementEnd => false,
        })
    }
}

fn is_worthy_change(change: &AnnotationChange) -> bool {
    change.old != change.new && !UNWORTHY_KEYS.iter().any(|prefix| change.key.starts_with(prefix))
}
