//! The errors that operators make, one row each, and whether the doctor names them.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::Pin;

use billow::lab::dns::Zone;
use openssl::symm::Cipher;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::actor::{Actor, Part};
use super::papers::{Wish, ec, rsa};
use super::site::{DOMAIN, Site, Told, deputy, doctor, free_port, good_zone, root, with_addresses};

/// Doctors at work at once.
const AT_ONCE: usize = 8;
const SERVICE: &str = "_xmpp-server._tcp.initech.lab";

type Outcome = Pin<Box<dyn Future<Output = Told> + Send>>;

/// One error.
struct Row {
    /// What the operator did.
    error: &'static str,
    /// The code that names it.
    code: &'static str,
    /// How bad it is.
    severity: &'static str,
    /// What else may be called an error because of it.
    also: &'static [&'static str],
    /// A word that the finding holds.
    says: &'static str,
    plant: fn() -> Outcome,
}

macro_rules! row {
    ($error:literal, $code:literal, $severity:literal, $says:literal, $plant:expr) => {
        row!($error, $code, $severity, $says, $plant, [])
    };
    ($error:literal, $code:literal, $severity:literal, $says:literal, $plant:expr, [$($also:literal),*]) => {
        Row {
            error: $error,
            code: $code,
            severity: $severity,
            also: &[$($also),*],
            says: $says,
            plant: || Box::pin($plant),
        }
    };
}

fn rows() -> Vec<Row> {
    let mut rows = names();
    rows.extend(ports());
    rows.extend(papers());
    rows.extend(machine());
    rows.extend(peers());
    rows
}

/// A site with other names.
async fn named(zone: impl FnOnce(u16) -> Zone) -> Told {
    let site = Site::well().await;
    site.dns.set_zone(zone(site.port));
    site.doctor(&[]).await
}

fn base() -> Zone {
    with_addresses(Zone::new(), DOMAIN)
}

fn names() -> Vec<Row> {
    vec![
        row!(
            "SRV target without address",
            "srv-target-without-address",
            "error",
            "wave2.initech.lab has no address",
            named(|port| good_zone(DOMAIN, port)
                .service(SERVICE, 10, port, "wave2.initech.lab")
                .unwrap())
        ),
        row!(
            "CNAME as SRV target",
            "srv-target-alias",
            "warning",
            "alias.initech.lab is only another name",
            named(|port| base()
                .service(SERVICE, 10, port, "alias.initech.lab")
                .unwrap()
                .alias("alias.initech.lab", DOMAIN)
                .unwrap())
        ),
        row!(
            "missing final dot",
            "srv-final-dot",
            "error",
            "the final dot is missing",
            named(|port| base().service(SERVICE, 10, port, "initech.lab.initech.lab").unwrap())
        ),
        row!("only A, no SRV (fine)", "dns-no-srv", "note", "which is fine", async {
            let mut site = Site::well().await;
            // An address of its own, so that the port without a record is free.
            (site.ip, site.port) = ("127.52.69.1", 5269);
            let ip = [127, 52, 69, 1].into();
            let zone = Zone::new().address(DOMAIN, ip).unwrap();
            site.dns.set_zone(zone.address("wave.initech.lab", ip).unwrap());
            site.doctor(&[]).await
        }),
        row!(
            "SRV target is a dot",
            "srv-not-offered",
            "error",
            "it has no XMPP server",
            named(|_| base().service(SERVICE, 0, 0, ".").unwrap())
        ),
        row!(
            "private address in public DNS",
            "address-not-public",
            "error",
            "10.77.0.10",
            async {
                let mut site = Site::well().await;
                site.private = false;
                let zone = Zone::new()
                    .xmpp_server(DOMAIN, ([10, 77, 0, 10], site.port).into())
                    .unwrap();
                let public = [8, 8, 8, 8].into();
                site.dns.set_zone(
                    zone.address(DOMAIN, public)
                        .unwrap()
                        .address("wave.initech.lab", public)
                        .unwrap(),
                );
                site.doctor(&[]).await
            }
        ),
    ]
}

