//! The items of a document in leaves of some hundred, with an index over the leaves' lengths: reading and changing a few
//! items costs the logarithm of the document at most, and next to nothing near the place of the last change.
//!
//! This is only the sequence; whether a change is allowed is the business of [`document`](super::document).

use crate::doc::annotations::Annotations;
use crate::doc::update::Update;

/// One item in four bytes: a character, an element end, or the start of the element in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item(u32);

impl Item {
    /// The end of an element; above every character.
    pub(crate) const END: Self = Self(0x11_0000);
    const START: u32 = 0x8000_0000;

    pub(crate) fn character(c: char) -> Self {
        Self(u32::from(c))
    }
    pub(crate) fn start(slot: usize) -> Self {
        assert!(slot < Self::START as usize, "an operation has less than 2^31 items");
        Self(Self::START | slot as u32)
    }
    pub(crate) fn as_char(self) -> Option<char> {
        char::from_u32(self.0)
    }
    pub(crate) fn as_slot(self) -> Option<usize> {
        (self.0 & Self::START != 0).then_some((self.0 & !Self::START) as usize)
    }
    fn depth(self) -> i32 {
        if self == Self::END {
            -1
        } else {
            i32::from(self.0 & Self::START != 0)
        }
    }
}

/// A leaf splits above this many items. Moving half of a kilobyte is cheaper than finding it.
const LEAF_MAX: usize = 256;
/// How full leaves are after a split of many.
const LEAF_FILL: usize = LEAF_MAX * 3 / 4;
/// A leaf below this joins a neighbour if both fit well.
const LEAF_MIN: usize = LEAF_MAX / 8;

#[derive(Debug, Clone)]
struct Run {
    len: usize,
    annotations: Annotations,
}

#[derive(Debug, Clone, Default)]
struct Leaf {
    items: Vec<Item>,
    /// Lengths sum up to the items'; neighbours differ, none is empty.
    runs: Vec<Run>,
    /// Element starts less ends.
    net: i32,
    /// The least depth before or after an item, relative to the leaf's left edge; 0 or below.
    low: i32,
}

/// A place found before: a leaf and the position of its first item.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Near {
    leaf: usize,
    start: usize,
}

/// The sequence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Items {
    leaves: Vec<Leaf>,
    /// A Fenwick tree over the leaves' lengths.
    sums: Vec<usize>,
    len: usize,
    near: Near,
}

impl Items {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the last change was.
    pub(crate) fn near(&self) -> Near {
        self.near
    }

    /// Puts `near` on the leaf of the item at `position`, which must exist; the offset in the leaf.
    fn find(&self, near: &mut Near, position: usize) -> usize {
        debug_assert!(position < self.len, "an item is looked for inside the document");
        if let Some(leaf) = self.leaves.get(near.leaf)
            && near.start <= position
        {
            if position - near.start < leaf.items.len() {
                return position - near.start;
            }
            let next = Near {
                leaf: near.leaf + 1,
                start: near.start + leaf.items.len(),
            };
            if self
                .leaves
                .get(next.leaf)
                .is_some_and(|leaf| position - next.start < leaf.items.len())
            {
                *near = next;
                return position - next.start;
            }
        }
        let (mut leaf, mut start) = (0, 0);
        let mut step = self.sums.len().next_power_of_two();
        while step > 0 {
            if let Some(&sum) = (leaf + step).checked_sub(1).and_then(|at| self.sums.get(at))
                && start + sum <= position
            {
                leaf += step;
                start += sum;
            }
            step /= 2;
        }
        *near = Near { leaf, start };
        position - start
    }

    /// The item and its annotations.
    pub(crate) fn at(&self, near: &mut Near, position: usize) -> (Item, &Annotations) {
        let offset = self.find(near, position);
        let leaf = &self.leaves[near.leaf];
        (leaf.items[offset], &leaf.runs[leaf.run_at(offset).0].annotations)
    }

    /// Items from `position` on that lie together and have the same annotations; at most `limit`, at least one.
    pub(crate) fn run(&self, near: &mut Near, position: usize, limit: usize) -> (&[Item], &Annotations) {
        let offset = self.find(near, position);
        let leaf = &self.leaves[near.leaf];
        let (run, end) = leaf.run_at(offset);
        (
            &leaf.items[offset..end.min(offset + limit)],
            &leaf.runs[run].annotations,
        )
    }

