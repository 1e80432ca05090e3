//! The normal form of operations (operations.md §3): every result of composition and transformation is built through it.

use std::sync::Arc;

use crate::doc::op::{AnnotationBoundary, AnnotationChange, Attributes, AttributesUpdate, Component, DocOp, IllFormed};
use crate::doc::update::{KeyMap, OldNew, Update};

/// The operation in normal form: runs merged, boundaries that change nothing left out. Means the same.
pub fn normalize(op: &DocOp) -> Result<DocOp, IllFormed> {
    let mut out = Normalizer::default();
    op.components().iter().for_each(|component| out.component(component));
    out.finish()
}

/// Collects components into normal form.
#[derive(Default)]
pub(crate) struct Normalizer {
    out: Vec<Component>,
    /// What the boundaries since the last item ask for; `None` is an end.
    asked: KeyMap<Option<OldNew>>,
    open: Update,
}

impl Normalizer {
    pub(crate) fn component(&mut self, component: &Component) {
        match component {
            Component::Retain(count) => self.retain(*count),
            Component::Characters(text) => self.characters(text),
            Component::ElementStart { kind, attributes } => self.element_start(kind, attributes),
            Component::ElementEnd => self.element_end(),
            Component::DeleteCharacters(text) => self.delete_characters(text),
            Component::DeleteElementStart { kind, attributes } => self.delete_element_start(kind, attributes),
            Component::DeleteElementEnd => self.delete_element_end(),
            Component::ReplaceAttributes { old, new } => self.replace(old.clone(), new.clone()),
            Component::UpdateAttributes(update) => self.update(update.clone()),
            Component::AnnotationBoundary(boundary) => self.boundary(boundary),
        }
    }

    pub(crate) fn retain(&mut self, count: u32) {
        if count == 0 {
            return;
        }
        self.flush();
        if let Some(Component::Retain(before)) = self.out.last_mut() {
            // A sum beyond the limit stays beyond it, and `finish` refuses it.
            *before = before.saturating_add(count);
        } else {
            self.out.push(Component::Retain(count));
        }
    }

    pub(crate) fn characters(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.flush();
        if let Some(Component::Characters(before)) = self.out.last_mut() {
            before.push_str(text);
        } else {
            self.out.push(Component::Characters(text.to_owned()));
        }
    }

    pub(crate) fn delete_characters(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.flush();
        if let Some(Component::DeleteCharacters(before)) = self.out.last_mut() {
            before.push_str(text);
        } else {
            self.out.push(Component::DeleteCharacters(text.to_owned()));
        }
    }

    pub(crate) fn element_start(&mut self, kind: &Arc<str>, attributes: &Attributes) {
        self.push(Component::ElementStart {
            kind: kind.clone(),
            attributes: attributes.clone(),
        });
    }

    pub(crate) fn element_end(&mut self) {
        self.push(Component::ElementEnd);
    }

    pub(crate) fn delete_element_start(&mut self, kind: &Arc<str>, attributes: &Attributes) {
        self.push(Component::DeleteElementStart {
            kind: kind.clone(),
            attributes: attributes.clone(),
        });
    }

    pub(crate) fn delete_element_end(&mut self) {
        self.push(Component::DeleteElementEnd);
    }

    pub(crate) fn replace(&mut self, old: Attributes, new: Attributes) {
        self.push(Component::ReplaceAttributes { old, new });
    }

    pub(crate) fn update(&mut self, update: AttributesUpdate) {
        self.push(Component::UpdateAttributes(update));
    }

    /// Asks for changes, then for ends; both take effect at the next item.
    pub(crate) fn boundary(&mut self, boundary: &AnnotationBoundary) {
        for change in &boundary.changes {
            self.change(&change.key, OldNew::of(change));
        }
        for key in &boundary.ends {
            self.end(key);
        }
    }

    pub(crate) fn change(&mut self, key: &Arc<str>, values: OldNew) {
        self.asked.set(key, Some(values));
    }

    pub(crate) fn end(&mut self, key: &Arc<str>) {
        self.asked.set(key, None);
    }

    fn push(&mut self, component: Component) {
        self.flush();
        self.out.push(component);
    }

    fn flush(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let mut boundary = AnnotationBoundary::default();
        for (key, asked) in self.asked.drain() {
            match asked {
                None => {
                    if self.open.remove(&key).is_some() {
                        boundary.ends.push(key);
                    }
                }
                Some(values) => {
                    if self.open.find(&key) != Some(&values) {
                        let OldNew { old, new } = values.clone();
                        self.open.set(&key, values);
                        boundary.changes.push(AnnotationChange { key, old, new });
                    }
                }
            }
        }
        if !boundary.ends.is_empty() || !boundary.changes.is_empty() {
            self.out.push(Component::AnnotationBoundary(boundary));
        }
    }

    pub(crate) fn finish(mut self) -> Result<DocOp, IllFormed> {
        self.flush();
        DocOp::new(self.out)
    }
}
