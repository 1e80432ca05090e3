//! What documents of a conversation may contain (operations.md §9). Our host enforces it on its own users' operations.
//!
//! The check is on the transition: what an operation inserts or sets. What was there already is not judged, so a document
//! that breaks its schema can still be edited. Deletions are free, but for a container's required first child.

mod rules;

use crate::doc::document::{Document, ItemRef};
use crate::doc::op::{Attributes, Component, DocOp};
use crate::id::{DocumentId, WaveletId};
use rules::{ElementRule, Rules};

/// Which rules a document follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// No rules.
    None,
    /// A blip.
    Blip,
    /// The conversation manifest.
    Manifest,
    /// Who may do what in a conversation: `roles`.
    Roles,
    /// User data: what was read, `m/read`.
    Read,
    /// User data: folders, `m/folder`.
    Folder,
    /// User data: what is archived, `m/archiving`.
    Archive,
    /// User data: whether the wave is muted, `m/muted`.
    Muted,
    /// User data: whether archiving is void, `m/cleared`.
    Cleared,
    /// User data: what is folded, `m/presentation`.
    Presentation,
    /// User data: what was shown, `m/seen`.
    Seen,
    /// User data: states of gadgets, `m/gadgets`.
    Gadgets,
    /// User data: reports, `m/abuse`.
    Abuse,
}

/// Why an operation breaks a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not allowed in this document: {0}")]
pub struct SchemaError(pub String);

impl Schema {
    /// The schema of a document by the ids of its wavelet and itself.
    #[must_use]
    pub fn of(wavelet: &WaveletId, document: &DocumentId) -> Self {
        let id = document.as_str();
        if wavelet.is_conversational() {
            match id {
                "conversation" => Self::Manifest,
                "roles" => Self::Roles,
                _ if document.is_blip() => Self::Blip,
                _ => Self::None,
            }
        } else if wavelet.is_user_data() {
            match id {
                "m/read" => Self::Read,
                "m/presentation" => Self::Presentation,
                "m/folder" => Self::Folder,
                "m/archiving" => Self::Archive,
                "m/muted" => Self::Muted,
                "m/cleared" => Self::Cleared,
                "m/seen" => Self::Seen,
                "m/gadgets" => Self::Gadgets,
                "m/abuse" => Self::Abuse,
                _ => Self::None,
            }
        } else {
            Self::None
        }
    }

    /// Whether the operation, which fits the document, keeps to the schema; what was there already is not judged.
    pub fn check(self, document: &Document, op: &DocOp) -> Result<(), SchemaError> {
        let Some(rules) = rules::of(self) else { return Ok(()) };
        let mut walk = Walk {
            rules,
            document,
            at: 0,
            inserted: Vec::new(),
            deleted: 0,
        };
        op.components().iter().try_for_each(|component| walk.step(component))
    }
}

struct Walk<'a> {
    rules: &'static Rules,
    document: &'a Document,
    /// The position in the document before the operation.
    at: usize,
    /// Elements inserted and still open, and whether they have a child yet.
    inserted: Vec<(&'a str, bool)>,
    /// How many deleted elements are open.
    deleted: usize,
}

impl<'a> Walk<'a> {
    fn step(&mut self, component: &'a Component) -> Result<(), SchemaError> {
        match component {
            Component::Characters(text) => self.text(text)?,
            Component::ElementStart { kind, attributes } => {
                self.child(kind)?;
                self.attributes(kind, attributes)?;
                self.inserted.push((kind, false));
            }
            Component::ElementEnd => {
                if let Some((kind, false)) = self.inserted.pop()
                    && let Some(first) = self.rule(kind).and_then(ElementRule::first_child)
                {
                    return Err(SchemaError(format!("{kind} begins with {first}")));
                }
            }
            Component::DeleteElementStart { .. } => {
                self.deletion()?;
                self.deleted += 1;
            }
            Component::DeleteElementEnd => self.deleted -= 1,
            Component::ReplaceAttributes { new, .. } => {
                if let Some(kind) = self.kind_at(self.at) {
                    self.attributes(kind, new)?;
                }
            }
            Component::UpdateAttributes(update) => {
                if let Some(kind) = self.kind_at(self.at) {
                    let set = update
                        .changes()
                        .iter()
                        .filter_map(|change| Some((&*change.name, change.new.as_deref()?)));
                    set.into_iter()
                        .try_for_each(|(name, value)| self.attribute(kind, name, value))?;
                }
            }
            Component::Retain(_) | Component::DeleteCharacters(_) | Component::AnnotationBoundary(_) => {}
        }
        self.at += component.consumes();
        Ok(())
    }

