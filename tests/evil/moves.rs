//! What a host can do with the deltas that it orders, besides ordering them: lies, each as the bytes of an update.

use billow_model::conversation::{blip_of_text, create_wave};
use billow_model::{DocumentId, HashedVersion, HistoryHash, Version, WaveletOp};
use billow_signing::Signer;
use billow_wire::{AppliedDelta, Encoded, SignedDelta};
use bytes::Bytes;

use super::chain::{Chain, now, sign_at, who, writes};
use super::peer::Answer;
use super::world::{BOB, World};

/// The first delta of a wavelet: its maker, a conversation, others.
pub(crate) fn first(maker: &str, others: &[&str]) -> Vec<WaveletOp> {
    let others: Vec<_> = others.iter().map(|address| who(address)).collect();
    let blip = DocumentId::new("b+first").unwrap();
    create_wave(&who(maker), &blip, blip_of_text("Come in").unwrap(), &others).unwrap()
}

/// A version with a hash that it has not.
pub(crate) fn wrongly_hashed(version: u64) -> HashedVersion {
    HashedVersion {
        version: Version::new(version),
        hash: HistoryHash::from_bytes(&[7; 20]),
    }
}

/// An applied delta with parts of it exchanged.
pub(crate) fn applied(chain: &Chain, signed: Encoded<SignedDelta>, change: impl FnOnce(&mut AppliedDelta)) -> Bytes {
    let mut applied = chain.applied(signed);
    change(&mut applied);
    Encoded::new(applied).bytes().clone()
}

/// Another count of operations than there are.
pub(crate) fn wrong_count(chain: &Chain, signed: Encoded<SignedDelta>, count: u32) -> Bytes {
    applied(chain, signed, |applied| applied.operations_applied = count)
}

/// Another hash of the version that it was applied at.
pub(crate) fn wrong_hash(chain: &Chain, signed: Encoded<SignedDelta>) -> Bytes {
    let at = wrongly_hashed(chain.head.version.number());
    applied(chain, signed, |applied| applied.applied_at = Some(at))
}

/// A delta that was signed for some other version, or for another history, shown as if it belonged here.
pub(crate) fn replayed(chain: &Chain, signed: Encoded<SignedDelta>) -> Bytes {
    applied(chain, signed, |applied| applied.applied_at = Some(chain.head.clone()))
}

/// A delta of a host's user at a version that was never reached.
pub(crate) fn jump(signer: &Signer, version: u64, ops: Vec<WaveletOp>) -> Bytes {
    let jump = AppliedDelta {
        signed: sign_at(signer, &wrongly_hashed(version), BOB, ops),
        applied_at: None,
        operations_applied: 1,
        timestamp: now(),
    };
    Encoded::new(jump).bytes().clone()
}

/// Two histories out of one, of the same length: what is told to the one, and what to the other.
pub(crate) fn fork(chain: &Chain, signer: &Signer) -> (Chain, Chain) {
    let told = |text: &str| {
        let mut told = chain.clone();
        told.apply(chain.sign(signer, BOB, writes("b+answer", text)));
        told
    };
    (told("yes"), told("no"))
}

/// A lie that is verified: refused and counted, nothing stored, the wavelet in quarantine; others go on.
pub(crate) async fn quarantined(world: &World, chain: &mut Chain, others: [&mut Chain; 1], bad: Bytes) {
    let [other] = others;
    let watch = world
        .watch(&[&chain.name, &other.name], ("quarantined", "contradiction"))
        .await;
    let answer = world.evil.update(&chain.name, &[bad], None).await;
    answer.refused("bad-request", "contradicts");
    watch.unchanged_and_counted(world, 1).await;
    // It stays readable, and takes nothing more, with a reason.
    let watch = world.watch(&[&chain.name], ("refused", "quarantined")).await;
    let good = chain.apply(chain.sign(&world.evil.signer, BOB, writes("b+late", "sorry")));
    let answer = world.evil.update(&chain.name, &[good.bytes().clone()], None).await;
    answer.refused("internal-server-error", "quarantine");
    watch.unchanged_and_counted(world, 1).await;
    world.takes(other, "no harm done").await;
}

/// The answer to an update that is taken.
pub(crate) fn taken(answer: &Answer) {
    assert_eq!(*answer, Answer::Receipt);
}
