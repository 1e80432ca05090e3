//! Bugs that are planted in the pure crates, by the names they have there, and the search for each of them. Those that worlds
//! come upon too seldom are found by the tests of their crates (`tools/planted` has the list).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::world;

/// Those that the simulator finds.
pub const BUGS: [&str; 28] = [
    "signatures are not checked",
    "any chain signs for anybody",
    "anybody may write",
    "who is removed still reads",
    "who is removed is not told",
    "who joins again is not told",
    "an answer comes before the disk has it",
    "a delta is shown before the disk has it",
    "a receipt goes before the disk has it",
    "a submission leaves before the disk has it",
    "the host's word counts as the disk's",
    "a failed write is passed over",
    "the cursor is lost at a restart",
    "the cursor is kept ahead of the receipts",
    "the cursor moves without a receipt",
    "what is lost is not sent again",
    "a refusal of what follows counts for all",
    "a lost question leaves a peer alone",
    "a gap is not fetched",
    "the last delta of a history is left out",
    "an invitation whose chain is late is refused for good",
    "a signed delta that comes twice counts twice",
    "a submission that comes twice counts twice",
    "equal edits are one edit",
    "what is in flight is changed when it is sent again",
    "where the reference is wrong nothing is refused",
    "a snapshot is of another version than it says",
    "a snapshot forgets who was removed",
];

/// Where a bug was found: after how many seeds, and which promise it broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Seeds from the first on.
    pub seeds: u64,
    /// A name of hardening.md §4.2(d).
    pub promise: &'static str,
}

/// Looks for a bug in the worlds of at most so many seeds.
#[must_use]
pub fn search(bug: &'static str, most: u64, threads: u64) -> Option<Found> {
    let (next, over, found) = (AtomicU64::new(1), AtomicBool::new(false), Mutex::new(None::<Found>));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                billow_model::planted::turn_on(bug);
                while !over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > most {
                        return;
                    }
                    if let Some(violation) = world::run(seed, false).violation {
                        over.store(true, Ordering::Relaxed);
                        let (seeds, promise) = (seed, violation.promise);
                        let mut found = found.lock().expect("nobody panics with it");
                        if found.is_none_or(|before| seeds < before.seeds) {
                            *found = Some(Found { seeds, promise });
                        }
                    }
                }
            });
        }
    });
    found.into_inner().expect("nobody panics with it")
}
