//! `billow`: the server and its commands.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match billow::command::Billow::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("billow: {error:#}");
            ExitCode::FAILURE
        }
    }
}
