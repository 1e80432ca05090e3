//! Operations that a host refuses (hardening group G): each with a reason, and nothing has changed by it.

use billow_model::conversation::{blip_of_text, create_wave};
use billow_model::doc::transform::transform;
use billow_model::doc::{AnnotationBoundary, AnnotationChange, AttributeChange, AttributesUpdate, edit};
use billow_model::{Attributes, Component, DocOp, Document, DocumentId, WaveletOp};
use billow_wavelet::Refusal;
use billow_wavelet::limits::{
    BOUNDARY_KEYS_MAX, DELTA_BYTES_MAX, DELTA_OPS_MAX, DOCUMENT_ITEMS_MAX, NESTING_MAX, OP_COMPONENTS_MAX,
};

use crate::hosted::{Host, insert, verified};
use crate::lab::{address, notes};
use crate::remote::Remote;

const ALICE: &str = "alice@initech.lab";
const BOB: &str = "bob@acme.lab";

fn blip() -> DocumentId {
    DocumentId::new("b+1").unwrap()
}

fn on(id: DocumentId, op: DocOp) -> WaveletOp {
    WaveletOp::MutateDocument { id, op }
}

fn characters(text: &str) -> Component {
    Component::Characters(text.into())
}

fn start(kind: &str, attributes: &[(&str, &str)]) -> Component {
    Component::ElementStart {
        kind: kind.into(),
        attributes: pairs(attributes),
    }
}

fn delete_start(kind: &str, attributes: &[(&str, &str)]) -> Component {
    Component::DeleteElementStart {
        kind: kind.into(),
        attributes: pairs(attributes),
    }
}

fn pairs(attributes: &[(&str, &str)]) -> Attributes {
    Attributes::from_pairs(attributes.iter().map(|(name, value)| ((*name).into(), (*value).into())))
}

fn change(key: &str, old: Option<&str>, new: Option<&str>) -> AnnotationChange {
    AnnotationChange {
        key: key.into(),
        old: old.map(Into::into),
        new: new.map(Into::into),
    }
}

fn boundary(ends: &[&str], changes: Vec<AnnotationChange>) -> Component {
    Component::AnnotationBoundary(AnnotationBoundary {
        ends: ends.iter().map(|&key| key.into()).collect(),
        changes,
    })
}

fn retain(items: u32) -> Component {
    Component::Retain(items)
}

/// A wave of alice's with bob on it, and a blip of nine items whose `b` is bold: `<body><line></line>a[b]c😀d</body>`.
struct Wave {
    host: Host,
    sequence: u64,
}

const ITEMS: u32 = 9;

impl Wave {
    fn new() -> Self {
        let mut host = Host::empty();
        let ops = create_wave(
            &address(ALICE),
            &blip(),
            blip_of_text("abc😀d").unwrap(),
            &[address(BOB)],
        )
        .unwrap();
        host.submit(1, ("a", 1), ALICE, 0, ops);
        host.answer().unwrap();
        let mut wave = Self { host, sequence: 1 };
        let bold = edit::annotate(&wave.blip(), 4, 5, "style/fontWeight", Some("bold")).unwrap();
        wave.submits(vec![on(blip(), bold)]).unwrap();
        assert_eq!(wave.blip().len(), ITEMS as usize);
        wave
    }

    fn blip(&self) -> Document {
        self.document(&blip())
    }

    fn document(&self, id: &DocumentId) -> Document {
        let found = self.host.machine.wavelet().document(id);
        found.map(|(document, _)| document.clone()).unwrap_or_default()
    }

    fn version(&self) -> u64 {
        self.host.machine.wavelet().version().number()
    }

    fn submits(&mut self, ops: Vec<WaveletOp>) -> Result<(), Refusal> {
        self.sequence += 1;
        let version = self.version();
        self.host
            .submit(self.sequence, ("a", self.sequence), ALICE, version, ops);
        self.host.answer().map(drop)
    }

