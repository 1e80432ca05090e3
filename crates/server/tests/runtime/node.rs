//! Servers without a web side, and people who edit.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use billow_model::{Component, DocOp, DocumentId, ParticipantId, Version, Wavelet, WaveletName, WaveletOp};
use billow_net::{DialbackPolicy, LocalDomain, Net, NetConfig, NetEvent, NetHandle, ResolverChoice, TlsRoots};
use billow_server::config::{Config, FederationConfig, PolicyConfig};
use billow_server::federation::Running;
use billow_server::metrics::Metrics;
use billow_server::wavelets::{WaveletHandle, Wavelets};
use billow_signing::Signer;
use billow_store::Store;
use billow_wavelet::hosted::Applied;
use billow_wavelet::{Refusal, Submission};

use tokio::sync::mpsc;

use crate::ca::Ca;
use crate::dns::{DnsServer, Zone};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longer than anything here should take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server with its folder.
pub struct Node {
    pub config: Config,
    pub metrics: Metrics,
    running: Option<Running>,
    store: Option<Store>,
    _dir: Option<tempfile::TempDir>,
}

impl Node {
    /// One that does not federate.
    pub async fn alone() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            domain: "initech.lab".parse().unwrap(),
            data_dir: dir.path().join("data"),
            ..Config::default()
        };
        let mut node = Self {
            config,
            metrics: Metrics::new(),
            running: None,
            store: None,
            _dir: Some(dir),
        };
        node.start().await;
        node
    }

    pub async fn start(&mut self) {
        let store = Store::open(&self.config.data_dir).unwrap();
        self.running = Some(Running::start(&self.config, &store, &self.metrics).await.unwrap());
        self.store = Some(store);
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub async fn stop(&mut self) {
        self.store = None;
        self.running.take().unwrap().stop().await;
    }

    /// Stops it, and waits until nobody has its folder any more: tests have to let go of their handles.
    pub async fn stop_for_good(&mut self) {
        self.stop().await;
        tokio::time::timeout(PATIENCE, async {
            while matches!(
                Store::open(&self.config.data_dir),
                Err(billow_store::OpenError::InUse { .. })
            ) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
    }

    pub fn wavelets(&self) -> &Wavelets {
        self.running.as_ref().unwrap().wavelets()
    }

    pub async fn wavelet(&self, name: &WaveletName) -> WaveletHandle {
        self.wavelets().open(name).await.unwrap().unwrap()
    }

    pub fn listening(&self) -> SocketAddr {
        self.running.as_ref().unwrap().listening()[0]
    }
}

/// Two servers, their names and their authority.
pub struct Lab {
    pub initech: Node,
    pub acme: Node,
    dns: DnsServer,
    ca: Ca,
    stranger: std::sync::Mutex<Option<(String, SocketAddr)>>,
    _dir: tempfile::TempDir,
}

impl Lab {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create("Lab").unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.certificate_pem().unwrap()).unwrap();
        let dns = DnsServer::start(SocketAddr::new(LOOPBACK, 0), Zone::new())
            .await
            .unwrap();
        let mut lab = Self {
            initech: node(dir.path(), &ca, &dns, "initech.lab"),
            acme: node(dir.path(), &ca, &dns, "acme.lab"),
            dns,
            ca,
            stranger: std::sync::Mutex::default(),
            _dir: dir,
        };
        lab.initech.start().await;
        lab.acme.start().await;
        lab.publish();
        lab
    }

    /// Another server, of which only the net and the signer are there.
    pub async fn stranger(&self, domain: &str) -> (NetHandle, mpsc::Receiver<NetEvent>, Signer) {
        let issued = self.ca.issue(domain).unwrap();
        let config = NetConfig {
            listen: vec![SocketAddr::new(LOOPBACK, 0)],
            domains: vec![LocalDomain {
                domain: domain.parse().unwrap(),
                chain_pem: issued.chain_pem.clone(),
                key_pem: issued.key_pem.clone(),
            }],
            roots: TlsRoots {
                system: false,
                extra_pem: self.ca.certificate_pem().unwrap(),
                ..TlsRoots::default()
            },
            resolver: ResolverChoice::Servers(vec![self.dns.address()]),
            allow_private_addresses: true,
            ..NetConfig::default()
        };
        let (net, events) = Net::start(config).await.unwrap();
        *self.stranger.lock().unwrap() = Some((domain.to_owned(), net.listening()[0]));
        self.publish();
        (
            net,
            events,
            Signer::from_pem(domain.parse().unwrap(), &issued.key_pem, &issued.chain_pem).unwrap(),
        )
    }

    /// Tells the name server where the two are; each start is at a new port.
    pub fn publish(&self) {
        let zone = [&self.initech, &self.acme]
            .into_iter()
            .filter(|node| node.running.is_some())
            .fold(Zone::new(), |zone, node| {
                zone.xmpp_server(node.config.domain.as_str(), node.listening()).unwrap()
            });
        let zone = match &*self.stranger.lock().unwrap() {
            Some((domain, address)) => zone.xmpp_server(domain, *address).unwrap(),
            None => zone,
        };
        self.dns.set_zone(zone);
    }

    pub async fn stop(mut self) {
        self.initech.stop().await;
        self.acme.stop().await;
    }
}