fn ports() -> Vec<Row> {
    vec![
        row!(
            "SRV leads to another server",
            "srv-target-elsewhere",
            "error",
            "is another server than this one",
            async {
                let site = Site::well().await;
                let acme = Actor::start("acme.lab", Part::OnlyChat, site.dns.address()).await;
                let host = "xmpp.acme.lab";
                let zone = base().service(SERVICE, 10, acme.address().port(), host).unwrap();
                site.dns.set_zone(zone.address(host, acme.address().ip()).unwrap());
                site.doctor(&[]).await
            }
        ),
        row!(
            "wrong port in SRV",
            "srv-wrong-port",
            "error",
            "this server listens at",
            named(|_| good_zone(DOMAIN, free_port()))
        ),
        row!(
            "closed port",
            "port-closed",
            "error",
            "nothing listens there",
            named(|port| base().xmpp_server(DOMAIN, ([127, 0, 0, 2], port).into()).unwrap())
        ),
        row!(
            "a firewall drops",
            "port-filtered",
            "error",
            "does not answer at all",
            async {
                let hole = Hole::dig();
                let site = Site::well().await;
                site.dns.set_zone(good_zone(DOMAIN, hole.port));
                site.doctor(&[]).await
            }
        ),
    ]
}

/// A listener whose queue is full, so that what is sent to it vanishes.
struct Hole {
    port: u16,
    _listener: socket2::Socket,
    _queue: Vec<socket2::Socket>,
}

impl Hole {
    fn dig() -> Self {
        let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        let kind = socket2::Type::STREAM.nonblocking();
        let listener = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let there = listener.local_addr().unwrap();
        let queue = (0..4).map(|_| {
            let one = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
            // It is under way, or waits for ever: as it should.
            let _ = one.connect(&there);
            one
        });
        let queue = queue.collect();
        Self {
            port: there.as_socket().unwrap().port(),
            _listener: listener,
            _queue: queue,
        }
    }
}

/// A site that shows another certificate.
async fn shown(wish: Wish<'static>) -> Told {
    let site = Site::well().await;
    site.show(&wish.make(), &[]);
    site.doctor(&[]).await
}

async fn signed(key: openssl::pkey::PKey<openssl::pkey::Private>) -> Told {
    let mut site = Site::well().await;
    let wish = Wish {
        key: Some(key),
        ..Wish::of(&[DOMAIN], Some(root()))
    };
    site.sign_with(&wish.make());
    site.doctor(&[]).await
}

