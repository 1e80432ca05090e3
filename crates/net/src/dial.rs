//! Makes the connection to a peer: addresses from DNS, the first that answers.

use std::net::SocketAddr;
use std::time::Duration;

use billow_xmpp::Domain;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::dns::Dns;

/// How long one address may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// The next address is tried beside one that has not answered for so long (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// A peer that vanished is noticed within this time, whether we are sending (unacknowledged data) or silent (probes).
const VANISHED: Duration = Duration::from_secs(60);

/// Connects to a peer, or says why not in words for people.
pub(crate) async fn dial(dns: &Dns, peer: &Domain) -> Result<TcpStream, String> {
    let addresses = dns.find(peer).await.map_err(|error| error.to_string())?;
    let connected = race(&addresses).await;
    if connected.is_err() {
        dns.forget(peer);
    }
    let stream = connected?;
    prepare(&stream).map_err(|error| format!("the connection cannot be set up: {error}"))?;
    Ok(stream)
}

/// Tries addresses in order, each a little after the one before, until one answers.
async fn race(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut waiting = addresses.iter().copied();
    let mut trying = FuturesUnordered::new();
    let mut refusal = String::from("there is no address to connect to");
    loop {
        if let Some(address) = waiting.next() {
            trying.push(connect(address));
        } else if trying.is_empty() {
            return Err(refusal);
        }
        let patience = if waiting.len() == 0 { CONNECT } else { STAGGER };
        match tokio::time::timeout(patience, trying.next()).await {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(reason))) => refusal = reason,
            Ok(None) | Err(_) => {}
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("cannot connect to {address}: {error}")),
        Err(_) => Err(format!(
            "cannot connect to {address}: no answer within {} s",
            CONNECT.as_secs()
        )),
    }
}

/// Sets a connection up, ours or a peer's: no waiting for more to send, and an end to it when the peer vanishes.
pub(crate) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new()
        .with_time(VANISHED / 2)
        .with_interval(VANISHED / 6)
        .with_retries(3);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(VANISHED))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_refuses_does_not_keep_the_next_from_answering() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = {
            let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            gone.local_addr().unwrap()
        };
        let good = listener.local_addr().unwrap();
        assert_eq!(race(&[closed, good]).await.unwrap().peer_addr().unwrap(), good);
        assert!(race(&[closed]).await.unwrap_err().contains(&closed.to_string()));
        assert!(race(&[]).await.is_err());
    }
}
