//! The 55 hand-made requests that were put to a reference server, put to a real server of ours that has the same wavelets:
//! what each answers. Where the reference is silent, ours says what is wrong.
//! `BILLOW_CAPTURES` names the directory of the recordings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use billow_federation::discovery;
use billow_model::{Domain, WaveletName};
use billow_net::{DialbackPolicy, LocalDomain, Net, NetConfig, NetEvent, NetHandle, ResolverChoice, TlsRoots};
use billow_server::config::{Config, FederationConfig, PolicyConfig};
use billow_server::federation::Running;
use billow_server::metrics::Metrics;
use billow_signing::Signer;
use billow_store::{Cursor, Store, StoredDelta, StoredSeal, WaveletWrite};
use billow_wavelet::reference::ReferenceReplica;
use billow_wire::{AppliedDelta, Encoded, Message as _};
use billow_xmpp::{Element, Iq, IqKind, Jid, Stanza, StanzaError, disco};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::ca::Ca;
use crate::dns::{DnsServer, Zone};
use crate::node::PATIENCE;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Result,
    Receipt,
    Error(&'static str),
    Nothing,
}
use Answer::{Error, Nothing, Receipt, Result as Good};

/// Who asks: gamma's component, which takes part in nothing, as it was recorded; or beta's, which takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Stranger,
    Participant,
}
use Asker::{Participant, Stranger};

const BAD: Answer = Error("bad-request");
const ABSENT: Answer = Error("item-not-found");

/// Each case with who asks and what ours answers. A case may be asked by both.
const CASES: &[(&str, &[(Asker, Answer)])] = &[
    // The reference's XMPP server answers this one, with the component; our service is the domain itself.
    ("disco items of the domain", &[(Stranger, Good)]),
    ("disco info of the component", &[(Stranger, Good)]),
    ("disco items of the component", &[(Stranger, Good)]),
    ("wave ping", &[(Stranger, Receipt)]),
    ("wave ping without receipt request", &[(Stranger, Receipt)]),
    // The reference does not know it.
    ("XEP-0199 ping", &[(Stranger, Good)]),
    // The reference serves whoever knows the hashes; to a stranger our wavelets are not there.
    ("history, all", &[(Participant, Good), (Stranger, ABSENT)]),
    (
        "history, all, with a length limit",
        &[(Participant, Good), (Stranger, ABSENT)],
    ),
    ("history, one delta", &[(Participant, Good), (Stranger, ABSENT)]),
    // The reference is silent.
    ("history, empty range", &[(Participant, BAD), (Stranger, BAD)]),
    ("history, start hash wrong", &[(Participant, BAD), (Stranger, ABSENT)]),
    ("history, end hash wrong", &[(Participant, BAD), (Stranger, ABSENT)]),
    (
        "history, end beyond the wavelet",
        &[(Participant, BAD), (Stranger, ABSENT)],
    ),
    (
        "history, start inside a delta",
        &[(Participant, BAD), (Stranger, ABSENT)],
    ),
    // The reference is silent.
    ("history, start after end", &[(Participant, BAD), (Stranger, BAD)]),
    // The reference says bad-request, with the same text.
    ("history, unknown wavelet", &[(Participant, ABSENT), (Stranger, ABSENT)]),
    (
        "history, wavelet of another host",
        &[(Participant, BAD), (Stranger, BAD)],
    ),
    // The reference is silent.
    ("history, bad wavelet name", &[(Participant, BAD), (Stranger, BAD)]),
    ("history, version no number", &[(Participant, BAD), (Stranger, BAD)]),
    ("history, attribute missing", &[(Participant, BAD), (Stranger, BAD)]),
    ("signer info, valid", &[(Participant, Good), (Stranger, ABSENT)]),
    (
        "signer info, signer did not sign that delta",
        &[(Participant, BAD), (Stranger, ABSENT)],
    ),
    ("signer info, wrong version", &[(Participant, BAD), (Stranger, ABSENT)]),
    // A chain is taken only from its own domain.
    (
        "post signer, gamma's own (trusted CA)",
        &[(Participant, BAD), (Stranger, Good)],
    ),
    ("post signer, again", &[(Stranger, Good)]),
    ("post signer, SHA512", &[(Stranger, Good)]),
    ("post signer, leaf only (chain without the root)", &[(Stranger, Good)]),
    ("post signer, untrusted self-signed", &[(Stranger, BAD)]),
    ("post signer, unknown algorithm", &[(Stranger, BAD)]),
    ("post signer, no certificate", &[(Stranger, BAD)]),
    ("post signer, garbage certificate", &[(Stranger, BAD)]),
    // The reference takes a delta from anybody who has it.
    (
        "submit, replay of bob's delta (duplicate)",
        &[(Participant, Good), (Stranger, BAD)],
    ),
    ("submit, signature damaged", &[(Participant, BAD), (Stranger, BAD)]),
    // The reference says bad-request: ours, that it was made against another history and may be made anew.
    (
        "submit, to another wavelet",
        &[(Participant, Error("not-acceptable")), (Stranger, BAD)],
    ),
    ("submit, no protobuf", &[(Participant, BAD), (Stranger, BAD)]),
    ("submit, empty delta", &[(Participant, BAD), (Stranger, BAD)]),
    ("submit, delta element missing", &[(Participant, BAD), (Stranger, BAD)]),
    (
        "submit, wavelet of another host",
        &[(Participant, BAD), (Stranger, BAD)],
    ),
    // The reference acknowledges what it could not take; our receipts are promises.
    (
        "update of a wavelet alpha hosts",
        &[(Stranger, BAD), (Participant, BAD)],
    ),
    ("update, no protobuf", &[(Stranger, BAD), (Participant, BAD)]),
    (
        "commit notice for an unknown wavelet",
        &[(Stranger, ABSENT), (Participant, Error("not-authorized"))],
    ),
    ("update without items", &[(Stranger, BAD)]),
    ("update without item", &[(Stranger, BAD)]),
    ("update without wavelet-update", &[(Stranger, Receipt)]),
    // It is refused whether or not a receipt was asked for; the reference takes it and says nothing.
    ("update without a receipt request", &[(Stranger, ABSENT)]),
    ("plain chat message", &[(Stranger, BAD)]),
    // It is a question for the version (XEP-0092), which the reference does not know.
    ("unknown IQ get", &[(Stranger, Good)]),
    ("unknown IQ set", &[(Stranger, BAD)]),
    // The reference is silent.
    ("IQ without child", &[(Stranger, BAD)]),
    ("pubsub with an unknown node", &[(Stranger, BAD)]),
    // The reference is silent.
    ("pubsub without node", &[(Stranger, BAD)]),
    // Nobody answers presence (RFC 6121).
    ("presence", &[(Stranger, Nothing)]),
    ("alive after all that", &[(Stranger, Good), (Participant, Good)]),
];
/// Not to our server: the XMPP server of whoever asks answers them.
const ELSEWHERE: [&str; 2] = [
    "disco of a domain that does not exist",
    "disco of a server without wave component",
];

