//! Broken bytes: an error, or a value that writes and reads back equal; never a panic (B-090 to B-096).
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::PathBuf;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use billow_model::Delta;
use billow_wire::{AppliedDelta, Encoded, Message, SignedDelta};
use bytes::Bytes;
use serde_json::Value;

/// Recorded applied deltas: two hundred, from all captures.
fn real_messages() -> &'static [Bytes] {
    static MESSAGES: LazyLock<Vec<Bytes>> = LazyLock::new(read_messages);
    &MESSAGES
}

fn read_messages() -> Vec<Bytes> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures");
    let directory = std::env::var_os("BILLOW_CAPTURES").map_or_else(default, PathBuf::from);
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.to_string_lossy().ends_with(".deltas.jsonl"));
    files.sort();
    let lines = files.iter().flat_map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().step_by(3).map(ToOwned::to_owned).collect::<Vec<_>>()
    });
    let message = |line: String| {
        let json: Value = serde_json::from_str(&line).unwrap();
        STANDARD
            .decode(json["applied_delta_b64"].as_str().unwrap())
            .unwrap()
            .into()
    };
    let messages: Vec<Bytes> = lines
        .map(message)
        .filter(|message: &Bytes| message.len() < 2000)
        .take(200)
        .collect();
    assert_eq!(messages.len(), 200);
    messages
}

#[path = "../../../fuzz/src/applied_delta.rs"]
#[allow(unreachable_pub, reason = "public for the fuzz target")]
mod applied_delta;

use applied_delta::any_applied_delta;

#[test]
fn b_090_truncated_at_every_byte() {
    let messages = real_messages();
    let mut accepted = 0;
    for message in messages {
        for length in 0..message.len() {
            accepted += u32::from(any_applied_delta(&message[..length]));
        }
    }
    println!("{} messages, {accepted} prefixes accepted", messages.len());
    assert_eq!(
        accepted, 0,
        "the last field is required, so no proper prefix is a message"
    );
}

#[test]
fn b_090_every_bit_flipped() {
    let (mut cases, mut accepted) = (0_u32, 0_u32);
    for message in real_messages() {
        for bit in 0..message.len() * 8 {
            let mut flipped = message.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            cases += 1;
            accepted += u32::from(any_applied_delta(&flipped));
        }
    }
    println!("{cases} flips, {accepted} still messages");
    assert!(cases > 600_000);
}

/// A field with this number and wire type.
fn tag(number: u32, wire_type: u32) -> Vec<u8> {
    let mut key = number << 3 | wire_type;
    let mut out = Vec::new();
    while key >= 0x80 {
        out.push((key & 0x7f) as u8 | 0x80);
        key >>= 7;
    }
    out.push(key as u8);
    out
}

fn with_tail(tail: &[u8]) -> Bytes {
    let mut bytes = real_messages()[0].to_vec();
    bytes.extend_from_slice(tail);
    bytes.into()
}

#[test]
fn b_091_malformed_varints_tags_and_groups_are_refused() {
    let eleven = [&tag(3, 0)[..], &[0xff; 10], &[1]].concat();
    let field_zero = vec![0x00, 0x01];
    let wire_type_seven = tag(3, 7);
    let wrong_type = [&tag(3, 2)[..], &[1, 1]].concat();
    let open_group = tag(90, 3);
    let close_group = tag(90, 4);
    let deep_groups = [tag(90, 3).repeat(10_000), tag(90, 4).repeat(10_000)].concat();
    let group = [tag(90, 3), tag(90, 4)].concat();
    for tail in [
        eleven,
        field_zero,
        wire_type_seven,
        wrong_type,
        open_group,
        close_group,
        deep_groups,
        group.clone(),
    ] {
        assert!(Encoded::<AppliedDelta>::decode(with_tail(&tail)).is_err(), "{tail:x?}");
    }
}

