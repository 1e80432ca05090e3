//! The document itself: what fits it, and what it becomes (operations.md §1, §2).

use sha2::{Digest, Sha256};
use std::sync::Arc;

use crate::doc::annotations::Annotations;
use crate::doc::items::{Item, Items, Near};
use crate::doc::op::{Attributes, Component, DocOp, item_count};
use crate::doc::update::Update;

/// A document: items with annotations. Applying a small operation costs the same whatever the document's size.
#[derive(Debug, Clone, Default)]
pub struct Document {
    items: Items,
    elements: Vec<Element>,
    /// Slots of elements that are no more.
    free: Vec<usize>,
    /// What each insertion of the operation at hand is annotated with; kept for its memory only.
    inherited: Vec<Annotations>,
}

#[derive(Debug, Clone)]
struct Element {
    kind: Arc<str>,
    attributes: Attributes,
}

/// Why an operation does not fit a document; the document is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("operation does not fit the document at item {item}: {reason}")]
pub struct ApplyError {
    /// The item's position in the document before the operation.
    pub item: usize,
    /// What was expected there.
    pub reason: &'static str,
}

/// One item, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemRef<'a> {
    /// A character.
    Character(char),
    /// The start of an element.
    Start {
        /// Its type.
        kind: &'a Arc<str>,
        /// Its attributes.
        attributes: &'a Attributes,
    },
    /// The end of the element last started.
    End,
}

impl Document {
    /// The empty document.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Length in items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }
    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Applies an operation; on error nothing has changed.
    pub fn apply(&mut self, op: &DocOp) -> Result<(), ApplyError> {
        let mut inherited = std::mem::take(&mut self.inherited);
        let fits = Check::new(self, &mut inherited).run(op);
        if fits.is_ok() {
            self.change(op, &mut inherited);
        }
        inherited.clear();
        self.inherited = inherited;
        fits
    }

    /// Whether an operation fits, without applying it.
    pub fn check(&self, op: &DocOp) -> Result<(), ApplyError> {
        Check::new(self, &mut Vec::new()).run(op)
    }

    /// All items in order.
    pub fn items(&self) -> impl Iterator<Item = (ItemRef<'_>, &Annotations)> {
        self.items
            .runs()
            .flat_map(move |(items, annotations)| items.iter().map(move |&item| (self.read(item), annotations)))
    }

