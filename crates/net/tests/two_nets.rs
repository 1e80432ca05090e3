//! Two servers on loopback with a name server and an authority of their own: stanzas cross both ways, and whoever is
//! not who it claims to be gets no further.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

// The lab belongs to the binary, which is built on this crate; its files are read here directly.
#[allow(dead_code, unreachable_pub)]
#[path = "../../billow/src/lab/ca.rs"]
mod ca;
#[allow(dead_code, unreachable_pub)]
#[path = "../../billow/src/lab/dns.rs"]
mod dns;

#[path = "two_nets/dialback.rs"]
mod dialback;
#[path = "two_nets/handshakes.rs"]
mod handshakes;
#[path = "two_nets/places.rs"]
mod places;
#[path = "two_nets/streams.rs"]
mod streams;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use billow_net::{BounceReason, LocalDomain, Net, NetConfig, NetEvent, NetHandle, NetLimits, ResolverChoice, TlsRoots};
use billow_xmpp::{Domain, Element, Message, element};
use ca::{Ca, Issued};
use dns::{DnsServer, Zone};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(20);

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn anywhere() -> SocketAddr {
    SocketAddr::new(LOOPBACK, 0)
}

/// The name server and the authority.
struct Lab {
    ca: Ca,
    dns: DnsServer,
}

impl Lab {
    async fn new() -> Self {
        let dns = DnsServer::start(anywhere(), Zone::new()).await.unwrap();
        Self {
            ca: Ca::create("Lab").unwrap(),
            dns,
        }
    }

    fn config(&self, name: &str, issued: &Issued, roots: &Ca) -> NetConfig {
        let limits = NetLimits {
            backoff_cap: Duration::from_millis(500),
            queue_age: Duration::from_secs(15),
            ..NetLimits::default()
        };
        NetConfig {
            listen: vec![anywhere()],
            domains: vec![LocalDomain {
                domain: domain(name),
                chain_pem: issued.chain_pem.clone(),
                key_pem: issued.key_pem.clone(),
            }],
            roots: TlsRoots {
                system: false,
                extra_pem: roots.certificate_pem().unwrap(),
                ..TlsRoots::default()
            },
            resolver: ResolverChoice::Servers(vec![self.dns.address()]),
            allow_private_addresses: true,
            limits,
            ..NetConfig::default()
        }
    }

    /// A server with everything in order.
    async fn good(&self, name: &str) -> Server {
        Server::start(name, self.config(name, &self.ca.issue(name).unwrap(), &self.ca)).await
    }

    fn publish(&self, servers: &[&Server]) {
        let zone = servers.iter().fold(Zone::new(), |zone, server| {
            zone.xmpp_server(server.domain.as_str(), server.net.listening()[0])
                .unwrap()
        });
        self.dns.set_zone(zone);
    }
}

struct Server {
    domain: Domain,
    net: NetHandle,
    events: mpsc::Receiver<NetEvent>,
}

impl Server {
    async fn start(name: &str, config: NetConfig) -> Self {
        let (net, events) = Net::start(config).await.unwrap();
        Self {
            domain: domain(name),
            net,
            events,
        }
    }

    fn send(&self, to: &Self, id: &str) {
        self.net
            .send(&self.domain, &to.domain, message(&self.domain, &to.domain, id))
            .unwrap();
    }

