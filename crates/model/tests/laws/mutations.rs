//! What the fuzz targets hold to, on seeded bytes, so that no fuzzer is needed to run it.

use billow_model::{Component, DocOp};

use crate::generators::{Random, op, pair};

// Public in the fuzz workspace, where they are from.
#[expect(unreachable_pub)]
#[path = "../../../../fuzz/src/components.rs"]
mod components;
#[expect(unreachable_pub)]
#[path = "../../../../fuzz/src/properties.rs"]
mod properties;

/// As many as the laws have cases.
fn cases() -> u64 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(256)
}

#[test]
fn no_bytes_break_a_document() {
    let mut sums = (0, 0);
    for seed in 0..cases() * 8 {
        let mut random = Random::new(seed);
        let byte = |_| {
            if random.below(10) == 0 {
                0xFF
            } else {
                random.next() as u8
            }
        };
        let bytes: Vec<u8> = (0..200).map(byte).collect();
        let (applied, refused) = properties::any_operation(&bytes);
        sums = (sums.0 + applied, sums.1 + refused);
    }
    assert!(sums.0 > 100 && sums.1 > 100, "both happened often: {sums:?}");
}

#[test]
fn no_text_breaks_the_reading_of_names() {
    let whole = "wave://example.com/acme.org!w+a%C3%A9~+b/conv+root";
    let mut read = 0;
    for seed in 0..cases() * 8 {
        let mut random = Random::new(seed);
        let mut text: Vec<char> = whole.chars().collect();
        for _ in 0..random.below(4) {
            let at = random.below(text.len());
            match random.below(3) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, ['/', '!', '%', '~', '+', 'é', '$', '\u{fffd}'][random.below(8)]),
                _ => text[at] = ['a', '.', ':', '2', 'F', '😀'][random.below(6)],
            }
        }
        read += usize::from(properties::any_uri(&text.into_iter().collect::<String>()));
    }
    assert!(read > 100, "some are still names: {read}");
}

/// A good operation with one thing wrong: it is ill-formed, or it does not fit, or it still does; never more than that.
#[test]
fn no_broken_operation_breaks_a_document() {
    let mut refused = 0;
    for seed in 0..cases() * 8 {
        let (mut document, good, _) = pair(seed);
        let mut random = Random::new(!seed);
        let mut parts: Vec<Component> = good.components().to_vec();
        if parts.is_empty() {
            continue;
        }
        let at = random.below(parts.len());
        match random.below(4) {
            0 => drop(parts.remove(at)),
            1 => parts.insert(at, parts[at].clone()),
            2 => parts.swap(at, 0),
            _ => {
                parts[at] = op(&mut random, &document)
                    .components()
                    .first()
                    .cloned()
                    .unwrap_or(Component::Retain(1))
            }
        }
        let before = document.to_op();
        if !DocOp::new(parts).is_ok_and(|op| document.apply(&op).is_ok()) {
            refused += 1;
            assert_eq!(document.to_op(), before);
        }
    }
    assert!(refused > 100, "most do not fit: {refused}");
}
