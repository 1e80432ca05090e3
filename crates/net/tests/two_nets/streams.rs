//! The listener against those who do not keep to the rules, over real sockets: what a stranger says, how long it takes
//! over it, and how it leaves. In all of them another peer goes on undisturbed.

use std::io::ErrorKind;
use std::sync::Arc;

use rustix::fs::inotify;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

pub(super) const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
                      xmlns:stream='http://etherx.jabber.org/streams' from='a.lab' to='b.lab' version='1.0'>";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub(super) const EXTERNAL: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";

/// A TLS client with a certificate of the lab.
pub(super) fn client(lab: &Lab, issued: &Issued, alpn: &[&[u8]]) -> TlsConnector {
    Arc::new(client_config(lab, issued, alpn)).into()
}

pub(super) fn client_config(lab: &Lab, issued: &Issued, alpn: &[&[u8]]) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let pem = lab.ca.certificate_pem().unwrap();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let chain = CertificateDer::pem_slice_iter(&issued.chain_pem)
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(&issued.key_pem).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// How long after its end a connection may take to be closed.
const GOODBYE: Duration = Duration::from_secs(4);

pub(super) fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).unwrap()
}

/// Reads until a text has come, or the end.
pub(super) async fn hear(stream: &mut (impl AsyncReadExt + Unpin), until: &str) -> String {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    let listen = async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
            }
            if String::from_utf8_lossy(&heard).contains(until) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, listen)
        .await
        .expect("an answer or the end");
    String::from_utf8_lossy(&heard).into_owned()
}

/// A peer by hand that has proved that it is `a.lab`.
async fn proved(lab: &Lab, server: &Server) -> TlsStream<TcpStream> {
    let issued = lab.ca.issue("a.lab").unwrap();
    let socket = TcpStream::connect(server.net.listening()[0]).await.unwrap();
    let direct = client(lab, &issued, &[b"xmpp-server"]);
    let mut stream = direct.connect(name("b.lab"), socket).await.unwrap();
    stream.write_all(HEADER.as_bytes()).await.unwrap();
    assert!(hear(&mut stream, "</stream:features>").await.contains("EXTERNAL"));
    stream.write_all(EXTERNAL.as_bytes()).await.unwrap();
    hear(&mut stream, "<success").await;
    stream.write_all(HEADER.as_bytes()).await.unwrap();
    hear(&mut stream, "</stream:features>").await;
    stream
}

#[tokio::test]
async fn b_002_an_external_entity_opens_no_file_and_no_connection() {
    let lab = Lab::new().await;
    let b = lab.good("b.lab").await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, &secret, inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS).unwrap();
    let opened = || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&watch, &mut buffer);
        reader.next().is_ok()
    };
    let listener = std::net::TcpListener::bind(anywhere()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let there = listener.local_addr().unwrap();
    for entity in [
        format!("SYSTEM 'file://{}'", secret.display()),
        format!("SYSTEM '{}'", secret.display()),
        format!("PUBLIC '-//A//B' 'file://{}'", secret.display()),
        format!("SYSTEM 'http://{there}/'"),
    ] {
        for text in [
            format!("<!DOCTYPE stream [<!ENTITY x {entity}>]>{HEADER}&x;"),
            format!("<!DOCTYPE stream {entity}>{HEADER}"),
            format!("{HEADER}<!DOCTYPE a [<!ENTITY % x {entity}> %x;]>"),
        ] {
            let answer = talk(&b, text.as_bytes()).await;
            assert!(answer.contains("restricted-xml"), "{text}: {answer}");
            assert!(!answer.contains("secret"), "{answer}");
        }
    }
    assert!(!opened(), "the file was not opened");
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "nobody came"
    );
    std::fs::read(&secret).unwrap();
    assert!(opened(), "the watch would have seen it");
}

