//! What is said to the people, and kept on disk, when a host and our copy of its wavelet do not agree.

use std::time::{Duration, Instant};

use billow_model::WaveletName;
use billow_server::web::messages::{DeliveryState, PeerDelivery};
use billow_store::Store;
use billow_wavelet::Evidence;

use super::chain::{Chain, writes};
use super::moves::applied;
use super::peer::Answer;
use super::world::{ALICE, BOB, CAROL, World};

/// What alice is told about the host of a wavelet, once it is of this kind.
async fn told(world: &World, name: &WaveletName, wanted: DeliveryState) -> PeerDelivery {
    let give_up = Instant::now() + Duration::from_secs(15);
    loop {
        let peers = world.delivery(name).await;
        if let Some(peer) = peers.iter().find(|peer| peer.host && peer.state == wanted) {
            return peer.clone();
        }
        assert!(Instant::now() < give_up, "expected {wanted:?}, got {peers:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the victim has on disk about a wavelet.
async fn on_disk(world: &mut World, name: &WaveletName) -> (String, Evidence) {
    let store = Store::open(world.stop_victim()).unwrap();
    let standings = store.standings().await.unwrap();
    let (_, stored) = standings.into_iter().find(|(one, _)| one == name).unwrap();
    (stored.state, Evidence::decode(&stored.evidence).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_documents_differ_is_believed_after_a_second_look_or_not_at_all() {
    let mut world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut other = world.wave_of_evil(&[ALICE]).await;
    let chain = world.wave_of_evil(&[ALICE]).await;
    world
        .evil
        .seen()
        .histories
        .insert(chain.name.clone(), chain.deltas.clone());
    let before = world.state(&chain.name).await.unwrap();
    let watch = world
        .watch(&[&hers, &other.name, &chain.name], ("quarantined", "contradiction"))
        .await;
    world
        .evil
        .ask(world.evil.digest_stanza(&chain.name, &chain.head, [7; 32]))
        .await
        .refused("bad-request", "the documents differ");
    watch.unchanged_and_counted(&world, 1).await;
    assert_eq!(world.count(("diverged", "documents differ")).await, 1);
    assert!(
        world.evil.seen().asked_history.contains(&chain.name),
        "it was fetched again first"
    );
    // Said in words, and nobody writes.
    let peer = told(&world, &chain.name, DeliveryState::Quarantined).await;
    assert!(peer.reason.unwrap().contains("the documents differ at version"));
    let refused = world.refusal_of_alice(&chain.name, &writes("b+mine", "may I")).await;
    assert!(refused.contains("quarantine"), "{refused}");
    world.takes(&mut other, "others go on").await;
    world.goes_on(&hers).await;
    // The evidence outlives the server: both digests, the version and its hash.
    let (state, evidence) = on_disk(&mut world, &chain.name).await;
    assert_eq!(state, "quarantined");
    let digests = evidence.digests.map(|(ours, theirs)| (hex::encode(ours), theirs));
    assert_eq!(digests, Some((before.digest, [7; 32])));
    assert_eq!(evidence.ours, chain.head);
    assert_eq!(evidence.kept, *chain.deltas.last().unwrap().bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn b_125_both_histories_that_a_host_shows_are_kept_as_evidence() {
    let mut world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut other = world.wave_of_evil(&[ALICE]).await;
    // Alice is shown one history, carol of love.lab another; what carol signs names hers.
    let mut shown_to_alice = world.wave_of_evil(&[ALICE, CAROL]).await;
    let mut shown_to_carol = shown_to_alice.clone();
    let say = |chain: &mut Chain, text: &str| {
        let signed = chain.sign(&world.evil.signer, BOB, writes("b+x", text));
        chain.apply(signed)
    };
    let one = say(&mut shown_to_alice, "yes");
    say(&mut shown_to_carol, "no!");
    let answer = world
        .evil
        .update(&shown_to_alice.name, &[one.bytes().clone()], None)
        .await;
    assert_eq!(answer, Answer::Receipt);
    world.reaches(&shown_to_alice).await;
    world
        .evil
        .seen()
        .histories
        .insert(shown_to_alice.name.clone(), shown_to_alice.deltas.clone());
    let carols = shown_to_carol.sign(&world.love.signer, CAROL, writes("b+y", "I said so"));
    let crossing = applied(&shown_to_alice, carols, |applied| {
        applied.applied_at = Some(shown_to_alice.head.clone());
    });

    let name = shown_to_alice.name.clone();
    let watch = world.watch(&[&hers, &other.name, &name], ("diverged", "fork")).await;
    let answer = world.evil.update(&name, std::slice::from_ref(&crossing), None).await;
    answer.refused("bad-request", "its author saw a history that has");
    watch.unchanged_and_counted(&world, 1).await;
    // It shows the first history again, so the copy stands; the delta that crosses comes again, and that is the end.
    told(&world, &name, DeliveryState::Delivered).await;
    let watch = world
        .watch(&[&hers, &other.name, &name], ("quarantined", "contradiction"))
        .await;
    let answer = world.evil.update(&name, std::slice::from_ref(&crossing), None).await;
    answer.refused("bad-request", "its author saw a history that has");
    watch.unchanged_and_counted(&world, 1).await;
    told(&world, &name, DeliveryState::Quarantined).await;
    world.takes(&mut other, "others go on").await;
    world.goes_on(&hers).await;
    // Both signed transcripts are kept.
    let (state, evidence) = on_disk(&mut world, &name).await;
    assert_eq!(
        (state.as_str(), evidence.theirs.as_ref()),
        ("quarantined", Some(&shown_to_carol.head))
    );
    assert_eq!((&evidence.kept, &evidence.applied), (one.bytes(), &crossing));
}

#[tokio::test(flavor = "multi_thread")]
async fn b_126_a_host_that_withholds_is_said_to() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut chain = world.wave_of_evil(&[ALICE]).await;
    let told_last = chain.head.clone();
    for number in 0..3 {
        let signed = chain.sign(&world.evil.signer, BOB, writes(&format!("b+{number}"), "hello"));
        chain.apply(signed);
    }
    // It says that there is more, and does not give it.
    let watch = world
        .watch(&[&hers, &chain.name], ("quarantined", "contradiction"))
        .await;
    world.evil.update(&chain.name, &[], Some(&chain.head)).await;
    let peer = told(&world, &chain.name, DeliveryState::Stale).await;
    let (version, reason) = (chain.head.version, peer.reason.unwrap());
    assert!(
        reason.contains(&format!("a version {version}, and does not give it")),
        "{reason}"
    );
    assert!(peer.next_try.is_some() && peer.version == told_last.version.number());
    let asked = world.evil.seen().asked_history.len();
    assert!(asked <= 4, "asked {asked} times within a moment");
    watch.unchanged_and_counted(&world, 0).await;
    world.goes_on(&hers).await;
    // It gives at last.
    world
        .evil
        .seen()
        .histories
        .insert(chain.name.clone(), chain.deltas.clone());
    world.reaches(&chain).await;
    told(&world, &chain.name, DeliveryState::Delivered).await;
    world.takes(&mut chain, "and on").await;
}
