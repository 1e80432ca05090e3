//! The net as its user sees it.

use std::net::SocketAddr;

use billow_xmpp::{Domain, Element};
use tokio::sync::mpsc;

use crate::{NetConfig, NetEvent, SendError, StartError};

/// The net.
pub struct Net;

/// Sends stanzas; cheap to clone.
#[derive(Clone)]
pub struct NetHandle;

#[allow(clippy::todo, unused_variables)]
impl Net {
    /// Starts listening, and is ready to send.
    pub async fn start(config: NetConfig) -> Result<(NetHandle, mpsc::Receiver<NetEvent>), StartError> {
        todo!()
    }
}

#[allow(clippy::todo, unused_variables)]
impl NetHandle {
    /// Queues a stanza for a peer and opens a stream to it if there is none. Never waits.
    pub fn send(&self, local: &Domain, peer: &Domain, stanza: Element) -> Result<(), SendError> {
        todo!()
    }

    /// Tries a peer that is waiting for its back-off now.
    pub fn retry_now(&self, peer: &Domain) {
        todo!()
    }

    /// The addresses on which peers are listened for.
    #[must_use]
    pub fn listening(&self) -> Vec<SocketAddr> {
        todo!()
    }

    /// Closes all streams and stops listening.
    pub async fn stop(&self) {
        todo!()
    }
}
