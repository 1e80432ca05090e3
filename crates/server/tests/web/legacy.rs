//! A peer that runs the reference: why emoji are not taken on its wavelets reaches the client in words.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use billow_net::{LocalDomain, Net, NetConfig, NetEvent, NetHandle, NetLimits, ResolverChoice, TlsRoots};
use billow_xmpp::{Iq, IqKind, Stanza, disco, receipts};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::ca::Ca;
use crate::client::{Client, register};
use crate::dns::{DnsServer, Zone};
use crate::{WAVE, insert, new_wave, start_with, submit};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Announces what the reference announces, and acknowledges everything.
async fn be_a_reference_server(net: NetHandle, mut events: mpsc::Receiver<NetEvent>) {
    while let Some(event) = events.recv().await {
        let NetEvent::Stanza { local, peer, element } = event else {
            continue;
        };
        let answer = match Stanza::parse(&element) {
            Ok(Stanza::Iq(iq)) => answer(&iq),
            Ok(Stanza::Message(message)) => receipts::receipt_for(&message).map(|receipt| receipt.to_element()),
            _ => None,
        };
        if let Some(answer) = answer {
            net.send(&local, &peer, answer).unwrap();
        }
    }
}

fn answer(iq: &Iq) -> Option<billow_xmpp::Element> {
    let IqKind::Get(payload) = &iq.kind else { return None };
    let payload = if disco::is_info(payload) {
        let mut info = billow_federation::discovery::own_info("Wave in a Box");
        info.features.retain(|feature| feature == billow_federation::ns::WAVE);
        info.to_element()
    } else {
        disco::items_element(&[])
    };
    Some(iq.result(Some(payload)).to_element())
}

#[tokio::test(flavor = "multi_thread")]
async fn why_emoji_are_refused_is_said_to_the_client_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::create("Lab").unwrap();
    let dns = DnsServer::start(SocketAddr::new(LOOPBACK, 0), Zone::new())
        .await
        .unwrap();
    let issued = ca.issue("example.org").unwrap();
    let files = [
        ("ca.crt", ca.certificate_pem().unwrap()),
        ("own.crt", issued.chain_pem.clone()),
        ("own.key", issued.key_pem.clone()),
    ];
    for (name, pem) in files {
        std::fs::write(dir.path().join(name), pem).unwrap();
    }
    let text = format!(
        "domain = \"example.org\"\n[http]\nlisten = \"127.0.0.1:0\"\n[accounts]\nregistration = \"open\"\n\
         [federation]\nenabled = true\nlisten = \"127.0.0.1:0\"\ncertificate = \"own.crt\"\nkey = \"own.key\"\n\
         trust_roots = [\"ca.crt\"]\nnameservers = [\"{}\"]\nallow_private_addresses = true\n",
        dns.address()
    );
    let (server, at) = start_with(dir.path(), &text).await;
    let issued = ca.issue("old.lab").unwrap();
    let config = NetConfig {
        listen: vec![SocketAddr::new(LOOPBACK, 0)],
        domains: vec![LocalDomain {
            domain: "old.lab".parse().unwrap(),
            chain_pem: issued.chain_pem.clone(),
            key_pem: issued.key_pem.clone(),
        }],
        roots: TlsRoots {
            system: false,
            extra_pem: ca.certificate_pem().unwrap(),
            ..TlsRoots::default()
        },
        resolver: ResolverChoice::Servers(vec![dns.address()]),
        allow_private_addresses: true,
        limits: NetLimits::default(),
        ..NetConfig::default()
    };
    let (net, events) = Net::start(config).await.unwrap();
    let zone = Zone::new().xmpp_server("old.lab", net.listening()[0]).unwrap();
    let ours = server.addresses().federation.unwrap();
    dns.set_zone(zone.xmpp_server("example.org", ours).unwrap());
    tokio::spawn(be_a_reference_server(net, events));

    let token = register(at, "alice").await;
    let mut alice = Client::connect(at, &token).await;
    alice
        .send(new_wave("Hello", "alice@example.org", &["gina@old.lab"]))
        .await;
    alice
        .expect_where("delta", |message| {
            message["delta"]["own"] == json!({ "session": "first", "sequence": 1 })
        })
        .await;
    // It is known what runs there when something has been delivered there.
    let known = |message: &Value| {
        let peers = message["peers"].as_array().cloned().unwrap_or_default();
        message["type"] == "delivery"
            && peers
                .iter()
                .any(|peer| peer["domain"] == "old.lab" && peer["legacy"] == true)
    };
    if !alice.open(WAVE, None).await.iter().any(known) {
        alice.expect_where("delivery", known).await;
    }
    alice.send(submit("a", 1, 4, vec![insert(5, 5, "😀")])).await;
    let refused = alice.expect("refused").await;
    assert_eq!(
        (refused["session"].clone(), refused["reason"].clone()),
        (json!("a"), json!("legacyPeer"))
    );
    let words = refused["text"].as_str().unwrap();
    assert!(words.contains("old.lab") && words.contains("emoji"), "{words}");
    // Anything else is taken, and the wavelet goes on.
    alice.send(submit("a", 2, 4, vec![insert(5, 5, "!")])).await;
    alice
        .expect_where("delta", |message| {
            message["delta"]["own"] == json!({ "session": "a", "sequence": 2 })
        })
        .await;
    drop(alice);
    server.stop().await;

    // After a restart it is known from the start, although the other server is nowhere to be found.
    dns.set_zone(Zone::new());
    let (server, at) = start_with(dir.path(), &text).await;
    let mut alice = Client::connect(at, &token).await;
    alice.open(WAVE, None).await;
    alice.send(submit("b", 1, 5, vec![insert(6, 6, "😀")])).await;
    let refused = alice.expect("refused").await;
    assert_eq!(
        (refused["session"].clone(), refused["reason"].clone()),
        (json!("b"), json!("legacyPeer"))
    );
    server.stop().await;
}