    /// The item at a position.
    #[must_use]
    pub fn item(&self, position: usize) -> Option<ItemRef<'_>> {
        (position < self.len()).then(|| self.read(self.items.at(&mut self.items.near(), position).0))
    }

    /// The annotations of the item at a position.
    #[must_use]
    pub fn annotations(&self, position: usize) -> Option<&Annotations> {
        (position < self.len()).then(|| self.items.at(&mut self.items.near(), position).1)
    }

    /// The position of the innermost element start that is open just before `position`.
    #[must_use]
    pub fn parent(&self, position: usize) -> Option<usize> {
        self.items.parent(&mut self.items.near(), position.min(self.len()))
    }

    fn read(&self, item: Item) -> ItemRef<'_> {
        if let Some(c) = item.as_char() {
            ItemRef::Character(c)
        } else if let Some(slot) = item.as_slot() {
            let Element { kind, attributes } = &self.elements[slot];
            ItemRef::Start { kind, attributes }
        } else {
            ItemRef::End
        }
    }

    /// Makes the change of an operation that fits.
    fn change(&mut self, op: &DocOp, inherited: &mut Vec<Annotations>) {
        let mut inherited = inherited.drain(..);
        let mut inherit = || inherited.next().expect("the check left annotations for each insertion");
        let mut update = Update::default();
        let mut at = 0;
        for component in op.components() {
            match component {
                Component::Retain(count) => self.retain(at, *count as usize, &update),
                Component::Characters(text) => self.insert_text(at, text, inherit()),
                Component::ElementStart { kind, attributes } => {
                    let start = self.new_element(kind, attributes);
                    self.items.insert(at, std::iter::once(start), inherit());
                }
                Component::ElementEnd => self.items.insert(at, std::iter::once(Item::END), inherit()),
                Component::DeleteCharacters(text) => self.items.remove(at, item_count(text)),
                Component::DeleteElementStart { .. } => {
                    self.free.extend(self.slot_at(at));
                    self.items.remove(at, 1);
                }
                Component::DeleteElementEnd => self.items.remove(at, 1),
                Component::ReplaceAttributes { new, .. } => {
                    self.set_attributes(at, |_| Some(new.clone()));
                    self.retain(at, 1, &update);
                }
                Component::UpdateAttributes(changes) => {
                    self.set_attributes(at, |old| old.updated(changes));
                    self.retain(at, 1, &update);
                }
                Component::AnnotationBoundary(boundary) => update.pass(boundary),
            }
            at += component.produces();
        }
    }

    fn retain(&mut self, at: usize, count: usize, update: &Update) {
        if !update.is_empty() {
            self.items.annotate(at, count, update);
        }
    }

    fn insert_text(&mut self, at: usize, text: &str, annotations: Annotations) {
        let mut chars = text.chars();
        if let (Some(only), None) = (chars.next(), chars.next()) {
            self.items
                .insert(at, std::iter::once(Item::character(only)), annotations);
        } else {
            let items: Vec<Item> = text.chars().map(Item::character).collect();
            self.items.insert(at, items.into_iter(), annotations);
        }
    }

    fn new_element(&mut self, kind: &Arc<str>, attributes: &Attributes) -> Item {
        let element = Element {
            kind: kind.clone(),
            attributes: attributes.clone(),
        };
        if let Some(slot) = self.free.pop() {
            self.elements[slot] = element;
            Item::start(slot)
        } else {
            self.elements.push(element);
            Item::start(self.elements.len() - 1)
        }
    }

    fn slot_at(&self, at: usize) -> Option<usize> {
        self.items.at(&mut self.items.near(), at).0.as_slot()
    }

    fn set_attributes(&mut self, at: usize, new: impl FnOnce(&Attributes) -> Option<Attributes>) {
        let slot = self.slot_at(at).expect("the check found an element start");
        let attributes = &mut self.elements[slot].attributes;
        *attributes = new(attributes).expect("the check found the old values");
    }

    /// The document as an operation of insertions, in the one normal form of the vectors' README.
    #[must_use]
    pub fn to_op(&self) -> DocOp {
        super::initialization::write(self)
    }

    /// All its characters, elements left out; a `line` element that is not the first of its parent reads as a newline.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(self.len());
        // For each open element, and for the top, whether a line was met.
        let mut lines = vec![false];
        for (item, _) in self.items() {
            match item {
                ItemRef::Character(c) => out.push(c),
                ItemRef::Start { kind, .. } => {
                    if &**kind == "line"
                        && let Some(met) = lines.last_mut()
                        && std::mem::replace(met, true)
                    {
                        out.push('\n');
                    }
                    lines.push(false);
                }
                ItemRef::End => drop(lines.pop()),
            }
        }
        out
    }

    /// SHA-256 over the normal form: equal exactly when two documents are equal in items and annotations.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        super::initialization::hash(self, &mut hash);
        hash.finalize().into()
    }
}

/// The walk that decides whether an operation fits (operations.md §2, "annotation semantics" and "validity").
struct Check<'a> {
    document: &'a Document,
    near: Near,
    at: usize,
    update: Update,
    output: Output,
    inherited: &'a mut Vec<Annotations>,
}

/// The annotations of the output just left of the cursor, deletions aside: what deleted items are measured by.
enum Output {
    /// As the item at this position has them, unchanged.
    Item(usize),
    /// These.
    Known(Annotations),
}

type Fit = Result<(), &'static str>;

impl<'a> Check<'a> {
    fn new(document: &'a Document, inherited: &'a mut Vec<Annotations>) -> Self {
        let (near, output) = (document.items.near(), Output::Known(Annotations::default()));
        Self {
            document,
            near,
            at: 0,
            update: Update::default(),
            output,
            inherited,
        }
    }

    fn run(mut self, op: &DocOp) -> Result<(), ApplyError> {
        for component in op.components() {
            self.step(component)
                .map_err(|reason| ApplyError { item: self.at, reason })?;
        }
        if self.at == self.document.len() {
            Ok(())
        } else {
            Err(ApplyError {
                item: self.at,
                reason: "the operation ends where the document ends",
            })
        }
    }

