//! Documents and operations at random, from one seed each: small, dense in conflicts, with all that a document can hold.
//!
//! An operation is made by walking the document and choosing what to do at each item. The annotations update is chosen so
//! that it fits: that is the rule of operations.md §2, written down here a second time.

use billow_model::doc::{AnnotationBoundary, AnnotationChange, Annotations, AttributeChange, ItemRef, utf16_cmp};
use billow_model::{Attributes, AttributesUpdate, Component, DocOp, Document};

/// Names, keys and values; the last two keys order differently in UTF-16 and in UTF-8.
const KINDS: [&str; 4] = ["p", "q", "line", "𐐀t"];
const NAMES: [&str; 4] = ["a", "b", "\u{fb00}", "𐐀"];
const KEYS: [&str; 4] = ["a", "style/b", "\u{fb00}", "𐐀k"];
const VALUES: [&str; 4] = ["", "1", "2", "😀"];
const CHARS: [char; 7] = ['a', 'b', 'é', '日', '😀', '\u{fb00}', '\n'];

/// A small generator of numbers (splitmix64): the same seed, the same numbers.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
    fn attributes(&mut self) -> Attributes {
        let count = self.below(3);
        Attributes::from_pairs((0..count).map(|_| (self.pick(&NAMES).into(), self.pick(&VALUES).into())))
    }
    fn text(&mut self) -> String {
        (0..=self.below(4)).map(|_| self.pick(&CHARS)).collect()
    }
}

/// A document.
pub(crate) fn document(random: &mut Random) -> Document {
    let mut document = Document::new();
    for _ in 0..random.below(7) {
        let next = op(random, &document);
        document
            .apply(&next)
            .unwrap_or_else(|error| panic!("the generator is wrong: {error}: {next:?}"));
    }
    document
}

/// A document and two operations on it.
pub(crate) fn pair(seed: u64) -> (Document, DocOp, DocOp) {
    let mut random = Random::new(seed);
    let document = document(&mut random);
    let (one, other) = (op(&mut random, &document), op(&mut random, &document));
    (document, one, other)
}

/// A document and operations on it, one after the other.
pub(crate) fn chain(random: &mut Random, document: &Document, len: usize) -> Vec<DocOp> {
    let mut now = document.clone();
    let step = |_| {
        let op = op(random, &now);
        now.apply(&op)
            .unwrap_or_else(|error| panic!("the generator is wrong: {error}: {op:?}"));
        op
    };
    (0..len).map(step).collect()
}