    /// All runs in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&[Item], &Annotations)> {
        self.leaves.iter().flat_map(|leaf| {
            let mut start = 0;
            leaf.runs.iter().map(move |run| {
                start += run.len;
                (&leaf.items[start - run.len..start], &run.annotations)
            })
        })
    }

    /// Inserts before the item at `position`, or at the end.
    pub(crate) fn insert(
        &mut self,
        position: usize,
        items: impl ExactSizeIterator<Item = Item>,
        annotations: Annotations,
    ) {
        let count = items.len();
        if self.leaves.is_empty() {
            self.leaves.push(Leaf::default());
            self.sums.push(0);
        }
        // Next to the item on the left: its annotations are the likely ones.
        let mut near = self.near;
        let offset = if position == 0 {
            near = Near::default();
            0
        } else {
            self.find(&mut near, position - 1) + 1
        };
        let leaf = &mut self.leaves[near.leaf];
        leaf.insert(offset, items, count, annotations);
        let full = leaf.items.len() > LEAF_MAX;
        self.len += count;
        if full {
            self.split(near.leaf);
        } else {
            self.grow(near.leaf, count);
        }
        self.near = near;
    }

    /// Removes `count` items.
    pub(crate) fn remove(&mut self, position: usize, count: usize) {
        if count == 0 {
            return;
        }
        let mut near = self.near;
        let offset = self.find(&mut near, position);
        let first = near.leaf;
        self.len -= count;
        let here = count.min(self.leaves[first].items.len() - offset);
        self.leaves[first].remove(offset, here);
        if here == count && self.leaves[first].items.len() >= LEAF_MIN {
            self.shrink(first, count);
            self.near = near;
            return;
        }
        let (mut left, mut last) = (count - here, first + 1);
        while left > 0 {
            let here = left.min(self.leaves[last].items.len());
            left -= here;
            if here < self.leaves[last].items.len() {
                self.leaves[last].remove(0, here);
                break;
            }
            last += 1;
        }
        self.leaves.drain(first + 1..last);
        self.join(first);
        self.index();
        self.near = Near::default();
    }

    /// Applies the update to the annotations of `count` items.
    pub(crate) fn annotate(&mut self, position: usize, count: usize, update: &Update) {
        let mut near = self.near;
        let (mut at, end) = (position, position + count);
        while at < end {
            let offset = self.find(&mut near, at);
            let leaf = &mut self.leaves[near.leaf];
            let here = (end - at).min(leaf.items.len() - offset);
            leaf.annotate(offset, here, update);
            at += here;
        }
        self.near = near;
    }

    /// The position of the start of the innermost element that is open just before `position`.
    pub(crate) fn parent(&self, near: &mut Near, position: usize) -> Option<usize> {
        if position == 0 {
            return None;
        }
        let offset = self.find(near, position - 1);
        let (mut leaf, mut start) = (near.leaf, near.start);
        let mut depth = 0;
        let mut end = offset + 1;
        loop {
            // Is there, in this leaf, a start at which the depth counted from the right rises above what is closed?
            let whole = &self.leaves[leaf];
            if end < whole.items.len() || depth + whole.net - whole.low > 0 {
                for (at, item) in whole.items[..end].iter().enumerate().rev() {
                    depth += item.depth();
                    if depth > 0 {
                        return Some(start + at);
                    }
                }
            } else {
                depth += whole.net;
            }
            leaf = leaf.checked_sub(1)?;
            end = self.leaves[leaf].items.len();
            start -= end;
        }
    }

    fn split(&mut self, at: usize) {
        let Leaf { items, runs, .. } = std::mem::take(&mut self.leaves[at]);
        let pieces = items.len().div_ceil(LEAF_FILL).max(2);
        let mut runs = runs.into_iter();
        let mut rest: Option<Run> = None;
        let leaves = (0..pieces).map(|piece| {
            let (from, to) = (items.len() * piece / pieces, items.len() * (piece + 1) / pieces);
            let mut leaf = Leaf {
                items: items[from..to].to_vec(),
                ..Leaf::default()
            };
            leaf.items.reserve_exact(LEAF_MAX + 1 - (to - from));
            let mut wanted = to - from;
            while wanted > 0 {
                let mut run = rest.take().or_else(|| runs.next()).expect("runs cover the items");
                if run.len > wanted {
                    rest = Some(Run {
                        len: run.len - wanted,
                        annotations: run.annotations.clone(),
                    });
                    run.len = wanted;
                }
                wanted -= run.len;
                leaf.runs.push(run);
            }
            leaf.measure();
            leaf
        });
        let leaves: Vec<Leaf> = leaves.collect();
        self.leaves.splice(at..=at, leaves);
        self.index();
    }

    /// Joins a small leaf with a neighbour, or drops it if it is empty.
    fn join(&mut self, at: usize) {
        let len = self.leaves[at].items.len();
        if len == 0 {
            self.leaves.remove(at);
            return;
        }
        let fits = |neighbour: usize| {
            self.leaves
                .get(neighbour)
                .is_some_and(|leaf| leaf.items.len() + len <= LEAF_FILL)
        };
        let first = if len >= LEAF_MIN {
            return;
        } else if fits(at + 1) {
            at
        } else if at > 0 && fits(at - 1) {
            at - 1
        } else {
            return;
        };
        let second = self.leaves.remove(first + 1);
        let leaf = &mut self.leaves[first];
        leaf.items.extend_from_slice(&second.items);
        second.runs.into_iter().for_each(|run| leaf.push_run(run));
        leaf.measure();
    }

    /// Builds the index anew.
    fn index(&mut self) {
        self.sums.clear();
        self.sums.extend(self.leaves.iter().map(|leaf| leaf.items.len()));
        for at in 0..self.sums.len() {
            let parent = at | (at + 1);
            if parent < self.sums.len() {
                self.sums[parent] += self.sums[at];
            }
        }
    }

    fn grow(&mut self, mut leaf: usize, count: usize) {
        while let Some(sum) = self.sums.get_mut(leaf) {
            *sum += count;
            leaf |= leaf + 1;
        }
    }

    fn shrink(&mut self, mut leaf: usize, count: usize) {
        while let Some(sum) = self.sums.get_mut(leaf) {
            *sum -= count;
            leaf |= leaf + 1;
        }
    }
}

