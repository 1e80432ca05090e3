//! Talks to other servers.
//!
//! [`FederationHandle`] is what wavelets ask of other servers. Behind it one task, the driver, owns the machines of
//! [`billow_federation`]: discovery, for each peer the delivery of our wavelets ([`billow_federation::host::Host`]), for each host
//! our requests ([`billow_federation::remote::Remote`]). What peers send is read once, at one door, and given to the wavelets;
//! their requests are answered by tasks of their own, so that a slow disk holds up nobody's receipts.
//!
//! Cursors are resumed from the store at the start, and kept there as receipts come in; a crash in between only makes
//! something be sent twice. Submissions that were under way are taken up by the wavelets that they belong to.

mod asks;
mod certificates;
mod driver;
mod handle;
pub(crate) mod peers;
pub(crate) mod probe;
mod reach;
mod refusals;
mod report;
mod running;
mod serve;
mod trust;
mod turns;
mod wording;

use std::time::Duration;

use billow_net::{NetEvent, NetHandle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::wavelets::Wavelets;

pub use handle::{FederationHandle, Requests};
pub use peers::{Peer, PeerError, PeerState};
pub use probe::{Probe, Reply, Step};
pub(crate) use running::DESCRIPTION;
pub use running::Running;
pub(crate) use trust::Trust;

/// What the federation of a server needs.
pub struct Setup {
    /// The wavelets that it is about; their handle of the federation is the other side of `requests`.
    pub wavelets: Wavelets,
    /// What they ask of other servers.
    pub requests: Requests,
    /// Where stanzas go out.
    pub net: NetHandle,
    /// What comes in.
    pub events: mpsc::Receiver<NetEvent>,
    /// What we call ourselves to peers that ask.
    pub description: String,
    /// The name under which our stanzas go, if it is another than our domain: that of a component.
    pub name: Option<billow_xmpp::Domain>,
    /// How long a service that was found is taken for granted, and how long a domain without one is left alone, in
    /// milliseconds.
    pub lives: (i64, i64),
}

/// The running federation of a server.
#[derive(Debug)]
pub struct Federation {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Federation {
    /// Takes up what was under way and goes on with it.
    pub async fn start(setup: Setup) -> anyhow::Result<Self> {
        let driver = driver::Driver::new(setup).await?;
        let (stop, stopped) = oneshot::channel();
        Ok(Self {
            task: tokio::spawn(watch(driver, stopped)),
            stop,
        })
    }

    /// Ends it; to be called when the wavelets are put away and the net has stopped, so that what they still say is heard.
    pub async fn stop(mut self) {
        // One that has ended already does not hear it.
        let _ = self.stop.send(());
        // It keeps nothing that is not in the store or sent again.
        if tokio::time::timeout(Duration::from_secs(2), &mut self.task)
            .await
            .is_err()
        {
            self.task.abort();
        }
    }
}

/// Runs the driver. Without it the server would look well and deliver nothing, so its panic ends the process: whoever
/// watches over the process starts it again, and nothing is lost that is not in the store or sent again.
async fn watch(driver: driver::Driver, stopped: oneshot::Receiver<()>) {
    let mut driving = JoinSet::new();
    driving.spawn(driver.run(stopped));
    if let Some(Err(error)) = driving.join_next().await
        && error.is_panic()
    {
        tracing::error!("the federation has panicked, the server ends: {error}");
        std::process::exit(70);
    }
}