/// The values of [`KEYS`], in their order.
type Values = [Option<&'static str>; 4];

fn values(annotations: &Annotations) -> Values {
    KEYS.map(|key| {
        let value = annotations.value(key)?;
        let known = VALUES.iter().find(|known| **known == value);
        Some(*known.expect("whoever annotates takes one of these"))
    })
}

/// An operation on a document.
pub(crate) fn op(random: &mut Random, document: &Document) -> DocOp {
    let items: Vec<(ItemRef<'_>, Values)> = document
        .items()
        .map(|(item, annotations)| (item, values(annotations)))
        .collect();
    let none = Values::default();
    let mut order = [0, 1, 2, 3];
    order.sort_by(|a, b| utf16_cmp(KEYS[*a], KEYS[*b]));
    let mut walk = Walk {
        random,
        out: Vec::new(),
        order,
        open: Open::default(),
        wish: [None; 4],
        output: none,
    };
    let mut at: usize = 0;
    loop {
        walk.wish_anew();
        let left = at.checked_sub(1).map_or(&none, |left: usize| &items[left].1);
        if walk.random.one_in(2) {
            walk.insertion(left, 0);
        }
        let Some((item, _)) = items.get(at) else { break };
        let subtree = subtree(&items[at..]);
        if *item != ItemRef::End && walk.random.one_in(6) {
            items[at..at + subtree]
                .iter()
                .for_each(|(item, values)| walk.delete(*item, values));
            at += subtree;
        } else {
            at += walk.keep(&items[at..]);
        }
    }
    walk.set(Open::default());
    DocOp::new(walk.out).unwrap_or_else(|error| panic!("the generator is wrong: {error}"))
}

/// How many items an element or a character is.
fn subtree(items: &[(ItemRef<'_>, Values)]) -> usize {
    let mut depth = 0;
    for (count, (item, _)) in items.iter().enumerate() {
        match item {
            ItemRef::Start { .. } => depth += 1,
            ItemRef::End => depth -= 1,
            ItemRef::Character(_) => {}
        }
        if depth <= 0 {
            return count + 1;
        }
    }
    items.len()
}

/// For each key, the change that is open: from what, to what.
type Open = [Option<(Option<&'static str>, Option<&'static str>)>; 4];

struct Walk<'a> {
    random: &'a mut Random,
    out: Vec<Component>,
    /// The keys as a boundary has them.
    order: [usize; 4],
    open: Open,
    /// What kept and inserted items should be annotated with, where something is wished.
    wish: [Option<Option<&'static str>>; 4],
    /// The annotations of the output on the left, deletions aside.
    output: Values,
}

impl Walk<'_> {
    fn wish_anew(&mut self) {
        if self.random.one_in(4) {
            let key = self.random.below(KEYS.len());
            if self.wish[key].take().is_none() {
                let value = (!self.random.one_in(3)).then(|| self.random.pick(&VALUES));
                self.wish[key] = Some(value);
            }
        }
    }

    /// Opens exactly these changes.
    fn set(&mut self, wanted: Open) {
        let mut boundary = AnnotationBoundary::default();
        for key in self.order {
            match (self.open[key], wanted[key]) {
                (Some(_), None) => boundary.ends.push(KEYS[key].into()),
                (open, Some((old, new))) if open != Some((old, new)) || self.random.one_in(20) => {
                    boundary.changes.push(AnnotationChange {
                        key: KEYS[key].into(),
                        old: old.map(Into::into),
                        new: new.map(Into::into),
                    });
                }
                _ => {}
            }
        }
        if boundary != AnnotationBoundary::default() {
            self.out.push(Component::AnnotationBoundary(boundary));
        }
        self.open = wanted;
    }

    /// The wish, where the values are these; the output has them then.
    fn set_wish(&mut self, values: &Values) {
        let mut wanted = Open::default();
        self.output = *values;
        for key in 0..KEYS.len() {
            if let Some(new) = self.wish[key] {
                wanted[key] = Some((values[key], new));
                self.output[key] = new;
            }
        }
        self.set(wanted);
    }

    fn keep(&mut self, items: &[(ItemRef<'_>, Values)]) -> usize {
        let (item, values) = &items[0];
        self.set_wish(values);
        if let ItemRef::Start { attributes, .. } = item
            && self.random.one_in(3)
        {
            let component = if self.random.one_in(2) {
                Component::ReplaceAttributes {
                    old: (*attributes).clone(),
                    new: self.random.attributes(),
                }
            } else {
                let mut changes: Vec<AttributeChange> = Vec::new();
                for name in NAMES {
                    if self.random.one_in(4) {
                        let old = attributes.value(name).map(Into::into);
                        let new = (!self.random.one_in(3)).then(|| self.random.pick(&VALUES).into());
                        changes.push(AttributeChange {
                            name: name.into(),
                            old,
                            new,
                        });
                    }
                }
                Component::UpdateAttributes(AttributesUpdate::from_changes(changes).expect("each name once"))
            };
            self.out.push(component);
            return 1;
        }
        let alike = items.iter().take_while(|(_, others)| others == values).count();
        let count = 1 + self.random.below(alike);
        self.out.push(Component::Retain(count as u32));
        count
    }

    fn insertion(&mut self, left: &Values, depth: usize) {
        self.set_wish(left);
        if depth < 3 && self.random.one_in(3) {
            let kind = self.random.pick(&KINDS);
            let attributes = self.random.attributes();
            self.out.push(Component::ElementStart {
                kind: kind.into(),
                attributes,
            });
            for _ in 0..self.random.below(3) {
                self.wish_anew();
                self.insertion(left, depth + 1);
            }
            self.wish_anew();
            self.set_wish(left);
            self.out.push(Component::ElementEnd);
        } else {
            let text = self.random.text();
            self.out.push(Component::Characters(text));
        }
    }

    fn delete(&mut self, item: ItemRef<'_>, values: &Values) {
        let mut wanted = Open::default();
        for key in 0..KEYS.len() {
            if values[key] != self.output[key] || self.random.one_in(6) {
                wanted[key] = Some((values[key], self.output[key]));
            }
        }
        self.set(wanted);
        self.out.push(match item {
            ItemRef::Character(c) => Component::DeleteCharacters(c.into()),
            ItemRef::Start { kind, attributes } => Component::DeleteElementStart {
                kind: kind.clone(),
                attributes: attributes.clone(),
            },
            ItemRef::End => Component::DeleteElementEnd,
        });
    }
}

#[test]
fn the_generators_reach_everything() {
    let mut met: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for seed in 0..300 {
        let (document, one, _) = pair(seed);
        let mut depth = 0;
        for component in one.components() {
            let name = match component {
                Component::Retain(_) => "retain",
                Component::Characters(_) => "characters",
                Component::ElementStart { .. } => "element start",
                Component::ElementEnd => "element end",
                Component::DeleteCharacters(_) => "delete characters",
                Component::DeleteElementStart { .. } => "delete element start",
                Component::DeleteElementEnd => "delete element end",
                Component::ReplaceAttributes { .. } => "replace attributes",
                Component::UpdateAttributes(_) => "update attributes",
                Component::AnnotationBoundary(_) => "annotation boundary",
            };
            *met.entry(name).or_default() += 1;
            depth += i32::from(matches!(component, Component::ElementStart { .. }));
            depth -= i32::from(*component == Component::ElementEnd);
            *met.entry("insertion in an insertion").or_default() += usize::from(depth > 1);
            if let Component::AnnotationBoundary(boundary) = component {
                let equal = boundary.changes.iter().any(|change| change.old == change.new);
                *met.entry("change to the same value").or_default() += usize::from(equal);
            }
        }
        *met.entry("text beyond U+FFFF").or_default() += usize::from(one.has_supplementary_text());
        let deepest = (0..=document.len()).filter(|&at| {
            document
                .parent(at)
                .is_some_and(|parent| document.parent(parent).is_some())
        });
        *met.entry("nesting in the document").or_default() += deepest.count();
        let annotated = document
            .items()
            .filter(|(_, annotations)| annotations.iter().count() > 1)
            .count();
        *met.entry("two annotations on one item").or_default() += annotated;
    }
    assert_eq!(met.len(), 15);
    met.iter()
        .for_each(|(what, count)| assert!(*count >= 20, "{what}: {count} in 300 operations"));
}