fn captures() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures");
    std::env::var_os("BILLOW_CAPTURES").map_or_else(default, PathBuf::from)
}

fn lines(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(captures().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn key(file: &str) -> Vec<u8> {
    std::fs::read(captures().join("keys").join(file)).unwrap()
}

/// A server with the wavelets of the recordings, and peers that ask it.
struct Lab {
    running: Running,
    domain: billow_xmpp::Domain,
    net: NetHandle,
    stanzas: mpsc::Receiver<Element>,
    _dir: tempfile::TempDir,
    _dns: DnsServer,
}

const PEERS: [&str; 4] = ["beta.test", "wave.beta.test", "gamma.test", "wave.gamma.test"];

impl Lab {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create("Lab").unwrap();
        let dns = DnsServer::start(SocketAddr::new(LOOPBACK, 0), Zone::new())
            .await
            .unwrap();
        let config = config(dir.path(), &ca, &dns);
        let store = Store::open(&config.data_dir).unwrap();
        for file in ["01-first-contact.deltas.jsonl", "02-concurrent.deltas.jsonl"] {
            fill(&store, file).await;
        }
        let running = Running::start(&config, &store, &Metrics::new()).await.unwrap();
        let issued = PEERS.map(|domain| (domain, ca.issue(domain).unwrap()));
        let net = NetConfig {
            listen: vec![SocketAddr::new(LOOPBACK, 0)],
            domains: issued
                .iter()
                .map(|(domain, issued)| LocalDomain {
                    domain: domain.parse().unwrap(),
                    chain_pem: issued.chain_pem.clone(),
                    key_pem: issued.key_pem.clone(),
                })
                .collect(),
            roots: TlsRoots {
                system: false,
                extra_pem: ca.certificate_pem().unwrap(),
                ..TlsRoots::default()
            },
            resolver: ResolverChoice::Servers(vec![dns.address()]),
            allow_private_addresses: true,
            ..NetConfig::default()
        };
        let (net, events) = Net::start(net).await.unwrap();
        let zone = PEERS.iter().fold(Zone::new(), |zone, domain| {
            zone.xmpp_server(domain, net.listening()[0]).unwrap()
        });
        dns.set_zone(zone.xmpp_server("alpha.test", running.listening()[0]).unwrap());
        let (sender, stanzas) = mpsc::channel(64);
        tokio::spawn(be_a_peer(net.clone(), events, sender));
        Self {
            running,
            domain: "alpha.test".parse().unwrap(),
            net,
            stanzas,
            _dir: dir,
            _dns: dns,
        }
    }

    /// Sends a recorded request and gives what comes back.
    async fn ask(&mut self, request: &str, from: Asker, id: &str) -> Answer {
        let from = match from {
            Stranger => "wave.gamma.test",
            Participant => "wave.beta.test",
        };
        let name = request.find([' ', '>']).unwrap();
        let scoped = format!("{} xmlns='jabber:client'{}", &request[..name], &request[name..]);
        let mut stanza: Element = scoped.parse().unwrap();
        for (name, value) in [("from", from), ("to", "alpha.test"), ("id", id)] {
            billow_xmpp::element::set_attr(&mut stanza, name, value);
        }
        let own: billow_xmpp::Domain = from.parse().unwrap();
        self.net.send(&own, &self.domain, stanza).unwrap();
        // What is answered at all is answered before this.
        let after = format!("{id} after");
        let jid = |text: &str| Jid::new(text).unwrap();
        let ping = Iq::get(
            jid(from),
            jid("alpha.test"),
            after.as_str(),
            Element::bare("ping", "urn:xmpp:ping"),
        );
        let mut answer = Nothing;
        // Some answers take their time: a chain is checked, a history is read, a domain is looked for.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.net.send(&own, &self.domain, ping.to_element()).unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut pinged = None;
        loop {
            // After the ping a late answer is waited for a little.
            let until = pinged.map_or(deadline, |at: tokio::time::Instant| at + Duration::from_millis(700));
            let Ok(Some(stanza)) = tokio::time::timeout_at(until, self.stanzas.recv()).await else {
                assert!(pinged.is_some(), "the server is alive");
                return answer;
            };
            if stanza.attr("id") == Some(&after) {
                pinged = Some(tokio::time::Instant::now());
            } else if stanza.attr("id") == Some(id) {
                answer = answer_of(&stanza);
                if pinged.is_some() {
                    return answer;
                }
            }
            if pinged.is_some() && answer != Nothing {
                return answer;
            }
        }
    }
}

fn answer_of(stanza: &Element) -> Answer {
    match (stanza.name(), stanza.attr("type")) {
        (_, Some("error")) => Error(StanzaError::of(stanza).condition.name()),
        ("message", _) if stanza.get_child("received", "urn:xmpp:receipts").is_some() => Receipt,
        ("iq", Some("result")) => Good,
        _ => panic!("{stanza:?}"),
    }
}

/// Answers what the server asks of its peers, and gives on the rest.
async fn be_a_peer(net: NetHandle, mut events: mpsc::Receiver<NetEvent>, stanzas: mpsc::Sender<Element>) {
    while let Some(event) = events.recv().await {
        let NetEvent::Stanza { local, peer, element } = event else {
            continue;
        };
        let answer = match Stanza::parse(&element) {
            Ok(Stanza::Iq(iq)) => match &iq.kind {
                IqKind::Get(payload) if disco::is_info(payload) && local.as_str().starts_with("wave.") => {
                    let mut info = discovery::own_info("a reference server");
                    info.features.retain(|feature| feature == billow_federation::ns::WAVE);
                    Some(iq.result(Some(info.to_element())))
                }
                IqKind::Get(payload) if disco::is_items(payload) => {
                    let component = Jid::new(&format!("wave.{local}")).unwrap();
                    Some(iq.result(Some(disco::items_element(&[component]))))
                }
                IqKind::Get(_) | IqKind::Set(_) => Some(iq.error(StanzaError::new(
                    billow_xmpp::Condition::ServiceUnavailable,
                    "nothing here",
                ))),
                _ => None,
            },
            _ => None,
        };
        match answer {
            Some(answer) => net.send(&local, &peer, answer.to_element()).unwrap(),
            None => stanzas.send(element).await.unwrap(),
        }
    }
}

fn config(dir: &Path, ca: &Ca, dns: &DnsServer) -> Config {
    let write = |name: &str, pem: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let issued = ca.issue("alpha.test").unwrap();
    let chain = [key("alpha.test.crt"), key("ca.pem")].concat();
    Config {
        domain: "alpha.test".parse().unwrap(),
        data_dir: dir.join("data"),
        federation: Some(FederationConfig {
            key_passphrase_file: None,
            acme: None,
            lives: (2 * 3_600_000, 5 * 60_000),
            ping_on_start: Vec::new(),
            listen: SocketAddr::new(LOOPBACK, 0),
            signer_certificate: write("signer.pem", &chain),
            signer_key: write("signer.key", &key("alpha.test.key")),
            certificate: write("tls.pem", &issued.chain_pem),
            key: write("tls.key", &issued.key_pem),
            trust_roots: vec![
                write("lab.pem", &ca.certificate_pem().unwrap()),
                write("ca.pem", &key("ca.pem")),
            ],
            nameservers: vec![dns.address()],
            allow_private_addresses: true,
            allowed_networks: Vec::new(),
            dialback: DialbackPolicy::Never,
            retry_cap: Duration::from_secs(2),
            unopened: Default::default(),
            component: None,
            policy: PolicyConfig {
                known: vec!["*.lab".parse().unwrap()],
                ..PolicyConfig::default()
            },
        }),
        ..Config::default()
    }
}

/// Puts a recorded wavelet into the store, as its host has it.
async fn fill(store: &Store, file: &str) {
    let lines = lines(file);
    let name = WaveletName::from_uri(lines[0]["wavelet"].as_str().unwrap()).unwrap();
    let mut replica = ReferenceReplica::new(name.clone());
    let mut write = WaveletWrite::new(name.clone());
    for line in &lines {
        let bytes = STANDARD.decode(line["applied_delta_b64"].as_str().unwrap()).unwrap();
        let applied: Encoded<AppliedDelta> = Encoded::decode(bytes.into()).unwrap();
        let record = replica.follow(applied.clone()).unwrap();
        let signed = applied.signed.bytes().clone();
        write.deltas.push(StoredDelta {
            applied_at: record.applied_at(),
            resulting: record.resulting(),
            author: record.delta.author.clone(),
            timestamp: record.delta.timestamp,
            ops: record.encode_ops(),
            submission: None,
            signed_digest: Some(*billow_wavelet::SignedDigest::of(&signed).as_bytes()),
            signed: Some(signed),
            seal: Some(StoredSeal {
                applied_at: record.applied_at(),
                resulting: replica.version().clone(),
                applied: applied.bytes().clone(),
            }),
        });
    }
    write.joined = replica.wavelet().participants().to_vec();
    store.append(write).await.unwrap();
    let peer: Domain = "beta.test".parse().unwrap();
    let cursor = Cursor {
        name,
        peer: peer.clone(),
        version: replica.version().version,
        until: None,
    };
    store.keep_cursors(vec![cursor]).await.unwrap();
    let chain = [key("beta.test.crt"), key("sub.pem"), key("ca.pem")].concat();
    let signer = Signer::from_pem(peer.clone(), &key("beta.test.key"), &chain).unwrap();
    let id = bytes::Bytes::copy_from_slice(signer.id().as_bytes());
    store.keep_signer(id, &peer, signer.info().encode()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_that_was_put_to_the_reference_is_answered() {
    let recorded = lines("08-raw.answers.jsonl");
    let names: Vec<&str> = recorded.iter().map(|case| case["case"].as_str().unwrap()).collect();
    let listed: Vec<&str> = CASES.iter().map(|(name, _)| *name).chain(ELSEWHERE).collect();
    assert_eq!(names, listed, "every recorded request is listed, in order");
    let mut lab = Lab::start().await;
    let (mut wrong, mut silent_there) = (Vec::new(), 0);
    for ((name, asked), case) in CASES.iter().zip(&recorded) {
        silent_there += u32::from(case["answer"].is_null());
        for (number, (from, expected)) in asked.iter().enumerate() {
            let id = format!("{name} {number}");
            let answer = lab.ask(case["request"].as_str().unwrap(), *from, &id).await;
            if answer != *expected {
                wrong.push(format!(
                    "{name}, asked by a {from:?}: {answer:?}, expected {expected:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(silent_there, 7, "the reference's silences");
    lab.running.stop().await;
}
