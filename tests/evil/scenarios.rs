//! Manners rather than lies: two stories for two listeners, too much at once, nothing taken in.

use std::time::{Duration, Instant};

use billow_federation::stanza::history;
use billow_model::HashedVersion;
use billow_wire::exchange::HistoryRequest;

use super::chain::writes;
use super::moves::{fork, quarantined, replayed, taken};
use super::peer::Answer;
use super::world::{ALICE, BOB, CAROL, World};

#[tokio::test(flavor = "multi_thread")]
async fn b_125_a_host_that_tells_two_histories_is_caught_at_the_first_delta_that_crosses() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut other = world.wave_of_evil(&[ALICE]).await;
    let base = world.wave_of_evil(&[ALICE, CAROL]).await;
    let (mut to_us, mut to_love) = fork(&base, &world.evil.signer);
    assert_eq!(to_us.head.version, to_love.head.version);
    assert_ne!(to_us.head.hash, to_love.head.hash);
    // Each of them believes what it is told, for as long as nobody who has heard the other story says anything.
    let delta = to_us.deltas.last().unwrap().bytes().clone();
    taken(&world.evil.update(&to_us.name, &[delta], Some(&to_us.head)).await);
    world.takes(&mut to_us, "of course").await;
    to_love.apply(to_love.sign(&world.evil.signer, BOB, writes("b+more", "of course not")));
    // Carol answers what she was told; her words name the history that she has seen, and evil cannot change that.
    let carol = to_love.sign(&world.love.signer, CAROL, writes("b+carol", "I am sorry to hear that"));
    let crossing = replayed(&to_us, carol);
    quarantined(&world, &mut to_us, [&mut other], crossing).await;
    world.goes_on(&hers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_peer_keeps_nobody_else_waiting() {
    const REQUESTS: usize = 2_000;
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB, CAROL]).await;
    let copy = world.evil.copy(&hers, 5).await;
    let mut chain = world.wave_of_evil(&[ALICE]).await;
    let quiet = writing_time(&world, &hers, 5).await;
    // Questions for the whole history, a good many of them at once, and garbage in between.
    let range = HistoryRequest {
        name: hers.clone(),
        from: HashedVersion::zero(&hers),
        to: copy.head.clone(),
        limit: None,
    };
    let mut asked = Vec::new();
    for number in 0..REQUESTS {
        let stanza = if number % 10 == 0 {
            world
                .evil
                .update_stanza(&chain.name, &[vec![number as u8; 500].into()], None)
        } else {
            world.evil.get(history::request(&range))
        };
        asked.push(stanza.attr("id").unwrap().to_owned());
        world.evil.send_when_room(&stanza).await;
    }
    let busy = writing_time(&world, &hers, 5).await;
    // Every one of them is answered, if only with a refusal.
    let mut refused = 0;
    let mut given = 0;
    for id in &asked {
        match world.evil.answer_to(id).await {
            Answer::Refused(_) => refused += 1,
            Answer::Result(_) => given += 1,
            Answer::Receipt => panic!("a receipt for garbage"),
        }
    }
    println!("FIGURE evil_flood requests={REQUESTS} given={given} refused={refused} quiet={quiet:?} busy={busy:?}");
    assert_eq!(given + refused, REQUESTS);
    assert!(
        busy < quiet + Duration::from_secs(2),
        "love and alice waited {busy:?} instead of {quiet:?}"
    );
    world.takes(&mut chain, "enough of that").await;
    world.goes_on(&hers).await;
}

/// How long it takes carol to write something and to have it back, and alice after her: the longest of some times.
async fn writing_time(world: &World, name: &billow_model::WaveletName, times: usize) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..times {
        let begun = Instant::now();
        let id = world.love.id().replace('.', "-");
        world
            .love
            .writes(name, CAROL, writes(&format!("b+{id}"), "still here"))
            .await;
        world.alice_changes(name, &writes(&format!("b+a{id}"), "me too")).await;
        longest = longest.max(begun.elapsed());
        let version = world.state(name).await.unwrap().version;
        world.love.copy(name, version).await;
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_nothing_keeps_nobody_else_waiting() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB, CAROL]).await;
    world.goes_on(&hers).await;
    let quiet = writing_time(&world, &hers, 3).await;
    world.evil.seen().deaf = true;
    // Large enough, all together, to fill whatever lies between the two.
    let long = "All work and no play makes Jack a dull boy. ".repeat(900);
    for number in 0..60 {
        world
            .alice_changes(&hers, &writes(&format!("b+long{number}"), &long))
            .await;
    }
    let busy = writing_time(&world, &hers, 3).await;
    assert!(
        busy < quiet + Duration::from_secs(2),
        "love waited {busy:?} instead of {quiet:?}"
    );
    // When it reads again it is told everything.
    let version = world.state(&hers).await.unwrap().version;
    world.evil.seen().deaf = false;
    let copy = world.evil.copy(&hers, version).await;
    world.reaches(&copy).await;
    world.goes_on(&hers).await;
}
