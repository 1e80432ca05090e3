//! Makes the connection to one target of a peer: of its addresses, the first that answers.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long one address may take to answer.
const CONNECT: Duration = Duration::from_secs(5);
/// The next address is tried beside one that has not answered for so long (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// A peer that vanished is noticed within this time when we send (unacknowledged data), and within twice this time when
/// we are silent (probes).
const VANISHED: Duration = Duration::from_secs(30);

/// Why there is no connection to an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoConnection {
    /// The machine answers that nothing listens there.
    #[error("cannot connect to {0}: {1}")]
    Refused(SocketAddr, String),
    /// Nobody answers at all.
    #[error("cannot connect to {0}: no answer within {limit} s", limit = CONNECT.as_secs())]
    Silent(SocketAddr),
    /// Anything else that the system says.
    #[error("cannot connect to {0}: {1}")]
    Failed(SocketAddr, String),
}

/// Connects to a target, or says why not in words for people. `own_ports` are those at which we ourselves listen.
pub(crate) async fn dial(addresses: &[SocketAddr], own_ports: &[u16]) -> Result<TcpStream, String> {
    let stream = race(addresses).await?;
    if is_ourselves(&stream, own_ports) {
        return Err("self-connection: its DNS records lead to this server itself".to_owned());
    }
    prepare(&stream).map_err(|error| format!("the connection cannot be set up: {error}"))?;
    Ok(stream)
}

/// Whether the other end of a connection is on this machine and at a port of ours.
fn is_ourselves(stream: &TcpStream, own_ports: &[u16]) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(here), Ok(there)) => here.ip() == there.ip() && own_ports.contains(&there.port()),
        _ => false,
    }
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
            Ok(Some(Err(reason))) => refusal = reason.to_string(),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Connects to one address.
pub(crate) async fn connect(address: SocketAddr) -> Result<TcpStream, NoConnection> {
    match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(NoConnection::Refused(address, error.to_string()))
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => Err(NoConnection::Silent(address)),
        Ok(Err(error)) => Err(NoConnection::Failed(address, error.to_string())),
        Err(_) => Err(NoConnection::Silent(address)),
    }
}

/// Sets a connection up, ours or a peer's: no waiting for more to send, and an end to it when the peer vanishes.
pub(crate) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new()
        .with_time(VANISHED)
        .with_interval(VANISHED / 3)
        .with_retries(3);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(VANISHED))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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

    /// A listener whose queue is full, so that what is sent to it vanishes.
    fn black_hole(address: &str) -> (socket2::Socket, Vec<socket2::Socket>, SocketAddr) {
        let address: SocketAddr = address.parse().unwrap();
        let kind = socket2::Type::STREAM.nonblocking();
        let hole = socket2::Socket::new(socket2::Domain::for_address(address), kind, None).unwrap();
        hole.bind(&address.into()).unwrap();
        hole.listen(0).unwrap();
        let there = hole.local_addr().unwrap();
        let mut queue = Vec::new();
        for _ in 0..4 {
            let one = socket2::Socket::new(socket2::Domain::for_address(address), kind, None).unwrap();
            let _ = one.connect(&there);
            queue.push(one);
        }
        std::thread::sleep(Duration::from_millis(50));
        (hole, queue, there.as_socket().unwrap())
    }

    #[tokio::test]
    async fn b_080_a_black_hole_costs_less_than_300_ms() {
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = good.local_addr().map(|address| (good, address)).unwrap();
        for address in ["[::1]:0", "127.0.0.1:0"] {
            let (_hole, _queue, hole) = black_hole(address);
            let alone = tokio::time::timeout(Duration::from_millis(600), connect(hole)).await;
            assert!(alone.is_err(), "nothing comes back from {hole}");
            let before = Instant::now();
            let stream = race(&[hole, good.1]).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good.1);
            let extra = before.elapsed();
            assert!(extra <= Duration::from_millis(300), "{extra:?}");
        }
    }

    #[tokio::test]
    async fn b_075_a_connection_to_ourselves_is_noticed() {
        let ours = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = ours.local_addr().unwrap();
        let refused = dial(&[address], &[1, address.port()]).await.unwrap_err();
        assert!(refused.contains("self-connection"), "{refused}");
        assert!(dial(&[address], &[1]).await.is_ok(), "another server on this machine");
    }
}
