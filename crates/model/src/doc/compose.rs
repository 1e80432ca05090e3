//! Composition: two operations into one (operations.md §4).
//!
//! The walk pulls a component of `a`; while that one waits for `b`, it pulls components of `b`. At one point, then, what `a`
//! deletes comes before what `b` inserts.

use crate::doc::normalize::Normalizer;
use crate::doc::op::{
    AnnotationBoundary, AttributeChange, Attributes, AttributesUpdate, Component, DocOp, item_count, utf16_cmp,
};
use crate::doc::text::split_items;
use crate::doc::update::{OldNew, Update};
use std::sync::Arc;

/// Why two operations do not follow one another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("operations do not compose: {0}")]
pub struct ComposeError(pub &'static str);

/// The one operation that does what `a` and then `b` does.
pub fn compose(a: &DocOp, b: &DocOp) -> Result<DocOp, ComposeError> {
    let mut composer = Composer::default();
    let mut rest = b.components().iter();
    for component in a.components() {
        composer.first(component)?;
        while composer.waits_for_second() {
            composer.second(rest.next().ok_or(LENGTHS)?)?;
        }
    }
    for component in rest {
        composer.second(component)?;
    }
    composer.flush_first();
    composer.flush_second();
    composer.out.finish().map_err(|error| ComposeError(error.reason))
}

const LENGTHS: ComposeError = ComposeError("the second starts with as many items as the first ends with");
const ILLEGAL: ComposeError = ComposeError("the second does to each item what can be done to it");
const VALUES: ComposeError = ComposeError("the second finds the attributes that the first left");

/// What one side did to items that the other side has not come to yet.
#[derive(Default)]
enum Waiting<'a> {
    #[default]
    Nothing,
    /// `a` kept so many.
    Retained(u32),
    /// `a` inserted text.
    Text(&'a str),
    /// `a` inserted an element's start.
    Start {
        kind: &'a Arc<str>,
        attributes: &'a Attributes,
    },
    /// `a` inserted an element's end.
    End,
    /// `a` replaced attributes.
    Replaced { old: &'a Attributes, new: &'a Attributes },
    /// `a` updated attributes.
    Updated(&'a AttributesUpdate),
    /// `b` keeps so many.
    Keep(u32),
    /// `b` deletes text.
    Delete(&'a str),
}

#[derive(Default)]
struct Composer<'a> {
    out: Normalizer,
    waiting: Waiting<'a>,
    first_queue: Vec<&'a AnnotationBoundary>,
    second_queue: Vec<&'a AnnotationBoundary>,
    first_open: Update,
    second_open: Update,
}

impl<'a> Composer<'a> {
    fn waits_for_second(&self) -> bool {
        !matches!(self.waiting, Waiting::Nothing | Waiting::Keep(_) | Waiting::Delete(_))
    }

    /// Takes a component of `a`; nothing of `a` is waiting.
    fn first(&mut self, component: &'a Component) -> Result<(), ComposeError> {
        match component {
            Component::AnnotationBoundary(boundary) => {
                self.first_queue.push(boundary);
                return Ok(());
            }
            Component::DeleteCharacters(_) | Component::DeleteElementStart { .. } | Component::DeleteElementEnd => {
                self.flush_first();
                self.out.component(component);
                return Ok(());
            }
            _ => {}
        }
        let waiting = match component {
            Component::Retain(count) => Waiting::Retained(*count),
            Component::Characters(text) => Waiting::Text(text),
            Component::ElementStart { kind, attributes } => Waiting::Start { kind, attributes },
            Component::ReplaceAttributes { old, new } => Waiting::Replaced { old, new },
            Component::UpdateAttributes(update) => Waiting::Updated(update),
            _ => Waiting::End,
        };
        self.waiting = match std::mem::replace(&mut self.waiting, waiting) {
            Waiting::Keep(count) => self.keep(count)?,
            Waiting::Delete(text) => self.delete_text(text)?,
            _ => return Ok(()),
        };
        Ok(())
    }

    /// Takes a component of `b`; something of `a` is waiting, or `a` is at its end.
    fn second(&mut self, component: &'a Component) -> Result<(), ComposeError> {
        self.waiting = match component {
            Component::AnnotationBoundary(boundary) => {
                self.second_queue.push(boundary);
                return Ok(());
            }
            Component::Characters(_) | Component::ElementStart { .. } | Component::ElementEnd => {
                self.flush_second();
                self.out.component(component);
                return Ok(());
            }
            Component::Retain(count) => self.keep(*count)?,
            Component::DeleteCharacters(text) => self.delete_text(text)?,
            Component::DeleteElementStart { kind, attributes } => self.delete_start(kind, attributes)?,
            Component::DeleteElementEnd => match self.take() {
                Waiting::End => {
                    self.flush();
                    Waiting::Nothing
                }
                Waiting::Retained(count) => {
                    self.flush();
                    self.out.delete_element_end();
                    retained(count - 1)
                }
                _ => return Err(ILLEGAL),
            },
            Component::ReplaceAttributes { old, new } => self.replace(old, new)?,
            Component::UpdateAttributes(update) => self.update(update)?,
        };
        Ok(())
    }

    fn take(&mut self) -> Waiting<'a> {
        std::mem::take(&mut self.waiting)
    }

    /// `b` keeps `count` items of what waits of `a`.
    fn keep(&mut self, count: u32) -> Result<Waiting<'a>, ComposeError> {
        let waiting = self.take();
        self.flush();
        match waiting {
            Waiting::Retained(first) => {
                self.out.retain(first.min(count));
                return Ok(if first > count {
                    Waiting::Retained(first - count)
                } else {
                    keep(count - first)
                });
            }
            Waiting::Text(text) => {
                let (here, rest, taken) = split_items(text, count);
                self.out.characters(here);
                return Ok(if rest.is_empty() {
                    keep(count - taken)
                } else {
                    Waiting::Text(rest)
                });
            }
            Waiting::Start { kind, attributes } => self.out.element_start(kind, attributes),
            Waiting::End => self.out.element_end(),
            Waiting::Replaced { old, new } => self.out.replace(old.clone(), new.clone()),
            Waiting::Updated(update) => self.out.update(update.clone()),
            _ => return Err(ILLEGAL),
        }
        Ok(keep(count - 1))
    }

    fn delete_text(&mut self, text: &'a str) -> Result<Waiting<'a>, ComposeError> {
        match self.take() {
            Waiting::Retained(first) => {
                self.flush();
                let (here, rest, taken) = split_items(text, first);
                self.out.delete_characters(here);
                Ok(if rest.is_empty() {
                    retained(first - taken)
                } else {
                    Waiting::Delete(rest)
                })
            }
            // COMPAT(wiab): only the lengths count. It matters where operations do not belong together (operations.md §6,
            // "errors"), and there every copy must come to the same result.
            Waiting::Text(inserted) => {
                self.flush();
                let (_, rest, taken) = split_items(text, count(inserted));
                let (_, left, _) = split_items(inserted, taken);
                Ok(match (left.is_empty(), rest.is_empty()) {
                    (false, _) => Waiting::Text(left),
                    (true, false) => Waiting::Delete(rest),
                    (true, true) => Waiting::Nothing,
                })
            }
            _ => Err(ILLEGAL),
        }
    }

    fn delete_start(&mut self, kind: &Arc<str>, attributes: &Attributes) -> Result<Waiting<'a>, ComposeError> {
        match self.take() {
            Waiting::Retained(count) => {
                self.flush();
                self.out.delete_element_start(kind, attributes);
                return Ok(retained(count - 1));
            }
            Waiting::Start { .. } => self.flush(),
            Waiting::Replaced { old, .. } => {
                self.flush();
                self.out.delete_element_start(kind, old);
            }
            Waiting::Updated(update) => {
                let old = attributes.updated(&update.inverted()).ok_or(VALUES)?;
                self.flush();
                self.out.delete_element_start(kind, &old);
            }
            _ => return Err(ILLEGAL),
        }
        Ok(Waiting::Nothing)
    }

    fn replace(&mut self, old: &Attributes, new: &Attributes) -> Result<Waiting<'a>, ComposeError> {
        let waiting = self.take();
        self.flush();
        match waiting {
            Waiting::Retained(count) => {
                self.out.replace(old.clone(), new.clone());
                return Ok(retained(count - 1));
            }
            Waiting::Start { kind, .. } => self.out.element_start(kind, new),
            Waiting::Replaced { old, .. } => self.out.replace(old.clone(), new.clone()),
            Waiting::Updated(update) => self
                .out
                .replace(old.updated(&update.inverted()).ok_or(VALUES)?, new.clone()),
            _ => return Err(ILLEGAL),
        }
        Ok(Waiting::Nothing)
    }

    fn update(&mut self, update: &AttributesUpdate) -> Result<Waiting<'a>, ComposeError> {
        let waiting = self.take();
        self.flush();
        match waiting {
            Waiting::Retained(count) => {
                self.out.update(update.clone());
                return Ok(retained(count - 1));
            }
            Waiting::Start { kind, attributes } => {
                self.out.element_start(kind, &attributes.updated(update).ok_or(VALUES)?)
            }
            Waiting::Replaced { old, new } => self.out.replace(old.clone(), new.updated(update).ok_or(VALUES)?),
            Waiting::Updated(first) => self.out.update(merge(first, update)?),
            _ => return Err(ILLEGAL),
        }
        Ok(Waiting::Nothing)
    }

    fn flush(&mut self) {
        self.flush_first();
        self.flush_second();
    }

    fn flush_first(&mut self) {
        for boundary in self.first_queue.drain(..) {
            for key in &boundary.ends {
                self.first_open.remove(key);
                match self.second_open.find(key) {
                    Some(values) => self.out.change(key, values.clone()),
                    None => self.out.end(key),
                }
            }
            for change in &boundary.changes {
                let mut values = OldNew::of(change);
                self.first_open.set(&change.key, values.clone());
                if let Some(second) = self.second_open.find(&change.key) {
                    values.new.clone_from(&second.new);
                }
                self.out.change(&change.key, values);
            }
        }
    }

    fn flush_second(&mut self) {
        for boundary in self.second_queue.drain(..) {
            for key in &boundary.ends {
                self.second_open.remove(key);
                match self.first_open.find(key) {
                    Some(values) => self.out.change(key, values.clone()),
                    None => self.out.end(key),
                }
            }
            for change in &boundary.changes {
                let mut values = OldNew::of(change);
                self.second_open.set(&change.key, values.clone());
                if let Some(first) = self.first_open.find(&change.key) {
                    values.old.clone_from(&first.old);
                }
                self.out.change(&change.key, values);
            }
        }
    }
}

fn count(text: &str) -> u32 {
    u32::try_from(item_count(text)).expect("a well-formed operation has less than 2^31 items")
}

fn retained<'a>(count: u32) -> Waiting<'a> {
    if count == 0 {
        Waiting::Nothing
    } else {
        Waiting::Retained(count)
    }
}

fn keep<'a>(count: u32) -> Waiting<'a> {
    if count == 0 {
        Waiting::Nothing
    } else {
        Waiting::Keep(count)
    }
}

/// Per name: the first's old value, the second's new one.
fn merge(first: &AttributesUpdate, second: &AttributesUpdate) -> Result<AttributesUpdate, ComposeError> {
    let mut changes = first.changes().to_vec();
    for change in second.changes() {
        match changes.binary_search_by(|other| utf16_cmp(&other.name, &change.name)) {
            Ok(at) if changes[at].new == change.old => changes[at].new.clone_from(&change.new),
            Ok(_) => return Err(VALUES),
            Err(at) => {
                let AttributeChange { name, old, new } = change.clone();
                changes.insert(at, AttributeChange { name, old, new });
            }
        }
    }
    AttributesUpdate::new(changes).map_err(|error| ComposeError(error.reason))
}