    fn rule(&self, kind: &str) -> Option<&'static ElementRule> {
        self.rules.elements.iter().find(|rule| rule.kind == kind)
    }

    fn kind_at(&self, at: usize) -> Option<&'a str> {
        match self.document.item(at) {
            Some(ItemRef::Start { kind, .. }) => Some(kind),
            _ => None,
        }
    }

    /// The element in which something is inserted here; none is the top.
    fn parent(&mut self, child: Option<&str>) -> Result<Option<&'a str>, SchemaError> {
        if let Some((kind, has_child)) = self.inserted.last_mut() {
            let (kind, first) = (*kind, !std::mem::replace(has_child, true));
            if let Some(required) = self.rule(kind).and_then(ElementRule::first_child).filter(|_| first)
                && child != Some(required)
            {
                return Err(SchemaError(format!("{kind} begins with {required}")));
            }
            return Ok(Some(kind));
        }
        let Some(at) = self.document.parent(self.at) else {
            return Ok(None);
        };
        let kind = self.kind_at(at);
        if at + 1 == self.at
            && let Some(required) = kind.and_then(|kind| self.rule(kind)).and_then(ElementRule::first_child)
            && self.kind_at(self.at) == Some(required)
        {
            return Err(SchemaError(format!("nothing goes before the first {required}")));
        }
        Ok(kind)
    }

    fn text(&mut self, text: &str) -> Result<(), SchemaError> {
        let parent = self.parent(None)?;
        if !parent.and_then(|kind| self.rule(kind)).is_some_and(|rule| rule.text) {
            return Err(SchemaError(format!(
                "no text in {}",
                parent.unwrap_or("the top of the document")
            )));
        }
        match text.chars().find(|&c| !rules::is_blip_text(c)) {
            Some(c) => Err(SchemaError(format!("no U+{:04X} in text", u32::from(c)))),
            None => Ok(()),
        }
    }

    fn child(&mut self, kind: &str) -> Result<(), SchemaError> {
        let parent = self.parent(Some(kind))?;
        let allowed = match parent {
            None => self.rules.top.contains(&kind),
            Some(parent) => self.rule(parent).is_some_and(|rule| rule.allows_child(kind)),
        };
        if allowed {
            Ok(())
        } else {
            Err(SchemaError(format!(
                "no {kind} in {}",
                parent.unwrap_or("the top of the document")
            )))
        }
    }

    fn attributes(&self, kind: &str, attributes: &Attributes) -> Result<(), SchemaError> {
        attributes
            .iter()
            .try_for_each(|(name, value)| self.attribute(kind, name, value))
    }

    fn attribute(&self, kind: &str, name: &str, value: &str) -> Result<(), SchemaError> {
        let values = self
            .rule(kind)
            .and_then(|rule| rule.attributes.iter().find(|(other, _)| *other == name));
        match values {
            Some((_, values)) if values.allow(value) => Ok(()),
            Some(_) => Err(SchemaError(format!("no {name}={value:?} on {kind}"))),
            None => Err(SchemaError(format!("no attribute {name} on {kind}"))),
        }
    }

    /// A required first child goes only together with its container.
    fn deletion(&self) -> Result<(), SchemaError> {
        if self.deleted == 0
            && let Some(parent) = self.document.parent(self.at).filter(|parent| parent + 1 == self.at)
            && let Some(required) = self
                .kind_at(parent)
                .and_then(|kind| self.rule(kind))
                .and_then(ElementRule::first_child)
            && self.kind_at(self.at) == Some(required)
        {
            return Err(SchemaError(format!("the first {required} stays")));
        }
        Ok(())
    }
}
