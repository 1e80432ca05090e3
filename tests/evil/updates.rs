//! What evil.lab says as a host: of wavelets that it does not host, and lies about those that it does.

use std::time::Duration;

use billow_model::{Delta, HashedVersion, Timestamp, WaveletName, WaveletOp};
use billow_store::Store;
use billow_wire::{AppliedDelta, Encoded, SignerId};
use bytes::Bytes;

use super::chain::{Chain, delta, sign_at, who, writes};
use super::moves::{applied, first, jump, quarantined, replayed, wrong_count, wrong_hash, wrongly_hashed};
use super::peer::{Answer, with_another_letter};
use super::world::{ALICE, BOB, CAROL, World};

#[tokio::test(flavor = "multi_thread")]
async fn r_02_r_10_an_update_by_a_domain_that_is_not_the_host() {
    let mut world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&hers, 4).await;
    let mut loves = Chain::new("love.lab/w+hers/~/conv+root".parse().unwrap());
    let others: WaveletName = "initech.lab/w+new/~/conv+root".parse().unwrap();
    let watch = world
        .watch(&[&hers, &loves.name, &others], ("refused", "not the host"))
        .await;
    let evil = &world.evil;

    // Of a wavelet of the victim's own, and of one that the victim should believe to have.
    let delta = copy
        .clone()
        .apply(copy.sign(&evil.signer, BOB, writes("b+x", "I decide")));
    let answer = evil
        .update(&hers, &[delta.bytes().clone()], Some(&super::chain::after(&delta)))
        .await;
    answer.refused("not-authorized", "is not known to speak for initech.lab");
    let mut new = Chain::new(others.clone());
    let delta = new.apply(new.sign(&evil.signer, BOB, first(BOB, &[ALICE])));
    let answer = evil.update(&others, &[delta.bytes().clone()], None).await;
    answer.refused("not-authorized", "is not known to speak for initech.lab");
    // Of love's: even with deltas that love has signed, each of them good.
    let delta = loves.apply(loves.sign(&world.love.signer, CAROL, first(CAROL, &[ALICE, BOB])));
    let answer = evil
        .update(&loves.name, &[delta.bytes().clone()], Some(&loves.head))
        .await;
    answer.refused("not-authorized", "is not known to speak for love.lab");
    // A commit notice only.
    let answer = evil.update(&loves.name, &[], Some(&loves.head)).await;
    answer.refused("not-authorized", "is not known to speak for love.lab");
    watch.unchanged_and_counted(&world, 4).await;

    // From love's own hands it is welcome.
    let answer = world
        .love
        .update(&loves.name, &[loves.deltas[0].bytes().clone()], Some(&loves.head))
        .await;
    assert_eq!(answer, Answer::Receipt);
    world.reaches(&loves).await;
    world.goes_on(&hers).await;
    let store = Store::open(world.stop_victim()).unwrap();
    assert!(store.has(&loves.name).await.unwrap());
    assert!(!store.has(&others).await.unwrap(), "{others} was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn r_10_no_wavelet_comes_to_be_without_a_verified_delta_that_adds_one_of_ours() {
    let mut world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let name = |id: &str| -> WaveletName { format!("evil.lab/w+{id}/~/conv+root").parse().unwrap() };
    let mut absent = Vec::new();
    let stranger = ("refused", "no local participant");

    // A commit notice for nothing.
    let watch = world.watch(&[&hers, &name("commit")], stranger).await;
    world
        .evil
        .update(&name("commit"), &[], Some(&wrongly_hashed(7)))
        .await
        .refused("item-not-found", "no local participant");
    absent.push(name("commit"));
    // A good delta that has nothing to do with us.
    let mut chain = Chain::new(name("ours"));
    let delta = chain.apply(chain.sign(&world.evil.signer, BOB, first(BOB, &[CAROL])));
    let answer = world.evil.update(&chain.name, &[delta.bytes().clone()], None).await;
    answer.refused("item-not-found", "no local participant");
    absent.push(chain.name);
    watch.unchanged_and_counted(&world, 2).await;

    // Those that add alice, but are signed by nobody, by somebody else, by somebody unknown, or for another wavelet.
    let invites = || first(BOB, &[ALICE]);
    let chain = Chain::new(name("forged"));
    let good = chain.sign(&world.evil.signer, BOB, invites());
    let forge = |change: &dyn Fn(&mut billow_wire::SignedDelta)| {
        let mut forged = good.value().clone();
        change(&mut forged);
        applied(&chain, Encoded::new(forged), |_| {})
    };
    let watch = world.watch(&[&hers, &chain.name], ("refused", "signature")).await;
    let by_love = world.love.forge(good.delta.clone());
    for bad in [
        forge(&|signed| signed.signatures.clear()),
        forge(&|signed| signed.signatures = by_love.signatures.clone()),
    ] {
        world
            .evil
            .update(&chain.name, &[bad], None)
            .await
            .refused("bad-request", "verification failed");
    }
    watch.unchanged_and_counted(&world, 2).await;
    let watch = world.watch(&[&hers, &chain.name], ("refused", "unknown signer")).await;
    let bad = forge(&|signed| signed.signatures[0].signer = SignerId::from_bytes(&[7; 32]));
    world
        .evil
        .update(&chain.name, &[bad], None)
        .await
        .refused("internal-server-error", "unknown signer");
    watch.unchanged_and_counted(&world, 1).await;
    absent.push(chain.name);
    let other = Chain::new(name("other"));
    let delta = applied(&other, other.sign(&world.evil.signer, BOB, invites()), |_| {});
    let watch = world
        .watch(&[&hers, &name("replayed")], ("refused", "contradiction"))
        .await;
    world
        .evil
        .update(&name("replayed"), &[delta], None)
        .await
        .refused("bad-request", "contradicts");
    watch.unchanged_and_counted(&world, 1).await;
    absent.push(name("replayed"));

    world.goes_on(&hers).await;
    let store = Store::open(world.stop_victim()).unwrap();
    for absent in &absent {
        assert!(!store.has(absent).await.unwrap(), "{absent} was stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b_106_r_03_r_05_an_update_whose_delta_is_not_its_authors() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut chain = world.wave_of_evil(&[ALICE, CAROL]).await;
    let evil = &world.evil;
    let good = chain.sign(&evil.signer, BOB, writes("b+x", "all is well"));
    let for_carol = chain.sign(&world.love.signer, CAROL, writes("b+y", "I love you"));
    let bobs = evil.forge(for_carol.delta.clone());
    let mut stolen = for_carol.value().clone();
    stolen.signatures[0].bytes = bobs.signatures[0].bytes.clone();
    // Alice's own domain is asked for nothing: what she has not signed she has not written.
    let for_alice = evil.forge(Encoded::new(delta(&chain.head, ALICE, writes("b+z", "I resign"))));

    // One byte of the author's words; love's user by evil's hand, with its own name on it and with love's; alice.
    let changed = with_another_letter(&good, "all is well");
    let bad = [
        applied(&chain, Encoded::decode(changed.into()).unwrap(), |_| {}),
        applied(&chain, bobs, |_| {}),
        applied(&chain, Encoded::new(stolen), |_| {}),
        applied(&chain, for_alice, |_| {}),
    ];
    let watch = world.watch(&[&hers, &chain.name], ("refused", "signature")).await;
    for bad in &bad {
        evil.update(&chain.name, std::slice::from_ref(bad), None)
            .await
            .refused("bad-request", "verification failed");
    }
    // A good one before it is taken; what is after it is not.
    watch.unchanged_and_counted(&world, 4).await;
    world.takes(&mut chain, "the truth").await;
    let carol = chain.sign(&world.love.signer, CAROL, writes("b+y", "I do not"));
    let carol = chain.apply(carol);
    let answer = evil
        .update(&chain.name, &[carol.bytes().clone()], Some(&chain.head))
        .await;
    assert_eq!(answer, Answer::Receipt);
    world.reaches(&chain).await;
    assert_eq!(world.count(("quarantined", "contradiction")).await, 0);
    world.goes_on(&hers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r_16_applied_deltas_that_contradict_the_history() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut other = world.wave_of_evil(&[ALICE]).await;
    let signer = world.evil.signer.clone();
    let at = |version: u64| sign_at(&signer, &wrongly_hashed(version), BOB, writes("b+x", "hello"));
    let says = |chain: &Chain| chain.sign(&signer, BOB, writes("b+x", "hello"));
    let lies: [&dyn Fn(&Chain) -> Bytes; 7] = [
        // A wrong count.
        &|chain| wrong_count(chain, says(chain), 2),
        // Another hash of our version, and of the version that the author saw.
        &|chain| wrong_hash(chain, says(chain)),
        &|chain| replayed(chain, at(chain.head.version.number())),
        // A target in the future.
        &|chain| replayed(chain, at(chain.head.version.number() + 9)),
        // Operations that do not fit, or half of them.
        &|chain| applied(chain, chain.sign(&signer, BOB, writes("b+first", "Go away")), |_| {}),
        &|chain| {
            let half = [writes("b+x", "good"), writes("b+first", "bad")].concat();
            applied(chain, chain.sign(&signer, BOB, half), |_| {})
        },
        &|chain| {
            applied(
                chain,
                chain.sign(&signer, BOB, vec![WaveletOp::AddParticipant(who(ALICE))]),
                |_| {},
            )
        },
    ];
    // No operations at all, in truth or by its own account: nothing that is verified, so only refused.
    for bad in [
        wrong_count(&other, says(&other), 0),
        applied(&other, other.sign(&signer, BOB, Vec::new()), |_| {}),
    ] {
        let watch = world.watch(&[&hers, &other.name], ("refused", "contradiction")).await;
        world
            .evil
            .update(&other.name, &[bad], None)
            .await
            .refused("bad-request", "a delta without operations");
        watch.unchanged_and_counted(&world, 1).await;
    }
    world.takes(&mut other, "with operations").await;
    for lie in lies {
        let mut chain = world.wave_of_evil(&[ALICE]).await;
        let bad = lie(&chain);
        quarantined(&world, &mut chain, [&mut other], bad).await;
    }
    world.goes_on(&hers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_are_none() {
    let world = World::start().await;
    let mut chain = world.wave_of_evil(&[ALICE]).await;
    let good = chain.sign(&world.evil.signer, BOB, writes("b+x", "hello"));
    // A time before the signer's certificate; none of these is believed, whatever the reason that is given.
    for time in [i64::MIN, -1, 0, 1] {
        let watch = world.watch(&[&chain.name], ("quarantined", "contradiction")).await;
        let bad = applied(&chain, good.clone(), |applied| applied.timestamp = Timestamp(time));
        world
            .evil
            .update(&chain.name, &[bad], None)
            .await
            .refused("bad-request", "");
        watch.unchanged_and_counted(&world, 0).await;
    }
    world.takes(&mut chain, "now").await;
    // Years that nobody's calendar has. (A time that is only ahead of ours is taken, and shown as now.)
    let mut other = world.wave_of_evil(&[ALICE]).await;
    for time in [1 << 52, i64::MAX] {
        let mut chain = world.wave_of_evil(&[ALICE]).await;
        let signed = chain.sign(&world.evil.signer, BOB, writes("b+x", "hello"));
        let bad = applied(&chain, signed, |applied| applied.timestamp = Timestamp(time));
        quarantined(&world, &mut chain, [&mut other], bad).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b_116_a_delta_replayed_into_another_wavelet() {
    let world = World::start().await;
    let mut other = world.wave_of_evil(&[ALICE, CAROL]).await;
    let mut chain = world.wave_of_evil(&[ALICE, CAROL]).await;
    // Love signs in the one; evil shows it in the other, which has the same version and the same content.
    let loves = other.sign(&world.love.signer, CAROL, writes("b+x", "I love you"));
    let genuine = other.apply(loves.clone());
    let answer = world
        .evil
        .update(&other.name, &[genuine.bytes().clone()], Some(&other.head))
        .await;
    assert_eq!(answer, Answer::Receipt);
    world.reaches(&other).await;
    assert_eq!(chain.head.version, loves.delta.target.version);
    let elsewhere = replayed(&chain, loves.clone());
    quarantined(&world, &mut chain, [&mut other], elsewhere).await;
    // As it is, with the other's hash.
    let mut chain = world.wave_of_evil(&[ALICE, CAROL]).await;
    quarantined(&world, &mut chain, [&mut other], genuine.bytes().clone()).await;
    // The same delta twice in its own wavelet.
    let again = replayed(&other, loves);
    let mut third = world.wave_of_evil(&[ALICE]).await;
    let mut twice = other;
    quarantined(&world, &mut twice, [&mut third], again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_spliced_out_of_anothers() {
    let world = World::start().await;
    let mut other = world.wave_of_evil(&[ALICE]).await;
    // The names differ by a tail that reads as a field which nobody knows: `z` has 65 (`A`) bytes after it.
    let tail = format!("zA{}", "a".repeat(65));
    let long = Chain::new(format!("evil.lab/w+splice/~/conv+root{tail}").parse().unwrap());
    let short = Chain::new("evil.lab/w+splice/~/conv+root".parse().unwrap());
    let delta = Encoded::new(long.applied(long.sign(&world.evil.signer, BOB, first(BOB, &[ALICE, CAROL]))));
    let spliced: Bytes = [tail.as_bytes(), delta.bytes()].concat().into();
    let spliced: Encoded<AppliedDelta> = Encoded::decode(spliced).unwrap();
    let zero = HashedVersion::zero(&short.name);
    assert_eq!(
        zero.next(spliced.bytes(), 5),
        super::chain::after(&delta),
        "the same hash, the tail being in the delta"
    );

    let watch = world
        .watch(&[&short.name, &other.name], ("quarantined", "contradiction"))
        .await;
    let answer = world.evil.update(&short.name, &[spliced.bytes().clone()], None).await;
    answer.refused("bad-request", "contradicts");
    watch.unchanged_and_counted(&world, 1).await;
    world.takes(&mut other, "no harm done").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_spliced_out_of_anothers_and_given_as_history() {
    let mut world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let tail = format!("zA{}", "a".repeat(65));
    let mut long = Chain::new(format!("evil.lab/w+late/~/conv+root{tail}").parse().unwrap());
    let short: WaveletName = "evil.lab/w+late/~/conv+root".parse().unwrap();
    // Alice is invited by the second delta; the first is only in the history, which begins at version 0.
    let delta = long.apply(long.sign(&world.evil.signer, BOB, first(BOB, &[CAROL])));
    let spliced: Bytes = [tail.as_bytes(), delta.bytes()].concat().into();
    let spliced = Encoded::<AppliedDelta>::decode(spliced).unwrap();
    assert_eq!(
        HashedVersion::zero(&short).next(spliced.bytes(), u64::from(spliced.operations_applied)),
        long.head,
        "both histories go on from one hash"
    );
    let invites = long.apply(long.sign(&world.evil.signer, BOB, vec![WaveletOp::AddParticipant(who(ALICE))]));
    world
        .evil
        .seen()
        .histories
        .insert(short.clone(), vec![spliced, invites.clone()]);
    let watch = world.watch(&[&hers, &short], ("sockets", "none")).await;
    let stanza = world
        .evil
        .update_stanza(&short, &[invites.bytes().clone()], Some(&long.head));
    let id = stanza.attr("id").unwrap().to_owned();
    world.evil.send(stanza);
    world
        .evil
        .until("a request for history", |seen| {
            seen.asked_history.contains(&short).then_some(())
        })
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!world.evil.was_receipted(&id), "taken");
    watch.unchanged_and_counted(&world, 0).await;
    // The history that is its own is taken in the same way.
    world
        .evil
        .seen()
        .histories
        .insert(long.name.clone(), long.deltas.clone());
    let last = long.deltas.last().unwrap().bytes().clone();
    let answer = world.evil.update(&long.name, &[last], Some(&long.head)).await;
    assert_eq!(answer, Answer::Receipt);
    world.reaches(&long).await;
    world.goes_on(&hers).await;
    let store = Store::open(world.stop_victim()).unwrap();
    assert!(!store.has(&short).await.unwrap(), "{short} was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn b_127_a_commit_notice_for_what_was_never_delivered() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut chain = world.wave_of_evil(&[ALICE]).await;
    let watch = world
        .watch(&[&hers, &chain.name], ("quarantined", "contradiction"))
        .await;
    let at = wrongly_hashed;
    // Versions that never were: the history is asked for, and again after the pause that follows a refusal, which the
    // next notice does not end.
    for version in [9, 1 << 52, 9, 10] {
        world.evil.update(&chain.name, &[], Some(&at(version))).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = world.evil.seen().asked_history.len();
    assert!((1..=4).contains(&asked), "asked {asked} times");
    // Inside a delta; before what was committed already; with the right hash.
    world.evil.update(&chain.name, &[], Some(&at(2))).await;
    world
        .evil
        .update(&chain.name, &[], Some(&HashedVersion::zero(&chain.name)))
        .await;
    assert_eq!(
        world.evil.update(&chain.name, &[], Some(&chain.head)).await,
        Answer::Receipt
    );
    watch.unchanged_and_counted(&world, 0).await;
    world.takes(&mut chain, "here it is").await;

    // Of a version that we have, with another hash: the host has told us something else.
    let mut other = world.wave_of_evil(&[ALICE]).await;
    let watch = world
        .watch(&[&chain.name, &other.name], ("quarantined", "contradiction"))
        .await;
    let answer = world
        .evil
        .update(&chain.name, &[], Some(&at(chain.head.version.number())))
        .await;
    answer.refused("bad-request", "contradicts");
    watch.unchanged_and_counted(&world, 1).await;
    world.takes(&mut other, "no harm done").await;
    world.goes_on(&hers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_127_a_commit_notice_that_contradicts_the_deltas_beside_it() {
    let world = World::start().await;
    let mut chain = world.wave_of_evil(&[ALICE]).await;
    let good = chain.applied(chain.sign(&world.evil.signer, BOB, writes("b+x", "hello")));
    let wrong = wrongly_hashed(chain.head.version.number() + 1);
    let watch = world.watch(&[&chain.name], ("refused", "contradiction")).await;
    let answer = world
        .evil
        .update(&chain.name, &[Encoded::new(good).bytes().clone()], Some(&wrong))
        .await;
    answer.refused("bad-request", "contradicts");
    watch.unchanged_and_counted(&world, 1).await;
    world.takes(&mut chain, "what I meant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_126_deltas_that_jump_ahead() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut chain = world.wave_of_evil(&[ALICE]).await;
    // Far ahead, and never anything in between.
    let far = chain.head.version.number() + 1000;
    let watch = world
        .watch(&[&hers, &chain.name], ("quarantined", "contradiction"))
        .await;
    let stanza = world.evil.update_stanza(
        &chain.name,
        &[jump(&world.evil.signer, far, writes("b+x", "hello"))],
        None,
    );
    let id = stanza.attr("id").unwrap().to_owned();
    world.evil.send(stanza);
    world
        .evil
        .until("a request for history", |seen| {
            seen.asked_history.contains(&chain.name).then_some(())
        })
        .await;
    watch.unchanged_and_counted(&world, 0).await;
    assert!(!world.evil.has_answer(&id), "a receipt for what cannot be applied");
    // What is next goes on meanwhile; a hundred more ahead are not kept.
    world.takes(&mut chain, "in order").await;
    let watch = world.watch(&[&hers, &chain.name], ("refused", "out of order")).await;
    for version in 2_000..2_100 {
        let jump = jump(&world.evil.signer, version, vec![WaveletOp::NoOp]);
        world.evil.send(world.evil.update_stanza(&chain.name, &[jump], None));
    }
    let give_up = std::time::Instant::now() + Duration::from_secs(10);
    while world.count(("refused", "out of order")).await < 30 && std::time::Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let dropped = world.count(("refused", "out of order")).await;
    assert_eq!(dropped, 101 - 64, "64 are kept");
    watch.unchanged_and_counted(&world, dropped).await;
    world.takes(&mut chain, "still in order").await;
    // Beyond what anybody counts to.
    let far = jump(&world.evil.signer, 1 << 52, vec![WaveletOp::NoOp]);
    let watch = world.watch(&[&chain.name], ("refused", "contradiction")).await;
    let answer = world.evil.update(&chain.name, &[far], None).await;
    answer.refused("bad-request", "2^52");
    watch.unchanged_and_counted(&world, 1).await;
    world.takes(&mut chain, "and on").await;
    world.goes_on(&hers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_126_a_gap_is_filled_from_the_history() {
    let world = World::start().await;
    let mut chain = world.wave_of_evil(&[ALICE]).await;
    // One in three is told; the history has the others, once with a forged one among them.
    for number in 0..6 {
        let signed = chain.sign(&world.evil.signer, BOB, writes(&format!("b+{number}"), "hello"));
        chain.apply(signed);
    }
    let mut forged = chain.deltas.clone();
    let mut words: Delta = forged[3].signed.delta.value().clone();
    words.ops = writes("b+2", "never said");
    let mut signed = forged[3].signed.value().clone();
    signed.delta = Encoded::new(words);
    forged[3] = Encoded::new(AppliedDelta {
        signed: Encoded::new(signed),
        ..forged[3].value().clone()
    });
    world.evil.seen().histories.insert(chain.name.clone(), forged);
    let last = chain.deltas.last().unwrap().bytes().clone();
    let stanza = world
        .evil
        .update_stanza(&chain.name, std::slice::from_ref(&last), Some(&chain.head));
    world.evil.send(stanza);
    world
        .evil
        .until("a request for history", |seen| {
            seen.asked_history.contains(&chain.name).then_some(())
        })
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Up to the forged one, and not a step further.
    let state = world.state(&chain.name).await.unwrap();
    assert_eq!(state.version, chain.deltas[3].applied_at().version.number());
    world
        .evil
        .seen()
        .histories
        .insert(chain.name.clone(), chain.deltas.clone());
    world.reaches(&chain).await;
    world.takes(&mut chain, "now all is told").await;
}
