//! `billow peers`: the other domains, as the running server sees them.

use std::path::PathBuf;
use std::process::ExitCode;

use billow_server::config::Config;
use billow_server::control::Client;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::policy::{self, About};

/// The other domains that a running server has to do with: how each is, what waits for it, what went wrong
///
/// Talks to the server that runs on the data folder of the configuration, as the user that runs it.
#[derive(Debug, Args)]
pub(crate) struct Peers {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    at: Running,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

/// Which running server is meant.
#[derive(Debug, Args)]
pub(crate) struct Running {
    /// The server's configuration file
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Try a domain now, whatever was found out about it before
    Now {
        /// The other server's domain
        domain: String,
    },
    /// Talk with a domain: as `billow policy allow`
    Allow(About),
    /// Do not talk with a domain: as `billow policy block`
    Block(About),
}

impl Running {
    /// The server's configuration.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        Ok(match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        })
    }

    /// A way to the server.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.config()?.data_dir).await
    }
}

impl Peers {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Some(Action::Allow(about)) => return policy::decide(&self.at, &about, "allow", self.json).await,
            Some(Action::Block(about)) => return policy::decide(&self.at, &about, "block", self.json).await,
            None => {
                let client = self.at.client().await?;
                let answer = client.get("/peers").await?;
                if self.json {
                    println!("{answer}");
                } else {
                    let peers = answer["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
                    for line in table(peers) {
                        println!("{line}");
                    }
                }
            }
            Some(Action::Now { domain }) => {
                let client = self.at.client().await?;
                let answer = client.post(&format!("/peers/{domain}/now"), &json!({})).await?;
                if self.json {
                    println!("{answer}");
                } else {
                    println!("{domain} is being tried; billow trace {domain} shows how it goes");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One line a peer, in columns.
fn table(peers: &[Value]) -> Vec<String> {
    if peers.is_empty() {
        return vec!["no other domain has been met yet".to_owned()];
    }
    let text = |peer: &Value, key: &str| peer[key].as_str().unwrap_or("-").to_owned();
    let mut rows = vec![["DOMAIN", "STATE", "SERVICE", "WAITING", "LAST ERROR"].map(str::to_owned)];
    for peer in peers {
        let state = match peer["state"].as_str() {
            _ if peer["verdict"] == "block" => "blocked",
            Some("well") => "well",
            Some("waiting") => "waiting",
            Some("neverReached") => "never reached",
            _ => "untried",
        };
        let waiting = format!("{} in {}", peer["queue"], peer["waitingWaves"]);
        let error = text(&peer["lastError"], "reason");
        rows.push([
            text(peer, "domain"),
            state.to_owned(),
            text(peer, "service"),
            waiting,
            error,
        ]);
    }
    let widths: [usize; 5] =
        std::array::from_fn(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_shown_in_columns() {
        let peers = [json!({
            "domain": "acme.lab", "state": "neverReached", "service": null, "queue": 3, "waitingWaves": 1,
            "lastError": { "reason": "no DNS record says where its server is" },
        })];
        assert_eq!(
            table(&peers),
            [
                "DOMAIN    STATE          SERVICE  WAITING  LAST ERROR",
                "acme.lab  never reached  -        3 in 1   no DNS record says where its server is",
            ]
        );
        let blocked =
            json!({ "domain": "evil.lab", "state": "well", "verdict": "block", "queue": 0, "waitingWaves": 0 });
        assert!(table(&[blocked])[1].starts_with("evil.lab  blocked"));
    }
}
