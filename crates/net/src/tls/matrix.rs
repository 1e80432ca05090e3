//! Who gets through: each kind of TLS, of certificate and of dialback policy on their side, with each of ours, in both
//! directions, over real sockets and handshakes; what comes out is what a function of a few lines says.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use billow_xmpp::dialback::{Dialback, Policy};
use billow_xmpp::s2s::{Event, Incoming, Machine, Outgoing, Output, Question, Verdict};
use tokio::net::TcpListener;

use super::certificates::{Made, Recipe};
use super::*;
use crate::driver::Driver;
use crate::listen::begins_with_tls;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Encryption {
    Off,
    Optional,
    Required,
    Direct,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Certificate {
    None,
    Expired,
    NotYet,
    SelfSigned,
    WrongName,
    WrongAuthority,
    Valid,
}

use Certificate as C;
use Encryption as E;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Side {
    encryption: Encryption,
    certificate: Certificate,
    dialback: bool,
}

/// How the server that is dialled knows the one that dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    External,
    Dialback,
    Refused,
}

/// The rules in short. `dials` is known by its certificate, else by dialback if both want it, and only inside TLS; it
/// turns away from a server whose certificate is not good unless it wants dialback. We never do without TLS.
fn oracle(dials: Side, dialled: Side) -> Outcome {
    let in_tls = match (dials.encryption, dialled.encryption) {
        (E::Off, _) | (_, E::Off) => false,
        (E::Direct, other) | (other, E::Direct) => other == E::Direct,
        _ => true,
    };
    let server_is_known = dialled.certificate == C::Valid || (dials.dialback && dialled.certificate != C::None);
    if !in_tls || !server_is_known {
        return Outcome::Refused;
    }
    match (dials.certificate == C::Valid, dials.dialback && dialled.dialback) {
        (true, _) => Outcome::External,
        (false, true) => Outcome::Dialback,
        (false, false) => Outcome::Refused,
    }
}

const ENCRYPTIONS: [Encryption; 4] = [E::Off, E::Optional, E::Required, E::Direct];
const CERTIFICATES: [Certificate; 7] = [
    C::None,
    C::Expired,
    C::NotYet,
    C::SelfSigned,
    C::WrongName,
    C::WrongAuthority,
    C::Valid,
];

/// Each side of which the encryption and the certificate are among these.
fn sides(encryptions: &[Encryption], certificates: &[Certificate]) -> Vec<Side> {
    let mut sides = Vec::new();
    for encryption in encryptions {
        for certificate in certificates {
            for dialback in [false, true] {
                sides.push(Side {
                    encryption: *encryption,
                    certificate: *certificate,
                    dialback,
                });
            }
        }
    }
    sides
}

/// The TLS of both domains with each kind of certificate.
struct Lab {
    tls: HashMap<(&'static str, Certificate), Arc<Tls>>,
}

const DIALS: &str = "a.lab";
const DIALLED: &str = "b.lab";

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

impl Lab {
    fn new() -> Self {
        let authority = Recipe::authority(&[("CN", "Lab")], None).make();
        let other = Recipe::authority(&[("CN", "Lab")], None).make();
        let roots = TlsRoots {
            extra_pem: authority.chain_pem(),
            ..TlsRoots::default()
        };
        let mut tls = HashMap::new();
        for name in [DIALS, DIALLED] {
            for kind in CERTIFICATES {
                let made = made(name, kind, &authority, &other);
                let local = LocalDomain {
                    domain: domain(name),
                    chain_pem: made.chain_pem(),
                    key_pem: made.key_pem(),
                };
                let mut one = Tls::new(&[local], &roots).unwrap();
                if kind == C::None {
                    one.show_nothing();
                }
                tls.insert((name, kind), Arc::new(one));
            }
        }
        Self { tls }
    }

