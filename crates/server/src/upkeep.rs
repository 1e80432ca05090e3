//! What keeps the stored data whole: a slow reading of all of it while the server runs, and what an operator does by hand.

mod adopt;

use std::path::Path;
use std::time::{Duration, Instant};

use billow_store::{Finding, ScrubPosition, Store};
use tokio::sync::watch;

pub use adopt::{Adopted, adopt, keep_own};
pub use billow_store::{BackupError, Copied, OpenError, Salvaged, StoreError};

use crate::metrics::Metrics;
use crate::wavelets::Wavelets;
use crate::web::stopped;

/// How long after its start a server begins to read.
const FIRST_PASS: Duration = Duration::from_secs(60);
/// From one pass to the next.
const NEXT_PASS: Duration = Duration::from_secs(24 * 60 * 60);
/// Deltas read at once.
const SLICE: u64 = 200;
/// For each millisecond of reading, so many of rest: the reading takes a twentieth of one processor at most.
const REST: u32 = 19;

/// Reads everything again and again until the server stops; what it finds is logged and counted.
pub(crate) async fn scrub(store: Store, wavelets: Wavelets, metrics: Metrics, mut stopping: watch::Receiver<bool>) {
    let mut wait = FIRST_PASS;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stopped(&mut stopping) => return,
        }
        wait = NEXT_PASS;
        tokio::select! {
            outcome = pass(&store, &metrics) => match outcome {
                Ok(findings) => tell(&wavelets, findings),
                Err(error) => tracing::error!("ALARM: the stored data could not be read through: {error}"),
            },
            () = stopped(&mut stopping) => return,
        }
    }
}

async fn pass(store: &Store, metrics: &Metrics) -> Result<Vec<Finding>, StoreError> {
    let (mut position, mut findings) = (ScrubPosition::default(), Vec::new());
    while !position.is_done() {
        let started = Instant::now();
        let (next, found) = store.scrub(position, SLICE).await?;
        position = next;
        for finding in &found {
            tracing::error!("ALARM: damaged: {}", sentence(finding));
            metrics.count("store_errors", "damage");
        }
        findings.extend(found);
        tokio::time::sleep(started.elapsed() * REST).await;
    }
    metrics.count("scrub", "passes");
    tracing::info!(
        "read {} deltas of {} wavelets again, {} findings",
        position.deltas,
        position.wavelets,
        findings.len()
    );
    Ok(findings)
}

/// The wavelets that are in memory are looked at anew, as they are stored.
fn tell(wavelets: &Wavelets, findings: Vec<Finding>) {
    for name in findings.into_iter().filter_map(|finding| finding.wavelet) {
        wavelets.found_damaged(&name);
    }
}

/// A finding for a person.
fn sentence(finding: &Finding) -> String {
    match &finding.wavelet {
        Some(name) => format!("{name}: {}", finding.what),
        None => finding.what.clone(),
    }
}

/// What a pass over a store has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// How many wavelets.
    pub wavelets: u64,
    /// How many deltas.
    pub deltas: u64,
    /// What is not as it was written, a sentence each.
    pub findings: Vec<String>,
}

/// Reads a store that no server is running on, once and without rest.
pub async fn scrub_once(data: &Path) -> anyhow::Result<Scrubbed> {
    let store = Store::open(data)?;
    let (mut position, mut findings) = (ScrubPosition::default(), Vec::new());
    while !position.is_done() {
        let (next, found) = store.scrub(position, 10_000).await?;
        position = next;
        findings.extend(found.iter().map(sentence));
    }
    Ok(Scrubbed {
        wavelets: position.wavelets,
        deltas: position.deltas,
        findings,
    })
}

/// Copies the store into a folder, whether or not a server is running on it.
pub fn back_up(data: &Path, into: &Path) -> Result<Copied, BackupError> {
    billow_store::back_up(data, into)
}

/// Puts a backup into a data folder that has no store.
pub fn restore(backup: &Path, data: &Path) -> Result<Copied, BackupError> {
    billow_store::restore(backup, data, crate::clock::now().0)
}

/// Gives what verifies of each wavelet to a function; answers what cannot be read at all, a sentence each.
pub fn salvage(data: &Path, each: impl FnMut(Salvaged)) -> Result<Vec<String>, OpenError> {
    billow_store::salvage(data, each)
}