#[tokio::test]
async fn b_014_a_flood_of_blanks_over_a_socket_is_cut_off() {
    let lab = Lab::new().await;
    let mut b = lab.good("b.lab").await;
    let c = lab.good("c.lab").await;
    lab.publish(&[&b, &c]);
    let mut stream = TcpStream::connect(b.net.listening()[0]).await.unwrap();
    stream.write_all(HEADER.as_bytes()).await.unwrap();
    let blanks = vec![b' '; 1 << 20];
    let flood = async {
        let mut sent = 0_u64;
        while stream.write_all(&blanks).await.is_ok() && sent < 1 << 30 {
            sent += blanks.len() as u64;
        }
        sent
    };
    let sent = tokio::time::timeout(PATIENCE, flood).await.expect("it does not go on");
    assert!(sent < 64 << 20, "what the system buffers, not more: {sent}");
    c.send(&b, "undisturbed");
    assert_eq!(b.stanza().await.1.attr("id"), Some("undisturbed"));
}

#[tokio::test]
async fn b_015_whoever_talks_for_ever_is_closed_at_the_deadline() {
    let lab = Lab::new().await;
    let deadline = Duration::from_secs(2);
    let mut config = lab.config("b.lab", &lab.ca.issue("b.lab").unwrap(), &lab.ca);
    config.limits.auth_deadline = deadline;
    let b = Server::start("b.lab", config).await;
    let words = "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress> ";
    // In clear.
    let before = Instant::now();
    let mut stream = TcpStream::connect(b.net.listening()[0]).await.unwrap();
    stream.write_all(HEADER.as_bytes()).await.unwrap();
    let answer = talk_on(&mut stream, words).await;
    assert!(answer.contains("connection-timeout"), "{answer}");
    assert!(
        (deadline..deadline + GOODBYE).contains(&before.elapsed()),
        "{:?}",
        before.elapsed()
    );
    // Inside TLS, whose handshake does not win time either.
    let before = Instant::now();
    let mut socket = TcpStream::connect(b.net.listening()[0]).await.unwrap();
    socket.write_all(HEADER.as_bytes()).await.unwrap();
    hear(&mut socket, "</stream:features>").await;
    tokio::time::sleep(deadline / 2).await;
    socket.write_all(STARTTLS.as_bytes()).await.unwrap();
    hear(&mut socket, "<proceed").await;
    let client = client(&lab, &lab.ca.issue("a.lab").unwrap(), &[]);
    let mut stream = client.connect(name("b.lab"), socket).await.unwrap();
    stream.write_all(HEADER.as_bytes()).await.unwrap();
    let answer = talk_on(&mut stream, words).await;
    assert!(answer.contains("connection-timeout"), "{answer}");
    assert!(
        (deadline..deadline + GOODBYE).contains(&before.elapsed()),
        "{:?}",
        before.elapsed()
    );
}

