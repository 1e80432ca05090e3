//! TLS with those who are old, slow, weak or too large, over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;

use super::streams::{HEADER, client, client_config, hear, name};
use super::*;

/// TLS 1.0 to 1.2, as the wire has them.
const TLS_1_0: u16 = 0x0301;
const TLS_1_1: u16 = 0x0302;
const TLS_1_2: u16 = 0x0303;
/// ECDHE with AES-128-GCM, for an RSA certificate.
const GOOD: u16 = 0xC02F;
/// NULL, export RC4 and DES, RC4, 3DES, DES, and the same with ECDHE; anonymous; CBC with plain RSA.
const OLD: [u16; 14] = [
    0x0000, 0x0001, 0x0002, 0x0003, 0x0008, 0x0004, 0x0005, 0x000A, 0x0009, 0xC010, 0xC011, 0xC012, 0x0034, 0x002F,
];

/// The first message of a client that speaks XMPP from the start.
fn hello(version: u16, ciphers: &[u16], compressions: &[u8]) -> Vec<u8> {
    fn short(bytes: &[u8]) -> Vec<u8> {
        [&[u8::try_from(bytes.len()).unwrap()][..], bytes].concat()
    }
    fn long(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &long(body)].concat();
    let extensions = [
        extension(0, &long(&[&[0][..], &long(b"b.lab")].concat())),
        extension(10, &long(&[0, 23, 0, 29])),
        extension(11, &short(&[0])),
        extension(13, &long(&[4, 3, 8, 4, 4, 1])),
        extension(16, &long(&short(b"xmpp-server"))),
        extension(23, &[]),
    ]
    .concat();
    let ciphers: Vec<u8> = ciphers.iter().flat_map(|cipher| cipher.to_be_bytes()).collect();
    let body = [
        &version.to_be_bytes()[..],
        &[7; 32],
        &[0],
        &long(&ciphers),
        &short(compressions),
        &long(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[0x16, 3, 1][..], &long(&message)].concat()
}

#[derive(Debug, PartialEq)]
enum Reply {
    /// The handshake goes on, with this compression.
    Hello { compression: u8 },
    /// An alert, or the end.
    Refused,
}

async fn reply(server: &Server, hello: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(server.net.listening()[0]).await.unwrap();
    stream.write_all(hello).await.unwrap();
    let mut start = [0; 47];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut start)).await;
    match read.expect("an answer or the end") {
        // A record of the handshake with a ServerHello: its random, no or a short session id, the cipher, the compression.
        Ok(_) if start[0] == 0x16 && start[5] == 2 => {
            let session = usize::from(start[43]);
            let mut rest = vec![0; session];
            stream.read_exact(&mut rest).await.unwrap();
            let after = [&start[44..], &rest].concat();
            Reply::Hello {
                compression: after[session + 2],
            }
        }
        _ => Reply::Refused,
    }
}

#[tokio::test]
async fn old_versions_weak_ciphers_compression_and_early_data() {
    let lab = Lab::new().await;
    let b = lab.good("b.lab").await;
    let plain = Reply::Hello { compression: 0 };
    assert_eq!(reply(&b, &hello(TLS_1_2, &[GOOD], &[0])).await, plain);
    for version in [TLS_1_0, TLS_1_1] {
        assert_eq!(
            reply(&b, &hello(version, &[GOOD, 0xC013, 0x002F], &[0])).await,
            Reply::Refused,
            "{version:x}"
        );
    }
    for cipher in OLD {
        assert_eq!(
            reply(&b, &hello(TLS_1_2, &[cipher], &[0])).await,
            Reply::Refused,
            "{cipher:x}"
        );
    }
    let both = [&OLD[..], &[GOOD]].concat();
    assert_eq!(
        reply(&b, &hello(TLS_1_2, &both, &[0])).await,
        plain,
        "the good one is chosen"
    );
    // Deflate, alone and first.
    assert_eq!(reply(&b, &hello(TLS_1_2, &[GOOD], &[1])).await, Reply::Refused);
    assert_eq!(reply(&b, &hello(TLS_1_2, &[GOOD], &[1, 0])).await, plain);
    // Whoever comes back with the wish to send data early finds nothing to come back to.
    let issued = lab.ca.issue("a.lab").unwrap();
    let mut config = client_config(&lab, &issued, &[b"xmpp-server"]);
    config.enable_early_data = true;
    let early = tokio_rustls::TlsConnector::from(Arc::new(config));
    for _ in 0..3 {
        let socket = TcpStream::connect(b.net.listening()[0]).await.unwrap();
        let mut stream = early.connect(name("b.lab"), socket).await.unwrap();
        stream.write_all(HEADER.as_bytes()).await.unwrap();
        assert!(hear(&mut stream, "</stream:features>").await.contains("EXTERNAL"));
        let connection = stream.get_ref().1;
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
        assert!(!connection.is_early_data_accepted());
    }
}

