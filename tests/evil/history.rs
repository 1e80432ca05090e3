//! What evil.lab asks of initech.lab: histories and chains that are not for it.

use std::time::{Duration, Instant};

use billow_model::{HashedVersion, HistoryHash, Version, WaveletName, WaveletOp};
use billow_wire::exchange::SignerRequest;

use super::chain::{after, who, writes};
use super::peer::Answer;
use super::world::{BOB, CAROL, World};
use billow_federation::stanza::history;
use billow_wire::exchange::HistoryRequest;

/// The refusals are the same to the letter.
fn all_equal(answers: &[Answer]) {
    answers.iter().for_each(|answer| drop(answer.refused_somehow()));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn b_117_b_118_r_04_history_for_strangers() {
    let world = World::start().await;
    let theirs = world.wave_of_alice(&[CAROL]).await;
    let absent: WaveletName = "initech.lab/w+absent/~/conv+root".parse().unwrap();
    let end = world.love.copy(&theirs, 4).await.head;
    let wrong = HashedVersion {
        version: Version::new(4),
        hash: HistoryHash::from_bytes(&[7; 20]),
    };
    let mut answers = Vec::new();
    let watch = world.watch(&[&theirs, &absent], ("refused", "not a reader")).await;
    for (name, end) in [(&theirs, &end), (&theirs, &wrong), (&absent, &wrong), (&absent, &end)] {
        answers.push(world.evil.history(name, &HashedVersion::zero(name), end).await);
    }
    // Nor does it get the chain of who signed there.
    let id = world.love.signer.id().clone();
    for (name, at) in [(&theirs, &end), (&absent, &end), (&absent, &wrong)] {
        let request = SignerRequest {
            name: name.clone(),
            signer: id.clone(),
            at: at.clone(),
        };
        answers.push(world.evil.get_signer(&request).await);
    }
    all_equal(&answers);
    watch.unchanged_and_counted(&world, 7).await;
    // Who takes part is given it.
    let given = world
        .love
        .history(&theirs, &HashedVersion::zero(&theirs), &end)
        .await
        .history();
    assert_eq!(after(given.deltas.last().unwrap()), end);
}

/// The middle of some times.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn b_118_the_time_of_a_refusal_does_not_tell_what_is_there() {
    let world = World::start().await;
    let theirs = world.wave_of_alice(&[CAROL]).await;
    let end = world.love.copy(&theirs, 4).await.head;
    let absent: WaveletName = "initech.lab/w+absen/~/conv+root".parse().unwrap();
    let watch = world.watch(&[&theirs, &absent], ("refused", "not a reader")).await;
    let mut times = [Vec::new(), Vec::new()];
    let rounds = 150;
    for round in 0..2 * rounds {
        // Now the one first, now the other: what disturbs the machine disturbs both.
        let which = (round + round / 2) % 2;
        let name = [&theirs, &absent][which];
        let begun = Instant::now();
        world
            .evil
            .history(name, &HashedVersion::zero(name), &end)
            .await
            .refused_somehow();
        times[which].push(begun.elapsed());
    }
    let [there, absent_time] = times.map(median);
    let apart = there.abs_diff(absent_time);
    println!("medians {there:?} and {absent_time:?}");
    assert!(apart < Duration::from_millis(1), "{there:?} and {absent_time:?}");
    watch.unchanged_and_counted(&world, 2 * rounds as i64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_117_history_ends_where_the_domain_left() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB, CAROL]).await;
    world
        .alice_changes(&name, &[WaveletOp::RemoveParticipant(who(BOB))])
        .await;
    let last = world.evil.copy(&name, 6).await;
    world.alice_changes(&name, &writes("b+secret", "at last")).await;
    let all = world.love.copy(&name, 7).await;
    let zero = HashedVersion::zero(&name);
    let watch = world.watch(&[&name], ("refused", "not a reader")).await;
    world.evil.history(&name, &zero, &all.head).await.refused_somehow();
    world.evil.history(&name, &last.head, &all.head).await.refused_somehow();
    watch.unchanged_and_counted(&world, 2).await;
    // Up to the removal it is his to read.
    let given = world.evil.history(&name, &zero, &last.head).await.history();
    assert_eq!(after(given.deltas.last().unwrap()), last.head);
    // One who joins later may read from the beginning.
    world.alice_changes(&name, &[WaveletOp::AddParticipant(who(BOB))]).await;
    let again = world.evil.copy(&name, 8).await;
    assert_eq!(again.deltas.len(), all.deltas.len() + 1);
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_119_r_15_ranges_that_are_none() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    world.goes_on(&name).await;
    let copy = world.evil.copy(&name, 6).await;
    let zero = HashedVersion::zero(&name);
    let at = |version: u64| HashedVersion {
        version: Version::new(version),
        hash: HistoryHash::from_bytes(&[7; 20]),
    };
    let head = &copy.head;
    let bounds = copy.deltas.iter().map(after).collect::<Vec<_>>();
    let watch = world.watch(&[&name], ("refused", "bad request")).await;
    let inside = HashedVersion {
        version: Version::new(2),
        hash: head.hash.clone(),
    };
    let ranges = [
        (head.clone(), zero.clone()),
        (head.clone(), head.clone()),
        (zero.clone(), zero.clone()),
        (zero.clone(), at(6)),
        (at(4), head.clone()),
        (inside.clone(), head.clone()),
        (zero.clone(), inside),
        (zero.clone(), at(1 << 52)),
        (head.clone(), at(7)),
    ];
    for (from, to) in &ranges {
        world.evil.history(&name, from, to).await.refused("bad-request", "");
    }
    // Attributes that are no numbers, or missing.
    let good = HistoryRequest {
        name: name.clone(),
        from: zero.clone(),
        to: head.clone(),
        limit: Some(1),
    };
    let whole = String::from(&history::request(&good));
    let changes = [
        ("start-version=\"0\"", "start-version=\"-1\""),
        ("start-version=\"0\"", "start-version=\"\""),
        ("start-version=\"0\"", "start-version=\"0x0\""),
        ("start-version=\"0\"", ""),
        ("end-version=\"6\"", "end-version=\"99999999999999999999999\""),
        ("end-version=\"6\"", "end-version=\"9223372036854775807\""),
        ("response-length-limit=\"1\"", "response-length-limit=\"many\""),
        ("wavelet-name=", "name="),
        ("node=\"wavelet\"", "node=\"wave\""),
        ("node=\"wavelet\"", ""),
    ];
    let double = whole.replace('\'', "\"");
    for (from, to) in changes {
        assert!(double.contains(from), "{from} in {double}");
        let changed = double.replacen(from, to, 1).parse().unwrap();
        world.evil.ask(world.evil.get(changed)).await.refused("bad-request", "");
    }
    watch.unchanged_and_counted(&world, 19).await;
    // A limit of one byte gives one delta, and says that there is more (B-120); 0 and less is none, and all of it fits.
    let given = world.evil.ask(world.evil.get(history::request(&good))).await.history();
    assert_eq!((given.deltas.len(), given.truncated), (1, Some(bounds[0].version)));
    for limit in ["0", "-1", "-5", "9223372036854775807"] {
        let limited = double.replace(
            "response-length-limit=\"1\"",
            &format!("response-length-limit=\"{limit}\""),
        );
        let given = world.evil.ask(world.evil.get(limited.parse().unwrap())).await.history();
        assert_eq!((given.deltas.len(), given.truncated), (copy.deltas.len(), None));
    }
    world.goes_on(&name).await;
}
