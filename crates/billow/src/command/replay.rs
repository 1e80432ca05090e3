//! `billow replay`: real people's editing history, typed again by signed-in users, on one server or across several.
//!
//! `trace.rs` reads the history and works out who had seen what; `author.rs` is one of its people;
//! `text.rs` is the text as that person sees it. This file starts them, waits, compares and reports.

mod author;
mod text;
mod trace;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use self::author::{Author, Ledger, Report};
use self::trace::Trace;
use super::wave::{self, OpenWave};
use crate::client::Profile;

/// Replay an editing trace in a new wave, each of its people a signed-in user.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A trace is a JSON file, plain or gzipped: sequential {endContent, txns: [{patches}]} or concurrent\n\
    {kind: \"concurrent\", endContent, numAgents, txns: [{parents, agent, patches}]}. Each person edits at exactly the\n\
    state that the trace says they saw (a tab, which no blip may hold, is written as an em space). The command fails (exit code 1) when a server's text is not endContent.\n\n\
    Example:\n  billow replay --trace clownschool.json.gz --at alice,bob"
)]
pub struct Replay {
    /// The trace
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// Profiles of its people, in order of their first edit; fewer profiles than people are used in turn
    #[arg(long, value_name = "PROFILE[,PROFILE…]", value_delimiter = ',', required = true)]
    at: Vec<String>,
    /// Times as fast as it was typed; without it as fast as possible
    #[arg(long, value_name = "N")]
    speed: Option<f64>,
    /// Only the first N transactions (the text is then compared between the servers only)
    #[arg(long, value_name = "N")]
    first: Option<usize>,
    /// Seconds without any progress after which the replay gives up
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
}

