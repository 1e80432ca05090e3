//! The commands, one file each. Every one runs on its own and ends with an exit code.

mod config;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Wave server: live documents shared by people of several domains.
///
/// Exit codes: 0 done, 1 it failed (one line on standard error says why and what to do), 2 the command was not understood.
#[derive(Debug, Parser)]
#[command(name = "billow", version, propagate_version = true)]
pub(crate) struct Billow {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Config(config::ConfigCommand),
}

impl Billow {
    /// Runs the command that was given.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Config(config) => config.run(),
        }
    }
}