fn node(dir: &Path, ca: &Ca, dns: &DnsServer, domain: &str) -> Node {
    let issued = ca.issue(domain).unwrap();
    let write = |name: &str, pem: &[u8]| -> PathBuf {
        let path = dir.join(format!("{domain}.{name}"));
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (certificate, key) = (write("pem", &issued.chain_pem), write("key", &issued.key_pem));
    let config = Config {
        domain: domain.parse().unwrap(),
        data_dir: dir.join(domain),
        federation: Some(FederationConfig {
            key_passphrase_file: None,
            acme: None,
            lives: (2 * 3_600_000, 5 * 60_000),
            ping_on_start: Vec::new(),
            listen: SocketAddr::new(LOOPBACK, 0),
            signer_certificate: certificate.clone(),
            signer_key: key.clone(),
            certificate,
            key,
            trust_roots: vec![dir.join("ca.pem")],
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
    };
    Node {
        config,
        metrics: Metrics::new(),
        running: None,
        store: None,
        _dir: None,
    }
}

/// Somebody with an editor, who always edits the newest version that there is.
pub struct Person {
    pub address: ParticipantId,
    session: Arc<str>,
    sequence: u64,
}

impl Person {
    pub fn new(address: &str) -> Self {
        Self {
            address: address.parse().unwrap(),
            session: format!("editor of {address}").into(),
            sequence: 0,
        }
    }

    pub fn submission(&mut self) -> Submission {
        self.sequence += 1;
        Submission {
            session: Arc::clone(&self.session),
            sequence: self.sequence,
        }
    }

    pub fn same_again(&self) -> Submission {
        Submission {
            session: Arc::clone(&self.session),
            sequence: self.sequence,
        }
    }

    pub async fn submit(
        &mut self,
        wavelet: &WaveletHandle,
        version: u64,
        ops: Vec<WaveletOp>,
    ) -> Result<Applied, Refusal> {
        let submission = self.submission();
        answer(
            wavelet
                .submit(&self.address, submission, Version::new(version), ops)
                .await,
        )
        .await
    }

    /// Makes a wave with one document.
    pub async fn begin(&mut self, node: &Node, name: &WaveletName, with: &[&str]) -> WaveletHandle {
        let wavelet = node.wavelets().open_or_begin(name).await.unwrap().unwrap();
        let mut ops = vec![WaveletOp::AddParticipant(self.address.clone()), insert("", 0, "")];
        ops.extend(
            with.iter()
                .map(|address| WaveletOp::AddParticipant(address.parse().unwrap())),
        );
        self.submit(&wavelet, 0, ops).await.unwrap();
        wavelet
    }

    /// Types at the end of what this server shows; gives the text that was there before.
    pub async fn type_at_end(
        &mut self,
        wavelet: &WaveletHandle,
        text: &str,
    ) -> tokio::sync::oneshot::Receiver<Result<Applied, Refusal>> {
        let (version, before) = wavelet
            .read(|wavelet| (wavelet.version(), text_of(wavelet)))
            .await
            .unwrap();
        let submission = self.submission();
        wavelet
            .submit(
                &self.address,
                submission,
                version,
                vec![insert(&before, before.chars().count(), text)],
            )
            .await
    }
}

pub async fn answer(answer: tokio::sync::oneshot::Receiver<Result<Applied, Refusal>>) -> Result<Applied, Refusal> {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .expect("an answer in time")
        .unwrap_or(Err(Refusal::Unavailable))
}

pub fn name(id: &str) -> WaveletName {
    format!("initech.lab/w+{id}/~/conv+root").parse().unwrap()
}

pub fn document() -> DocumentId {
    DocumentId::new("notes").unwrap()
}

/// Inserts text into the one document, which holds `before`.
pub fn insert(before: &str, at: usize, text: &str) -> WaveletOp {
    let length = before.chars().count();
    let retain = |count: usize| (count > 0).then_some(Component::Retain(count as u32));
    let characters = (!text.is_empty()).then(|| Component::Characters(text.to_owned()));
    let components = retain(at)
        .into_iter()
        .chain(characters)
        .chain(retain(length - at))
        .collect();
    WaveletOp::MutateDocument {
        id: document(),
        op: DocOp::new(components).unwrap(),
    }
}

pub fn text_of(wavelet: &Wavelet) -> String {
    wavelet
        .document(&document())
        .map(|(document, _)| document.text())
        .unwrap_or_default()
}

pub async fn text(wavelet: &WaveletHandle) -> String {
    wavelet.read(text_of).await.unwrap()
}

/// Waits until something holds.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut holds: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = holds().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