    /// Alice's and bob's submission of these operations are refused, and nothing is stored, shown or sealed.
    fn refuses(&mut self, ops: &[WaveletOp], what: &str) -> Refusal {
        let before = (
            self.host.machine.wavelet().digest(),
            self.host.machine.sealed().clone(),
            self.host.records.len(),
            self.host.sealed.len(),
        );
        let refusal = self.submits(ops.to_vec()).expect_err(what);
        let signed = verified(BOB, self.host.machine.sealed().clone(), ops.to_vec());
        self.host.submit_signed(1, signed);
        let theirs = self.host.remote_answer().expect_err(what);
        assert_eq!(
            std::mem::discriminant(&refusal),
            std::mem::discriminant(&theirs),
            "{what}: {refusal} and {theirs}"
        );
        assert!(!refusal.to_string().is_empty());
        let after = (
            self.host.machine.wavelet().digest(),
            self.host.machine.sealed().clone(),
            self.host.records.len(),
            self.host.sealed.len(),
        );
        assert_eq!(before, after, "{what}");
        refusal
    }

    /// Components that are no operation, or one that the host refuses on the blip.
    fn refuses_components(&mut self, components: Vec<Component>, what: &str) {
        if let Ok(op) = DocOp::new(components) {
            let refusal = self.refuses(&[on(blip(), op)], what);
            assert!(
                matches!(refusal, Refusal::DoesNotApply(_) | Refusal::Schema(_)),
                "{what}: {refusal}"
            );
        }
    }

    /// Everybody still writes.
    fn goes_on(&mut self) {
        let typed = edit::insert(&self.blip(), 3, vec![characters("on ")]).unwrap();
        self.submits(vec![on(blip(), typed)]).unwrap();
        let typed = edit::insert(&self.blip(), 3, vec![characters("and ")]).unwrap();
        let signed = verified(BOB, self.host.machine.sealed().clone(), vec![on(blip(), typed)]);
        self.host.submit_signed(2, signed);
        self.host.remote_answer().unwrap();
        assert!(self.blip().text().starts_with("and on "));
        // A copy elsewhere is equal.
        let copy = Remote::following(&self.host);
        assert_eq!(copy.machine.wavelet().digest(), self.host.machine.wavelet().digest());
    }
}

#[test]
fn b_130_operations_that_do_not_cover_the_document() {
    let mut wave = Wave::new();
    let max = i32::MAX as u32;
    for (what, components) in [
        ("too short", vec![retain(ITEMS - 1)]),
        ("too long", vec![retain(ITEMS + 1)]),
        ("nothing", vec![]),
        ("retain 0", vec![retain(0), retain(ITEMS)]),
        ("an insertion beyond the end", vec![retain(ITEMS + 1), characters("x")]),
        ("the largest retain", vec![retain(max)]),
        (
            "an overflow of 32 bits",
            vec![retain(max), retain(max), retain(2 + ITEMS)],
        ),
        ("more than 2^32", vec![retain(u32::MAX), retain(ITEMS + 1)]),
    ] {
        wave.refuses_components(components, what);
    }
    wave.goes_on();
}