    fn step(&mut self, component: &Component) -> Fit {
        match component {
            Component::Retain(count) => self.retain(*count as usize),
            Component::Characters(_) | Component::ElementStart { .. } | Component::ElementEnd => self.insert(),
            Component::DeleteCharacters(text) => self.delete_text(text),
            Component::DeleteElementStart { kind, attributes } => {
                match self.item()? {
                    ItemRef::Start { kind: k, attributes: a } if k == kind && a == attributes => {}
                    _ => return Err("the element start to be deleted has this type and these attributes"),
                }
                self.delete_one()
            }
            Component::DeleteElementEnd => {
                if self.item()? != ItemRef::End {
                    return Err("an element ends where its end is deleted");
                }
                self.delete_one()
            }
            Component::ReplaceAttributes { old, .. } => match self.item()? {
                ItemRef::Start { attributes, .. } if attributes == old => self.retain(1),
                _ => Err("an element with exactly the old attributes starts where they are replaced"),
            },
            Component::UpdateAttributes(update) => match self.item()? {
                ItemRef::Start { attributes, .. }
                    if update
                        .changes()
                        .iter()
                        .all(|c| attributes.shared(&c.name) == c.old.as_ref()) =>
                {
                    self.retain(1)
                }
                _ => Err("an element with the old values starts where attributes are updated"),
            },
            Component::AnnotationBoundary(boundary) => {
                self.update.pass(boundary);
                Ok(())
            }
        }
    }

    fn item(&mut self) -> Result<ItemRef<'a>, &'static str> {
        if self.at >= self.document.len() {
            return Err(PAST_END);
        }
        Ok(self.document.read(self.document.items.at(&mut self.near, self.at).0))
    }

    fn retain(&mut self, count: usize) -> Fit {
        let document = self.document;
        if count > document.len() - self.at {
            return Err(PAST_END);
        }
        let end = self.at + count;
        if self.update.is_empty() {
            self.at = end;
            self.output = Output::Item(end - 1);
            return Ok(());
        }
        while self.at < end {
            let (items, annotations) = document.items.run(&mut self.near, self.at, end - self.at);
            if !annotations.fits(&self.update) {
                return Err(OLD_VALUE);
            }
            self.at += items.len();
            if self.at == end {
                self.output = Output::Known(annotations.updated(&self.update));
            }
        }
        Ok(())
    }

    fn insert(&mut self) -> Fit {
        let left = match self.at.checked_sub(1) {
            Some(left) => self.document.items.at(&mut self.near, left).1.clone(),
            None => Annotations::default(),
        };
        if !left.fits(&self.update) {
            return Err(OLD_VALUE);
        }
        let inherited = left.updated(&self.update);
        self.inherited.push(inherited.clone());
        self.output = Output::Known(inherited);
        Ok(())
    }

    fn delete_text(&mut self, text: &str) -> Fit {
        let document = self.document;
        self.know_output();
        let mut chars = text.chars();
        let mut left = item_count(text);
        if left > document.len() - self.at {
            return Err(PAST_END);
        }
        while left > 0 {
            let (items, annotations) = document.items.run(&mut self.near, self.at, left);
            if !items.iter().all(|item| chars.next() == item.as_char()) {
                return Err("the text to be deleted is there");
            }
            self.deletable(annotations)?;
            self.at += items.len();
            left -= items.len();
        }
        Ok(())
    }

    fn delete_one(&mut self) -> Fit {
        let document = self.document;
        self.know_output();
        let annotations = document.items.at(&mut self.near, self.at).1;
        self.deletable(annotations)?;
        self.at += 1;
        Ok(())
    }

    fn know_output(&mut self) {
        if let Output::Item(at) = self.output {
            self.output = Output::Known(self.document.items.at(&mut self.near, at).1.clone());
        }
    }

    /// The update takes a deleted item's annotations to those of the output.
    fn deletable(&self, item: &Annotations) -> Fit {
        let Output::Known(output) = &self.output else {
            unreachable!("the output is made known before a deletion")
        };
        if self.update.is_empty() && item == output {
            return Ok(());
        }
        if !item.fits(&self.update) {
            return Err(OLD_VALUE);
        }
        if self
            .update
            .iter()
            .any(|(key, values)| output.shared(key) != values.new.as_ref())
        {
            return Err("a change around a deletion leads to the value left of it");
        }
        if item.differ_only(output, |key| self.update.find(key).is_some()) {
            Ok(())
        } else {
            Err("a deletion changes every annotation in which it differs from what is left of it")
        }
    }
}

const PAST_END: &str = "the document goes on here";
const OLD_VALUE: &str = "the annotation has the old value of its change";
