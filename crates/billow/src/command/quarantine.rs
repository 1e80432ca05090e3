//! `billow quarantine`: copies of others' waves that their hosts contradict.

use std::process::ExitCode;

use billow_server::control::Client;
use billow_server::quarantine;
use clap::{Args, Subcommand};
use serde_json::json;

use super::peers::Running;

/// Copies of others' waves that their hosts contradict: look at the evidence, or fetch one again
///
/// Asks the server that runs on the data folder of the configuration; if none runs there, looks into the data itself.
#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    command: Action,
    #[command(flatten)]
    at: Running,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every copy that is in doubt with what speaks against it, one line of JSON each
    List,
    /// Drop a copy and take whatever its host gives, from the start; what was dropped is kept as evidence
    Refetch {
        /// The wavelet, like example.org/w+abc/~/conv+root
        wavelet: String,
    },
}

impl Quarantine {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.at.config()?;
        let running = Client::find(&config.data_dir).await?;
        match (self.command, running) {
            (Action::List, Some(client)) => {
                let answer = client.get("/quarantine").await?;
                for copy in answer["copies"].as_array().into_iter().flatten() {
                    println!("{copy}");
                }
            }
            (Action::List, None) => {
                for copy in quarantine::list(&config).await? {
                    println!("{}", serde_json::to_string(&copy)?);
                }
            }
            (Action::Refetch { wavelet }, Some(client)) => {
                let body = json!({ "wavelet": wavelet });
                client.post("/quarantine/refetch", &body).await?;
                println!("{wavelet} is being fetched again");
            }
            (Action::Refetch { wavelet }, None) => {
                quarantine::refetch(&config, &wavelet).await?;
                println!("{wavelet} is fetched again when the server runs");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
