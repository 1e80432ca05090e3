//! Groups, the protobuf form that nobody has written since 2008: refused wherever a field of ours may hold one.
//!
//! A reader skips an unknown group by descending into it, so depth would be the sender's to choose. Without groups a
//! message is as deep as its definition (six levels), and what is unknown is skipped without a look inside.

/// The fields of a message that are messages themselves.
pub(crate) struct Shape(&'static [(u32, &'static Self)]);

/// No message inside.
pub(crate) static FLAT: Shape = Shape(&[]);
static ELEMENT_START: Shape = Shape(&[(2, &FLAT)]);
static BOUNDARY: Shape = Shape(&[(3, &FLAT)]);
static REPLACE_ATTRIBUTES: Shape = Shape(&[(2, &FLAT), (3, &FLAT)]);
static UPDATE_ATTRIBUTES: Shape = Shape(&[(2, &FLAT)]);
static COMPONENT: Shape = Shape(&[
    (1, &BOUNDARY),
    (3, &ELEMENT_START),
    (7, &ELEMENT_START),
    (9, &REPLACE_ATTRIBUTES),
    (10, &UPDATE_ATTRIBUTES),
]);
pub(crate) static DOCUMENT_OPERATION: Shape = Shape(&[(1, &COMPONENT)]);
static MUTATE_DOCUMENT: Shape = Shape(&[(2, &DOCUMENT_OPERATION)]);
static OPERATION: Shape = Shape(&[(3, &MUTATE_DOCUMENT)]);
pub(crate) static DELTA: Shape = Shape(&[(1, &FLAT), (3, &OPERATION)]);
pub(crate) static SIGNED_DELTA: Shape = Shape(&[(2, &FLAT)]);
pub(crate) static APPLIED_DELTA: Shape = Shape(&[(2, &FLAT)]);

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// Whether a group begins or ends somewhere in a message of that shape. Bytes that are no message at all are left to
/// the reader, which says what is wrong with them.
pub(crate) fn has_group(mut bytes: &[u8], shape: &Shape) -> bool {
    while let Some(key) = varint(&mut bytes) {
        let length = match key & 7 {
            VARINT => varint(&mut bytes).map(|_| 0),
            FIXED64 => Some(8),
            FIXED32 => Some(4),
            LENGTH_DELIMITED => varint(&mut bytes),
            _ => return true,
        };
        let Some(inside) = length
            .and_then(|length| usize::try_from(length).ok())
            .and_then(|length| bytes.split_off(..length))
        else {
            return false;
        };
        let inner = shape.0.iter().find(|(number, _)| u64::from(*number) == key >> 3);
        if let Some((_, shape)) = inner
            && key & 7 == LENGTH_DELIMITED
            && has_group(inside, shape)
        {
            return true;
        }
    }
    false
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
