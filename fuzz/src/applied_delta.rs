//! The property of the protobuf reader.

use billow_model::Delta;
use billow_wire::{AppliedDelta, Encoded, Message};

/// Any bytes as an applied delta: they are refused, or what they mean writes and reads back equal, and the bytes themselves are kept.
/// Says whether they were read.
pub fn any_applied_delta(bytes: &[u8]) -> bool {
    let Ok(applied) = Encoded::<AppliedDelta>::decode(bytes.to_vec().into()) else {
        return false;
    };
    assert_eq!(&applied.bytes()[..], bytes);
    let again = Encoded::<AppliedDelta>::decode(applied.value().encode()).expect("what was written reads");
    assert_eq!(again.value(), applied.value());
    let delta = &applied.signed.delta;
    assert_eq!(
        &Delta::decode(&delta.value().encode()).expect("what was written reads"),
        delta.value()
    );
    true
}