#[tokio::test]
async fn b_026_a_handshake_that_stalls_anywhere_or_is_too_large_is_given_up_by_both_sides() {
    let lab = Lab::new().await;
    let config = |name: &str| {
        let mut config = lab.config(name, &lab.ca.issue(name).unwrap(), &lab.ca);
        config.limits.tls_deadline = Duration::from_secs(1);
        config.limits.auth_deadline = Duration::from_secs(2);
        config
    };
    let b = Server::start("b.lab", config("b.lab")).await;
    let there = b.net.listening()[0];
    // How many bytes a whole session from a fresh server takes, up to the moment when it is up.
    let whole = {
        let a = Server::start("a.lab", config("a.lab")).await;
        let passed = Arc::new(AtomicUsize::new(0));
        let proxy = stall(there, usize::MAX, passed.clone()).await;
        lab.dns.set_zone(Zone::new().xmpp_server("b.lab", proxy).unwrap());
        let mut a = a;
        a.send(&b, "1");
        a.event(|event| matches!(event, NetEvent::Connected { .. }).then_some(()))
            .await;
        passed.load(Ordering::SeqCst)
    };
    let mut given_up = 0;
    for point in 0..12 {
        let mut a = Server::start("a.lab", config("a.lab")).await;
        let proxy = stall(there, whole * point / 12, Arc::default()).await;
        lab.dns.set_zone(Zone::new().xmpp_server("b.lab", proxy).unwrap());
        let before = Instant::now();
        a.send(&b, "1");
        a.unreachable().await;
        assert!(
            before.elapsed() < Duration::from_secs(5),
            "{point}: {:?}",
            before.elapsed()
        );
        given_up += 1;
        a.net.stop().await;
    }
    assert_eq!(given_up, 12);
    // And what is too large for any handshake.
    for record in [16_385_u16, 20_000, u16::MAX] {
        let before = Instant::now();
        let mut bytes = [&[0x16, 3, 1][..], &record.to_be_bytes()].concat();
        bytes.extend(std::iter::repeat_n(1, usize::from(record)));
        talk(&b, &bytes).await;
        assert!(before.elapsed() < Duration::from_secs(5), "{record}");
    }
    // A chain of a mebibyte, which a client shows when it is asked for its certificate.
    let issued = lab.ca.issue("a.lab").unwrap();
    let leaf = issued.chain_pem.clone();
    let chain_pem = leaf.repeat((1 << 20) / CertificateDer::from_pem_slice(&leaf).unwrap().len() + 1);
    let key_pem = issued.key_pem.clone();
    let large = client(&lab, &Issued { chain_pem, key_pem }, &[b"xmpp-server"]);
    let before = Instant::now();
    let socket = TcpStream::connect(there).await.unwrap();
    // The server may have gone before the client has said all of it.
    if let Ok(mut stream) = large.connect(name("b.lab"), socket).await {
        let _ = stream.write_all(HEADER.as_bytes()).await;
        assert_eq!(hear(&mut stream, "</stream:features>").await, "");
    }
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(NetLimits::default().tls_deadline, Duration::from_secs(15));
    // The next one who is in order gets through.
    let mut a = lab.good("a.lab").await;
    lab.publish(&[&a, &b]);
    a.send(&b, "1");
    a.event(|event| matches!(event, NetEvent::Connected { .. }).then_some(()))
        .await;
}

/// Passes bytes on to a server, so many in both directions together, and then none, without closing.
async fn stall(there: SocketAddr, most: usize, passed: Arc<AtomicUsize>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(anywhere()).await.unwrap();
    let here = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let passed = passed.clone();
            tokio::spawn(async move {
                let far = TcpStream::connect(there).await.unwrap();
                let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
                let left = Arc::new(AtomicUsize::new(most));
                tokio::join!(
                    pass(&mut near_in, &mut far_out, left.clone(), passed.clone()),
                    pass(&mut far_in, &mut near_out, left, passed),
                );
            });
        }
    });
    here
}

async fn pass(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    left: Arc<AtomicUsize>,
    passed: Arc<AtomicUsize>,
) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let allowed = count.min(left.load(Ordering::SeqCst));
        left.fetch_sub(allowed, Ordering::SeqCst);
        passed.fetch_add(allowed, Ordering::SeqCst);
        if to.write_all(&buffer[..allowed]).await.is_err() {
            return;
        }
    }
}
