//! Runs worlds from seeds, on all cores, and says what came of them.
//!
//! With the feature `planted`, `--planted` turns on one planted bug after the other and looks for each.
//!
//! `billow-sim [--seeds N] [--seed X] [--only X] [--threads N]`: N worlds from seed X on, or one world with everything
//! that happens in it told on standard error. The last line is the figure; a failed seed prints the command that repeats it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use billow_sim::world::{self, Outcome};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| -> Option<u64> {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    if let Some(seed) = value("--only") {
        let outcome = world::run(seed, true);
        println!("{outcome:?}");
        return if outcome.violation.is_none() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let (seeds, first) = (value("--seeds").unwrap_or(1_000), value("--seed").unwrap_or(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let threads = value("--threads").unwrap_or(cores);
    #[cfg(feature = "planted")]
    if arguments.iter().any(|argument| argument == "--planted") {
        return search_for_planted(value("--seeds").unwrap_or(400), threads);
    }
    let sum = run_all(first, seeds, threads);
    sum.print(seeds);
    if sum.is_good(seeds) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_all(first: u64, seeds: u64, threads: u64) -> Sum {
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Sum::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        return;
                    }
                    let outcome = world::run(first + number, false);
                    let again = (number % 100 == 0).then(|| world::run(first + number, false));
                    let mut sum = sum.lock().expect("nobody panics with it");
                    sum.add(&outcome, again.as_ref());
                }
            });
        }
    });
    sum.into_inner().expect("nobody panics with it")
}

/// Each planted bug must be found, and nothing where none is on.
#[cfg(feature = "planted")]
fn search_for_planted(most: u64, threads: u64) -> ExitCode {
    use billow_sim::planted::{BUGS, search};
    std::panic::set_hook(Box::new(|_| {}));
    let mut caught = 0;
    for bug in BUGS {
        let found = search(bug, most, threads);
        match found {
            Some(found) => println!(
                "planted: {bug}: {} by the simulator, after {} seeds",
                found.promise, found.seeds
            ),
            None => println!("planted: {bug}: NOT FOUND in {most} seeds"),
        }
        caught += usize::from(found.is_some());
    }
    let innocent = search("", 100, threads);
    println!(
        "FIGURE planted caught={caught}/{} suite=sim false_alarms={}",
        BUGS.len(),
        u8::from(innocent.is_some())
    );
    if caught == BUGS.len() && innocent.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What came of all seeds.
#[derive(Default)]
struct Sum {
    counts: BTreeMap<&'static str, u64>,
    broken: BTreeMap<&'static str, u64>,
    simulated_ms: i64,
    slowest_ms: i64,
    mismatches: u64,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome, again: Option<&Outcome>) {
        for (what, count) in &outcome.counts {
            *self.counts.entry(what).or_default() += count;
        }
        self.simulated_ms += outcome.simulated_ms;
        self.slowest_ms = self.slowest_ms.max(outcome.settled_ms);
        if let Some(violation) = &outcome.violation {
            *self.broken.entry(violation.promise).or_default() += 1;
            println!("seed {}: {}: {}", outcome.seed, violation.promise, violation.what);
            println!(
                "  repeat it: cargo run --release -p billow-sim -- --only {}",
                outcome.seed
            );
        }
        if again.is_some_and(|again| again.trace != outcome.trace) {
            self.mismatches += 1;
            println!("seed {}: two runs differ", outcome.seed);
        }
    }

    fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    fn of(&self, promises: &[&str]) -> u64 {
        promises.iter().filter_map(|promise| self.broken.get(promise)).sum()
    }

    fn fired(&self) -> Vec<&'static str> {
        world::kinds().into_iter().filter(|kind| self.count(kind) > 0).collect()
    }

    /// A run of some size must have seen every kind of fault.
    fn is_good(&self, seeds: u64) -> bool {
        let complete = seeds < 300 || self.fired().len() == world::kinds().len();
        self.broken.is_empty() && self.mismatches == 0 && complete
    }

    fn print(&self, seeds: u64) {
        let kinds = world::kinds();
        for kind in &kinds {
            println!("  {kind}: {}", self.count(kind));
        }
        let other = ["S7", "S8", "R-10", "panic"];
        println!(
            "FIGURE sim seeds={seeds} events={} stanzas={} deltas={} submissions={} acked={} sim_hours={} crashes={} \
             partitions={} lost_writes={} evil_moves={} slowest_settle_ms={} divergence={} lost_acked={} dup={} forged={} \
             leaked={} unconverged={} other={} trace_mismatch={} fault_kinds_fired={}/{}",
            self.count("events"),
            self.count("stanzas"),
            self.count("deltas"),
            self.count("submissions"),
            self.count("acked"),
            self.simulated_ms / 3_600_000,
            self.count("crashes"),
            self.count("partitions"),
            self.count("lost_writes"),
            self.count("evil_moves"),
            self.slowest_ms,
            self.of(&["S1", "S2"]),
            self.of(&["S3", "lost_acked"]),
            self.of(&["S4"]),
            self.of(&["S5"]),
            self.of(&["S6"]),
            self.of(&["L1"]),
            self.of(&other),
            self.mismatches,
            self.fired().len(),
            kinds.len(),
        );
    }
}