fn papers() -> Vec<Row> {
    vec![
        row!(
            "expired certificate",
            "certificate-expired",
            "error",
            "has expired on",
            shown(Wish::of(&[DOMAIN], Some(root())).days(-30, -2)),
            ["signer-dates"]
        ),
        row!(
            "certificate not yet valid",
            "certificate-not-yet-valid",
            "error",
            "is not valid before",
            shown(Wish::of(&[DOMAIN], Some(root())).days(2, 30)),
            ["signer-dates"]
        ),
        row!(
            "certificate of another name",
            "certificate-wrong-name",
            "error",
            "names example.lab, not initech.lab",
            shown(Wish::of(&["example.lab"], Some(root())))
        ),
        row!(
            "certificate for wave.DOMAIN only",
            "certificate-only-wave-name",
            "error",
            "names wave.initech.lab, not initech.lab",
            shown(Wish::of(&["wave.initech.lab"], Some(root())))
        ),
        row!(
            "missing intermediate",
            "chain-incomplete",
            "error",
            "the certificate of Lab Deputy, which issued it, is missing",
            shown(Wish::of(&[DOMAIN], Some(deputy()))),
            ["signer-untrusted"]
        ),
        row!(
            "chain in wrong order (fine)",
            "chain-order",
            "note",
            "not in order",
            async {
                let site = Site::well().await;
                site.show(&Wish::of(&[DOMAIN], Some(deputy())).make(), &[root(), deputy()]);
                site.doctor(&[]).await
            }
        ),
        row!(
            "self-signed, pinned by nobody",
            "certificate-self-signed",
            "error",
            "is signed by itself",
            shown(Wish::of(&[DOMAIN], None)),
            ["signer-untrusted"]
        ),
        row!(
            "key of another certificate",
            "key-mismatch",
            "error",
            "is not the key of",
            async {
                let site = Site::well().await;
                site.write("domain.key", &rsa(2048).private_key_to_pem_pkcs8().unwrap());
                site.doctor(&[]).await
            }
        ),
        row!("key that all can read", "key-readable", "warning", "chmod 600", async {
            let site = Site::well().await;
            fs::set_permissions(site.path("domain.key"), fs::Permissions::from_mode(0o644)).unwrap();
            site.doctor(&[]).await
        }),
        row!(
            "encrypted key without pass phrase",
            "key-encrypted",
            "error",
            "no pass phrase is given",
            async {
                let site = Site::well().await;
                let paper = Wish::of(&[DOMAIN], Some(root())).make();
                site.show(&paper, &[]);
                let sealed = paper
                    .key
                    .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"sesame");
                site.write("domain.key", &sealed.unwrap());
                site.doctor(&[]).await
            }
        ),
        row!(
            "signer of 1024 bits",
            "signer-weak",
            "error",
            "1024 bits",
            signed(rsa(1024))
        ),
        row!(
            "signer that is not RSA",
            "signer-not-rsa",
            "error",
            "not RSA",
            signed(ec())
        ),
        row!(
            "certificate for clients only",
            "certificate-purpose",
            "error",
            "is not for servers",
            shown(Wish {
                for_servers: false,
                ..Wish::of(&[DOMAIN], Some(root()))
            })
        ),
    ]
}

fn machine() -> Vec<Row> {
    vec![
        row!(
            "data folder that cannot be written",
            "data-folder-unwritable",
            "error",
            "nothing can be written into",
            async {
                let mut site = Site::well().await;
                site.data_dir = "/proc/billow".to_owned();
                site.doctor(&[]).await
            }
        ),
        row!(
            "disk nearly full",
            "disk-nearly-full",
            "warning",
            "free on the disk",
            async { Site::well().await.doctor(&["--free", "999999999999"]).await }
        ),
        row!(
            "two servers on one data folder",
            "data-folder-shared",
            "error",
            "is in use by process",
            async {
                let site = Site::well().await;
                let _server = site.serve().await;
                let second = site.config("second.toml");
                doctor(&second, &[]).await
            }
        ),
        row!(
            "unknown key in the configuration",
            "config-unknown-key",
            "error",
            "did you mean \"data_dir\"?",
            async {
                let mut site = Site::well().await;
                site.top = "datadir = \"x\"\n".to_owned();
                site.doctor(&[]).await
            }
        ),
    ]
}

/// A server behind an XMPP server that knows it by another secret.
async fn wrong_secret() -> Told {
    let site = Site::well().await;
    let port = accept_component("the right secret, which is long enough").await;
    site.write("component.secret", b"the wrong secret, which is long enough\n");
    let config = site.path("behind.toml");
    let text = format!(
        "domain = \"initech.lab\"\ndata_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n[federation]\nenabled = true\n\
         signer_certificate = \"domain.pem\"\nsigner_key = \"domain.key\"\ntrust_roots = [\"root.pem\"]\n\
         [federation.component]\naddress = \"127.0.0.1:{port}\"\nname = \"wave.initech.lab\"\nsecret_file = \"component.secret\"\n"
    );
    fs::write(&config, text).unwrap();
    doctor(&config, &[]).await
}