    fn tls(&self, name: &'static str, side: Side) -> Arc<Tls> {
        self.tls[&(name, side.certificate)].clone()
    }
}

fn made(name: &str, kind: Certificate, authority: &Made, other: &Made) -> Made {
    let (names, elsewhere) = ([name], ["elsewhere.lab"]);
    let good = Recipe::of(&names, Some(authority));
    match kind {
        C::None | C::Valid => good,
        C::Expired => Recipe {
            days: (-30, -1),
            ..good
        },
        C::NotYet => Recipe { days: (1, 30), ..good },
        C::SelfSigned => Recipe { issuer: None, ..good },
        C::WrongName => Recipe {
            dns: &elsewhere,
            ..good
        },
        C::WrongAuthority => Recipe {
            issuer: Some(other),
            ..good
        },
    }
    .make()
}

impl Tls {
    /// As a client it shows no certificate.
    fn show_nothing(&mut self) {
        let any = Arc::new(AnyChain {
            provider: self.provider.clone(),
        });
        let mut client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(any)
            .with_no_client_auth();
        let mut locals = self.locals.write().unwrap();
        for local in locals.values_mut() {
            let direct_server = local.direct_server.clone();
            let server = local.server.clone();
            let plain = Arc::new(client.clone());
            client.alpn_protocols = vec![ALPN.to_vec()];
            *local = Arc::new(Local {
                client: plain,
                direct_client: Arc::new(client.clone()),
                server,
                direct_server,
            });
        }
    }
}

/// A machine of a peer that does as it likes about TLS.
struct Rewritten<M> {
    machine: M,
    encryption: Encryption,
    /// It has no certificate to do a handshake as a server with.
    bare: bool,
}

impl<M: Machine> Machine for Rewritten<M> {
    fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.machine.handle_bytes(now, bytes);
    }

    fn handle_tls(&mut self, now: Instant, certificate: Option<Box<dyn PeerCertificate>>) {
        self.machine.handle_tls(now, certificate);
    }

    fn handle_eof(&mut self, now: Instant) {
        self.machine.handle_eof(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.machine.handle_timeout(now);
    }

    fn close(&mut self, now: Instant) {
        self.machine.close(now);
    }

    fn deadline(&self) -> Option<Instant> {
        self.machine.deadline()
    }

    fn poll(&mut self) -> Option<Output> {
        const REQUEST: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
        const OFFER: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>";
        const IN_CLEAR: &str = "<db:result from='a.lab' to='b.lab'>abc</db:result>";
        match self.machine.poll()? {
            Output::Write(bytes) => {
                let text = String::from_utf8(bytes).unwrap();
                let text = match self.encryption {
                    E::Off => text.replace(OFFER, "").replace(REQUEST, IN_CLEAR),
                    E::Optional => text.replace("<required/>", ""),
                    E::Required | E::Direct => text,
                };
                Some(Output::Write(text.into_bytes()))
            }
            Output::StartTls { .. } if self.bare => Some(Output::Close),
            other => Some(other),
        }
    }
}

impl<M> AsMut<M> for Rewritten<M> {
    fn as_mut(&mut self) -> &mut M {
        &mut self.machine
    }
}

/// The keys of the server that dials: what its domain's server would say when it is asked.
fn dialback(side: Side) -> Arc<Dialback> {
    let policy = if side.dialback { Policy::Always } else { Policy::Never };
    Arc::new(Dialback::new(b"a", policy))
}

/// Drives the end that dials until it is up or over; whether it is up.
async fn dial<M: Machine + AsMut<Outgoing>>(machine: M, socket: TcpStream, tls: &Tls) -> bool {
    let mut driver = Driver::new(machine, socket, tls, Some(domain(DIALLED))).with_tls_deadline(PATIENCE);
    loop {
        let settled = driver.settle().await;
        if settled.over.is_some() {
            return false;
        }
        if settled.events.contains(&Event::Ready) {
            return true;
        }
        driver.hear().await;
    }
}

/// Drives the end that is dialled until it knows the other or it is over.
async fn be_dialled<M: Machine + AsMut<Incoming>>(machine: M, socket: TcpStream, tls: &Tls) -> Outcome {
    let mut driver = Driver::new(machine, socket, tls, None).with_tls_deadline(PATIENCE);
    let theirs = Dialback::new(b"a", Policy::Always);
    let (mut outcome, mut by) = (Outcome::Refused, Outcome::External);
    loop {
        let settled = driver.settle().await;
        let mut has_more_to_do = false;
        for event in settled.events {
            match event {
                Event::Verify {
                    token,
                    local,
                    peer,
                    question: Question { id, key },
                } => {
                    by = Outcome::Dialback;
                    let verdict = match theirs.is_ours(&local, &peer, &id, &key) {
                        true => Verdict::Valid,
                        false => Verdict::Invalid,
                    };
                    driver.machine.as_mut().handle_verdict(token, verdict);
                    has_more_to_do = true;
                }
                Event::Authenticated { .. } => outcome = by,
                _ => {}
            }
        }
        if settled.over.is_some() {
            return outcome;
        }
        if !has_more_to_do {
            driver.hear().await;
        }
    }
}

/// How long a cell may take before it counts as refused.
const PATIENCE: Duration = Duration::from_secs(10);

impl Lab {
    /// What comes out between two sides, of which the one that is not ours does as it likes.
    async fn cell(&self, dials: Side, dialled: Side, we_dial: bool) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialling = async {
            let socket = TcpStream::connect(address).await.unwrap();
            let tls = self.tls(DIALS, dials);
            let new = if dials.encryption == E::Direct {
                Outgoing::direct_tls
            } else {
                Outgoing::new
            };
            let machine = new(Instant::now(), domain(DIALS), domain(DIALLED))
                .with_auth_deadline(PATIENCE)
                .with_dialback(dialback(dials));
            let encryption = if we_dial { E::Required } else { dials.encryption };
            dial(
                Rewritten {
                    machine,
                    encryption,
                    bare: false,
                },
                socket,
                &tls,
            )
            .await
        };
        let listening = async {
            let (socket, _) = listener.accept().await.unwrap();
            let tls = self.tls(DIALLED, dialled);
            let direct = if we_dial {
                dialled.encryption == E::Direct
            } else {
                begins_with_tls(&socket, PATIENCE).await
            };
            let locals = Arc::new([domain(DIALLED)].into());
            let mut machine = Incoming::new(Instant::now(), locals, [7; 32])
                .with_auth_deadline(PATIENCE)
                .with_dialback(dialback(dialled));
            if direct {
                machine = machine.direct_tls();
            }
            let (encryption, bare) = match we_dial {
                true => (dialled.encryption, dialled.certificate == C::None),
                false => (E::Required, false),
            };
            be_dialled(
                Rewritten {
                    machine,
                    encryption,
                    bare,
                },
                socket,
                &tls,
            )
            .await
        };
        let (is_up, outcome) = tokio::join!(dialling, listening);
        assert_eq!(
            is_up,
            outcome != Outcome::Refused,
            "both ends agree: {dials:?} → {dialled:?}"
        );
        outcome
    }
}

