//! Where a peer is, when it is at several places, at changing ones, and at those where it must not be looked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A server of a domain at one of its places.
async fn place(lab: &Lab, name: &str, issued: &Issued, address: SocketAddr) -> Server {
    let config = NetConfig {
        listen: vec![address],
        ..lab.config(name, issued, &lab.ca)
    };
    Server::start(name, config).await
}

/// A zone in which each of these addresses is a place of `b.lab`, in the order of their priority.
fn places(addresses: &[SocketAddr]) -> Zone {
    addresses.iter().enumerate().fold(Zone::new(), |zone, (n, address)| {
        let host = format!("xmpp{n}.b.lab");
        let zone = zone.address(&host, address.ip()).unwrap();
        let priority = 10 * (1 + u16::try_from(n).unwrap());
        zone.service("_xmpp-server._tcp.b.lab", priority, address.port(), &host)
            .unwrap()
    })
}

/// A listener that counts who comes, and does with them what `then` says.
async fn trap<F>(address: SocketAddr, then: fn(tokio::net::TcpStream) -> F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let there = listener.local_addr().unwrap();
    let came = Arc::new(AtomicUsize::new(0));
    let counted = came.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(then(stream));
        }
    });
    (there, came)
}

async fn hold(stream: tokio::net::TcpStream) {
    tokio::time::sleep(PATIENCE).await;
    drop(stream);
}

fn closed_port() -> SocketAddr {
    let gone = std::net::TcpListener::bind(anywhere()).unwrap();
    gone.local_addr().unwrap()
}

#[tokio::test]
async fn the_next_place_is_tried_when_connection_tls_or_proof_fail() {
    let lab = Lab::new().await;
    let other = Ca::create("Other").unwrap();
    let stranger = other.issue("b.lab").unwrap();
    let wrong_name = lab.ca.issue("c.lab").unwrap();
    let good = place(&lab, "b.lab", &lab.ca.issue("b.lab").unwrap(), anywhere()).await;
    let untrusted = place(&lab, "b.lab", &stranger, anywhere()).await;
    let misnamed = place(&lab, "b.lab", &wrong_name, anywhere()).await;
    // This one has another domain and says that b.lab is not there.
    let elsewhere = place(&lab, "c.lab", &wrong_name, anywhere()).await;
    let (silent, _) = trap(anywhere(), hold).await;
    let (closing, _) = trap(anywhere(), |stream| async { drop(stream) }).await;
    for bad in [
        closed_port(),
        untrusted.net.listening()[0],
        misnamed.net.listening()[0],
        elsewhere.net.listening()[0],
        closing,
        silent,
    ] {
        let mut config = lab.config("a.lab", &lab.ca.issue("a.lab").unwrap(), &lab.ca);
        config.limits.auth_deadline = Duration::from_secs(1);
        let mut a = Server::start("a.lab", config).await;
        lab.dns.set_zone(places(&[bad, good.net.listening()[0]]));
        a.send(&good, "1");
        let connected = |event: &NetEvent| match event {
            NetEvent::Connected { .. } => Some(true),
            NetEvent::Unreachable { reason, .. } => panic!("{bad}: {reason}"),
            _ => None,
        };
        assert!(a.event(connected).await);
        a.net.stop().await;
    }
}

#[tokio::test]
async fn delivery_goes_to_a_backup_and_back() {
    let lab = Lab::new().await;
    let issued = lab.ca.issue("b.lab").unwrap();
    let first = place(&lab, "b.lab", &issued, anywhere()).await;
    let mut backup = place(&lab, "b.lab", &issued, anywhere()).await;
    let first_address = first.net.listening()[0];
    lab.dns.set_zone(places(&[first_address, backup.net.listening()[0]]));
    let mut config = lab.config("a.lab", &lab.ca.issue("a.lab").unwrap(), &lab.ca);
    config.limits.fail_back = Duration::from_millis(500);
    let mut a = Server::start("a.lab", config).await;
    let mut first = first;
    a.send(&first, "1");
    assert_eq!(first.stanza().await.1.attr("id"), Some("1"));
    let before = Instant::now();
    first.net.stop().await;
    a.unreachable().await;
    a.send(&backup, "2");
    assert_eq!(backup.stanza().await.1.attr("id"), Some("2"));
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    let mut first = place(&lab, "b.lab", &issued, first_address).await;
    let heard = |event: &NetEvent| matches!(event, NetEvent::Heard { .. }).then_some(());
    first.event(heard).await;
    a.send(&first, "3");
    assert_eq!(first.stanza().await.1.attr("id"), Some("3"));
}