/// An XMPP server for one component, as far as to the secret (XEP-0114 §3).
async fn accept_component(secret: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let header = "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' \
                          xmlns='jabber:component:accept' from='wave.initech.lab' id='4711'>";
            let right = hex::encode(openssl::sha::sha1(format!("4711{secret}").as_bytes()));
            let mut said = String::new();
            let mut buffer = [0; 4096];
            while !said.contains("stream:stream") || !said.contains('>') {
                let read = socket.read(&mut buffer).await.unwrap();
                said += std::str::from_utf8(&buffer[..read]).unwrap();
            }
            socket.write_all(header.as_bytes()).await.unwrap();
            while !said.contains("</handshake>") {
                let Ok(read @ 1..) = socket.read(&mut buffer).await else {
                    break;
                };
                said += std::str::from_utf8(&buffer[..read]).unwrap();
            }
            let answer = match said.contains(&right) {
                true => "<handshake/>",
                false => {
                    "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
                }
            };
            // The component may be gone already.
            let _ = socket.write_all(answer.as_bytes()).await;
            let _ = socket.read(&mut buffer).await;
        }
    });
    port
}

/// A site that looks at a server which plays a part.
async fn visited(part: Part) -> Told {
    let site = Site::well().await;
    let acme = Actor::start("acme.lab", part, site.dns.address()).await;
    let zone = good_zone(DOMAIN, site.port)
        .xmpp_server("acme.lab", acme.address())
        .unwrap();
    site.dns.set_zone(zone);
    site.doctor(&["acme.lab"]).await
}

fn peers() -> Vec<Row> {
    vec![
        row!(
            "wrong secret of the component",
            "component-secret",
            "error",
            "refused the secret of wave.initech.lab",
            wrong_secret()
        ),
        row!(
            "disco without the feature",
            "disco-no-feature",
            "error",
            "announces no wave service",
            visited(Part::OnlyChat)
        ),
        row!(
            "a server that never answers",
            "no-answer",
            "error",
            "no answer comes",
            visited(Part::Mute),
            ["port-in"]
        ),
        row!(
            "the clock is off",
            "clock-off",
            "error",
            "behind that of acme.lab",
            visited(Part::Clock(3_600_000))
        ),
    ]
}

/// What is wrong with what the doctor said to a row.
fn judge(row: &Row, told: &Told) -> Result<(), String> {
    let all = || format!("{}: {:#}", row.error, told.json);
    if !told.codes(row.severity).contains(&row.code) {
        return Err(format!("expected {} ({}), got {}", row.code, row.severity, all()));
    }
    let finding = told.finding(row.code).to_string().replace("\\\"", "\"");
    if !finding.contains(row.says) {
        return Err(format!("expected {:?}, got {finding}", row.says));
    }
    let others: Vec<_> = told
        .codes("error")
        .into_iter()
        .filter(|code| *code != row.code && !row.also.contains(code))
        .collect();
    if !others.is_empty() {
        return Err(format!("{others:?} are no errors of {}", all()));
    }
    let expected = match told.json["severity"].as_str() {
        Some("error") => 1,
        Some("warning") => 3,
        _ => 0,
    };
    let as_bad = row.severity != "error" || expected == 1;
    match told.code == Some(expected) && as_bad {
        true => Ok(()),
        false => Err(format!(
            "expected exit code {expected}, got {:?} of {}",
            told.code,
            all()
        )),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_error_is_found_and_named() {
    let (planted, mut found, mut missed) = (rows().len(), 0, Vec::new());
    let mut waiting = rows().into_iter();
    let mut working = JoinSet::new();
    loop {
        while working.len() < AT_ONCE
            && let Some(row) = waiting.next()
        {
            working.spawn(async move { judge(&row, &(row.plant)().await) });
        }
        match working.join_next().await {
            Some(outcome) => match outcome.unwrap() {
                Ok(()) => found += 1,
                Err(reason) => missed.push(reason),
            },
            None => break,
        }
    }
    println!("FIGURE operator_errors planted={planted} found={found}");
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}