#[test]
fn b_131_deletions_of_what_is_not_there() {
    let mut wave = Wave::new();
    let line = || [delete_start("line", &[]), Component::DeleteElementEnd];
    let within = |components: Vec<Component>, rest: u32| [vec![retain(1)], components, vec![retain(rest)]].concat();
    let update = |old: Option<&str>| {
        let change = AttributeChange {
            name: "t".into(),
            old: old.map(Into::into),
            new: Some("h1".into()),
        };
        Component::UpdateAttributes(AttributesUpdate::from_changes(vec![change]).unwrap())
    };
    let replace = Component::ReplaceAttributes {
        old: pairs(&[("t", "h2")]),
        new: pairs(&[]),
    };
    for (what, components) in [
        (
            "another text",
            vec![retain(3), Component::DeleteCharacters("x".into()), retain(5)],
        ),
        (
            "text for an element",
            vec![Component::DeleteCharacters("a".into()), retain(8)],
        ),
        (
            "another element",
            within(vec![delete_start("p", &[]), Component::DeleteElementEnd], 6),
        ),
        (
            "attributes that it has not",
            within(
                vec![delete_start("line", &[("t", "h1")]), Component::DeleteElementEnd],
                6,
            ),
        ),
        ("a start without its end", within(vec![delete_start("line", &[])], 7)),
        (
            "an end without its start",
            vec![retain(2), Component::DeleteElementEnd, retain(6)],
        ),
        (
            "an inserted end alone",
            vec![retain(3), Component::ElementEnd, retain(6)],
        ),
        (
            "an inserted start alone",
            vec![retain(3), start("line", &[]), retain(6)],
        ),
        (
            "an element inserted into a deleted one",
            within(
                vec![
                    line()[0].clone(),
                    start("line", &[]),
                    Component::ElementEnd,
                    line()[1].clone(),
                ],
                6,
            ),
        ),
        (
            "a deletion inside an insertion",
            within(
                vec![
                    start("line", &[]),
                    line()[0].clone(),
                    line()[1].clone(),
                    Component::ElementEnd,
                ],
                6,
            ),
        ),
        (
            "a retain inside a deletion",
            within(vec![line()[0].clone(), retain(1)], 6),
        ),
        ("attributes of a character", vec![retain(3), update(None), retain(5)]),
        ("another old value", within(vec![update(Some("h3"))], 7)),
        ("other old attributes", within(vec![replace], 7)),
    ] {
        wave.refuses_components(components, what);
    }
    wave.goes_on();
}