impl Replay {
    /// Replays and reports; an error when the texts differ.
    pub async fn run(self, as_json: bool) -> anyhow::Result<()> {
        if self.speed.is_some_and(|speed| !(speed.is_finite() && speed > 0.0)) {
            bail!("expected --speed above 0");
        }
        let trace = Arc::new(Trace::read(&self.trace, self.first)?);
        let profiles: Vec<Profile> = self
            .at
            .iter()
            .map(|name| Profile::load(name))
            .collect::<Result<_, _>>()?;
        let people = trace.agents();
        let profile_of = |agent: usize| &profiles[agent % profiles.len()];
        let patience = Duration::from_secs(self.patience);

        let title = format!(
            "Replay of {}",
            self.trace.file_name().unwrap_or_default().to_string_lossy()
        );
        let others: Vec<String> = (1..profiles.len())
            .map(|i| profiles[i].address.clone())
            .filter(|address| *address != profiles[0].address)
            .collect();
        let created = wave::create(&profiles[0], trace.start_content(), &others).await?;
        let wave = created.wave;
        let ledger = Arc::new(Ledger::default());
        let mut authors = Vec::new();
        for agent in 0..people {
            let profile = profile_of(agent);
            let opened = OpenWave::wait_for(profile, &wave, created.version, patience)
                .await
                .with_context(|| format!("{} was not let into the wave", profile.address))?;
            authors.push(Author::new(
                agent,
                opened,
                Arc::clone(&trace),
                Arc::clone(&ledger),
                patience,
            )?);
        }

        let started = Instant::now();
        let tasks: Vec<_> = authors
            .into_iter()
            .map(|author| tokio::spawn(author.run(self.speed, started)))
            .collect();
        let mut reports = Vec::new();
        for task in tasks {
            reports.push(task.await??);
        }
        let elapsed = started.elapsed();
        self.report(&trace, &wave, &title, &reports, elapsed, as_json, &profiles, patience)
            .await
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one caller, and each is a different thing to report"
    )]
    async fn report(
        &self,
        trace: &Trace,
        wave: &str,
        title: &str,
        reports: &[Report],
        elapsed: Duration,
        as_json: bool,
        profiles: &[Profile],
        patience: Duration,
    ) -> anyhow::Result<()> {
        let blip = &reports[0].blip;
        let servers = compare(profiles, wave, blip, patience).await?;
        let expected = trace.end_content();
        let texts_equal = servers.iter().all(|server| server.text == servers[0].text);
        let reached_end = expected.is_none_or(|end| servers.iter().all(|server| server.text == end));
        let seen_equal = reports.iter().all(|report| report.text == servers[0].text);
        let same = |field: fn(&ServerText) -> &str| servers.iter().all(|server| field(server) == field(&servers[0]));
        let (hashes_equal, digests_equal) = (same(|s| &s.hash), same(|s| &s.digest));
        let ok = texts_equal && reached_end && seen_equal && hashes_equal && digests_equal;
        let mut latencies = reports
            .iter()
            .flat_map(|report| report.latencies_us.iter().copied())
            .collect::<Vec<u64>>();
        latencies.sort_unstable();
        let at = |share: f64| percentile_ms(&latencies, share);
        let deltas: usize = reports.iter().map(|report| report.deltas).sum();
        let reconnects: usize = reports.iter().map(|report| report.reconnects).sum();
        let seconds = elapsed.as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people to read")]
        let rate = deltas as f64 / seconds;
        if as_json {
            let servers: Vec<_> = servers
                .iter()
                .map(|s| json!({"domain": s.domain, "version": s.version, "hash": s.hash, "digest": s.digest, "equalToTrace": expected.map(|e| e == s.text)}))
                .collect();
            println!(
                "{}",
                json!({"ok": ok, "wave": wave, "blip": blip, "operations": trace.operations(), "deltas": deltas, "seconds": seconds,
                    "deltasPerSecond": rate, "latencyMs": {"p50": at(0.50), "p95": at(0.95), "p99": at(0.99), "samples": latencies.len()},
                    "reconnects": reconnects, "textEqual": texts_equal && reached_end && seen_equal, "hashEqual": hashes_equal,
                    "digestEqual": digests_equal, "servers": servers})
            );
        } else {
            println!("{title} in {wave}");
            println!(
                "  {} operations in {deltas} deltas, {seconds:.1} s, {rate:.0} deltas/s, {reconnects} reconnects",
                trace.operations()
            );
            println!(
                "  keystroke to the other's screen: p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms ({} measured)",
                at(0.50),
                at(0.95),
                at(0.99),
                latencies.len()
            );
            for server in &servers {
                println!(
                    "  {}: version {}, hash {}, digest {}…",
                    server.domain,
                    server.version,
                    server.hash,
                    &server.digest[..16]
                );
            }
            let verdict = if expected.is_some() {
                "equal to endContent"
            } else {
                "equal (no endContent for a part of a trace)"
            };
            println!("  texts: {}", if ok { verdict } else { "DIFFERENT" });
        }
        if !ok {
            bail!(
                "the replay did not end as it should: texts equal {texts_equal}, equal to endContent {reached_end}, as each author saw it {seen_equal}, hashes equal {hashes_equal}, digests equal {digests_equal}"
            );
        }
        Ok(())
    }
}

struct ServerText {
    domain: String,
    version: u64,
    hash: String,
    digest: String,
    text: String,
}

/// The wave as each server has it, once all are at the same version and sealed.
async fn compare(profiles: &[Profile], wave: &str, blip: &str, patience: Duration) -> anyhow::Result<Vec<ServerText>> {
    let give_up = Instant::now() + patience;
    loop {
        let mut servers = Vec::new();
        for profile in profiles {
            let opened = OpenWave::open(profile, wave).await?;
            let state = opened.conversation()?;
            let text = opened.text(blip)?;
            servers.push(ServerText {
                domain: profile
                    .address
                    .split_once('@')
                    .map_or("", |(_, domain)| domain)
                    .to_owned(),
                version: state.version,
                hash: if state.hashed_version == state.version {
                    state.hash.clone()
                } else {
                    String::new()
                },
                digest: state.digest.clone(),
                text,
            });
        }
        let settled = servers
            .iter()
            .all(|s| s.version == servers[0].version && !s.hash.is_empty());
        if settled || Instant::now() > give_up {
            return Ok(servers);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank in a list"
)]
fn percentile_ms(sorted_us: &[u64], share: f64) -> f64 {
    if sorted_us.is_empty() {
        return 0.0;
    }
    let rank = ((sorted_us.len() as f64 * share).ceil() as usize).clamp(1, sorted_us.len());
    sorted_us[rank - 1] as f64 / 1000.0
}
