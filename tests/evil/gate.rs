//! A line to a server that can be made slow, or stopped, in one direction: as if the server there did not read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// What the system may keep of what was not read.
const BUFFER: u32 = 8 * 1024;

/// The line; whoever connects to it speaks with the server behind it.
pub(crate) struct Gate {
    address: SocketAddr,
    /// Bytes a second that get through to the server.
    rate: Arc<AtomicUsize>,
}

impl Gate {
    pub(crate) async fn start(behind: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(BUFFER).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let rate = Arc::new(AtomicUsize::new(usize::MAX));
        let rate_of_lines = Arc::clone(&rate);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(carry(from, behind, Arc::clone(&rate_of_lines)));
            }
        });
        Self { address, rate }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// So many bytes a second get through from now on; 0 is none.
    pub(crate) fn set_rate(&self, rate: usize) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// Everything gets through again.
    pub(crate) fn open(&self) {
        self.set_rate(usize::MAX);
    }
}

async fn carry(from: TcpStream, behind: SocketAddr, rate: Arc<AtomicUsize>) {
    const PART: u32 = 20;
    let Ok(to) = TcpStream::connect(behind).await else {
        return;
    };
    let (mut from, mut back) = from.into_split();
    let (mut answers, mut to) = to.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let rate = rate.load(Ordering::Relaxed);
        if rate == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let most = buffer.len();
        let part = if rate == usize::MAX {
            most
        } else {
            (rate / PART as usize).clamp(1, most)
        };
        match from.read(&mut buffer[..part]).await {
            Ok(count) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
            _ => return,
        }
        if rate != usize::MAX {
            tokio::time::sleep(Duration::from_secs(1) / PART).await;
        }
    }
}