    /// The next event that `wanted` accepts; others are passed over.
    async fn event<T>(&mut self, mut wanted: impl FnMut(&NetEvent) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the net is running");
                if let Some(found) = wanted(&event) {
                    return found;
                }
                seen.push(event);
            }
        };
        let found = tokio::time::timeout(PATIENCE, search).await;
        found.unwrap_or_else(|_| panic!("{}: in vain, only {seen:?}", self.domain))
    }

    async fn stanza(&mut self) -> (Domain, Element) {
        self.event(|event| match event {
            NetEvent::Stanza { peer, element, .. } => Some((peer.clone(), element.clone())),
            _ => None,
        })
        .await
    }

    async fn unreachable(&mut self) -> String {
        self.event(|event| match event {
            NetEvent::Unreachable { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// No peer but one has authenticated itself so far.
    fn heard_nobody_but(&mut self, name: &str) {
        while let Ok(event) = self.events.try_recv() {
            if let NetEvent::Heard { peer, .. } | NetEvent::Stanza { peer, .. } = event {
                assert_eq!(peer.as_str(), name);
            }
        }
    }

    /// No peer has authenticated itself so far.
    fn heard_nobody(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            assert!(
                !matches!(event, NetEvent::Heard { .. } | NetEvent::Stanza { .. }),
                "{event:?}"
            );
        }
    }
}

fn message(from: &Domain, to: &Domain, id: &str) -> Element {
    Message::new(from.to_jid(), to.to_jid(), id).to_element()
}

#[tokio::test]
async fn stanzas_cross_both_ways_in_order() {
    let lab = Lab::new().await;
    let (mut a, mut b) = (lab.good("a.lab").await, lab.good("b.lab").await);
    lab.publish(&[&a, &b]);
    a.send(&b, "hello");
    let (peer, hello) = b.stanza().await;
    assert_eq!((peer.as_str(), hello.attr("id")), ("a.lab", Some("hello")));
    b.send(&a, "back");
    assert_eq!(a.stanza().await.1.attr("id"), Some("back"));
    for round in 0..5 {
        for n in 0..200 {
            a.send(&b, &format!("{}", round * 200 + n));
        }
        for n in 0..200 {
            assert_eq!(b.stanza().await.1.attr("id"), Some(&*format!("{}", round * 200 + n)));
        }
    }
    a.net.stop().await;
    let reason = b.unreachable().await;
    assert!(reason.contains("closed the stream"), "{reason}");
    b.net.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_the_side_that_dials() {
    let lab = Lab::new().await;
    let other = Ca::create("Other").unwrap();
    let mut a = lab.good("a.lab").await;
    let mut b = Server::start("b.lab", lab.config("b.lab", &other.issue("b.lab").unwrap(), &lab.ca)).await;
    lab.publish(&[&a, &b]);
    a.send(&b, "1");
    let reason = a.unreachable().await;
    assert!(
        reason.contains("not good for its domain") && reason.contains("UnknownIssuer"),
        "{reason}"
    );
    b.heard_nobody();
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_the_side_that_is_dialled() {
    let lab = Lab::new().await;
    let other = Ca::create("Other").unwrap();
    let mut a = Server::start("a.lab", lab.config("a.lab", &other.issue("a.lab").unwrap(), &lab.ca)).await;
    let mut b = lab.good("b.lab").await;
    lab.publish(&[&a, &b]);
    a.send(&b, "1");
    let reason = a.unreachable().await;
    assert!(
        reason.contains("not-authorized") && reason.contains("not valid for a.lab"),
        "{reason}"
    );
    b.heard_nobody();
}

#[tokio::test]
async fn a_server_with_the_certificate_of_another_name_is_refused() {
    let lab = Lab::new().await;
    let mut a = lab.good("a.lab").await;
    let mut b = Server::start("b.lab", lab.config("b.lab", &lab.ca.issue("c.lab").unwrap(), &lab.ca)).await;
    lab.publish(&[&a, &b]);
    a.send(&b, "1");
    let reason = a.unreachable().await;
    assert!(
        reason.contains("not good for its domain") && reason.contains("not valid for the name"),
        "{reason}"
    );
    b.heard_nobody();
}

#[tokio::test]
async fn a_peer_with_the_certificate_of_another_domain_is_not_authenticated() {
    let lab = Lab::new().await;
    let mut a = Server::start("a.lab", lab.config("a.lab", &lab.ca.issue("c.lab").unwrap(), &lab.ca)).await;
    let mut b = lab.good("b.lab").await;
    lab.publish(&[&a, &b]);
    a.send(&b, "1");
    let reason = a.unreachable().await;
    assert!(reason.contains("not-authorized"), "{reason}");
    b.heard_nobody();
}

#[tokio::test]
async fn after_a_restart_of_the_peer_delivery_goes_on() {
    let lab = Lab::new().await;
    let mut a = lab.good("a.lab").await;
    let issued = lab.ca.issue("b.lab").unwrap();
    let mut b = Server::start("b.lab", lab.config("b.lab", &issued, &lab.ca)).await;
    lab.publish(&[&a, &b]);
    a.send(&b, "before");
    b.stanza().await;
    let address = b.net.listening()[0];
    b.net.stop().await;
    a.unreachable().await;
    a.send(&b, "meanwhile");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let config = NetConfig {
        listen: vec![address],
        ..lab.config("b.lab", &issued, &lab.ca)
    };
    let mut b = Server::start("b.lab", config).await;
    assert_eq!(
        b.stanza().await.1.attr("id"),
        Some("meanwhile"),
        "what waited arrives without another word"
    );
    let connected = |event: &NetEvent| matches!(event, NetEvent::Connected { .. }).then_some(());
    a.event(connected).await;
}

#[tokio::test]
async fn a_peer_that_speaks_to_us_is_tried_at_once() {
    let lab = Lab::new().await;
    let issued = lab.ca.issue("a.lab").unwrap();
    let mut config = lab.config("a.lab", &issued, &lab.ca);
    config.limits.backoff_cap = Duration::from_secs(3600);
    let mut a = Server::start("a.lab", config).await;
    let b = lab.good("b.lab").await;
    lab.publish(&[&a]);
    // Several failures, so that the next pause would be long.
    a.send(&b, "1");
    for _ in 0..6 {
        a.unreachable().await;
        a.net.retry_now(&b.domain);
    }
    lab.publish(&[&a, &b]);
    let before = Instant::now();
    let mut b = b;
    b.send(&a, "I am here");
    assert_eq!(a.stanza().await.1.attr("id"), Some("I am here"));
    assert_eq!(b.stanza().await.1.attr("id"), Some("1"));
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
}

#[tokio::test]
async fn what_cannot_be_delivered_comes_back() {
    let lab = Lab::new().await;
    let mut config = lab.config("a.lab", &lab.ca.issue("a.lab").unwrap(), &lab.ca);
    config.limits.queue_age = Duration::from_millis(300);
    let mut a = Server::start("a.lab", config).await;
    let nowhere = domain("nowhere.lab");
    a.net
        .send(&a.domain, &nowhere, message(&a.domain, &nowhere, "1"))
        .unwrap();
    let reason = a.unreachable().await;
    assert!(reason.contains("no DNS record"), "{reason}");
    let bounced = |event: &NetEvent| match event {
        NetEvent::Bounced { stanza, reason, .. } => Some((stanza.clone(), reason.clone())),
        _ => None,
    };
    let (stanza, reason) = a.event(bounced).await;
    assert_eq!(stanza.attr("id"), Some("1"));
    assert!(matches!(reason, BounceReason::TimedOut(_)));
    let own = a
        .net
        .send(&a.domain, &a.domain, message(&a.domain, &a.domain, "1"))
        .unwrap_err();
    assert!(matches!(own.reason, BounceReason::NotAllowed(_)));
    let text = element("message", "jabber:client").text("\0").done();
    assert!(matches!(
        a.net.send(&a.domain, &nowhere, text).unwrap_err().reason,
        BounceReason::NotSendable(_)
    ));
}

#[tokio::test]
async fn a_private_address_is_not_connected_to_unless_allowed() {
    let lab = Lab::new().await;
    let mut config = lab.config("a.lab", &lab.ca.issue("a.lab").unwrap(), &lab.ca);
    config.allow_private_addresses = false;
    let mut a = Server::start("a.lab", config).await;
    let b = lab.good("b.lab").await;
    lab.publish(&[&b]);
    a.send(&b, "1");
    let reason = a.unreachable().await;
    assert!(reason.contains("address-not-allowed"), "{reason}");
}

/// Sends bytes to a server and gives all that it answers until it closes.
async fn talk(server: &Server, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.net.listening()[0]).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A connection that is reset while we still send is as closed as any.
    let _ = read.expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn b_015_a_stranger_is_closed_at_the_deadline_and_only_so_many_are_held() {
    let lab = Lab::new().await;
    let mut config = lab.config("b.lab", &lab.ca.issue("b.lab").unwrap(), &lab.ca);
    config.limits.auth_deadline = Duration::from_millis(500);
    config.limits.unauthenticated_per_address = 3;
    let b = Server::start("b.lab", config).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(tokio::net::TcpStream::connect(b.net.listening()[0]).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(talk(&b, b"").await, "", "beyond the limit there is not a word");
    for mut stream in held {
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.contains("connection-timeout"), "{answer}");
    }
    assert!(
        talk(&b, b"x").await.contains("not-well-formed"),
        "then there is room again"
    );
}