#[test]
fn b_091_groups_are_refused_on_every_level() {
    // Inside the version applied at, the signature, the delta, its version, its operation, and down to a component.
    let group = [tag(90, 3), tag(90, 4)].concat();
    let good = Encoded::<AppliedDelta>::decode(real_messages()[0].clone()).unwrap();
    let version = [&[8, 1, 0x12, 1, 9][..], &group].concat();
    let in_version = [&tag(2, 2)[..], &[u8::try_from(version.len()).unwrap()], &version].concat();
    assert!(Encoded::<AppliedDelta>::decode(with_tail(&in_version)).is_err());
    let signed = [&good.signed.bytes()[..], &group].concat();
    assert!(SignedDelta::decode(&signed.into()).is_err());
    let delta = [&good.signed.delta.bytes()[..], &group].concat();
    assert!(Delta::decode(&delta.into()).is_err());
    // An unknown component, an element with an unknown attribute: components that mean nothing but for the group.
    let nested = |path: &[u32]| {
        path.iter().rev().fold(group.clone(), |inner, number| {
            [&tag(*number, 2)[..], &[u8::try_from(inner.len()).unwrap()], &inner].concat()
        })
    };
    for path in [&[1][..], &[1, 3], &[1, 3, 2], &[1, 1, 3], &[1, 10, 2]] {
        let bytes = nested(path);
        let refused = <billow_model::DocOp as Message>::decode(&bytes.clone().into()).unwrap_err();
        assert!(refused.to_string().contains("group"), "{path:?}: {refused}");
        let delta = [&good.signed.delta.bytes()[..], &nested(&[&[3, 3, 2], path].concat())].concat();
        assert!(Delta::decode(&delta.into()).unwrap_err().to_string().contains("group"));
    }
}

#[test]
fn b_092_lengths_beyond_the_end_are_refused_before_anything_is_reserved() {
    let lengths: [&[u8]; 5] = [
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0x80, 0x80, 0x80, 0x80, 0x08],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        &[5],
    ];
    for length in lengths {
        // Of a message, of a packed field (there is none of ours: an unknown one), of a text within the delta.
        for number in [1, 2, 77] {
            let tail = [&tag(number, 2)[..], length, &[1, 1]].concat();
            assert!(Encoded::<AppliedDelta>::decode(with_tail(&tail)).is_err(), "{tail:x?}");
        }
        for number in [1, 2, 3, 4] {
            let bytes = [&delta_bytes()[..], &tag(number, 2), length, &[1, 1]].concat();
            assert!(Delta::decode(&bytes.into()).is_err(), "{length:x?}");
        }
    }
}

#[test]
fn b_093_unknown_fields_are_kept_in_the_bytes_and_not_in_the_value() {
    let plain = Encoded::<AppliedDelta>::decode(with_tail(&[])).unwrap();
    let blob = [&tag(77, 2)[..], &[0x80, 0x80, 0x40], &vec![7; 1 << 20]].concat();
    let tiny = [&tag(78, 0)[..], &[1]].concat().repeat(100_000);
    for tail in [blob, tiny] {
        let bytes = with_tail(&tail);
        let applied = Encoded::<AppliedDelta>::decode(bytes.clone()).unwrap();
        assert_eq!(applied.bytes(), &bytes);
        assert_eq!(applied.value(), plain.value());
    }
}

#[test]
fn b_094_a_scalar_twice_is_its_last_and_a_message_twice_is_merged() {
    let first = Encoded::<AppliedDelta>::decode(with_tail(&[])).unwrap();
    let twice = Encoded::<AppliedDelta>::decode(with_tail(&[&tag(4, 0)[..], &[5]].concat())).unwrap();
    assert_eq!(twice.timestamp.0, 5);
    // The second signed delta holds a signature only: together they are a delta with two.
    let signature = [0x12, 10, 0x0a, 2, 0xaa, 0xbb, 0x12, 2, 1, 2, 0x18, 1];
    let merged = [&tag(1, 2)[..], &[12], &signature].concat();
    let merged = Encoded::<AppliedDelta>::decode(with_tail(&merged)).unwrap();
    assert_eq!(merged.signed.delta, first.signed.delta);
    assert_eq!(merged.signed.signatures.len(), first.signed.signatures.len() + 1);
}

