//! Counters of what happens, as one text page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// The counters of one server. Cheap to clone. Names and labels are few and fixed; nothing from outside becomes one.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    counts: Arc<Mutex<BTreeMap<(&'static str, &'static str), i64>>>,
}

impl Metrics {
    /// No counts yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more of a kind of something: `count("refused", "author is not a participant")`.
    pub fn count(&self, name: &'static str, kind: &'static str) {
        self.add(name, kind, 1);
    }

    /// More, or less, of a kind of something.
    pub fn add(&self, name: &'static str, kind: &'static str, change: i64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((name, kind)).or_default();
        *count = count.saturating_add(change);
    }

    /// So many of a kind of something, whatever there was.
    pub fn set(&self, name: &'static str, kind: &'static str, value: i64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.insert((name, kind), value);
    }

    /// How many of a kind of something.
    #[must_use]
    pub fn value(&self, name: &str, kind: &str) -> i64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .find(|((a, b), _)| *a == name && *b == kind)
            .map_or(0, |(_, count)| *count)
    }

    /// All of them, in Prometheus' text form.
    #[must_use]
    pub fn text(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for ((name, kind), count) in counts.iter() {
            writeln!(text, "billow_{name}{{kind=\"{kind}\"}} {count}").expect("a string takes all text");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_by_name_and_kind() {
        let metrics = Metrics::new();
        metrics.count("refused", "not a participant");
        metrics.count("refused", "not a participant");
        metrics.add("sockets", "open", 3);
        assert_eq!(metrics.value("refused", "not a participant"), 2);
        assert_eq!(
            metrics.text(),
            "billow_refused{kind=\"not a participant\"} 2\nbillow_sockets{kind=\"open\"} 3\n"
        );
    }
}
