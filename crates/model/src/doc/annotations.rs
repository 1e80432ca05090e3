//! What one item is annotated with.

use std::sync::Arc;

use crate::doc::op::utf16_cmp;
use crate::doc::update::Update;

/// Annotation values by key, in UTF-16 order of keys. Shared between the items that have them: a clone costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Annotations(Option<Arc<[Pair]>>);

/// A key and its value.
type Pair = (Arc<str>, Arc<str>);

impl Annotations {
    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.shared(key).map(|value| &**value)
    }
    /// Pairs in order of key.
    pub fn iter(&self) -> impl Iterator<Item = &(Arc<str>, Arc<str>)> {
        self.pairs().iter()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
    fn pairs(&self) -> &[Pair] {
        self.0.as_deref().unwrap_or_default()
    }
    pub(crate) fn shared(&self, key: &str) -> Option<&Arc<str>> {
        let pairs = self.pairs();
        let at = pairs.binary_search_by(|(other, _)| utf16_cmp(other, key)).ok()?;
        Some(&pairs[at].1)
    }
    /// Whether each key of the update has its old value.
    pub(crate) fn fits(&self, update: &Update) -> bool {
        update
            .iter()
            .all(|(key, values)| self.shared(key) == values.old.as_ref())
    }
    /// With the new values of the update.
    pub(crate) fn updated(&self, update: &Update) -> Self {
        if update.is_empty() {
            return self.clone();
        }
        let mut pairs = self.pairs().to_vec();
        for (key, values) in update.iter() {
            match (pairs.binary_search_by(|(other, _)| utf16_cmp(other, key)), &values.new) {
                (Ok(at), Some(new)) => pairs[at].1 = new.clone(),
                (Ok(at), None) => drop(pairs.remove(at)),
                (Err(at), Some(new)) => pairs.insert(at, (key.clone(), new.clone())),
                (Err(_), None) => {}
            }
        }
        Self((!pairs.is_empty()).then(|| pairs.into()))
    }
    /// Whether each key in which the two differ satisfies `allowed`.
    pub(crate) fn differ_only(&self, other: &Self, allowed: impl Fn(&str) -> bool) -> bool {
        let against = |a: &Self, b: &Self| {
            a.iter()
                .all(|(key, value)| b.shared(key) == Some(value) || allowed(key))
        };
        against(self, other) && against(other, self)
    }
}

impl PartialEq for Annotations {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }
}

impl Eq for Annotations {}