impl Leaf {
    /// The run of the item at `offset`, and where the run ends.
    fn run_at(&self, offset: usize) -> (usize, usize) {
        let mut end = 0;
        for (index, run) in self.runs.iter().enumerate() {
            end += run.len;
            if offset < end {
                return (index, end);
            }
        }
        unreachable!("runs cover the items")
    }

    fn insert(&mut self, offset: usize, items: impl Iterator<Item = Item>, count: usize, annotations: Annotations) {
        if offset == 0 {
            self.runs.insert(
                0,
                Run {
                    len: count,
                    annotations,
                },
            );
            self.merge(1);
        } else {
            let (left, end) = self.run_at(offset - 1);
            if self.runs[left].annotations == annotations {
                self.runs[left].len += count;
            } else {
                if end > offset {
                    self.runs[left].len -= end - offset;
                    let rest = Run {
                        len: end - offset,
                        annotations: self.runs[left].annotations.clone(),
                    };
                    self.runs.insert(left + 1, rest);
                }
                self.runs.insert(
                    left + 1,
                    Run {
                        len: count,
                        annotations,
                    },
                );
                self.merge(left + 2);
            }
        }
        if count == 1 {
            let item = { items }.next().expect("one item was announced");
            self.items.insert(offset, item);
            if item.depth() != 0 {
                self.measure();
            }
        } else {
            self.items.splice(offset..offset, items);
            self.measure();
        }
    }

    fn remove(&mut self, offset: usize, count: usize) {
        if count == 0 {
            return;
        }
        let flat = self.items.drain(offset..offset + count).all(|item| item.depth() == 0);
        let (mut run, end) = self.run_at(offset);
        let mut left = count;
        let mut here = end - offset;
        loop {
            let taken = left.min(here);
            self.runs[run].len -= taken;
            left -= taken;
            if self.runs[run].len == 0 {
                self.runs.remove(run);
            } else {
                run += 1;
            }
            if left == 0 {
                break;
            }
            here = self.runs[run].len;
        }
        // The seam is between the run that was cut and the one after; one of the two borders is enough to look at each.
        self.merge(run);
        if run > 0 {
            self.merge(run - 1);
        }
        if !flat {
            self.measure();
        }
    }

    fn annotate(&mut self, offset: usize, count: usize, update: &Update) {
        let old = std::mem::take(&mut self.runs);
        let (mut at, end) = (0, offset + count);
        for run in old {
            let run_end = at + run.len;
            let changed = run.annotations.updated(update);
            let pieces = [(run_end.min(offset), false), (run_end.min(end), true), (run_end, false)];
            for (to, inside) in pieces {
                if to > at {
                    let annotations = if inside {
                        changed.clone()
                    } else {
                        run.annotations.clone()
                    };
                    self.push_run(Run {
                        len: to - at,
                        annotations,
                    });
                    at = to;
                }
            }
        }
    }

    fn push_run(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if last.annotations == run.annotations => last.len += run.len,
            _ => self.runs.push(run),
        }
    }

    /// Joins the run with the one before it if they are alike.
    fn merge(&mut self, run: usize) {
        if run > 0 && run < self.runs.len() && self.runs[run - 1].annotations == self.runs[run].annotations {
            self.runs[run - 1].len += self.runs[run].len;
            self.runs.remove(run);
        }
    }

    fn measure(&mut self) {
        (self.net, self.low) = self.items.iter().fold((0, 0), |(net, low), item| {
            let net = net + item.depth();
            (net, low.min(net))
        });
    }
}
