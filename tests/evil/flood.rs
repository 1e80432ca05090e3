//! evil.lab does what is allowed, too often or too much.

use std::time::{Duration, Instant};

use billow_federation::stanza::history;
use billow_model::{HashedVersion, HistoryHash, Version, WaveletName, WaveletOp};
use billow_wire::exchange::HistoryRequest;
use bytes::Bytes;

use super::chain::{Chain, after, who, writes};
use super::peer::Answer;
use super::world::{ALICE, BOB, CAROL, World};

fn refused_for_want_of_room(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(error) if error.condition.name() == "resource-constraint")
}

/// A wavelet of evil.lab that begins with this.
fn begins(world: &World, id: &str, with: &[&str]) -> Chain {
    let mut chain = Chain::new(format!("evil.lab/{id}/~/conv+root").parse().unwrap());
    let people = [BOB].iter().chain(with);
    let ops = people.map(|address| WaveletOp::AddParticipant(who(address))).collect();
    let signed = chain.sign(&world.evil.signer, BOB, ops);
    chain.apply(signed);
    chain
}

fn all(chain: &Chain) -> Vec<Bytes> {
    chain.deltas.iter().map(|delta| delta.bytes().clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn b_128_wavelets_that_nobody_wants_have_a_quota() {
    let world = World::with_config("unopened_wavelets = 20\nunopened_megabytes = 1\n").await;
    let hers = world.wave_of_alice(&[BOB]).await;
    // One that alice has opened takes nothing of it.
    let mut wanted = world.wave_of_evil(&[ALICE]).await;
    let watch = world.watch(&[&hers, &wanted.name], ("refused", "quota")).await;
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for number in 0..60 {
        let chain = begins(&world, &format!("w+unasked{number}"), &[ALICE]);
        match world.evil.update(&chain.name, &all(&chain), None).await {
            Answer::Receipt => taken.push(chain),
            answer => {
                answer.refused("resource-constraint", "");
                refused.push(chain);
            }
        }
    }
    assert_eq!((taken.len(), refused.len()), (20, 40));
    watch.unchanged_and_counted(&world, 40).await;
    for chain in &refused {
        assert_eq!(world.state(&chain.name).await, None, "nothing is stored");
    }
    // Another domain has its own share, and what is wanted goes on.
    let loves = {
        let mut chain = Chain::new("love.lab/w+hers/~/conv+root".parse().unwrap());
        let ops = [CAROL, ALICE]
            .map(|address| WaveletOp::AddParticipant(who(address)))
            .to_vec();
        let signed = chain.sign(&world.love.signer, CAROL, ops);
        chain.apply(signed);
        chain
    };
    assert_eq!(
        world.love.update(&loves.name, &all(&loves), None).await,
        Answer::Receipt
    );
    world.takes(&mut wanted, "as before").await;
    world.goes_on(&hers).await;
    // Alice has looked at all of the twenty by asking for their states: there is room again.
    for chain in &taken {
        world.reaches(chain).await;
    }
    let give_up = Instant::now() + Duration::from_secs(10);
    while world.evil.update(&refused[0].name, &all(&refused[0]), None).await != Answer::Receipt {
        assert!(Instant::now() < give_up, "there is never room again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // A single one may not take more bytes than the quota either.
    let mut large = begins(&world, "w+large", &[ALICE]);
    assert_eq!(
        world.evil.update(&large.name, &all(&large), None).await,
        Answer::Receipt
    );
    let mut before = large.clone();
    let text = "x".repeat(60_000);
    let mut answer = Answer::Receipt;
    for number in 0..20 {
        before = large.clone();
        let signed = large.sign(&world.evil.signer, BOB, writes(&format!("b+{number}"), &text));
        let applied = large.apply(signed);
        answer = world.evil.update(&large.name, &[applied.bytes().clone()], None).await;
        if answer != Answer::Receipt {
            break;
        }
    }
    answer.refused("resource-constraint", "");
    assert!((5..12).contains(&before.deltas.len()), "{}", before.deltas.len());
    world.takes(&mut wanted, "still").await;
    // Somebody wants it: what was refused is taken.
    world.reaches(&before).await;
    let give_up = Instant::now() + Duration::from_secs(10);
    let missing = &all(&large)[before.deltas.len()..];
    while world.evil.update(&large.name, missing, None).await != Answer::Receipt {
        assert!(Instant::now() < give_up, "what is opened is still refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.reaches(&large).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_064_history_is_given_one_request_at_a_time() {
    const REQUESTS: usize = 10_000;
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB, CAROL]).await;
    world.goes_on(&hers).await;
    let copy = world.evil.copy(&hers, 7).await;
    let request = |to: &HashedVersion| HistoryRequest {
        name: hers.clone(),
        from: HashedVersion::zero(&hers),
        to: to.clone(),
        limit: None,
    };
    let watch = world.watch(&[&hers], ("refused", "not a reader")).await;
    let stanzas = (0..REQUESTS).map(|_| world.evil.get(history::request(&request(&copy.head))));
    let love = async {
        // Meanwhile another domain is served.
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let begun = Instant::now();
            let given = world
                .love
                .history(&hers, &HashedVersion::zero(&hers), &copy.head)
                .await
                .history();
            assert_eq!(given.deltas.len(), copy.deltas.len());
            slowest = slowest.max(begun.elapsed());
        }
        slowest
    };
    let (answers, slowest) = tokio::join!(world.evil.flood(stanzas.collect()), love);
    let refused = answers.iter().filter(|answer| refused_for_want_of_room(answer)).count();
    for given in answers.iter().filter(|answer| !refused_for_want_of_room(answer)) {
        assert_eq!(after(given.history().deltas.last().unwrap()), copy.head);
    }
    println!("{refused} of {REQUESTS} refused, the other domain waited {slowest:?} at most");
    assert!(refused > 0 && refused < answers.len(), "{refused}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    // A range that is none is refused whenever it is asked for.
    let far = HashedVersion {
        version: Version::new(1 << 52),
        hash: HistoryHash::from_bytes(&[7; 20]),
    };
    world
        .evil
        .history(&hers, &HashedVersion::zero(&hers), &far)
        .await
        .refused("bad-request", "");
    watch.unchanged_and_counted(&world, 0).await;
    world.goes_on(&hers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wavelets_that_are_nobodys_here_are_refused_and_only_so_many_at_once() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut wanted = world.wave_of_evil(&[ALICE]).await;
    let watch = world
        .watch(&[&hers, &wanted.name], ("quarantined", "contradiction"))
        .await;
    let stanzas = (0..2_000).map(|number| {
        let chain = begins(&world, &format!("w+stray{number}"), &[CAROL]);
        world.evil.update_stanza(&chain.name, &all(&chain), None)
    });
    let answers = world.evil.flood(stanzas.collect()).await;
    let crowded = answers.iter().filter(|answer| refused_for_want_of_room(answer)).count();
    for answer in answers.iter().filter(|answer| !refused_for_want_of_room(answer)) {
        answer.refused("item-not-found", "no local participant");
    }
    assert!(crowded > 0 && crowded < answers.len(), "{crowded}");
    watch.unchanged_and_counted(&world, 0).await;
    let stray: WaveletName = "evil.lab/w+stray7/~/conv+root".parse().unwrap();
    assert_eq!(world.state(&stray).await, None);
    // When they are forgotten there is room again.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    world.takes(&mut wanted, "and on").await;
    world.goes_on(&hers).await;
    world.wave_of_evil(&[ALICE]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_237_a_flood_of_refusals_is_a_few_lines_in_the_log() {
    const STANZAS: usize = 20_000;
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut wanted = world.wave_of_evil(&[ALICE]).await;
    let watch = world
        .watch(&[&hers, &wanted.name], ("quarantined", "contradiction"))
        .await;
    let before = world.logged("");
    let begun = Instant::now();
    let love: WaveletName = "love.lab/w+hers/~/conv+root".parse().unwrap();
    let zero = HashedVersion::zero(&hers);
    let far = HashedVersion {
        version: Version::new(1_000),
        hash: HistoryHash::from_bytes(&[7; 20]),
    };
    let stanzas = (0..STANZAS).map(|number| match number % 3 {
        // For another domain's wavelet; a range that is none; a submission that is no delta.
        0 => world.evil.update_stanza(&love, &[], Some(&far)),
        1 => world.evil.get(history::request(&HistoryRequest {
            name: hers.clone(),
            from: zero.clone(),
            to: far.clone(),
            limit: None,
        })),
        _ => world.evil.set(super::peer::submission(&hers, b"nothing")),
    });
    for answer in world.evil.flood(stanzas.collect()).await {
        answer.refused_somehow();
    }
    // A line for each of a few reasons, and again every ten seconds.
    let rounds = 1 + begun.elapsed().as_secs() / 10;
    let lines = world.logged("") - before;
    println!("{lines} lines for {STANZAS} refusals in {rounds} times ten seconds");
    assert!(lines as u64 <= 20 + 10 * rounds, "{lines} lines");
    watch.unchanged_and_counted(&world, 0).await;
    world.takes(&mut wanted, "no harm done").await;
    world.goes_on(&hers).await;
}
