//! Strangers in their thousands, in a process of their own so that what they take can be measured.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

// The lab belongs to the binary, which is built on this crate; its files are read here directly.
#[allow(dead_code, unreachable_pub)]
#[path = "../../billow/src/lab/ca.rs"]
mod ca;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use billow_net::{LocalDomain, Net, NetConfig, NetLimits, ResolverChoice, TlsRoots};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of this process that are in memory.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}

/// As many open files as this process may have: each connection is two here.
fn open_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn figure(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// A connection from the n-th of many addresses.
async fn connect(server: SocketAddr, n: usize) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    let [.., c, d] = u32::try_from(n).unwrap().to_be_bytes();
    let from = IpAddr::V4(Ipv4Addr::new(127, 1, c, d));
    socket.bind(SocketAddr::new(from, 0)).ok()?;
    socket.connect(server).await.ok()
}

/// Whether the server has not closed a connection, as far as is known here by now.
fn is_held(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// How many are held once all that are too many have been closed.
async fn held_of(streams: &[TcpStream], most: usize) -> usize {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let held = streams.iter().filter(|stream| is_held(stream)).count();
        if held <= most || Instant::now() > give_up {
            return held;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Connects so often, says half a header, holds all of it; how many the server holds at the end.
async fn connect_and_hold(server: SocketAddr, count: usize) -> usize {
    let mut streams = Vec::with_capacity(count);
    for n in 0..count {
        // Some forty from each address, of which half are too many.
        if let Some(mut stream) = connect(server, n / 40).await {
            // One beyond the limit is closed before it has said anything.
            let _ = stream
                .write_all(b"<?xml version='1.0'?><stream:stream xmlns:stream='http://eth")
                .await;
            streams.push(stream);
        }
    }
    held_of(&streams, 1000).await
}

async fn connect_and_close(server: SocketAddr, count: usize) {
    for n in 0..count {
        drop(connect(server, n % 5000).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_016_of_a_flood_of_strangers_a_thousand_are_held_and_none_stays() {
    let (holds, closes) = (figure("FLOOD_HOLD", 2_600), figure("FLOOD_CLOSE", 8_000));
    open_many_files();
    let ca = ca::Ca::create("Lab").unwrap();
    let issued = ca.issue("b.lab").unwrap();
    let config = NetConfig {
        listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)],
        domains: vec![LocalDomain {
            domain: "b.lab".parse().unwrap(),
            chain_pem: issued.chain_pem.clone(),
            key_pem: issued.key_pem.clone(),
        }],
        roots: TlsRoots {
            extra_pem: ca.certificate_pem().unwrap(),
            ..TlsRoots::default()
        },
        resolver: ResolverChoice::Servers(vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1)]),
        limits: NetLimits {
            auth_deadline: Duration::from_secs(60),
            ..NetLimits::default()
        },
        ..NetConfig::default()
    };
    let (net, _events) = Net::start(config).await.unwrap();
    let server = net.listening()[0];
    // The first flood makes the allocator ask for room that it keeps: about 15 kB for each that is held. A leak would ask
    // for as much again each time, so what counts is that the third flood adds nothing to what the second has left.
    let fresh = resident();
    let mut left = Vec::new();
    for _ in 0..2 {
        connect_and_hold(server, holds).await;
        connect_and_close(server, closes / 4).await;
        quiet().await;
        left.push(resident());
    }
    let before = resident();
    let held = connect_and_hold(server, holds).await;
    assert!(held <= 1000, "{held}");
    assert!(held >= 900, "the room there is is used: {held}");
    quiet().await;
    let mut one_address = Vec::new();
    for _ in 0..60 {
        one_address.extend(connect(server, 5001).await);
    }
    let from_one = held_of(&one_address, 20).await;
    assert_eq!(from_one, 20);
    drop(one_address);
    connect_and_close(server, closes).await;
    quiet().await;
    let after = resident();
    assert!((after - before).abs() <= before * 0.05, "{before} → {after}");
    let percent = |from: f64, to: f64| (to - from) / from * 100.0;
    println!(
        "FIGURE flood holds={holds} held={held} per_address={from_one} closes={closes} fresh_mib={:.1} first_percent={:.1} \
         second_percent={:.2} third_percent={:.2}",
        fresh / 1048576.0,
        percent(fresh, left[0]),
        percent(left[0], left[1]),
        percent(before, after),
    );
    net.stop().await;
}

/// Until the tasks of connections that are gone have ended.
async fn quiet() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let give_up = Instant::now() + PATIENCE;
    while metrics.num_alive_tasks() > 20 && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
