//! `billow wave show`.

use std::time::{Duration, Instant};

use billow_model::conversation::{Manifest, Thread};
use billow_server::web::messages::{PeerDelivery, WaveletState};
use serde_json::{Value, json};

use super::{OpenWave, document_of};
use crate::client::Profile;

/// Print a wave.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --json: for each wavelet its name, host, version, history hash, a digest of its state,\n\
    participants, blips (id, author, text), per remote domain the delivery state and version, and in `trouble` what is\n\
    wrong between this copy and its host (stale, refetching, quarantined), or null."
)]
pub struct Show {
    /// The wave, like example.org/w+abc
    wave: String,
}

/// How long `show` waits for the newest changes to be signed, so that the hash belongs to the version.
const SEALING_PATIENCE: Duration = Duration::from_secs(3);

impl Show {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        let give_up = Instant::now() + SEALING_PATIENCE;
        let opened = loop {
            let opened = OpenWave::open(profile, &self.wave).await?;
            if opened
                .wavelets
                .values()
                .all(|state| state.hashed_version == state.version)
                || Instant::now() > give_up
            {
                break opened;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        if as_json {
            let wavelets = opened
                .wavelets
                .values()
                .map(|state| wavelet_json(&opened, state))
                .collect::<Result<Vec<_>, _>>()?;
            println!("{}", json!({"wave": opened.wave, "wavelets": wavelets}));
            return Ok(());
        }
        let state = opened.conversation()?;
        println!(
            "{}  version {}  {}",
            opened.wave,
            state.version,
            state.participants.join(" ")
        );
        for peer in opened.delivery.get(&state.wavelet).into_iter().flatten() {
            println!("  {}: {}", peer.domain, delivery_words(peer));
        }
        print_thread(&opened, &Manifest::read(&opened.document("conversation")?).root, 0)
    }
}

fn print_thread(opened: &OpenWave, thread: &Thread, depth: usize) -> anyhow::Result<()> {
    let state = opened.conversation()?;
    let indent = "    ".repeat(depth);
    for blip in &thread.blips {
        let Some(document) = state.documents.iter().find(|document| document.id == blip.id.as_str()) else {
            continue;
        };
        println!("\n{indent}{} — {}", document.author, document.id);
        for line in document_of(&document.content)?.text().lines() {
            println!("{indent}  {line}");
        }
        blip.threads
            .iter()
            .try_for_each(|thread| print_thread(opened, thread, depth + 1))?;
    }
    Ok(())
}

fn wavelet_json(opened: &OpenWave, state: &WaveletState) -> anyhow::Result<Value> {
    let blips = state
        .documents
        .iter()
        .filter(|document| document.id.starts_with("b+"))
        .map(|document| {
            let text = document_of(&document.content)?.text();
            Ok(json!({"id": document.id, "author": document.author, "contributors": document.contributors, "text": text}))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(json!({
        "name": state.wavelet, "host": state.host, "version": state.version, "hash": state.hash, "hashedVersion": state.hashed_version,
        "digest": state.digest, "participants": state.participants, "blips": blips, "trouble": trouble(opened, state),
        "delivery": opened.delivery.get(&state.wavelet).map_or(&[][..], Vec::as_slice),
    }))
}

/// What is wrong between this copy and its host, in words; null while they agree.
fn trouble(opened: &OpenWave, state: &WaveletState) -> Value {
    use billow_server::web::messages::DeliveryState as S;
    let peers = opened.delivery.get(&state.wavelet).into_iter().flatten();
    let wrong = |peer: &&PeerDelivery| peer.host && matches!(peer.state, S::Stale | S::Refetching | S::Quarantined);
    peers
        .filter(wrong)
        .map(|peer| json!({"state": peer.state, "since": peer.since, "words": delivery_words(peer)}))
        .next()
        .unwrap_or(Value::Null)
}

/// A delivery state as a person would say it.
pub(super) fn delivery_words(peer: &PeerDelivery) -> String {
    use billow_server::web::messages::DeliveryState as S;
    let what = match peer.state {
        S::Delivered => format!("has everything up to version {}", peer.version),
        S::Sending => format!("{} changes on their way", peer.pending),
        S::Waiting => format!(
            "waiting for {}: {} changes are kept and sent when it is back",
            peer.domain, peer.pending
        ),
        S::NeverReached => format!("no wave server was found at {}", peer.domain),
        S::Refused => "refused".to_owned(),
        S::Stale => format!(
            "you see the copy of version {}: there is more, which {} does not give",
            peer.version, peer.domain
        ),
        S::Refetching => format!(
            "the copies do not agree, this one is fetched again; you see version {}",
            peer.version
        ),
        S::Quarantined => format!(
            "in quarantine, nobody here can write: {} contradicts itself; you see the copy of version {}",
            peer.domain, peer.version
        ),
        S::Blocked => "this server does not talk to it".to_owned(),
    };
    match &peer.reason {
        Some(reason) => format!("{what} ({reason})"),
        None => what,
    }
}
