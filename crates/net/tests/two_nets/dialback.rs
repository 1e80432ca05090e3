//! Dialback between whole nets: the key is asked about over a connection to the domain's own server.

use billow_net::DialbackPolicy;

use super::streams::{HEADER, client, hear, name};
use super::*;

/// Two servers whose certificates prove nothing to one another.
async fn unproved(lab: &Lab, policy: &DialbackPolicy) -> (Server, Server) {
    let other = Ca::create("Other").unwrap();
    let config = |name: &str| NetConfig {
        dialback: policy.clone(),
        ..lab.config(name, &other.issue(name).unwrap(), &lab.ca)
    };
    let (a, b) = (
        Server::start("a.lab", config("a.lab")).await,
        Server::start("b.lab", config("b.lab")).await,
    );
    lab.publish(&[&a, &b]);
    (a, b)
}

#[tokio::test]
async fn stanzas_cross_both_ways_where_the_policy_does_without_certificates() {
    let lab = Lab::new().await;
    let policy = DialbackPolicy::With([domain("a.lab"), domain("b.lab")].into());
    let (mut a, mut b) = unproved(&lab, &policy).await;
    a.send(&b, "1");
    let (peer, hello) = b.stanza().await;
    assert_eq!((peer.as_str(), hello.attr("id")), ("a.lab", Some("1")));
    b.send(&a, "2");
    assert_eq!(a.stanza().await.1.attr("id"), Some("2"));
}

#[tokio::test]
async fn without_the_policy_nobody_is_known_by_dialback() {
    let lab = Lab::new().await;
    let (mut a, mut b) = unproved(&lab, &DialbackPolicy::Never).await;
    a.send(&b, "1");
    let reason = a.unreachable().await;
    assert!(reason.contains("not good for its domain"), "{reason}");
    b.heard_nobody();
}

#[tokio::test]
async fn b_031_who_has_the_name_but_not_the_server_is_not_believed() {
    let lab = Lab::new().await;
    let (real, mut b) = unproved(&lab, &DialbackPolicy::Always).await;
    // It says that it is a.lab; DNS leads to the real one, which does not know the key.
    let other = Ca::create("Thief").unwrap();
    let config = NetConfig {
        dialback: DialbackPolicy::Always,
        ..lab.config("a.lab", &other.issue("a.lab").unwrap(), &lab.ca)
    };
    let mut thief = Server::start("a.lab", config).await;
    thief.send(&b, "stolen");
    let reason = thief.unreachable().await;
    assert!(reason.contains("dialback") && reason.contains("invalid"), "{reason}");
    b.heard_nobody();
    real.send(&b, "mine");
    assert_eq!(b.stanza().await.1.attr("id"), Some("mine"));
}

#[tokio::test]
async fn b_034_all_streams_together_have_sixty_four_questions_open() {
    const STREAMS: usize = 10;
    const KEYS: usize = 1_000;
    let lab = Lab::new().await;
    // A name server that hears everything and says nothing.
    let silent = tokio::net::UdpSocket::bind(anywhere()).await.unwrap();
    let config = NetConfig {
        dialback: DialbackPolicy::Always,
        resolver: ResolverChoice::Servers(vec![silent.local_addr().unwrap()]),
        ..lab.config("b.lab", &lab.ca.issue("b.lab").unwrap(), &lab.ca)
    };
    let b = Server::start("b.lab", config).await;
    let theirs = Ca::create("Other").unwrap().issue("a.lab").unwrap();
    let storm = client(&lab, &theirs, &[b"xmpp-server"]);
    let mut streams = Vec::new();
    for stream in 0..STREAMS {
        let socket = tokio::net::TcpStream::connect(b.net.listening()[0]).await.unwrap();
        let mut stream_to_b = storm.connect(name("b.lab"), socket).await.unwrap();
        stream_to_b.write_all(HEADER.as_bytes()).await.unwrap();
        let features = hear(&mut stream_to_b, "</stream:features>").await;
        assert!(features.contains("dialback"), "{features}");
        let keys: String = (0..KEYS)
            .map(|n| {
                format!(
                    "<db:result xmlns:db='jabber:server:dialback' from='s{stream}d{n}.lab' to='b.lab'>ab</db:result>"
                )
            })
            .collect();
        stream_to_b.write_all(keys.as_bytes()).await.unwrap();
        // All but ten are answered at once.
        let refused = hear_times(&mut stream_to_b, "resource-constraint", KEYS - 10).await;
        assert_eq!(refused, KEYS - 10);
        streams.push(stream_to_b);
    }
    // A hundred questions wait; the names that are looked for are those of 64 of them.
    let (mut asked, mut buffer) = (std::collections::BTreeSet::new(), [0; 4096]);
    // The first of them is given up after six seconds at least, and makes room for the next.
    let begun = Instant::now();
    let mut until = begun + Duration::from_secs(5);
    while let Ok(received) = tokio::time::timeout_at(until.into(), silent.recv(&mut buffer)).await {
        let query = &buffer[..received.unwrap()];
        let lab = query
            .windows(4)
            .position(|window| window == b"\x03lab")
            .expect("a name in .lab");
        let label = query[..lab]
            .iter()
            .rposition(|byte| *byte == b's')
            .expect("a label like s1d2");
        asked.insert(query[label..lab].to_vec());
        if asked.len() == 64 {
            until = until.min(Instant::now() + Duration::from_secs(1));
        }
    }
    assert_eq!(asked.len(), 64);
}

/// Reads until a text has come so many times, or the end; how often it came.
async fn hear_times(stream: &mut (impl AsyncReadExt + Unpin), text: &str, times: usize) -> usize {
    let mut heard = String::new();
    let mut buffer = [0; 16 << 10];
    let listen = async {
        while heard.matches(text).count() < times {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => heard.push_str(&String::from_utf8_lossy(&buffer[..count])),
            }
        }
    };
    // What is wrong shows in the count.
    let _ = tokio::time::timeout(PATIENCE, listen).await;
    heard.matches(text).count()
}
