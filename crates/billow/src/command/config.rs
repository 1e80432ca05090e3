//! `billow config`: looks at a configuration without running it.

use std::path::PathBuf;
use std::process::ExitCode;

use billow_server::config::Config;
use clap::{Args, Subcommand};

/// Look at a configuration file.
#[derive(Debug, Args)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check a configuration file and the files it names; every problem is told with its line.
    Check {
        /// The file.
        #[arg(long, value_name = "FILE", default_value = "billow.toml")]
        config: PathBuf,
    },
}

impl ConfigCommand {
    /// Exit code 1 when something is wrong; warnings do not count.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let Action::Check { config: path } = self.command;
        let config = match Config::load(&path) {
            Ok(config) => config,
            Err(error) => {
                eprintln!("{error}");
                return Ok(ExitCode::FAILURE);
            }
        };
        let files = config.check_files();
        for warning in &files.warnings {
            eprintln!("warning: {warning}");
        }
        if !files.problems.is_empty() {
            eprintln!("{}", files.problems.join("\n"));
            return Ok(ExitCode::FAILURE);
        }
        println!("{}: good", path.display());
        Ok(ExitCode::SUCCESS)
    }
}
