//! `billow doctor`: what is wrong with the set-up, or with the way to another server.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use billow_server::doctor::{Doctor as Examination, ENOUGH_ROOM};
use clap::Args;

/// Say what is wrong with this server's set-up, or with the way to another domain's server, and which line to change
///
/// Looks at the configuration, the data folder and the disk, keys and certificates, DNS records, ports, TLS, the other
/// server's answers and the clock, with the code that delivers. Works while the server runs and while it does not; then
/// it listens in its place for a moment. Changes nothing.
///
/// Exit codes: 0 all is well, 1 something does not work, 2 the command was not understood, 3 there are warnings only.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The domain of another server; without it the own set-up is looked at
    #[arg(value_name = "DOMAIN")]
    domain: Option<String>,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "billow.toml")]
    config: PathBuf,
    /// Have the Billow server of another domain try whether it reaches this one (may be repeated)
    #[arg(long, value_name = "DOMAIN")]
    ask: Vec<String>,
    /// Warn when the disk has less free room than this, in MiB
    #[arg(long, value_name = "MIB", default_value_t = ENOUGH_ROOM >> 20)]
    free: u64,
    /// Answer in JSON; its form is in docs/admin/trouble.md
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Exit code by what was found.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let domain = |text: &str| {
            let parsed = text.to_lowercase().parse();
            parsed.with_context(|| format!("expected a domain like acme.example, got {text:?}"))
        };
        let examination = Examination {
            peer: self.domain.as_deref().map(domain).transpose()?,
            ask: self.ask.iter().map(|text| domain(text)).collect::<Result<_, _>>()?,
            config: self.config,
            enough: self.free.saturating_mul(1 << 20),
        };
        let report = examination.examine().await;
        let text = match self.json {
            true => report.json().to_string(),
            false => report.to_string(),
        };
        // Who reads only the first lines has seen enough; the exit code is as it is.
        let _ = writeln!(std::io::stdout(), "{text}");
        Ok(ExitCode::from(report.exit_code()))
    }
}
