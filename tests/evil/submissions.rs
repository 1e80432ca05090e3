//! Deltas that evil.lab submits to a wavelet of initech.lab.

use billow_model::{DocumentId, HashedVersion, HistoryHash, Version, WaveletName, WaveletOp};
use billow_wire::{Encoded, Signature, SignedDelta, SignerId};

use super::chain::{Chain, delta, sign_at, who, writes};
use super::peer::{Answer, Peer, with_another_letter};
use super::world::{ALICE, BOB, CAROL, MALLORY, World};

/// A signed delta with parts of it exchanged.
fn forged(signed: &Encoded<SignedDelta>, change: impl FnOnce(&mut SignedDelta)) -> Vec<u8> {
    let mut forged = signed.value().clone();
    change(&mut forged);
    Encoded::new(forged).bytes().to_vec()
}

fn signature(peer: &Peer, signed: &Encoded<SignedDelta>) -> Signature {
    peer.forge(signed.delta.clone()).signatures[0].clone()
}

/// Submits from evil.lab, and shows that it is refused, counted, and without effect.
async fn refused(
    world: &World,
    name: &WaveletName,
    signed: &[u8],
    kind: &'static str,
    (condition, words): (&str, &str),
) {
    let watch = world.watch(&[name], ("refused", kind)).await;
    world.evil.submit(name, signed).await.refused(condition, words);
    watch.unchanged_and_counted(world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_106_a_signature_that_does_not_hold() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    let good = copy.sign(&world.evil.signer, BOB, writes("b+x", "all is well"));
    let other = copy.sign(&world.evil.signer, BOB, writes("b+y", "nothing is"));
    let bad = [
        with_another_letter(&good, "all is well"),
        forged(&good, |signed| {
            signed.signatures[0].bytes = other.signatures[0].bytes.clone()
        }),
        forged(&good, |signed| {
            signed.signatures[0].bytes = signed.signatures[0].bytes.slice(..255)
        }),
        forged(&good, |signed| signed.signatures[0].bytes = vec![0; 256].into()),
        forged(&good, |signed| signed.signatures[0].bytes = bytes::Bytes::new()),
        forged(&good, |signed| signed.signatures.clear()),
        forged(&good, |signed| {
            signed.signatures = vec![signed.signatures[0].clone(); 100]
        }),
    ];
    for signed in &bad {
        refused(
            &world,
            &name,
            signed,
            "signature",
            ("bad-request", "Remote verification failed"),
        )
        .await;
    }
    world.evil.submit(&name, good.bytes()).await.submitted();
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_113_a_delta_that_another_domain_has_signed() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB, CAROL]).await;
    let copy = world.evil.copy(&name, 5).await;
    let evil = &world.evil.signer;
    let love = &world.love.signer;
    let verification = ("bad-request", "Remote verification failed");

    // Evil signs for a user of love's; so it does with the name of love's signer over it.
    let for_carol = copy.sign(love, CAROL, writes("b+x", "I love you"));
    let evils = signature(&world.evil, &for_carol);
    let stolen_name = forged(&for_carol, |signed| signed.signatures[0].bytes = evils.bytes.clone());
    let own_name = forged(&for_carol, |signed| signed.signatures[0] = evils.clone());
    let replaced = forged(&for_carol, |signed| signed.signatures.push(evils.clone()));
    for signed in [&own_name, &stolen_name, &replaced] {
        refused(&world, &name, signed, "another domain's user", verification).await;
    }
    // Love's good delta, from evil's hands.
    refused(&world, &name, for_carol.bytes(), "another domain's user", verification).await;
    // Evil's user with love's signature: love's chain is not for evil's users.
    let for_bob = copy.sign(evil, BOB, writes("b+x", "I love you"));
    let loves = signature(&world.love, &for_bob);
    let loves = forged(&for_bob, |signed| signed.signatures[0] = loves);
    refused(&world, &name, &loves, "signature", verification).await;
    // Alice herself, in evil's words.
    let for_alice = world
        .evil
        .forge(Encoded::new(delta(&copy.head, ALICE, writes("b+x", "I resign"))));
    refused(&world, &name, for_alice.bytes(), "another domain's user", verification).await;
    // Love itself may not send what evil has signed.
    let watch = world.watch(&[&name], ("refused", "signature")).await;
    world
        .love
        .submit(&name, &own_name)
        .await
        .refused(verification.0, verification.1);
    world
        .love
        .submit(&name, &stolen_name)
        .await
        .refused(verification.0, verification.1);
    watch.unchanged_and_counted(&world, 2).await;

    // What she has signed is good when she sends it herself.
    world.love.submit(&name, for_carol.bytes()).await.submitted();
    world.evil.copy(&name, 6).await;
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r_12_a_chain_is_posted_by_its_own_domain_only() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let watch = world.watch(&[&name], ("refused", "signer chain")).await;
    let answer = world.evil.post_signer(world.love.signer.info()).await;
    answer.refused("bad-request", "verification failure from domain love.lab");
    // Its own name on love's chain, and love's name on its own.
    let mut info = world.love.signer.info().clone();
    info.domain = world.evil.domain.clone();
    world
        .evil
        .post_signer(&info)
        .await
        .refused("bad-request", "verification failure from domain evil.lab");
    let mut info = world.evil.signer.info().clone();
    info.domain = world.love.domain.clone();
    world
        .evil
        .post_signer(&info)
        .await
        .refused("bad-request", "verification failure from domain love.lab");
    // A certificate that is none.
    let mut info = world.evil.signer.info().clone();
    info.certificates[0] = bytes::Bytes::from_static(b"trust me");
    world
        .evil
        .post_signer(&info)
        .await
        .refused("bad-request", "verification failure from domain evil.lab");
    watch.unchanged_and_counted(&world, 4).await;
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_111_an_author_who_is_no_participant() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    let stranger = ("bad-request", "is not a participant of");
    let evil = &world.evil.signer;
    let mallory = copy.sign(evil, MALLORY, writes("b+x", "hello"));
    refused(&world, &name, mallory.bytes(), "not a participant", stranger).await;
    let adds_herself = copy.sign(evil, MALLORY, vec![WaveletOp::AddParticipant(who(MALLORY))]);
    refused(&world, &name, adds_herself.bytes(), "not a participant", stranger).await;
    // The whole domain is nobody (B-112).
    let domain = copy.sign(evil, "@evil.lab", writes("b+x", "hello"));
    refused(&world, &name, domain.bytes(), "not a participant", stranger).await;

    // Mallory is let in and taken off again; then she writes as if nothing had happened.
    let before = world
        .alice_changes(&name, &[WaveletOp::AddParticipant(who(MALLORY))])
        .await;
    let seen = world.evil.copy(&name, before).await;
    world
        .alice_changes(&name, &[WaveletOp::RemoveParticipant(who(MALLORY))])
        .await;
    let after = world.evil.copy(&name, before + 1).await;
    let mallory = after.sign(evil, MALLORY, writes("b+x", "hello"));
    refused(&world, &name, mallory.bytes(), "not a participant", stranger).await;
    // Also if it was signed before the removal.
    let mallory = seen.sign(evil, MALLORY, writes("b+x", "hello"));
    refused(&world, &name, mallory.bytes(), "not a participant", stranger).await;
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_111_a_domain_that_has_left_writes_no_more() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    world
        .alice_changes(&name, &[WaveletOp::RemoveParticipant(who(BOB))])
        .await;
    let last = world.evil.copy(&name, 5).await;
    let version = world.alice_changes(&name, &writes("b+secret", "he is gone")).await;
    for chain in [&copy, &last] {
        let late = chain.sign(&world.evil.signer, BOB, writes("b+x", "wait"));
        refused(
            &world,
            &name,
            late.bytes(),
            "not a participant",
            ("bad-request", "is not a participant of"),
        )
        .await;
    }
    // The refusals have told him nothing new, and nobody else has.
    assert_eq!(world.evil.copy(&name, 5).await.head, last.head);
    assert_eq!(world.state(&name).await.unwrap().version, version);
    // Let in again, he has what was written meanwhile, and goes on.
    let version = world.alice_changes(&name, &[WaveletOp::AddParticipant(who(BOB))]).await;
    world.evil.copy(&name, version).await;
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_101_102_103_versions_that_are_none() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let other = world.wave_of_alice(&[BOB]).await;
    world.goes_on(&name).await;
    let copy = world.evil.copy(&name, 6).await;
    let evil = &world.evil.signer;
    let at = |version: u64, hash: &[u8]| HashedVersion {
        version: Version::new(version),
        hash: HistoryHash::from_bytes(hash),
    };
    let (head, right) = (copy.head.version.number(), copy.head.hash.as_bytes());

    // Version 0, of this wavelet, of another, of one that is not there (B-103).
    let absent: WaveletName = "initech.lab/w+absent/~/conv+root".parse().unwrap();
    for (target, zero) in [(&name, &name), (&name, &other), (&absent, &absent)] {
        let signed = sign_at(evil, &HashedVersion::zero(zero), BOB, writes("b+x", "first"));
        let watch = world
            .watch(&[&name, &other, &absent], ("refused", "creates a wavelet"))
            .await;
        world
            .evil
            .submit(target, signed.bytes())
            .await
            .refused("bad-request", "may not create wavelets");
        watch.unchanged_and_counted(&world, 1).await;
    }
    // The right version with a wrong hash; the answer does not tell the right one (B-101).
    for hash in [&[7; 20][..], &[], &right[..19], &[right, &[0]].concat(), &[0; 32]] {
        let signed = sign_at(evil, &at(head, hash), BOB, writes("b+x", "guess"));
        let watch = world.watch(&[&name], ("refused", "hash")).await;
        let answer = world.evil.submit(&name, signed.bytes()).await;
        answer.refused("bad-request", &format!("Mismatched hash at version {head}"));
        let text = answer.refused_somehow();
        assert!(!text.contains(&hex::encode(right)) || hash.starts_with(right), "{text}");
        watch.unchanged_and_counted(&world, 1).await;
    }
    // Ahead of the head, inside a delta, an older one with a wrong hash, another wavelet's head (B-102, B-116).
    let others = world.evil.copy(&other, 4).await.head;
    let unknown = [
        at(head + 1, right),
        at(1 << 52, right),
        at(2, right),
        at(4, &[7; 20]),
        others,
    ];
    for target in unknown {
        let signed = sign_at(evil, &target, BOB, writes("b+x", "elsewhere"));
        refused(
            &world,
            &name,
            signed.bytes(),
            "unknown version",
            ("not-acceptable", "version"),
        )
        .await;
    }
    // Beyond what anybody counts to: not even read.
    let signed = sign_at(evil, &at((1 << 52) + 1, right), BOB, writes("b+x", "far away"));
    let watch = world.watch(&[&name], ("refused", "bad request")).await;
    world
        .evil
        .submit(&name, signed.bytes())
        .await
        .refused("bad-request", "Malformed delta");
    watch.unchanged_and_counted(&world, 1).await;
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_107_b_110_b_112_authors_and_signers_that_are_none() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    let evil = &world.evil.signer;
    let good = copy.sign(evil, BOB, writes("b+x", "hello"));
    for id in [
        &[7; 32][..],
        &[7; 64],
        &[],
        evil.id().as_bytes().split_last().unwrap().1,
    ] {
        let signed = forged(&good, |signed| signed.signatures[0].signer = SignerId::from_bytes(id));
        refused(
            &world,
            &name,
            &signed,
            "unknown signer",
            ("internal-server-error", "Unknown signer"),
        )
        .await;
    }
    let mut path = delta(&copy.head, BOB, writes("b+x", "hello"));
    path.address_path = vec![who("friends@evil.lab")];
    let signed = evil.sign(Encoded::new(path)).unwrap();
    refused(
        &world,
        &name,
        signed.bytes(),
        "does not apply",
        ("bad-request", "address path"),
    )
    .await;
    // An address that is none, at the place of one of the same length.
    let mut bytes = good.bytes().to_vec();
    let at = bytes
        .windows(BOB.len())
        .position(|window| window == BOB.as_bytes())
        .unwrap();
    for address in [
        "bob evil.lab",
        "b@b@evil.lab",
        "bob@evil..ab",
        "b\0b@evil.lab",
        "Bob@evil.lab",
        "bob@evil.laB",
        " ob@evil.lab",
        "b@evil.lab/r",
        "bob@evil.l/r",
    ] {
        assert_eq!(address.len(), BOB.len());
        bytes[at..at + BOB.len()].copy_from_slice(address.as_bytes());
        let watch = world.watch(&[&name], ("refused", "bad request")).await;
        let answer = world.evil.submit(&name, &bytes).await;
        assert!(
            answer.refused_somehow().contains("Malformed delta"),
            "{address:?}: {answer:?}"
        );
        watch.unchanged_and_counted(&world, 1).await;
    }
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_100_hashes_that_are_none() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    let mut own = world.wave_of_evil(&[ALICE]).await;
    let evil = &world.evil;
    let right = copy.head.hash.as_bytes().to_vec();
    let at = |version: u64, hash: &[u8]| HashedVersion {
        version: Version::new(version),
        hash: HistoryHash::from_bytes(hash),
    };
    let uri = name.to_uri();
    let watch = world.watch(&[&name, &own.name], ("sockets", "none")).await;
    for hash in [
        &[][..],
        &right[..19],
        &[&right[..], &[0]].concat(),
        &[0; 20],
        &[0; 32],
        &[0xff; 20],
    ] {
        // As what a delta is made against, as either end of a history.
        let signed = sign_at(&evil.signer, &at(4, hash), BOB, writes("b+x", "guess"));
        evil.submit(&name, signed.bytes())
            .await
            .refused("bad-request", "Mismatched hash");
        let zero = HashedVersion::zero(&name);
        evil.history(&name, &zero, &at(4, hash))
            .await
            .refused("bad-request", "");
        evil.history(&name, &at(0, hash), &copy.head)
            .await
            .refused("bad-request", "");
    }
    // Version 0 has the bytes of the name and no others: not its hash, not a longer one, not another's.
    let zeros = [
        right.clone(),
        uri.as_bytes()[..uri.len() - 1].to_vec(),
        format!("{uri}/").into_bytes(),
        uri.to_uppercase().into_bytes(),
        own.name.to_uri().into_bytes(),
    ];
    for (number, zero) in zeros.into_iter().enumerate() {
        evil.history(&name, &at(0, &zero), &copy.head)
            .await
            .refused("bad-request", "");
        // A wavelet of evil's that begins with it.
        let new = Chain::new(format!("evil.lab/w+zero{number}/~/conv+root").parse().unwrap());
        let signed = sign_at(&evil.signer, &at(0, &zero), BOB, super::moves::first(BOB, &[ALICE]));
        let bad = super::moves::applied(&new, signed, |applied| applied.applied_at = None);
        evil.update(&new.name, &[bad], None)
            .await
            .refused("bad-request", "contradicts");
        assert_eq!(world.state(&new.name).await, None);
    }
    watch.unchanged_and_counted(&world, 0).await;
    world.takes(&mut own, "rightly hashed").await;
    world.goes_on(&name).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn b_102_versions_below_zero_and_beyond_counting_are_not_read() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    let good = copy.sign(&world.evil.signer, BOB, writes("b+x", "hello"));
    // The version is the first thing in the delta, which is the first thing in what is signed: a field of its own with
    // another number after it counts instead.
    let delta = good.delta.bytes();
    let watch = world.watch(&[&name], ("refused", "bad request")).await;
    let mut sent = 0;
    for number in [-1, i64::MIN, (1 << 52) + 1, 1 << 53, i64::MAX] {
        let version = [&[8][..], &varint(number as u64)].concat();
        let field = [&[0x0a, u8::try_from(version.len()).unwrap()][..], &version].concat();
        let delta = [&delta[..], &field].concat();
        let mut signed = vec![0x0a];
        signed.extend(varint(delta.len() as u64));
        signed.extend(delta);
        world
            .evil
            .submit(&name, &signed)
            .await
            .refused("bad-request", "Malformed delta");
        sent += 1;
    }
    watch.unchanged_and_counted(&world, sent).await;
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_114_the_same_delta_again_is_answered_the_same_and_applied_once() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    let signed = copy.sign(&world.evil.signer, BOB, writes("b+x", "once"));
    let first = world.evil.submit(&name, signed.bytes()).await.submitted();
    assert_eq!((first.operations_applied, first.resulting.version.number()), (1, 5));
    world.alice_changes(&name, &writes("b+y", "and then")).await;
    let watch = world.watch(&[&name], ("refused", "does not apply")).await;
    for _ in 0..50 {
        assert_eq!(world.evil.submit(&name, signed.bytes()).await.submitted(), first);
    }
    watch.unchanged_and_counted(&world, 0).await;
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_do_not_fit() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    let refused = async |ops: Vec<WaveletOp>, kind: &'static str, reason: (&str, &str)| {
        let signed = copy.sign(&world.evil.signer, BOB, ops);
        refused(&world, &name, signed.bytes(), kind, reason).await;
    };
    refused(Vec::new(), "no operations", ("bad-request", "at least one operation")).await;
    let does_not_apply = ("bad-request", "does not apply");
    // An insertion into nothing where there is something.
    refused(writes("b+first", "Dinner"), "does not apply", does_not_apply).await;
    refused(
        vec![WaveletOp::AddParticipant(who(ALICE))],
        "does not apply",
        does_not_apply,
    )
    .await;
    refused(
        vec![WaveletOp::RemoveParticipant(who(CAROL))],
        "does not apply",
        does_not_apply,
    )
    .await;
    // The first operation fits, the second does not: none of them counts.
    let half = [writes("b+x", "good"), writes("b+first", "bad")].concat();
    refused(half, "does not apply", does_not_apply).await;
    refused(
        vec![WaveletOp::NoOp; 1001],
        "too large",
        ("not-authorized", "at most 1000 operations"),
    )
    .await;
    let large = writes("b+x", &"x".repeat(70_000));
    refused(large, "too large", ("not-authorized", "at most 65536 bytes")).await;
    // Text beside the body (B-137).
    let stray = vec![WaveletOp::MutateDocument {
        id: DocumentId::new("b+x").unwrap(),
        op: billow_model::DocOp::new(vec![billow_model::Component::Characters("stray".into())]).unwrap(),
    }];
    refused(stray, "schema", ("not-authorized", "")).await;
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wavelet_that_is_not_hosted_here() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let mut own = world.wave_of_evil(&[ALICE]).await;
    let watch = world.watch(&[&name, &own.name], ("refused", "not the host")).await;
    let signed = own.sign(&world.evil.signer, BOB, writes("b+x", "hello"));
    world
        .evil
        .submit(&own.name, signed.bytes())
        .await
        .refused("bad-request", "Non-local wavelet update");
    let loves = Chain::new("love.lab/w+x/~/conv+root".parse().unwrap());
    let target = HashedVersion {
        version: Version::new(1),
        hash: HistoryHash::from_bytes(&[7; 20]),
    };
    let signed = sign_at(&world.evil.signer, &target, BOB, writes("b+x", "hello"));
    world
        .evil
        .submit(&loves.name, signed.bytes())
        .await
        .refused("bad-request", "Non-local wavelet update");
    watch.unchanged_and_counted(&world, 2).await;
    world.takes(&mut own, "my own way").await;
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_118_a_wavelet_that_is_not_there_is_like_one_that_is_not_mine() {
    let world = World::start().await;
    let theirs = world.wave_of_alice(&[CAROL]).await;
    let absent: WaveletName = "initech.lab/w+absen/~/conv+root".parse().unwrap();
    let target = HashedVersion {
        version: Version::new(4),
        hash: HistoryHash::from_bytes(&[7; 20]),
    };
    let right = world.love.copy(&theirs, 4).await.head;
    let mut answers = Vec::new();
    for (name, target) in [(&theirs, &right), (&theirs, &target), (&absent, &target)] {
        let signed = sign_at(&world.evil.signer, target, BOB, writes("b+x", "anybody there?"));
        let watch = world.watch(&[&theirs, &absent], ("refused", "not a participant")).await;
        let Answer::Refused(error) = world.evil.submit(name, signed.bytes()).await else {
            panic!("a stranger got through");
        };
        watch.unchanged_and_counted(&world, 1).await;
        let text = error.text.unwrap().replace(&name.to_uri(), "NAME");
        answers.push((error.condition, text));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}