/// Says the same again and again until the other end closes; what it said.
async fn talk_on(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), words: &str) -> String {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    let talking = async {
        loop {
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(count) => heard.extend_from_slice(&buffer[..count]),
                },
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    if stream.write_all(words.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, talking).await.expect("it is closed");
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn b_020_ends_in_the_middle_leave_nothing_and_disturb_nobody() {
    let lab = Lab::new().await;
    let mut b = lab.good("b.lab").await;
    let c = lab.good("c.lab").await;
    lab.publish(&[&b, &c]);
    c.send(&b, "before");
    b.stanza().await;
    let half = "<message from='a.lab' to='b.lab' id='half'><body>";
    for how in ["fin", "reset", "twice"] {
        let mut stream = proved(&lab, &b).await;
        stream.write_all(half.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        match how {
            "fin" => stream.get_mut().0.shutdown().await.unwrap(),
            "reset" => {
                stream.get_ref().0.set_zero_linger().unwrap();
                drop(stream);
            }
            _ => {
                let end =
                    "</body></message></stream:stream></stream:stream><message from='a.lab' to='b.lab' id='late'/>";
                stream.write_all(end.as_bytes()).await.unwrap();
                let answer = hear(&mut stream, "no such text").await;
                assert!(answer.ends_with("</stream:stream>"), "{answer}");
            }
        }
        c.send(&b, how);
        loop {
            let (peer, stanza) = b.stanza().await;
            match peer.as_str() {
                "c.lab" => {
                    assert_eq!(stanza.attr("id"), Some(how));
                    break;
                }
                // The stanza of the last round is whole when its stream ends.
                _ => assert_eq!((how, stanza.attr("id")), ("twice", Some("half"))),
            }
        }
    }
    b.heard_nobody_but("a.lab");
}

#[tokio::test]
async fn direct_tls_and_starttls_are_served_at_one_port() {
    let lab = Lab::new().await;
    let (a, mut b) = (lab.good("a.lab").await, lab.good("b.lab").await);
    let there = b.net.listening()[0];
    let zone = Zone::new().address("xmpp.b.lab", there.ip()).unwrap();
    let direct = zone
        .service("_xmpps-server._tcp.b.lab", 5, there.port(), "xmpp.b.lab")
        .unwrap();
    lab.dns
        .set_zone(direct.service("_xmpp-server._tcp.b.lab", 0, 0, ".").unwrap());
    a.send(&b, "direct");
    assert_eq!(b.stanza().await.1.attr("id"), Some("direct"));
    let c = lab.good("c.lab").await;
    lab.publish(&[&b]);
    c.send(&b, "starttls");
    assert_eq!(b.stanza().await.1.attr("id"), Some("starttls"));
}

#[tokio::test]
async fn b_027_direct_tls_for_another_protocol_is_closed_without_a_word() {
    let lab = Lab::new().await;
    let b = lab.good("b.lab").await;
    let issued = lab.ca.issue("a.lab").unwrap();
    for alpn in [
        &[][..],
        &[&b"h2"[..]],
        &[b"xmpp-client"],
        &[b"http/1.1", b"xmpp-client"],
    ] {
        let before = Instant::now();
        let socket = TcpStream::connect(b.net.listening()[0]).await.unwrap();
        let refused = client(&lab, &issued, alpn).connect(name("b.lab"), socket).await;
        assert!(refused.is_err(), "{alpn:?}");
        assert!(before.elapsed() < Duration::from_secs(5));
    }
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
    let answer = talk(&b, hello).await;
    assert!(
        !answer.contains("stream"),
        "rubbish of TLS is not answered in XML: {answer}"
    );
    let answer = talk(&b, b"GET / HTTP/1.1\r\nHost: b.lab\r\n\r\n").await;
    assert!(!answer.contains("GET"), "{answer}");
    // TLS where a stream has begun in clear.
    let answer = talk(&b, &[HEADER.as_bytes(), hello].concat()).await;
    assert!(
        answer.contains("bad-format") || answer.contains("not-well-formed"),
        "{answer}"
    );
}

#[tokio::test]
async fn b_028_the_certificate_is_that_of_the_name_that_is_asked_for() {
    let lab = Lab::new().await;
    let mut config = lab.config("b.lab", &lab.ca.issue("b.lab").unwrap(), &lab.ca);
    let second = lab.ca.issue("b2.lab").unwrap();
    config.domains.push(LocalDomain {
        domain: domain("b2.lab"),
        chain_pem: second.chain_pem,
        key_pem: second.key_pem,
    });
    let b = Server::start("b.lab", config).await;
    let client = client(&lab, &lab.ca.issue("a.lab").unwrap(), &[b"xmpp-server"]);
    for ours in ["b.lab", "b2.lab", "B.lab"] {
        let socket = TcpStream::connect(b.net.listening()[0]).await.unwrap();
        // The client checks that the certificate is that of the name.
        client.connect(name(ours), socket).await.unwrap();
    }
    for foreign in ["evil.lab".to_owned(), format!("{}.lab", ["a"; 100].join("."))] {
        let socket = TcpStream::connect(b.net.listening()[0]).await.unwrap();
        let refused = client.connect(name(&foreign), socket).await.unwrap_err().to_string();
        assert!(
            refused.contains("UnrecognizedName") || refused.contains("UnrecognisedName"),
            "{refused}"
        );
    }
    // An address is no name to ask for: the certificate is that of the first domain, which the client does not want.
    let socket = TcpStream::connect(b.net.listening()[0]).await.unwrap();
    let refused = client.connect(name("127.0.0.1"), socket).await.unwrap_err().to_string();
    assert!(refused.contains("b.lab"), "{refused}");
    // A name of ten thousand bytes in a hello made by hand.
    let answer = talk(&b, &hello_for(&vec![b'a'; 10_000])).await;
    assert!(!answer.contains("stream"), "{answer}");
}

/// The first message of a TLS client that asks for a name.
fn hello_for(name: &[u8]) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let names = with_length(&[&[0][..], &with_length(name)].concat());
    let extension = [&[0, 0][..], &with_length(&names)].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &with_length(&[0xC0, 0x2F]),
        &[1, 0],
        &with_length(&extension),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[0x16, 3, 1][..], &with_length(&message)].concat()
}

#[tokio::test]
async fn a_certificate_is_replaced_while_running_and_a_bad_one_is_not() {
    let lab = Lab::new().await;
    let mut b = lab.good("b.lab").await;
    let mut a = lab.good("a.lab").await;
    lab.publish(&[&a, &b]);
    a.send(&b, "1");
    b.stanza().await;
    let (first, second) = (lab.ca.issue("b.lab").unwrap(), lab.ca.issue("b.lab").unwrap());
    let local = |chain: &[u8], key: &[u8]| LocalDomain {
        domain: domain("b.lab"),
        chain_pem: chain.to_vec(),
        key_pem: key.to_vec(),
    };
    for bad in [
        local(&first.chain_pem, &second.key_pem),
        local(b"", &first.key_pem),
        local(&first.chain_pem, b"rubbish"),
        LocalDomain {
            domain: domain("c.lab"),
            ..local(&first.chain_pem, &first.key_pem)
        },
    ] {
        let refused = b.net.replace_certificate(&bad).unwrap_err().to_string();
        assert!(refused.contains("cannot be used"), "{refused}");
    }
    let client = client(&lab, &lab.ca.issue("a.lab").unwrap(), &[b"xmpp-server"]);
    let shown = async || {
        let socket = TcpStream::connect(b.net.listening()[0]).await.unwrap();
        let stream = client.connect(name("b.lab"), socket).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let old = shown().await;
    b.net
        .replace_certificate(&local(&first.chain_pem, &first.key_pem))
        .unwrap();
    let new = shown().await;
    assert_ne!(old, new, "the next handshake shows the new one");
    assert_eq!(new, CertificateDer::from_pem_slice(&first.chain_pem).unwrap().to_vec());
    // The stream that is up goes on.
    a.send(&b, "2");
    assert_eq!(b.stanza().await.1.attr("id"), Some("2"));
    while let Ok(event) = a.events.try_recv() {
        assert!(!matches!(event, NetEvent::Unreachable { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn b_049_a_peer_that_comes_with_another_key_is_told_of() {
    let lab = Lab::new().await;
    let mut a = lab.good("a.lab").await;
    let b = lab.good("b.lab").await;
    lab.publish(&[&a, &b]);
    a.send(&b, "1");
    let changed = |event: &NetEvent| match event {
        NetEvent::KeyShown {
            peer,
            old: Some(old),
            new,
        } => Some((peer.clone(), *old, *new)),
        _ => None,
    };
    a.event(|event| matches!(event, NetEvent::Connected { .. }).then_some(()))
        .await;
    b.net.stop().await;
    a.unreachable().await;
    let mut b = lab.good("b.lab").await;
    lab.publish(&[&a, &b]);
    a.send(&b, "2");
    a.net.retry_now(&b.domain);
    let (peer, old, new) = a.event(changed).await;
    assert_eq!(peer, b.domain);
    assert_ne!(old, new);
    assert_eq!(b.stanza().await.1.attr("id"), Some("2"), "accepted by policy");
}
