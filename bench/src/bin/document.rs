//! What it costs to apply operations to documents: small ones at places all over documents of three sizes, then the editing
//! traces (`BILLOW_TRACES`, by default `../shared/traces` beside the checkout) beside `ropey` and `diamond-types`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use billow_model::doc::edit;
use billow_model::{Component, DocOp, Document};
use serde_json::Value;

const TRACES: [&str; 4] = ["automerge-paper", "rustcode", "sveltecomponent", "seph-blog1"];
/// The best of so many runs counts.
const RUNS: usize = 7;

fn main() {
    println!("apply of a one-character operation (insert, then delete, at places all over), best of {RUNS} runs");
    println!("{:>10} {:>8} {:>10}", "items", "ranges", "ns/op");
    for (items, ranges) in [
        (1_000, 0),
        (10_000, 0),
        (100_000, 0),
        (1_000, 10),
        (10_000, 100),
        (100_000, 1_000),
    ] {
        println!("{items:>10} {ranges:>8} {:>10.0}", one_character(items, ranges));
    }
    println!();
    println!("sequential traces, ns per operation, best of {RUNS} runs; every end text is checked");
    println!(
        "{:<16} {:>8} {:>8} {:>8} {:>8} {:>10}",
        "trace", "ops", "billow", "ropey", "diamond", "b/diamond"
    );
    for name in TRACES {
        trace(name);
    }
}

fn best(mut run: impl FnMut() -> f64) -> f64 {
    (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn op(components: Vec<Component>) -> DocOp {
    DocOp::new(components).expect("well-formed")
}

fn retain(count: usize) -> Option<Component> {
    (count > 0).then(|| Component::Retain(u32::try_from(count).expect("a document's length")))
}

fn one_character(items: usize, ranges: usize) -> f64 {
    let mut document = Document::new();
    document
        .apply(&op(vec![Component::Characters("x".repeat(items))]))
        .expect("fits the empty document");
    for range in 0..ranges {
        let from = range * items / ranges;
        let to = from + items / ranges / 2;
        let style =
            edit::annotate(&document, from, to, "style/fontWeight", Some(&format!("{range}"))).expect("well-formed");
        document.apply(&style).expect("fits");
    }
    let count = 20_000;
    let mut ops = Vec::with_capacity(2 * count);
    for index in 0..count {
        // Spread all over, no two near each other.
        let at = index * 7_919 % items;
        let around = |middle| {
            op([retain(at), Some(middle), retain(items - at)]
                .into_iter()
                .flatten()
                .collect())
        };
        ops.push(around(Component::Characters("y".into())));
        ops.push(around(Component::DeleteCharacters("y".into())));
    }
    let digest = document.digest();
    let time = best(|| {
        let start = Instant::now();
        ops.iter().for_each(|op| document.apply(op).expect("fits"));
        start.elapsed().as_nanos() as f64 / ops.len() as f64
    });
    assert_eq!(document.digest(), digest, "all was undone");
    time
}

struct Edit {
    at: usize,
    deleted: usize,
    inserted: String,
}

fn trace(name: &str) {
    let directory = std::env::var_os("BILLOW_TRACES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces"),
        PathBuf::from,
    );
    let path = directory.join(format!("{name}.json.gz"));
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("gzip of UTF-8");
    let trace: Value = serde_json::from_str(&text).expect("JSON");
    let (start, end) = (
        trace["startContent"].as_str().expect("a text"),
        trace["endContent"].as_str().expect("a text"),
    );
    let edits: Vec<Edit> = trace["txns"]
        .as_array()
        .expect("transactions")
        .iter()
        .flat_map(|transaction| transaction["patches"].as_array().expect("patches"))
        .map(|patch| Edit {
            at: patch[0].as_u64().expect("a position") as usize,
            deleted: patch[1].as_u64().expect("a count") as usize,
            inserted: patch[2].as_str().expect("a text").to_owned(),
        })
        .collect();
    let count = edits.len() as f64;
    let ops = operations(start, &edits);
    let billow = || {
        let mut document = Document::new();
        if !start.is_empty() {
            document
                .apply(&op(vec![Component::Characters(start.to_owned())]))
                .expect("fits");
        }
        let time = Instant::now();
        ops.iter().for_each(|op| document.apply(op).expect("fits"));
        let time = time.elapsed().as_nanos() as f64 / count;
        assert_eq!(document.text(), end);
        time
    };
    let ropey = || {
        let mut rope = ropey::Rope::from_str(start);
        let time = Instant::now();
        for Edit { at, deleted, inserted } in &edits {
            if *deleted > 0 {
                rope.remove(*at..at + deleted);
            }
            if !inserted.is_empty() {
                rope.insert(*at, inserted);
            }
        }
        let time = time.elapsed().as_nanos() as f64 / count;
        assert_eq!(rope.to_string(), end);
        time
    };
    let diamond = || {
        let mut list = diamond_types::list::ListCRDT::new();
        let agent = list.get_or_create_agent_id("a");
        if !start.is_empty() {
            list.insert(agent, 0, start);
        }
        let time = Instant::now();
        for Edit { at, deleted, inserted } in &edits {
            if *deleted > 0 {
                list.delete_without_content(agent, *at..at + deleted);
            }
            if !inserted.is_empty() {
                list.insert(agent, *at, inserted);
            }
        }
        let time = time.elapsed().as_nanos() as f64 / count;
        assert_eq!(list.branch.content().to_string(), end);
        time
    };
    // In turns, so that whatever else the machine does meets all three.
    let mut least = [f64::INFINITY; 3];
    for _ in 0..RUNS {
        for (least, time) in least.iter_mut().zip([billow(), ropey(), diamond()]) {
            *least = least.min(time);
        }
    }
    let [billow, ropey, diamond] = least;
    println!(
        "{name:<16} {:>8} {billow:>8.0} {ropey:>8.0} {diamond:>8.0} {:>10.2}",
        edits.len(),
        billow / diamond
    );
}

/// Each edit as one operation on the whole document, deleted text included.
fn operations(start: &str, edits: &[Edit]) -> Vec<DocOp> {
    let mut rope = ropey::Rope::from_str(start);
    let one = |Edit { at, deleted, inserted }: &Edit| {
        let gone = rope.slice(*at..at + deleted).to_string();
        let rest = rope.len_chars() - at - deleted;
        rope.remove(*at..at + deleted);
        rope.insert(*at, inserted);
        let inserted = (!inserted.is_empty()).then(|| Component::Characters(inserted.clone()));
        let gone = (!gone.is_empty()).then_some(Component::DeleteCharacters(gone));
        op([retain(*at), inserted, gone, retain(rest)]
            .into_iter()
            .flatten()
            .collect())
    };
    edits.iter().map(one).collect()
}