#[tokio::test]
async fn b_072_while_a_stream_works_an_answer_that_flaps_moves_nothing() {
    let lab = Lab::new().await;
    let issued = lab.ca.issue("b.lab").unwrap();
    let mut places_of_b = [
        place(&lab, "b.lab", &issued, anywhere()).await,
        place(&lab, "b.lab", &issued, anywhere()).await,
    ];
    let a = lab.good("a.lab").await;
    let addresses = [places_of_b[0].net.listening()[0], places_of_b[1].net.listening()[0]];
    let mut sent = 0;
    for flap in 0..30 {
        lab.dns.set_zone(places(&[addresses[flap % 2]]));
        a.send(&places_of_b[0], &format!("{sent}"));
        sent += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut heard = [0, 0];
    let mut stanzas = [0, 0];
    for (n, server) in places_of_b.iter_mut().enumerate() {
        while let Ok(event) = server.events.try_recv() {
            match event {
                NetEvent::Heard { .. } => heard[n] += 1,
                NetEvent::Stanza { .. } => stanzas[n] += 1,
                _ => {}
            }
        }
    }
    assert_eq!(
        (heard[0] + heard[1], stanzas[0] + stanzas[1]),
        (1, sent),
        "{heard:?} {stanzas:?}"
    );
}

#[tokio::test]
async fn b_075_a_peer_whose_records_lead_to_ourselves_is_not_reached() {
    let lab = Lab::new().await;
    let web = tokio::net::TcpListener::bind(anywhere()).await.unwrap();
    let web_address = web.local_addr().unwrap();
    let mut config = lab.config("a.lab", &lab.ca.issue("a.lab").unwrap(), &lab.ca);
    config.own_ports = vec![web_address.port()];
    let mut a = Server::start("a.lab", config).await;
    let b = domain("b.lab");
    for ours in [a.net.listening()[0], web_address] {
        lab.dns.set_zone(places(&[ours]));
        a.net.send(&a.domain, &b, message(&a.domain, &b, "1")).unwrap();
        a.net.retry_now(&b);
        let reason = a.unreachable().await;
        assert!(reason.contains("self-connection"), "{reason}");
    }
    a.heard_nobody();
}

#[tokio::test]
async fn b_076_the_address_that_was_checked_is_the_one_that_is_connected_to() {
    let lab = Lab::new().await;
    let allowed: SocketAddr = "127.0.0.2:0".parse().unwrap();
    let mut b = place(&lab, "b.lab", &lab.ca.issue("b.lab").unwrap(), allowed).await;
    let there = b.net.listening()[0];
    // What must not be reached is at the same port of another address.
    let (_, came) = trap(SocketAddr::new(LOOPBACK, there.port()), hold).await;
    let mut config = lab.config("a.lab", &lab.ca.issue("a.lab").unwrap(), &lab.ca);
    config.allow_private_addresses = false;
    config.allowed_networks = vec!["127.0.0.2/32".parse().unwrap()];
    let mut a = Server::start("a.lab", config).await;
    lab.dns.set_zone(places(&[there]));
    let rebind = async {
        // The second answer, at any moment after the first.
        loop {
            lab.dns.set_zone(places(&[SocketAddr::new(LOOPBACK, there.port())]));
            tokio::time::sleep(Duration::from_millis(3)).await;
            lab.dns.set_zone(places(&[there]));
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let attempts = async {
        for n in 0..40 {
            a.send(&b, &format!("{n}"));
            a.net.retry_now(&b.domain);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::select! {
        () = rebind => {}
        () = attempts => {}
    }
    assert_eq!(came.load(Ordering::SeqCst), 0, "it was never connected to");
    b.net.stop().await;
    lab.dns.set_zone(places(&[SocketAddr::new(LOOPBACK, there.port())]));
    tokio::time::sleep(Duration::from_secs(5)).await;
    a.net.retry_now(&b.domain);
    let refused = |event: &NetEvent| match event {
        NetEvent::Unreachable { reason, .. } if reason.contains("address-not-allowed") => Some(()),
        _ => None,
    };
    a.event(refused).await;
    assert_eq!(came.load(Ordering::SeqCst), 0);
    b.heard_nobody_but("a.lab");
}

#[tokio::test]
async fn b_077_what_is_no_domain_of_the_internet_is_not_looked_for() {
    let lab = Lab::new().await;
    let a = lab.good("a.lab").await;
    let asked = lab.dns.questions();
    for name in ["localhost", "intranet", "db.localhost", "127.1", "10.0x7f"] {
        let Ok(peer) = name.parse::<Domain>() else { continue };
        let refused = a
            .net
            .send(&a.domain, &peer, message(&a.domain, &peer, "1"))
            .unwrap_err();
        assert!(matches!(refused.reason, BounceReason::NotAllowed(_)), "{name}");
        a.net.connect(&a.domain, &peer);
    }
    for name in ["127.0.0.1", "::1", "[::1]"] {
        assert!(name.parse::<Domain>().is_err());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(lab.dns.questions(), asked);
}

#[tokio::test]
async fn b_079_streams_go_on_and_come_back_while_dns_is_down() {
    let lab = Lab::new().await;
    let issued = lab.ca.issue("b.lab").unwrap();
    let mut a = lab.good("a.lab").await;
    let mut b = place(&lab, "b.lab", &issued, anywhere()).await;
    let address = b.net.listening()[0];
    lab.publish(&[&b]);
    a.send(&b, "before");
    b.stanza().await;
    let Lab { ca, dns } = lab;
    drop(dns);
    a.send(&b, "without");
    assert_eq!(b.stanza().await.1.attr("id"), Some("without"));
    b.net.stop().await;
    a.unreachable().await;
    // Its record has expired by now, and nobody says anything new.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let lab = Lab {
        ca,
        dns: DnsServer::start(anywhere(), Zone::new()).await.unwrap(),
    };
    let mut b = place(&lab, "b.lab", &issued, address).await;
    a.send(&b, "again");
    a.net.retry_now(&b.domain);
    assert_eq!(b.stanza().await.1.attr("id"), Some("again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn s_41_a_thousand_connections_go_by_halves_to_the_two_best_places_and_none_to_the_backup() {
    let lab = Lab::new().await;
    let issued = lab.ca.issue("b.lab").unwrap();
    let mut servers = Vec::new();
    for _ in 0..3 {
        let mut config = lab.config("b.lab", &issued, &lab.ca);
        config.limits.streams_per_peer = 1000;
        config.limits.unauthenticated_per_address = 1000;
        servers.push(Server::start("b.lab", config).await);
    }
    let zone = servers.iter().zip([(10, 50), (10, 50), (20, 0)]).enumerate();
    let zone = zone.fold(Zone::new(), |zone, (n, (server, order))| {
        let (host, at) = (format!("wave{n}.b.lab"), server.net.listening()[0]);
        let zone = zone.address(&host, at.ip()).unwrap();
        zone.weighted_service("_xmpp-server._tcp.b.lab", order, at.port(), &host)
            .unwrap()
    });
    lab.dns.set_zone(zone);
    let a = lab.good("a.lab").await;
    let (local, peer): (Domain, Domain) = ("a.lab".parse().unwrap(), "b.lab".parse().unwrap());
    let mut counts = [0_u32; 3];
    for _ in 0..125 {
        let eight = (0..8).map(|_| a.net.contact(&local, &peer));
        for contact in futures_util::future::join_all(eight).await {
            let reached = contact
                .unwrap()
                .outcome
                .unwrap_or_else(|reason| panic!("{reason}"))
                .place;
            let n = (0..3).find(|n| reached.starts_with(&format!("wave{n}."))).unwrap();
            counts[n] += 1;
        }
    }
    println!(
        "FIGURE srv first={} second={} backup={}",
        counts[0], counts[1], counts[2]
    );
    assert_eq!(counts[2], 0, "the backup: {counts:?}");
    // Five standard deviations of a fair coin are 79 of a thousand.
    assert!(counts[0].abs_diff(500) < 80, "{counts:?}");
}
