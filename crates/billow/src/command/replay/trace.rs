//! Editing traces: who typed what, having seen what (the collection josephg/editing-traces, CC BY 4.0).

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

/// `[position, deleted, inserted]`, counted in Unicode code points.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Patch(pub(super) usize, pub(super) usize, pub(super) String);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    start_content: String,
    end_content: String,
    txns: Vec<Transaction>,
}

impl File {
    /// No blip may hold a tab (operations.md §9): an em space, as long as one, stands for it.
    fn without_tabs(mut self) -> Self {
        let replace = |text: &mut String| *text = text.replace('\t', "\u{2003}");
        replace(&mut self.start_content);
        replace(&mut self.end_content);
        let patches = self.txns.iter_mut().flat_map(|txn| &mut txn.patches);
        patches.for_each(|Patch(_, _, inserted)| replace(inserted));
        self
    }
}

#[derive(Debug, Deserialize)]
struct Transaction {
    parents: Option<Vec<usize>>,
    #[serde(default)]
    agent: usize,
    #[serde(default)]
    time: String,
    patches: Vec<Patch>,
}

/// One person's edit.
#[derive(Debug)]
pub(super) struct Edit {
    /// What they did to the text they saw.
    pub(super) patches: Vec<Patch>,
    /// How many edits of each person they had seen (their own: all before this one).
    pub(super) seen: Vec<usize>,
    /// Seconds after the first edit of the trace.
    pub(super) at: f64,
}

/// A whole trace: each person's edits in order.
#[derive(Debug)]
pub(super) struct Trace {
    edits: Vec<Vec<Edit>>,
    start: String,
    end: Option<String>,
}

impl Trace {
    /// Reads a trace, gzipped or not; with `first`, only so many transactions of it.
    pub(super) fn read(path: &Path, first: Option<usize>) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read the trace {}", path.display()))?;
        let mut text = String::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text)
        } else {
            (&bytes[..]).read_to_string(&mut text)
        }
        .with_context(|| format!("{} is neither JSON nor gzip", path.display()))?;
        let file: File = serde_json::from_str(&text)
            .map(File::without_tabs)
            .with_context(|| format!("{} is no editing trace", path.display()))?;
        Self::from_file(file, first).with_context(|| format!("{} cannot be replayed", path.display()))
    }

    fn from_file(file: File, first: Option<usize>) -> anyhow::Result<Self> {
        let whole = first.is_none_or(|first| first >= file.txns.len());
        let count = first.unwrap_or(usize::MAX).min(file.txns.len());
        // People are numbered by their first edit.
        let mut order: Vec<usize> = Vec::new();
        for txn in &file.txns[..count] {
            if !order.contains(&txn.agent) {
                order.push(txn.agent);
            }
        }
        let mut edits: Vec<Vec<Edit>> = order.iter().map(|_| Vec::new()).collect();
        let mut seen_after: Vec<Vec<usize>> = Vec::with_capacity(count);
        let began = file.txns.first().map_or(0.0, |txn| seconds(&txn.time));
        for (index, txn) in file.txns.into_iter().take(count).enumerate() {
            let who = order
                .iter()
                .position(|agent| *agent == txn.agent)
                .expect("every agent was numbered");
            // A sequential trace names no parents: each transaction follows the one before.
            let parents = txn
                .parents
                .unwrap_or_else(|| index.checked_sub(1).into_iter().collect());
            let mut seen = vec![0; edits.len()];
            for parent in parents {
                let after = seen_after
                    .get(parent)
                    .with_context(|| format!("transaction {index} names a later parent {parent}"))?;
                seen.iter_mut()
                    .zip(after)
                    .for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
            }
            if seen[who] != edits[who].len() {
                bail!("transaction {index} does not follow its own author's last one");
            }
            edits[who].push(Edit {
                patches: txn.patches,
                seen: seen.clone(),
                at: (seconds(&txn.time) - began).max(0.0),
            });
            seen[who] += 1;
            seen_after.push(seen);
        }
        Ok(Self {
            edits,
            start: file.start_content,
            end: whole.then_some(file.end_content),
        })
    }

    /// How many people.
    pub(super) fn agents(&self) -> usize {
        self.edits.len()
    }

    /// One person's edits in order.
    pub(super) fn edits_of(&self, agent: usize) -> &[Edit] {
        &self.edits[agent]
    }

    /// The text before the first edit; the first person puts it there.
    pub(super) fn start_content(&self) -> &str {
        &self.start
    }

    /// The text after all edits; `None` when only a part is replayed.
    pub(super) fn end_content(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// Patches in all.
    pub(super) fn operations(&self) -> usize {
        self.edits.iter().flatten().map(|edit| edit.patches.len()).sum()
    }
}

/// Seconds since some epoch of a time like `2023-11-22T03:57:32+00:00` or `…32.123Z`; 0 when there is none.
/// Only differences within one trace are used, so months are taken as 31 days.
fn seconds(time: &str) -> f64 {
    let mut numbers = time
        .split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .filter_map(|part| part.parse::<f64>().ok());
    let mut next = || numbers.next().unwrap_or(0.0);
    let (year, month, day, hour, minute, second) = (next(), next(), next(), next(), next(), next());
    ((((year * 12.0 + month) * 31.0 + day) * 24.0 + hour) * 60.0 + minute) * 60.0 + second
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(json: &str) -> anyhow::Result<Trace> {
        Trace::from_file(serde_json::from_str(json)?, None)
    }

    #[test]
    fn who_has_seen_what_follows_from_the_parents() {
        let trace = trace(
            r#"{"endContent":"","txns":[
                {"parents":[],"agent":7,"patches":[[0,0,"a"]]},
                {"parents":[0],"agent":7,"patches":[[1,0,"b"]]},
                {"parents":[0],"agent":3,"patches":[[1,0,"c"]]},
                {"parents":[1,2],"agent":3,"patches":[[1,0,"d"]]}]}"#,
        )
        .expect("a trace");
        assert_eq!(trace.agents(), 2);
        assert_eq!(trace.edits_of(0)[1].seen, [1, 0]);
        assert_eq!(trace.edits_of(1)[0].seen, [1, 0]);
        assert_eq!(trace.edits_of(1)[1].seen, [2, 1]);
    }

    #[test]
    fn a_sequential_trace_is_one_person() {
        let trace =
            trace(r#"{"startContent":"","endContent":"ab","txns":[{"patches":[[0,0,"a"]]},{"patches":[[1,0,"b"]]}]}"#)
                .expect("a trace");
        assert_eq!((trace.agents(), trace.operations()), (1, 2));
        assert_eq!(trace.edits_of(0)[1].seen, [1]);
    }

    #[test]
    fn an_author_who_forgets_their_own_edit_is_refused() {
        let forgetful = r#"{"endContent":"","txns":[{"parents":[],"patches":[]},{"parents":[],"patches":[]}]}"#;
        assert!(trace(forgetful).is_err());
    }

    #[test]
    fn times_differ_by_their_seconds() {
        assert!((seconds("2023-11-22T04:10:20+00:00") - seconds("2023-11-22T03:57:32+00:00") - 768.0).abs() < 1e-6);
    }
}
