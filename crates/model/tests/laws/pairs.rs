//! The diamond, many times: two operations on one document, each carried past the other, lead to one document.
//!
//! `BILLOW_PAIRS` sets how many pairs; the seeds are the numbers from 0 on, so that a failure names its pair.

use std::num::NonZero;
use std::thread;

use billow_model::doc::transform::transform;

use crate::after;
use crate::generators::pair;

#[test]
fn tp1_holds_for_numbered_pairs() {
    let count: u64 = std::env::var("BILLOW_PAIRS").map_or(20_000, |count| count.parse().expect("a number of pairs"));
    let threads = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let failed: Vec<u64> = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || {
                    (part..count)
                        .step_by(threads as usize)
                        .filter(|&seed| !holds(seed))
                        .collect()
                })
            })
            .collect();
        let parts = parts.into_iter();
        parts
            .flat_map(|part| part.join().unwrap_or_else(|_| vec![u64::MAX]))
            .collect()
    });
    println!("FIGURE prop tp1 cases={count} failures={}", failed.len());
    assert!(failed.is_empty(), "seeds {:?}", &failed[..failed.len().min(20)]);
}

fn holds(seed: u64) -> bool {
    let (document, one, other) = pair(seed);
    let Ok((one_after, other_after)) = transform(&one, &other) else {
        return false;
    };
    let left = after(&document, &[&one, &other_after]);
    let right = after(&document, &[&other, &one_after]);
    left.digest() == right.digest() && left.to_op() == right.to_op()
}
