//! The golden vectors of the reference (`BILLOW_VECTORS`, by default `../shared/vectors` beside the checkout): every file,
//! every case, outputs equal to the letter. `--nocapture` shows how many cases of each file ran and passed.

mod codec;
mod conversation;
mod documents;
mod files;
mod names;
mod schemas;
mod wavelets;
mod xml;

use files::Report;

/// The files that other crates run.
const ELSEWHERE: [(&str, &str); 4] = [
    ("history_hash.jsonl", "billow-wire"),
    ("signer.jsonl", "billow-signing"),
    ("submit.jsonl.gz", "billow-wavelet"),
    ("wire.jsonl", "billow-wire"),
];

type Run = fn(&mut Report);

const HERE: &[(&str, Run)] = &[
    ("apply.jsonl", documents::apply),
    ("attribution.jsonl", documents::attribution),
    ("compose.jsonl.gz", documents::compose_pairs),
    ("compose_chain.jsonl", documents::compose_chain),
    ("compose_errors.jsonl", documents::compose_errors),
    ("delta_transform.jsonl.gz", wavelets::delta_transform),
    ("invert.jsonl", documents::invert_ops),
    ("model_ops.jsonl", conversation::model_ops),
    ("normalize.jsonl", documents::normalize_ops),
    ("transform_annotations.jsonl", documents::transform_pairs),
    ("transform_attributes.jsonl", documents::transform_pairs),
    ("transform_blip.jsonl.gz", documents::transform_pairs),
    ("transform_errors.jsonl", documents::transform_errors),
    ("transform_generic.jsonl.gz", documents::transform_pairs),
    ("transform_large.jsonl.gz", documents::transform_pairs),
    ("transform_manifest.jsonl", documents::transform_pairs),
    ("transform_micro.jsonl", documents::transform_pairs),
    ("transform_named.jsonl", documents::transform_pairs),
    ("transform_quirks.jsonl", documents::transform_quirks),
    ("transform_reference.jsonl", documents::transform_pairs),
    ("validity.jsonl.gz", schemas::validity),
    ("wavelet_name.jsonl", names::wavelet_name),
    ("wavelet_transform.jsonl", wavelets::wavelet_transform),
];

/// One line a file; all files before the verdict, so that one failure does not hide the next.
#[test]
fn every_case_of_every_file_passes() {
    let mut failures = Vec::new();
    for (file, run) in HERE {
        let mut report = Report::open(file);
        run(&mut report);
        failures.extend(report.finish());
    }
    assert!(
        failures.is_empty(),
        "{} failures, the first:\n{}",
        failures.len(),
        failures[..failures.len().min(failures_shown())].join("\n")
    );
}

#[test]
fn every_file_is_claimed() {
    let claimed =
        |name: &str| HERE.iter().any(|(file, _)| *file == name) || ELSEWHERE.iter().any(|(file, _)| *file == name);
    let unclaimed: Vec<String> = files::names()
        .into_iter()
        .filter(|name| name.contains(".jsonl") && !claimed(name))
        .collect();
    assert!(unclaimed.is_empty(), "no test runs {unclaimed:?}");
}

/// How many failures are printed: `BILLOW_FAILURES`, or a few.
fn failures_shown() -> usize {
    std::env::var("BILLOW_FAILURES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5)
}
