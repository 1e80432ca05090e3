//! `billow serve`: runs one server until it is told to stop.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use billow_server::Server;
use billow_server::config::Config;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long a thread for reading stays without work. When the system gives no new ones, those that are there go on.
const THREADS_STAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Run a server.
///
/// Without a configuration: domain localhost, data in ./billow-data, http://127.0.0.1:9898, no federation.
/// Ctrl-C or SIGTERM stops it; what was acknowledged is on disk.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Serve {
    /// Prints one line when the server is ready, then runs until a signal comes.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        log_to_stderr(&config)?;
        let files = config.check_files();
        anyhow::ensure!(files.problems.is_empty(), "{}", files.problems.join("\n"));
        for warning in &files.warnings {
            tracing::warn!("{warning}");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_keep_alive(THREADS_STAY)
            .build()?;
        runtime.block_on(serve(config))
    }
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be watched")?;
    let mut server = Server::start(config.clone()).await?;
    println!("{}", server.addresses());
    if let Some(code) = server.accounts().first_invitation().await? {
        println!(
            "Nobody has an account yet. To make the first one, register with the invitation {code} (good for a day)."
        );
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = server.wants_restart() => {}
        }
        tracing::info!("there is a certificate now: the server is started again, with federation");
        server.stop().await;
        server = Server::start(config.clone()).await?;
        println!("{}", server.addresses());
    }
    tracing::info!("stopping");
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Logs go to standard error, so that standard output holds the one line that says where the server is.
fn log_to_stderr(config: &Config) -> anyhow::Result<()> {
    let filter = match std::env::var("BILLOW_LOG") {
        Ok(filter) => {
            EnvFilter::try_new(&filter).with_context(|| format!("BILLOW_LOG is no log filter: {filter:?}"))?
        }
        Err(_) => EnvFilter::try_new(&config.log_level)?,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}
