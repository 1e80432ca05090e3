//! What the authority is shown when it looks whether a name is ours.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use billow_model::{Domain, Timestamp};
use billow_signing::{Validity, challenge_pair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::clock;
use crate::config::{AcmeConfig, Challenge};

/// Where authorities ask for http-01 (RFC 8555 §8.3).
pub(crate) const PATH: &str = "/.well-known/acme-challenge/{token}";
/// The protocol of tls-alpn-01 (RFC 8737 §3).
const ALPN: &[u8] = b"acme-tls/1";
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HOUR_MS: i64 = 3_600_000;

/// The answers to the questions that an authority may ask now.
#[derive(Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<Expected>>);

#[derive(Default)]
struct Expected {
    pages: BTreeMap<String, String>,
    handshakes: BTreeMap<String, Arc<CertifiedKey>>,
}

/// A listener for the authority; it closes when this is dropped.
pub(super) struct Door {
    _tasks: JoinSet<()>,
}

impl Answers {
    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page for a token.
    pub(crate) fn page_for(&self, token: &str) -> Option<String> {
        self.expected().pages.get(token).cloned()
    }

    /// From now on there is a page for a token.
    pub(super) fn page(&self, token: &str, text: &str) {
        self.expected().pages.insert(token.to_owned(), text.to_owned());
    }

    /// From now on handshakes that ask for a domain see the certificate that holds this digest.
    pub(super) fn handshake(&self, domain: &Domain, digest: &[u8]) -> anyhow::Result<()> {
        let now = clock::now();
        let validity = Validity {
            from: Timestamp(now.0 - HOUR_MS),
            until: Timestamp(now.0 + HOUR_MS),
        };
        let pair = challenge_pair(domain, digest, validity)?;
        let certificate = CertificateDer::from_pem_slice(&pair.certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(&pair.key_pem)?;
        // Made unread: no TLS library of today knows the critical extension that it bears.
        let shown = CertifiedKey::new(
            vec![certificate],
            default_provider().key_provider.load_private_key(key)?,
        );
        self.expected().handshakes.insert(domain.to_string(), Arc::new(shown));
        Ok(())
    }

    /// Nothing is asked any more.
    pub(super) fn clear(&self) {
        *self.expected() = Expected::default();
    }

    /// Listens where the configuration says, if it does.
    pub(super) async fn open(&self, settings: &AcmeConfig) -> anyhow::Result<Door> {
        let mut tasks = JoinSet::new();
        if let Some(address) = settings.listen {
            let listener = listen(address, settings.challenge).await?;
            match settings.challenge {
                Challenge::Http01 => {
                    let router = Router::new().route(PATH, get(page)).with_state(self.clone());
                    tasks.spawn(async move {
                        // It ends when the door is dropped.
                        let _ = axum::serve(listener, router).await;
                    });
                }
                Challenge::TlsAlpn01 => drop(tasks.spawn(shake_hands(listener, self.acceptor()?))),
            }
        }
        Ok(Door { _tasks: tasks })
    }

    fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

async fn listen(address: SocketAddr, challenge: Challenge) -> anyhow::Result<TcpListener> {
    let advice = match challenge {
        Challenge::Http01 => {
            "if a web server is there, let it pass /.well-known/acme-challenge/ on to http.listen and set \
             listen = \"http\" in [federation.acme]; if it is forbidden, allow it (CAP_NET_BIND_SERVICE)"
        }
        Challenge::TlsAlpn01 => "free that port, or use http-01",
    };
    let opened = TcpListener::bind(address).await;
    opened.with_context(|| format!("{address} cannot be listened at for the authority's question: {advice}"))
}

async fn page(State(answers): State<Answers>, Path(token): Path<String>) -> Result<String, StatusCode> {
    answers.page_for(&token).ok_or(StatusCode::NOT_FOUND)
}

async fn shake_hands(listener: TcpListener, acceptor: TlsAcceptor) {
    let mut tasks = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((socket, _)) => drop(tasks.spawn(shake_hand(acceptor.clone(), socket))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        while tasks.try_join_next().is_some() {}
    }
}

async fn shake_hand(acceptor: TlsAcceptor, socket: TcpStream) {
    if let Ok(Ok(mut stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
        // That was all.
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
    }
}

impl ResolvesServerCert for Answers {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.expected().handshakes.get(hello.server_name()?).cloned()
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answers({} expected)", self.expected().pages.len())
    }
}
