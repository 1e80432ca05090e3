//! Worlds from seeds: those that have found something before, and a few others.
//!
//! `make sim` runs thousands; `BILLOW_SIM_SEEDS` says how many run here.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;

use billow_sim::world;

fn check(seed: u64, counts: &mut BTreeMap<&'static str, u64>) {
    let outcome = world::run(seed, false);
    let repeat = format!("cargo run --release -p billow-sim -- --only {seed}");
    assert_eq!(outcome.violation, None, "repeat it: {repeat}");
    for (what, count) in outcome.counts {
        *counts.entry(what).or_default() += count;
    }
}

#[test]
fn seeds_that_have_found_something_find_nothing_more() {
    let mut counts = BTreeMap::new();
    let seeds = include_str!("../seeds.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    for line in seeds {
        check(line.split_whitespace().next().unwrap().parse().unwrap(), &mut counts);
    }
    assert!(counts["acked"] > 100, "{counts:?}");
}

#[test]
fn worlds_keep_their_promises_and_see_every_kind_of_fault() {
    let seeds = std::env::var("BILLOW_SIM_SEEDS").ok();
    let seeds: u64 = seeds.map_or(60, |seeds| seeds.parse().unwrap());
    let mut counts = BTreeMap::new();
    (1..=seeds).for_each(|seed| check(seed, &mut counts));
    let never: Vec<_> = world::kinds()
        .into_iter()
        .filter(|kind| !counts.contains_key(kind))
        .collect();
    assert!(seeds < 300 || never.is_empty(), "never happened: {never:?}");
    println!(
        "FIGURE sim seeds={seeds} events={} deltas={} acked={} crashes={} evil_moves={} fault_kinds_never_fired={}",
        counts["events"],
        counts["deltas"],
        counts["acked"],
        counts["crashes"],
        counts["evil_moves"],
        never.len()
    );
}

#[test]
fn a_seed_is_one_world() {
    let [first, again] = [77, 77].map(|seed| world::run(seed, false));
    assert_eq!((first.trace, first.counts), (again.trace, again.counts));
    assert_ne!(first.trace, world::run(78, false).trace);
}
