//! Peers that do not read, or are not there: what they cost us and others.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use billow_federation::stanza::history;
use billow_model::{HashedVersion, WaveletName, WaveletOp};
use billow_wire::exchange::HistoryRequest;

use super::chain::{who, writes};
use super::world::{ALICE, BOB, CAROL, World};

/// How long changes of alice's take to be at love.lab, sorted.
async fn latencies(world: &World, name: &WaveletName, round: usize, count: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for number in 0..count {
        let begun = Instant::now();
        let version = world
            .alice_changes(name, &writes(&format!("b+{round}x{number}"), "hello"))
            .await;
        world.love.copy(name, version).await;
        took.push(begun.elapsed());
    }
    took.sort();
    took
}

/// Sixty large changes, and how much more memory the server has after them.
async fn grows_by(world: &World, name: &WaveletName) -> u64 {
    let before = world.memory();
    let text = "x".repeat(50_000);
    for number in 0..60 {
        world
            .alice_changes(name, &writes(&format!("b+large{number}"), &text))
            .await;
    }
    world.memory().saturating_sub(before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_costs_a_little_memory_and_nobody_elses_time() {
    const MIB: u64 = 1024 * 1024;
    let world = World::start().await;
    let loves = world.wave_of_alice(&[CAROL]).await;
    let theirs = [world.wave_of_alice(&[BOB]).await, world.wave_of_alice(&[BOB]).await];
    let controls = [world.wave_of_alice(&[]).await, world.wave_of_alice(&[]).await];
    let mut controlled = Vec::new();
    for control in &controls {
        controlled.push(grows_by(&world, control).await);
    }
    let usual = latencies(&world, &loves, 0, 40).await;
    for (round, rate) in [(1, 0), (2, 1024)] {
        world.gate().set_rate(rate);
        let grown = grows_by(&world, &theirs[round - 1]).await;
        // It even asks for more.
        let copy = world.evil.seen().copy_of(&theirs[round - 1]).head;
        let request = HistoryRequest {
            name: theirs[round - 1].clone(),
            from: HashedVersion::zero(&theirs[round - 1]),
            to: copy,
            limit: None,
        };
        for _ in 0..100 {
            world.evil.send(world.evil.get(history::request(&request)));
        }
        let during = latencies(&world, &loves, round, 40).await;
        let most = *controlled.iter().max().unwrap();
        let noise = controlled.iter().max().unwrap() - controlled.iter().min().unwrap();
        println!(
            "FIGURE slow_peer rate={rate} grown={grown} control={most} noise={noise} usual_p50_ms={} during_p50_ms={} \
             usual_p99_ms={} during_p99_ms={}",
            usual[20].as_millis(),
            during[20].as_millis(),
            usual[39].as_millis(),
            during[39].as_millis()
        );
        assert!(grown <= most + noise + MIB, "{grown} against {most} +- {noise}");
        // On a machine that others use too the slowest of forty says more about them: so the middle one.
        let bound = usual[20].mul_f64(2.0) + Duration::from_millis(50);
        assert!(during[20] <= bound, "{:?} against {:?}", during[20], usual[20]);
    }
    // When it reads again it gets everything.
    world.gate().open();
    for name in &theirs {
        let version = world.state(name).await.unwrap().version;
        let give_up = Instant::now() + Duration::from_secs(90);
        while world.evil.seen().copy_of(name).head.version.number() < version {
            assert!(Instant::now() < give_up, "{name} never arrives");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    world.goes_on(&theirs[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_dead_domains_hold_up_nobody() {
    const DEAD: usize = 200;
    let world = World::start().await;
    let loves = world.wave_of_alice(&[CAROL]).await;
    let usual = latencies(&world, &loves, 0, 40).await;
    // A third is in no DNS, a third refuses connections, a third never answers one.
    let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let refusing = {
        let gone = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        gone.local_addr().unwrap()
    };
    let domains: Vec<String> = (0..DEAD).map(|number| format!("dead{number}.lab")).collect();
    let at: Vec<(String, SocketAddr)> = domains
        .iter()
        .enumerate()
        .filter_map(|(number, domain)| match number % 3 {
            0 => None,
            1 => Some((domain.clone(), refusing)),
            _ => Some((domain.clone(), silent.local_addr().unwrap())),
        })
        .collect();
    world.further_domains(&at);
    let before = world.memory();
    let crowd = world.wave_of_alice(&[CAROL]).await;
    let people: Vec<WaveletOp> = domains
        .iter()
        .map(|domain| WaveletOp::AddParticipant(who(&format!("somebody@{domain}"))))
        .collect();
    let version = world.alice_changes(&crowd, &people).await;
    world.love.copy(&crowd, version).await;
    let mut most = 0;
    let mut during = Vec::new();
    for round in 1..=4 {
        during.extend(latencies(&world, &loves, round, 20).await);
        // Who is alive on the crowded one gets it as well.
        let version = world
            .alice_changes(&crowd, &writes(&format!("b+all{round}"), "hello all"))
            .await;
        world.love.copy(&crowd, version).await;
        most = most.max(world.connections_to(&[silent.local_addr().unwrap(), refusing]));
    }
    during.sort();
    let grown = world.memory().saturating_sub(before);
    println!(
        "FIGURE dead_domains domains={DEAD} connecting={most} grown_bytes={grown} usual_p50_ms={} during_p50_ms={} \
         usual_p99_ms={} during_p99_ms={}",
        usual[20].as_millis(),
        during[40].as_millis(),
        usual[39].as_millis(),
        during[79].as_millis()
    );
    assert!(most <= 64, "{most} connections at once");
    assert!(grown <= 32 * 1024 * 1024, "{grown} bytes for {DEAD} domains");
    let bound = usual[20].mul_f64(2.0) + Duration::from_millis(50);
    assert!(during[40] <= bound, "{:?} against {:?}", during[40], usual[20]);
    assert_eq!(world.state(&loves).await.unwrap().participants, [ALICE, CAROL]);
}