#[test]
fn b_094_fields_in_another_order_mean_the_same_and_keep_their_bytes() {
    let good = Encoded::<AppliedDelta>::decode(real_messages()[0].clone()).unwrap();
    let at = good.applied_at();
    let hash = at.hash.as_bytes();
    let number = u8::try_from(at.version.number()).unwrap();
    let version = [&[0x12, u8::try_from(hash.len()).unwrap()][..], hash, &[8, number]].concat();
    let backwards = [
        &tag(4, 0)[..],
        &varint(good.timestamp.0 as u64),
        &[0x18, u8::try_from(good.operations_applied).unwrap()],
        &tag(2, 2),
        &[u8::try_from(version.len()).unwrap()],
        &version,
        &field_long(1, good.signed.bytes()),
    ]
    .concat();
    let read = Encoded::<AppliedDelta>::decode(backwards.clone().into()).unwrap();
    assert_eq!(
        (read.applied_at(), &read.signed, read.timestamp),
        (at, &good.signed, good.timestamp)
    );
    assert_eq!(read.bytes()[..], backwards[..]);
    let next = |applied: &Encoded<AppliedDelta>| at.next(applied.bytes(), u64::from(applied.operations_applied));
    assert_ne!(next(&read), next(&good), "the hash is over the bytes that came");
    // A number in more bytes than it needs.
    let long = with_tail(
        &[
            &tag(3, 0)[..],
            &[0x80 | u8::try_from(good.operations_applied).unwrap(), 0x80, 0],
        ]
        .concat(),
    );
    assert_eq!(
        Encoded::<AppliedDelta>::decode(long).unwrap().operations_applied,
        good.operations_applied
    );
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[test]
fn b_094_every_required_field_is_required() {
    // Each message without one of its required fields (numbers of protocol.md §3).
    let version = |number: bool, hash: bool| {
        [
            if number { vec![8, 1] } else { vec![] },
            if hash { vec![0x12, 1, 9] } else { vec![] },
        ]
        .concat()
    };
    let field =
        |number: u32, bytes: &[u8]| [&tag(number, 2)[..], &[u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let delta = |target: Option<Vec<u8>>, author: bool, op: Option<Vec<u8>>| {
        let target = target.map(|t| field(1, &t)).unwrap_or_default();
        let author = if author { field(2, b"a@example.com") } else { vec![] };
        Bytes::from([target, author, op.map(|op| field(3, &op)).unwrap_or_default()].concat())
    };
    let good = Some(version(true, true));
    let mutate = |id: bool, op: bool| {
        field(
            3,
            &[
                if id { field(1, b"d") } else { vec![] },
                if op { field(2, &[]) } else { vec![] },
            ]
            .concat(),
        )
    };
    assert!(Delta::decode(&delta(good.clone(), true, None)).is_ok());
    assert!(Delta::decode(&delta(good.clone(), true, Some(mutate(true, true)))).is_ok());
    for broken in [
        delta(None, true, None),
        delta(Some(version(false, true)), true, None),
        delta(Some(version(true, false)), true, None),
        delta(good.clone(), false, None),
        delta(good.clone(), true, Some(vec![])),
        delta(good.clone(), true, Some(mutate(false, true))),
        delta(good.clone(), true, Some(mutate(true, false))),
    ] {
        assert!(Delta::decode(&broken).is_err(), "{broken:x?}");
    }
    let signed = |delta: bool, parts: [bool; 3]| {
        let signature = [
            if parts[0] { field(1, &[1]) } else { vec![] },
            if parts[1] { field(2, &[1]) } else { vec![] },
            if parts[2] { vec![0x18, 1] } else { vec![] },
        ];
        let inner = if delta { field(1, &delta_bytes()) } else { vec![] };
        Bytes::from([inner, field(2, &signature.concat())].concat())
    };
    assert!(SignedDelta::decode(&signed(true, [true; 3])).is_ok());
    assert!(SignedDelta::decode(&signed(false, [true; 3])).is_err());
    for missing in 0..3 {
        let mut parts = [true; 3];
        parts[missing] = false;
        assert!(SignedDelta::decode(&signed(true, parts)).is_err());
    }
    let message = real_messages()[0].clone();
    let applied = Encoded::<AppliedDelta>::decode(message).unwrap();
    let signed = field_long(1, applied.signed.bytes());
    for (ops, time, good) in [(true, true, true), (false, true, false), (true, false, false)] {
        let tail = [
            if ops { vec![0x18, 1] } else { vec![] },
            if time { vec![0x20, 1] } else { vec![] },
        ]
        .concat();
        assert_eq!(
            AppliedDelta::decode(&[signed.clone(), tail.clone()].concat().into()).is_ok(),
            good
        );
        assert!(AppliedDelta::decode(&tail.into()).is_err());
    }
}

fn delta_bytes() -> Vec<u8> {
    [&[0x0a, 5, 8, 1, 0x12, 1, 9, 0x12, 13][..], b"a@example.com"].concat()
}

fn field_long(number: u32, bytes: &[u8]) -> Vec<u8> {
    let length = [
        (bytes.len() & 0x7f) as u8 | 0x80,
        (bytes.len() >> 7 & 0x7f) as u8 | 0x80,
        (bytes.len() >> 14) as u8,
    ];
    [&tag(number, 2)[..], &length, bytes].concat()
}

#[test]
fn b_095_texts_are_strict_and_hold_nothing_that_is_no_character() {
    for bad in [
        &b"\0"[..],
        b"\xef\xb7\x90",
        b"\xef\xbf\xbf",
        b"\xe2\x80\xae",
        b"B",
        b" ",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"a\xe2\x82",
    ] {
        let author = [bad, b"@example.com"].concat();
        let bytes = [
            &[0x0a, 5, 8, 1, 0x12, 1, 9, 0x12, u8::try_from(author.len()).unwrap()][..],
            &author,
        ]
        .concat();
        assert!(Delta::decode(&bytes.into()).is_err(), "{bad:x?}");
    }
    // In a document's id and in its text; there a NUL is a character like others, which the rules of a blip refuse.
    for (bad, in_id, in_text) in [
        (&b"\xff"[..], true, true),
        (b"\xed\xa0\x80", true, true),
        (b"\xed\xa0\xbd\xed\xb8\x80", true, true),
        (b"a\xe2\x82", true, true),
        (b"\xef\xb7\x90", false, true),
        (b"\xef\xbf\xbe", false, true),
        (b"\xf0\x9f\xbf\xbf", false, true),
    ] {
        let field =
            |number: u32, inner: &[u8]| [&tag(number, 2)[..], &[u8::try_from(inner.len()).unwrap()], inner].concat();
        let op = |id: &[u8], text: &[u8]| {
            let op = field(2, &field(1, &field(2, text)));
            let mutate = field(3, &field(3, &[field(1, id), op].concat()));
            Delta::decode(&[delta_bytes(), mutate].concat().into())
        };
        assert!(op(b"b+1", b"good").is_ok());
        assert_eq!(op(bad, b"good").is_err(), in_id, "{bad:x?}");
        assert_eq!(op(b"b+1", bad).is_err(), in_text, "{bad:x?}");
    }
    assert!(Delta::decode(&delta_bytes().into()).is_ok());
}

#[test]
fn versions_and_counts_outside_of_their_range_are_refused() {
    for version in [&[0xff; 9][..], &[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x08]] {
        let number = if version.len() == 9 {
            [version, &[1]].concat()
        } else {
            version.to_vec()
        };
        let target = [&[8][..], &number, &[0x12, 1, 9]].concat();
        let bytes = [
            &[0x0a, u8::try_from(target.len()).unwrap()][..],
            &target,
            &[0x12, 13],
            b"a@example.com",
        ]
        .concat();
        assert!(Delta::decode(&bytes.into()).is_err(), "{version:x?}");
    }
    let negative = with_tail(&[&tag(3, 0)[..], &[0xff; 9], &[1]].concat());
    assert!(Encoded::<AppliedDelta>::decode(negative).is_err());
}