/// Runs a direction. `MATRIX_STRIDE` takes each so many-th cell.
async fn run(we_dial: bool, cells: Vec<(Side, Side)>) {
    let lab = Lab::new();
    let stride = std::env::var("MATRIX_STRIDE")
        .ok()
        .and_then(|stride| stride.parse().ok())
        .unwrap_or(1);
    let mut seen = HashMap::<String, usize>::new();
    let mut count = 0;
    for (dials, dialled) in cells.into_iter().step_by(stride) {
        // We listen for both kinds at one port, so that our kind is the peer's.
        let kind = match (we_dial, dials.encryption) {
            (true, _) => dialled.encryption,
            (false, E::Direct) => E::Direct,
            (false, _) => E::Required,
        };
        let expected = oracle(
            dials,
            Side {
                encryption: kind,
                ..dialled
            },
        );
        let outcome = lab.cell(dials, dialled, we_dial).await;
        assert_eq!(outcome, expected, "{dials:?} → {dialled:?}");
        *seen.entry(format!("{outcome:?}")).or_default() += 1;
        count += 1;
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(stride > 1 || count >= 324, "{count}");
    let direction = if we_dial { "out" } else { "in" };
    println!(
        "FIGURE tls_matrix_{direction} cells={count} external={} dialback={} refused={} differ=0",
        seen["External"], seen["Dialback"], seen["Refused"]
    );
}

#[tokio::test]
async fn b_040_each_cell_of_the_streams_that_we_open() {
    let ours = sides(&[E::Required, E::Direct], &CERTIFICATES[1..]);
    let theirs = sides(&ENCRYPTIONS, &CERTIFICATES);
    let cells = ours
        .iter()
        .flat_map(|ours| theirs.iter().map(|theirs| (*ours, *theirs)));
    run(true, cells.collect()).await;
}

#[tokio::test]
async fn b_040_each_cell_of_the_streams_that_peers_open() {
    let ours = sides(&[E::Required], &CERTIFICATES[1..]);
    let theirs = sides(&ENCRYPTIONS, &CERTIFICATES);
    let cells = ours
        .iter()
        .flat_map(|ours| theirs.iter().map(|theirs| (*theirs, *ours)));
    run(false, cells.collect()).await;
}
