//! The annotations update: the changes that are open at a point of an operation, by key (operations.md §2).

use std::sync::Arc;

use crate::doc::op::{AnnotationBoundary, AnnotationChange, utf16_cmp};

/// A value before and after; `None` is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OldNew {
    pub(crate) old: Option<Arc<str>>,
    pub(crate) new: Option<Arc<str>>,
}

impl OldNew {
    pub(crate) fn of(change: &AnnotationChange) -> Self {
        Self {
            old: change.old.clone(),
            new: change.new.clone(),
        }
    }
}

/// A map in UTF-16 order of keys. Small as a rule: a sorted list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyMap<V>(Vec<(Arc<str>, V)>);

/// The open changes.
pub(crate) type Update = KeyMap<OldNew>;

impl<V> Default for KeyMap<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> KeyMap<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, (Arc<str>, V)> {
        self.0.iter()
    }
    fn at(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| utf16_cmp(other, key))
    }
    pub(crate) fn find(&self, key: &str) -> Option<&V> {
        self.at(key).ok().map(|at| &self.0[at].1)
    }
    pub(crate) fn set(&mut self, key: &Arc<str>, value: V) {
        match self.at(key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key.clone(), value)),
        }
    }
    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        self.at(key).ok().map(|at| self.0.remove(at).1)
    }
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
    pub(crate) fn drain(&mut self) -> std::vec::Drain<'_, (Arc<str>, V)> {
        self.0.drain(..)
    }
}

impl Update {
    /// Takes a boundary: ends, then changes.
    pub(crate) fn pass(&mut self, boundary: &AnnotationBoundary) {
        for key in &boundary.ends {
            self.remove(key);
        }
        for change in &boundary.changes {
            self.set(&change.key, OldNew::of(change));
        }
    }
}
