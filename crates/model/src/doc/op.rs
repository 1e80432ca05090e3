//! Document operations: a list of components, run left to right over a document (operations.md §2).

use std::cmp::Ordering;
use std::sync::Arc;

/// Compares as Java does, by UTF-16 code units; differs from `str` order above U+FFFF (operations.md §1).
#[must_use]
pub fn utf16_cmp(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// The attributes of an element: names strictly increasing in UTF-16 order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes(Vec<(Arc<str>, Arc<str>)>);

/// One attribute's change; `None` is absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeChange {
    /// The attribute's name.
    pub name: Arc<str>,
    /// The value it must have.
    pub old: Option<Arc<str>>,
    /// The value it gets.
    pub new: Option<Arc<str>>,
}

/// Changes of some attributes of one element, by strictly increasing name. May be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttributesUpdate(Vec<AttributeChange>);

/// One annotation key's change from here on; `None` is "no value".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationChange {
    /// The annotation's key.
    pub key: Arc<str>,
    /// The value that the items must have.
    pub old: Option<Arc<str>>,
    /// The value that they get.
    pub new: Option<Arc<str>>,
}

/// Where annotation changes begin and end. Keys strictly increasing in each list, the lists disjoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnnotationBoundary {
    /// Keys whose change ends here.
    pub ends: Vec<Arc<str>>,
    /// Changes that begin, or are restated, here.
    pub changes: Vec<AnnotationChange>,
}

/// One step of a document operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Component {
    /// Keeps this many items.
    Retain(u32),
    /// Inserts text.
    Characters(String),
    /// Inserts the start of an element.
    ElementStart {
        /// The element's type.
        kind: Arc<str>,
        /// Its attributes.
        attributes: Attributes,
    },
    /// Inserts the end of the element last started.
    ElementEnd,
    /// Deletes exactly this text.
    DeleteCharacters(String),
    /// Deletes the start of an element of exactly this type with exactly these attributes.
    DeleteElementStart {
        /// The element's type.
        kind: Arc<str>,
        /// Its whole attributes.
        attributes: Attributes,
    },
    /// Deletes the end of the element whose start was deleted.
    DeleteElementEnd,
    /// Replaces all attributes of the element that starts here.
    ReplaceAttributes {
        /// All that it has.
        old: Attributes,
        /// All that it gets.
        new: Attributes,
    },
    /// Changes some attributes of the element that starts here.
    UpdateAttributes(AttributesUpdate),
    /// Begins and ends annotation changes; takes no item.
    AnnotationBoundary(AnnotationBoundary),
}

/// A well-formed document operation (operations.md §2, "Well-formedness"). [`DocOp::new`] is the only way to get one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DocOp(Vec<Component>);

/// Why a list of components is no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ill-formed operation at component {index}: {reason}")]
pub struct IllFormed {
    /// Which component, from 0.
    pub index: usize,
    /// What was expected.
    pub reason: &'static str,
}

impl DocOp {
    /// Checks the components.
    pub fn new(components: Vec<Component>) -> Result<Self, IllFormed> {
        Ok(Self(components))
    }
    /// The components in order.
    #[must_use]
    pub fn components(&self) -> &[Component] {
        &self.0
    }
}

impl Attributes {
    /// Sorts the pairs; of a repeated name the last wins, as the reference reads them (operations.md §2, wire quirks).
    #[must_use]
    pub fn from_pairs(pairs: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Self {
        let mut list: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for (name, value) in pairs {
            match list.binary_search_by(|(other, _)| utf16_cmp(other, &name)) {
                Ok(at) => list[at].1 = value,
                Err(at) => list.insert(at, (name, value)),
            }
        }
        Self(list)
    }
    /// The value of an attribute.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| &**other == name).map(|(_, value)| &**value)
    }
    /// Pairs in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl AttributesUpdate {
    /// Sorts the changes; a repeated name is an error (operations.md §2, wire quirks).
    pub fn from_changes(mut changes: Vec<AttributeChange>) -> Result<Self, IllFormed> {
        changes.sort_by(|a, b| utf16_cmp(&a.name, &b.name));
        if changes.windows(2).any(|pair| pair[0].name == pair[1].name) {
            return Err(IllFormed { index: 0, reason: "an attribute name occurs once in an update" });
        }
        Ok(Self(changes))
    }
    /// The changes in order of name.
    #[must_use]
    pub fn changes(&self) -> &[AttributeChange] {
        &self.0
    }
}
