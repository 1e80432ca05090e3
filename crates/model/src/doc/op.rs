//! Document operations: a list of components, run left to right over a document (operations.md §2).

use std::cmp::Ordering;
use std::sync::Arc;

use crate::doc::well_formed;

/// Compares as Java does, by UTF-16 code units; differs from `str` order above U+FFFF (operations.md §1).
#[must_use]
pub fn utf16_cmp(a: &str, b: &str) -> Ordering {
    // UTF-8 orders as code points do. The one difference: U+E000..FFFF (lead bytes EE, EF) come after the surrogates
    // that stand for the supplementary planes (lead bytes F0 up); continuation bytes are all below EE.
    match a.bytes().zip(b.bytes()).find(|(a, b)| a != b) {
        None => a.len().cmp(&b.len()),
        Some((a, b)) if a >= 0xEE && b >= 0xEE && (a >= 0xF0) != (b >= 0xF0) => b.cmp(&a),
        Some((a, b)) => a.cmp(&b),
    }
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
    /// Checks the components; what well-formed means is in `well_formed.rs`.
    pub fn new(components: Vec<Component>) -> Result<Self, IllFormed> {
        well_formed::check(&components)?;
        Ok(Self(components))
    }
    /// For results that are well-formed because of how they are made.
    pub(crate) fn trusted(components: Vec<Component>) -> Self {
        debug_assert!(
            well_formed::check(&components).is_ok(),
            "an operation made here is well-formed"
        );
        Self(components)
    }
    /// The components in order.
    #[must_use]
    pub fn components(&self) -> &[Component] {
        &self.0
    }
    /// How many items a document must have for the operation to fit it.
    #[must_use]
    pub fn initial_len(&self) -> usize {
        self.0.iter().map(Component::consumes).sum()
    }
    /// Whether text beyond U+FFFF is inserted or deleted, which the reference refuses.
    #[must_use]
    pub fn has_supplementary_text(&self) -> bool {
        self.0.iter().any(|component| match component {
            Component::Characters(text) | Component::DeleteCharacters(text) => text.bytes().any(|byte| byte >= 0xF0),
            _ => false,
        })
    }
}

impl Component {
    /// How many items of the document before it takes up.
    #[must_use]
    pub fn consumes(&self) -> usize {
        match self {
            Self::Retain(count) => *count as usize,
            Self::DeleteCharacters(text) => item_count(text),
            Self::DeleteElementStart { .. }
            | Self::DeleteElementEnd
            | Self::ReplaceAttributes { .. }
            | Self::UpdateAttributes(_) => 1,
            Self::Characters(_) | Self::ElementStart { .. } | Self::ElementEnd | Self::AnnotationBoundary(_) => 0,
        }
    }
    /// How many items of the document after it makes up.
    #[must_use]
    pub fn produces(&self) -> usize {
        match self {
            Self::Retain(count) => *count as usize,
            Self::Characters(text) => item_count(text),
            Self::ElementStart { .. }
            | Self::ElementEnd
            | Self::ReplaceAttributes { .. }
            | Self::UpdateAttributes(_) => 1,
            Self::DeleteCharacters(_)
            | Self::DeleteElementStart { .. }
            | Self::DeleteElementEnd
            | Self::AnnotationBoundary(_) => 0,
        }
    }
}

/// The number of items in a text.
pub(crate) fn item_count(text: &str) -> usize {
    text.chars().count()
}

impl Attributes {
    /// Pairs whose names must strictly increase.
    pub fn new(pairs: Vec<(Arc<str>, Arc<str>)>) -> Result<Self, IllFormed> {
        if pairs.windows(2).any(|pair| utf16_cmp(&pair[0].0, &pair[1].0).is_ge()) {
            return Err(IllFormed {
                index: 0,
                reason: "attribute names strictly increase",
            });
        }
        Ok(Self(pairs))
    }
    /// Sorts the pairs; of a repeated name the last wins, as the reference reads them (operations.md §2, wire quirks).
    #[must_use]
    pub fn from_pairs(pairs: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Self {
        let mut list: Vec<(Arc<str>, Arc<str>)> = pairs.into_iter().collect();
        list.sort_by(|a, b| utf16_cmp(&a.0, &b.0));
        list.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1.clone();
            }
            same
        });
        Self(list)
    }
    /// The value of an attribute.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.shared(name).map(|value| &**value)
    }
    pub(crate) fn shared(&self, name: &str) -> Option<&Arc<str>> {
        self.0
            .iter()
            .find(|(other, _)| &**other == name)
            .map(|(_, value)| value)
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
    /// With the new values of an update, or `None` where an old value is seen to be wrong.
    ///
    /// COMPAT(wiab): it is seen only while an attribute of that or a later name remains (operations.md §6, "errors").
    pub(crate) fn updated(&self, update: &AttributesUpdate) -> Option<Self> {
        let mut pairs = Vec::with_capacity(self.0.len() + update.0.len());
        let mut rest = self.0.as_slice();
        for change in &update.0 {
            let passed = rest
                .iter()
                .take_while(|(name, _)| utf16_cmp(name, &change.name).is_lt())
                .count();
            pairs.extend_from_slice(&rest[..passed]);
            rest = &rest[passed..];
            if let Some(((name, value), later)) = rest.split_first() {
                let here = *name == change.name;
                if change.old.as_ref() != here.then_some(value) {
                    return None;
                }
                rest = if here { later } else { rest };
            }
            pairs.extend(change.new.clone().map(|new| (change.name.clone(), new)));
        }
        pairs.extend_from_slice(rest);
        Some(Self(pairs))
    }
}

impl AttributesUpdate {
    /// Changes whose names must strictly increase.
    pub fn new(changes: Vec<AttributeChange>) -> Result<Self, IllFormed> {
        if changes
            .windows(2)
            .any(|pair| utf16_cmp(&pair[0].name, &pair[1].name).is_ge())
        {
            return Err(IllFormed {
                index: 0,
                reason: "attribute names strictly increase",
            });
        }
        Ok(Self(changes))
    }
    /// Sorts the changes; a repeated name is an error (operations.md §2, wire quirks).
    pub fn from_changes(mut changes: Vec<AttributeChange>) -> Result<Self, IllFormed> {
        changes.sort_by(|a, b| utf16_cmp(&a.name, &b.name));
        Self::new(changes)
    }
    /// The changes in order of name.
    #[must_use]
    pub fn changes(&self) -> &[AttributeChange] {
        &self.0
    }
    /// The update that undoes this one.
    #[must_use]
    pub fn inverted(&self) -> Self {
        let swap = |c: &AttributeChange| AttributeChange {
            name: c.name.clone(),
            old: c.new.clone(),
            new: c.old.clone(),
        };
        Self(self.0.iter().map(swap).collect())
    }
    pub(crate) fn find(&self, name: &str) -> Option<&AttributeChange> {
        self.0.iter().find(|change| &*change.name == name)
    }
}
