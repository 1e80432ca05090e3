//! What a reference server can be told.
//!
//! It takes text beyond U+FFFF for ill-formed: as a remote it keeps such a delta and is stuck with the wavelet until it starts
//! again (protocol.md T5). Who writes on a wavelet with such a server is refused such text; but a domain may turn out
//! to run one only when somebody there has been added already. Then nothing is sent that it cannot take.

use billow_model::WaveletOp;
use billow_wire::{AppliedDelta, Encoded};
use bytes::Bytes;

/// Why a reference server is not sent a delta.
pub const REASON: &str =
    "this server runs software that cannot take characters beyond U+FFFF, such as emoji, which the wavelet has";

/// How many of these applied deltas, from the first on, a reference server can be told.
pub fn tellable<'a>(deltas: impl IntoIterator<Item = &'a Bytes>) -> usize {
    deltas.into_iter().take_while(|delta| is_tellable(delta)).count()
}

fn is_tellable(delta: &Bytes) -> bool {
    let supplementary =
        |op: &WaveletOp| matches!(op, WaveletOp::MutateDocument { op, .. } if op.has_supplementary_text());
    // What is in our log reads; what does not is not for anybody.
    Encoded::<AppliedDelta>::decode(delta.clone())
        .is_ok_and(|applied| !applied.signed.delta.ops.iter().any(supplementary))
}