#[test]
fn b_132_annotations_that_make_no_sense() {
    let mut wave = Wave::new();
    let (k, set) = ("style/color", || change("style/color", None, Some("red")));
    let around = |first: Component, last: Component| vec![retain(3), first, retain(1), last, retain(5)];
    for (what, components) in [
        (
            "a key ended and changed at once",
            vec![
                retain(3),
                boundary(&[], vec![set()]),
                retain(1),
                boundary(&[k], vec![set()]),
                retain(1),
                boundary(&[k], vec![]),
                retain(4),
            ],
        ),
        (
            "a key twice",
            around(boundary(&[], vec![set(), set()]), boundary(&[k], vec![])),
        ),
        (
            "an end twice",
            around(boundary(&[], vec![set()]), boundary(&[k, k], vec![])),
        ),
        ("never ended", vec![retain(3), boundary(&[], vec![set()]), retain(6)]),
        ("never begun", vec![retain(3), boundary(&[k], vec![]), retain(6)]),
        (
            "two boundaries in a row",
            vec![retain(3), boundary(&[], vec![set()]), boundary(&[k], vec![]), retain(6)],
        ),
        (
            "another old value",
            around(
                boundary(&[], vec![change(k, Some("blue"), Some("red"))]),
                boundary(&[k], vec![]),
            ),
        ),
        (
            "an old value where there is another",
            vec![
                retain(4),
                boundary(&[], vec![change("style/fontWeight", None, None)]),
                retain(1),
                boundary(&["style/fontWeight"], vec![]),
                retain(4),
            ],
        ),
        (
            "a control character in a key",
            around(
                boundary(&[], vec![change("style\u{1}", None, Some("red"))]),
                boundary(&["style\u{1}"], vec![]),
            ),
        ),
        (
            "a control character in a value",
            around(
                boundary(&[], vec![change(k, None, Some("re\0d"))]),
                boundary(&[k], vec![]),
            ),
        ),
        (
            "a noncharacter in a value",
            around(
                boundary(&[], vec![change(k, None, Some("re\u{ffff}d"))]),
                boundary(&[k], vec![]),
            ),
        ),
        (
            "a key with a question mark",
            around(
                boundary(&[], vec![change("a?", None, Some("1"))]),
                boundary(&["a?"], vec![]),
            ),
        ),
    ] {
        wave.refuses_components(components, what);
    }
    let many: Vec<String> = (0..=BOUNDARY_KEYS_MAX).map(|n| format!("key{n:03}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let with = |keys: &[&str]| {
        let changes = keys.iter().map(|key| change(key, None, Some("1"))).collect();
        on(
            blip(),
            DocOp::new(around(boundary(&[], changes), boundary(keys, vec![]))).unwrap(),
        )
    };
    let refusal = wave.refuses(&[with(&many)], "more keys at one place than there may be");
    assert!(matches!(refusal, Refusal::TooLarge(_)), "{refusal}");
    wave.submits(vec![with(&many[1..])]).unwrap();
    wave.goes_on();
}

#[test]
fn limits_of_a_delta() {
    let mut wave = Wave::new();
    let text = |bytes: usize| {
        let id = DocumentId::new("b+large").unwrap();
        vec![on(id, blip_of_text(&"x".repeat(bytes)).unwrap())]
    };
    // To the byte, with the signature.
    let head = wave.host.machine.sealed().clone();
    let signed = |bytes: usize| verified(BOB, head.clone(), text(bytes));
    let most = 60_000 + DELTA_BYTES_MAX - signed(60_000).bytes().len();
    assert_eq!(signed(most).bytes().len(), DELTA_BYTES_MAX);
    let before = wave.host.machine.wavelet().digest();
    wave.host.submit_signed(1, signed(most + 1));
    let refusal = wave.host.remote_answer().expect_err("a byte too many");
    assert!(refusal.to_string().contains("65536 bytes"), "{refusal}");
    assert_eq!(wave.host.machine.wavelet().digest(), before);
    wave.host.submit_signed(2, signed(most));
    wave.host.remote_answer().unwrap();
    wave.refuses(&text(10 * DELTA_BYTES_MAX), "ten times too much");
    // Components, to the last one.
    let letters = |count: usize| {
        let letters = std::iter::repeat_n(characters("x"), count);
        let all = std::iter::once(retain(3)).chain(letters).chain([retain(ITEMS - 3)]);
        vec![on(blip(), DocOp::new(all.collect()).unwrap())]
    };
    let a_million = vec![on(blip(), DocOp::new(vec![retain(1); 1_000_000]).unwrap())];
    for (what, ops) in [
        ("one too many", letters(OP_COMPONENTS_MAX - 1)),
        ("a million", a_million),
    ] {
        let refusal = wave.refuses(&ops, what);
        assert!(refusal.to_string().contains("10000 components"), "{refusal}");
    }
    wave.submits(letters(OP_COMPONENTS_MAX - 2)).unwrap();
    let refusal = wave.refuses(&vec![WaveletOp::NoOp; DELTA_OPS_MAX + 1], "an operation too many");
    assert!(refusal.to_string().contains("1000 operations"), "{refusal}");
    wave.submits(vec![WaveletOp::NoOp; DELTA_OPS_MAX]).unwrap();
    wave.goes_on();
}

#[test]
fn b_135_nesting_and_size_of_a_document() {
    let mut wave = Wave::new();
    // A document without a schema: any element goes.
    let nested = |depth: usize| {
        let starts = (0..depth).map(|_| start("p", &[]));
        let ends = (0..depth).map(|_| Component::ElementEnd);
        DocOp::new(starts.chain(ends).collect()).unwrap()
    };
    for depth in [NESTING_MAX + 1, 4_000] {
        let refusal = wave.refuses(&[on(notes(), nested(depth))], "too deep at once");
        assert!(refusal.to_string().contains("256 elements"), "{refusal}");
    }
    // 10^4 deep in one operation is more components than there may be.
    assert!(matches!(
        wave.refuses(&[on(notes(), nested(10_000))], "10,000 deep"),
        Refusal::TooLarge(_)
    ));
    wave.submits(vec![on(notes(), nested(NESTING_MAX))]).unwrap();
    // One inside the innermost, in a delta of its own; and in the second operation of a delta.
    let middle = NESTING_MAX as u32;
    let inside =
        |content: Vec<Component>| DocOp::new([vec![retain(middle)], content, vec![retain(middle)]].concat()).unwrap();
    let one_more = vec![start("p", &[]), Component::ElementEnd];
    let refusal = wave.refuses(&[on(notes(), inside(one_more.clone()))], "one deeper");
    assert!(refusal.to_string().contains("256 elements"), "{refusal}");
    let other = DocumentId::new("others").unwrap();
    let both = [on(other.clone(), nested(NESTING_MAX)), on(other, inside(one_more))];
    wave.refuses(&both, "one deeper, in the second operation");
    wave.submits(vec![on(notes(), inside(vec![characters("x")]))]).unwrap();
    // Beside it there is room.
    let beside = [nested(NESTING_MAX).components(), &[retain(2 * middle + 1)]].concat();
    wave.submits(vec![on(notes(), DocOp::new(beside).unwrap())]).unwrap();

    // A million items, and not one more.
    let large = DocumentId::new("large").unwrap();
    let mut items = 0;
    while items < DOCUMENT_ITEMS_MAX {
        let count = (DOCUMENT_ITEMS_MAX - items).min(60_000);
        let at = u32::try_from(items).unwrap();
        let kept = (at > 0).then_some(retain(at));
        let components = [characters(&"x".repeat(count))].into_iter().chain(kept).collect();
        wave.submits(vec![on(large.clone(), DocOp::new(components).unwrap())])
            .unwrap();
        items += count;
    }
    let all = retain(u32::try_from(items).unwrap());
    let one_more = DocOp::new(vec![characters("x"), all]).unwrap();
    let refusal = wave.refuses(&[on(large.clone(), one_more)], "an item too many");
    assert!(refusal.to_string().contains("1000000 items"), "{refusal}");
    let swapped = vec![
        Component::DeleteCharacters("x".into()),
        characters("y"),
        retain(u32::try_from(items).unwrap() - 1),
    ];
    wave.submits(vec![on(large, DocOp::new(swapped).unwrap())]).unwrap();
    wave.goes_on();
}

#[test]
fn b_136_an_item_is_a_character_and_never_half_of_one() {
    let mut wave = Wave::new();
    // The blip has nine items, of which the emoji is one; those who count UTF-16 come to ten.
    wave.refuses_components(vec![retain(ITEMS + 1)], "counted in UTF-16");
    wave.refuses_components(
        vec![retain(7), characters("x"), retain(3)],
        "behind a half, counted in UTF-16",
    );
    wave.refuses_components(
        vec![retain(6), Component::DeleteCharacters("\u{fffd}".into()), retain(2)],
        "a half, as Java's reader gives it",
    );
    // Half a character has no form in bytes: neither as a surrogate in UTF-8 nor as a part of its bytes.
    let whole = DocOp::new(vec![characters("😀")]).unwrap();
    let bytes = billow_wire::Message::encode(&whole);
    let at = bytes.windows(4).position(|window| window == "😀".as_bytes()).unwrap();
    let length = at - 1;
    for half in [
        &b"\xed\xa0\xbd"[..],
        b"\xed\xb8\x80",
        b"\xf0\x9f",
        b"\x98\x80",
        b"\xed\xa0\xbd\xed\xb8\x80",
    ] {
        let mut spoilt = bytes.to_vec();
        spoilt.splice(at..at + 4, half.iter().copied());
        let less = 4 - half.len() as i64;
        spoilt[length] = u8::try_from(i64::from(spoilt[length]) - less).unwrap();
        spoilt[1] = u8::try_from(i64::from(spoilt[1]) - less).unwrap();
        let read = <DocOp as billow_wire::Message>::decode(&spoilt.into());
        assert!(read.is_err(), "{half:x?}: {read:?}");
    }
    // In front of and behind the emoji there is room, and it goes as a whole.
    let around = vec![retain(6), characters("<"), retain(1), characters(">"), retain(2)];
    wave.submits(vec![on(blip(), DocOp::new(around).unwrap())]).unwrap();
    assert_eq!(wave.blip().text(), "abc<😀>d");
    let gone = vec![retain(7), Component::DeleteCharacters("😀".into()), retain(3)];
    wave.submits(vec![on(blip(), DocOp::new(gone).unwrap())]).unwrap();
    wave.goes_on();
}

#[test]
fn b_137_what_breaks_a_schema_is_refused_by_the_host_and_followed_by_a_copy() {
    let mut wave = Wave::new();
    let breaks: [(&str, Vec<Component>); 4] = [
        ("text outside of the body", vec![characters("bare"), retain(ITEMS)]),
        (
            "an unknown element",
            vec![retain(3), start("script", &[]), Component::ElementEnd, retain(6)],
        ),
        (
            "an attribute that is not allowed",
            vec![
                retain(3),
                start("line", &[("onclick", "alert()")]),
                Component::ElementEnd,
                retain(6),
            ],
        ),
        (
            "a second body",
            vec![
                retain(ITEMS),
                start("body", &[]),
                start("line", &[]),
                Component::ElementEnd,
                Component::ElementEnd,
            ],
        ),
    ];
    for (what, components) in &breaks {
        let op = DocOp::new(components.clone()).unwrap();
        let refusal = wave.refuses(&[on(blip(), op)], what);
        assert!(matches!(refusal, Refusal::Schema(_)), "{what}: {refusal}");
    }
    wave.goes_on();
    // Another host lets its users do such things: what it orders is its own to decide.
    for (what, components) in breaks {
        let mut remote = Remote::following(&Wave::new().host);
        let before = remote.machine.wavelet().version();
        let head = remote.machine.sealed();
        let signed = verified(ALICE, head, vec![on(blip(), DocOp::new(components).unwrap())]);
        let applied = billow_wire::Encoded::new(billow_wire::AppliedDelta {
            signed: signed.into_inner(),
            applied_at: None,
            operations_applied: 1,
            timestamp: billow_model::Timestamp(crate::lab::START),
        });
        assert_eq!(remote.update(vec![applied]), ["receipt 2"], "{what}");
        assert_eq!(remote.machine.wavelet().version(), before.plus(1), "{what}");
    }
}

#[test]
fn b_129_r_07_several_operations_on_one_document_at_once() {
    // Case A and case B of the reference's fault: two operations of one delta on one document, against one of the host's.
    let cases = [
        ("abc", insert("S", 1, 3), vec![insert("x", 0, 3), insert("y", 4, 4)]),
        ("zQ", insert("!", 1, 2), vec![insert("x", 1, 2), insert("y", 2, 3)]),
        (
            "abc",
            on(
                notes(),
                DocOp::new(vec![Component::DeleteCharacters("abc".into())]).unwrap(),
            ),
            vec![insert("x", 3, 3), insert("y", 4, 4)],
        ),
    ];
    for (text, theirs, ours) in cases {
        let mut host = Host::with(&[ALICE, BOB]);
        host.submit(1, ("a", 1), ALICE, 2, vec![insert(text, 0, 0)]);
        host.drive();
        let seen = host.machine.sealed().clone();
        host.submit(2, ("a", 2), ALICE, 3, vec![theirs]);
        host.drive();
        let before = (host.machine.wavelet().digest(), host.records.len());
        host.submit_signed(3, verified(BOB, seen, ours));
        // Carried rightly or not at all: where the reference would carry it differently, it is to be made again.
        match host.remote_answer() {
            Err(Refusal::Rebase) => assert_eq!((host.machine.wavelet().digest(), host.records.len()), before),
            Ok(_) => {}
            Err(other) => panic!("{other}"),
        }
        let items = u32::try_from(host.text().chars().count()).unwrap();
        let again = vec![insert("x", 0, items), insert("y", items + 1, items + 1)];
        host.submit_signed(4, verified(BOB, host.machine.sealed().clone(), again));
        host.remote_answer().unwrap();
        assert!(host.text().starts_with('x') && host.text().ends_with('y'));
        let copy = Remote::following(&host);
        assert_eq!(copy.machine.wavelet().digest(), host.machine.wavelet().digest());
    }
    // A user of the host's own is carried by the correct rules: what was typed stays together.
    let mut host = Host::with(&[ALICE, BOB]);
    host.submit(1, ("a", 1), ALICE, 2, vec![insert("zQ", 0, 0)]);
    host.drive();
    host.submit(2, ("a", 2), ALICE, 3, vec![insert("!", 1, 2)]);
    host.submit(3, ("b", 1), ALICE, 3, vec![insert("x", 1, 2), insert("y", 2, 3)]);
    host.drive();
    assert!(host.text().contains("xy"), "{}", host.text());
    assert_eq!(
        Remote::following(&host).machine.wavelet().digest(),
        host.machine.wavelet().digest()
    );
}

#[test]
fn b_139_two_users_at_the_same_place() {
    let mut document = Document::new();
    document
        .apply(
            &DocOp::new(vec![
                start("p", &[("a", "1")]),
                characters("abcd"),
                Component::ElementEnd,
            ])
            .unwrap(),
        )
        .unwrap();
    let op = |components: Vec<Component>| DocOp::new(components).unwrap();
    let delete = |text: &str, at: u32, after: u32| {
        op(vec![
            retain(at),
            Component::DeleteCharacters(text.into()),
            retain(after),
        ])
    };
    let typed = |text: &str, at: u32| op(vec![retain(at), characters(text), retain(6 - at)]);
    let bold = |from: u32, to: u32| {
        op(vec![
            retain(from),
            boundary(&[], vec![change("b", None, Some("1"))]),
            retain(to - from),
            boundary(&["b"], vec![]),
            retain(6 - to),
        ])
    };
    let attribute = edit::set_attribute(&document, 0, "a", Some("2")).unwrap();
    let gone = edit::delete(&document, 0, 6).unwrap();
    for (what, one, other, expected) in [
        ("the same insertion", typed("x", 3), typed("x", 3), Some("abxxcd")),
        ("insertions at one place", typed("x", 3), typed("y", 3), Some("abxycd")),
        ("the same deletion", delete("bc", 2, 2), delete("bc", 2, 2), Some("ad")),
        (
            "overlapping deletions",
            delete("bc", 2, 2),
            delete("cd", 3, 1),
            Some("a"),
        ),
        (
            "an insertion inside what is deleted",
            typed("x", 3),
            delete("bc", 2, 2),
            Some("axd"),
        ),
        (
            "an annotation over what is deleted",
            bold(1, 5),
            delete("bc", 2, 2),
            Some("ad"),
        ),
        ("annotations over each other", bold(1, 4), bold(2, 5), Some("abcd")),
        ("an attribute of a deleted element", attribute, gone, Some("")),
    ] {
        let (one_after, other_after) = transform(&one, &other).unwrap();
        let mut left = document.clone();
        left.apply(&one).unwrap();
        left.apply(&other_after).unwrap();
        let mut right = document.clone();
        right.apply(&other).unwrap();
        right.apply(&one_after).unwrap();
        assert_eq!(left.digest(), right.digest(), "{what}");
        assert_eq!(Some(&*left.text()), expected, "{what}");
    }
}

#[test]
fn b_115_a_delta_that_has_nothing_left_to_do() {
    // Both take carol off. The reference keeps the count of operations (operations.md §7, protocol.md §6.1 step 6): the
    // second removal becomes an operation that does nothing, is answered as applied, and takes nobody off twice.
    let mut host = Host::with(&[ALICE, BOB, "carol@hooli.lab"]);
    let seen = host.machine.sealed().clone();
    let removal = || vec![WaveletOp::RemoveParticipant(address("carol@hooli.lab"))];
    host.submit(1, ("a", 1), ALICE, 3, removal());
    host.drive();
    let before = host.machine.wavelet().digest();
    let delta = verified(BOB, seen, removal());
    host.submit_signed(2, delta.clone());
    let answer = host.remote_answer().unwrap();
    assert_eq!((answer.operations_applied, answer.resulting.version.number()), (1, 5));
    assert_eq!(host.records.last().unwrap().record.delta.ops, [WaveletOp::NoOp]);
    assert_eq!(host.machine.wavelet().participants(), [address(ALICE), address(BOB)]);
    let (_, told) = host.sealed.last().unwrap();
    assert!(
        !told.contains(&"hooli.lab".to_owned()),
        "carol's domain hears nothing of it"
    );
    // Nothing but the version is different, and it counts once.
    host.submit_signed(3, delta);
    assert_eq!(host.remote_answer().unwrap(), answer);
    assert_eq!(before, host.machine.wavelet().digest());
    assert_eq!(
        Remote::following(&host).machine.wavelet().digest(),
        host.machine.wavelet().digest()
    );
}
