//! A server put together: the wavelets of one domain, its federation, its accounts and its web side.
//!
//! ```text
//!  browser ⇄ web (HTTP, WebSocket) ⇄ session ⇄ wavelets ⇄ store
//!                     │                 │          ⇅
//!                  accounts           inbox    federation ⇄ net ⇄ other servers
//! ```
//!
//! One task for each connection, each session and each live wavelet; they talk by messages, and none shares a lock over
//! domain state with another. [`Server::stop`] ends them from the outside in: first nothing new is let in, then the
//! wavelets put away what they have.

pub mod accounts;
mod acme;
mod clock;
pub mod config;
pub mod control;
pub mod doctor;
pub mod federation;
mod inbox;
pub mod keys;
pub mod metrics;
pub mod policy;
pub mod quarantine;
pub mod records;
mod requests;
mod session;
pub mod upkeep;
pub mod wavelets;
pub mod web;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use billow_store::Store;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use accounts::Accounts;
use acme::Acme;
use config::{Config, FederationConfig};
use federation::Running;
use inbox::Inbox;
use metrics::Metrics;

/// How long the end of what still runs is waited for.
const FAREWELL: Duration = Duration::from_secs(2);
/// The name under which the store keeps the domain that its data is of.
const DOMAIN: &str = "domain";

/// A running server.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    app: Arc<web::App>,
    store: Store,
    running: Running,
    metrics: Metrics,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// Where it runs without federation for want of a certificate: becomes true when there is one.
    awaited: Option<watch::Receiver<bool>>,
}

/// Where a server can be reached.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// What it serves.
    pub domain: billow_model::Domain,
    /// For browsers.
    pub url: String,
    /// Where HTTP is listened for.
    pub http: SocketAddr,
    /// Where it says how it is, if on a listener of its own.
    pub metrics: Option<SocketAddr>,
    /// Where other domains reach it.
    pub federation: Option<SocketAddr>,
}

impl Server {
    /// Starts everything; when this returns, requests are answered.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let (stopping, stopped) = watch::channel(false);
        let metrics = Metrics::new();
        let store = Store::open(&config.data_dir)?;
        check_domain(&config, &store).await?;
        let door = control::Door::open(&config.data_dir);
        for (name, words) in store.fences().await? {
            tracing::error!("ALARM: {name} can only be read until an operator has decided (billow adopt): {words}");
        }
        let accounts = Accounts::new(&config, store.clone());
        let listener = listen(config.http.listen, "HTTP").await?;
        let status = match config.http.metrics_listen {
            Some(address) => Some(listen(address, "metrics").await?),
            None => None,
        };
        let running = Running::start(&config, &store, &metrics).await?;
        let http = listener.local_addr()?;
        let addresses = Addresses {
            domain: config.domain.clone(),
            url: config
                .http
                .public_url
                .clone()
                .unwrap_or_else(|| format!("http://{http}")),
            http,
            metrics: status.as_ref().map(TcpListener::local_addr).transpose()?,
            federation: running.listening().first().copied(),
        };
        let wavelets = running.wavelets().clone();
        let inbox = Inbox::new(wavelets.clone(), store.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(inbox.clone().run(stopped.clone()));
        tasks.spawn(upkeep::scrub(
            store.clone(),
            wavelets.clone(),
            metrics.clone(),
            stopped.clone(),
        ));
        let app = web::App::new(config, accounts, wavelets, inbox, metrics.clone(), stopped);
        let app = Arc::new(app);
        let (fetched, certified) = watch::channel(false);
        if let Some(acme) = Acme::new(&app.config, app.answers.clone(), metrics.clone()) {
            tasks.spawn(acme.run(fetched, app.stopping.clone()));
        }
        let uncertified = app
            .config
            .federation
            .as_ref()
            .is_some_and(FederationConfig::lacks_certificate);
        tasks.spawn(web::serve(Arc::clone(&app), listener));
        match door {
            Ok(door) => drop(tasks.spawn(door.serve(Arc::clone(&app)))),
            Err(error) => tracing::warn!("commands cannot talk to this server while it runs: {error:#}"),
        }
        if let Some(status) = status {
            tasks.spawn(web::serve_status(Arc::clone(&app), status));
        }
        tracing::info!(%addresses, "ready");
        Ok(Self {
            addresses,
            app,
            store,
            running,
            metrics,
            stopping,
            tasks,
            awaited: uncertified.then_some(certified),
        })
    }

    /// Where it can be reached.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its accounts.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.app.accounts
    }

    /// Which other domains it talks with.
    #[must_use]
    pub fn policy(&self) -> &policy::Policy {
        &self.app.wavelets.shared().policy
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until it should be stopped and started again: it runs without federation for want of a certificate, and now there
    /// is one. For a server that lacks none, for ever.
    pub async fn wants_restart(&self) {
        if let Some(mut awaited) = self.awaited.clone()
            && awaited.wait_for(|fetched| *fetched).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// Stops everything; what was acknowledged is on disk.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        let Self {
            app, running, store, ..
        } = self;
        // Clients are told that we go; one that does not listen is left.
        let _ = tokio::time::timeout(FAREWELL, until(|| Arc::strong_count(&app) == 1)).await;
        running.stop().await;
        drop(app);
        let _ = tokio::time::timeout(FAREWELL, until(|| store.is_last())).await;
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is at {}", self.domain, self.url)?;
        if let Some(address) = self.federation {
            write!(f, ", for other domains at {address}")?;
        }
        if let Some(address) = self.metrics {
            write!(f, ", metrics at http://{address}/metrics")?;
        }
        Ok(())
    }
}

/// Waits until something holds that nobody tells of.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Data of one domain is of no use to another: its addresses, waves and signatures bear the name.
async fn check_domain(config: &Config, store: &Store) -> anyhow::Result<()> {
    let domain = config.domain.as_str();
    match store.value(DOMAIN).await? {
        Some(of) if *of != *domain.as_bytes() => anyhow::bail!(
            "the data in {} is of {}, not of {domain}; set domain or data_dir accordingly",
            config.data_dir.display(),
            String::from_utf8_lossy(&of)
        ),
        Some(_) => Ok(()),
        None => Ok(store
            .set_value(DOMAIN, Bytes::copy_from_slice(domain.as_bytes()))
            .await?),
    }
}

async fn listen(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for {what}"))
}
