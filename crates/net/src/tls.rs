//! TLS with certificates on both sides.
//!
//! A peer's certificate is checked as that of a *server* for the domain the peer claims, whichever side opened the
//! connection: public authorities no longer issue certificates for clients. So the handshake of an incoming connection
//! accepts any chain (with a valid signature by its key), and the chain is judged afterwards, when the stream says
//! which domain it is for. Sessions are never resumed: each stream is judged by the trust of its own time.

use std::collections::BTreeMap;
use std::sync::Arc;

use billow_xmpp::Domain;
use billow_xmpp::s2s::PeerCertificate;
use rustls::client::Resumption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use webpki::{EndEntityCert, KeyUsage};

use crate::{LocalDomain, StartError, TlsRoots};

/// Where Debian and its kin keep the authorities of the system.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Most certificates of a chain that are looked at.
const MAX_CHAIN: usize = 10;

/// Our certificates and whose we believe.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    locals: BTreeMap<Domain, Local>,
}

/// The TLS of one domain of ours.
struct Local {
    client: TlsConnector,
    server: TlsAcceptor,
}

impl Tls {
    pub(crate) fn new(locals: &[LocalDomain], roots: &TlsRoots) -> Result<Self, StartError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(load_roots(roots)?);
        let mut all = BTreeMap::new();
        for local in locals {
            let made = make_local(local, &provider, &roots);
            let made = made.map_err(|reason| StartError::Certificate {
                domain: local.domain.clone(),
                reason,
            })?;
            all.insert(local.domain.clone(), made);
        }
        Ok(Self {
            provider,
            roots,
            locals: all,
        })
    }

    /// The handshake on a connection that we made, as `local`, to the server of `peer`.
    pub(crate) async fn connect(
        &self,
        local: &Domain,
        peer: &Domain,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(peer.to_ascii()).map_err(|_| "the domain is no name for TLS".to_owned())?;
        let local = self
            .locals
            .get(local)
            .ok_or_else(|| "there is no certificate of ours".to_owned())?;
        let stream = local.client.connect(name, socket).await;
        stream
            .map(TlsStream::from)
            .map_err(|error| format!("TLS with {peer} failed: {error}"))
    }

    /// The handshake on a connection that a peer made to our domain `local`.
    pub(crate) async fn accept(&self, local: &Domain, socket: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let local = self
            .locals
            .get(local)
            .ok_or_else(|| "there is no certificate of ours".to_owned())?;
        let stream = local.server.accept(socket).await;
        stream
            .map(TlsStream::from)
            .map_err(|error| format!("TLS failed: {error}"))
    }

    /// The certificate that the peer showed in the handshake.
    pub(crate) fn certificate_of(&self, stream: &TlsStream<TcpStream>) -> Option<Box<dyn PeerCertificate>> {
        let chain = stream.get_ref().1.peer_certificates()?;
        let chain: Vec<_> = chain
            .iter()
            .take(MAX_CHAIN)
            .map(|one| one.clone().into_owned())
            .collect();
        Some(Box::new(Chain {
            chain,
            roots: self.roots.clone(),
            provider: self.provider.clone(),
        }))
    }
}

fn load_roots(wanted: &TlsRoots) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    if wanted.system
        && let Ok(certificates) = CertificateDer::pem_file_iter(SYSTEM_ROOTS)
    {
        roots.add_parsable_certificates(certificates.flatten());
    }
    for certificate in CertificateDer::pem_slice_iter(&wanted.extra_pem) {
        let certificate = certificate.map_err(|error| StartError::Roots(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| StartError::Roots(error.to_string()))?;
    }
    Ok(roots)
}

fn make_local(
    local: &LocalDomain,
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
) -> Result<Local, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&local.chain_pem).collect();
    let chain = chain.map_err(|error| format!("the certificate file: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate file holds no certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(&local.key_pem).map_err(|error| format!("the key file: {error}"))?;
    let text = |error: rustls::Error| error.to_string();
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.clone(), key.clone_key())
        .map_err(text)?;
    client.resumption = Resumption::disabled();
    let verifier = Arc::new(AnyChain {
        provider: provider.clone(),
    });
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(text)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(Local {
        client: Arc::new(client).into(),
        server: Arc::new(server).into(),
    })
}

/// A peer's chain, judged when asked.
struct Chain {
    chain: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl PeerCertificate for Chain {
    fn check(&self, domain: &Domain) -> Result<(), String> {
        let (leaf, intermediates) = self
            .chain
            .split_first()
            .ok_or_else(|| "there is no certificate".to_owned())?;
        let text = |error: webpki::Error| error.to_string();
        let leaf = EndEntityCert::try_from(leaf).map_err(text)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(
            algorithms,
            &self.roots.roots,
            intermediates,
            UnixTime::now(),
            usage,
            None,
            None,
        )
        .map_err(text)?;
        let name = ServerName::try_from(domain.to_ascii()).map_err(|error| error.to_string())?;
        leaf.verify_is_valid_for_subject_name(&name).map_err(text)
    }
}

/// Asks for a client certificate and lets any chain pass whose key signed the handshake; [`Chain`] is the judge.
#[derive(Debug)]
struct AnyChain {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyChain {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
