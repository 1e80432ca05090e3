//! TLS with certificates on both sides.
//!
//! A peer's certificate is checked as that of a *server* for the domain the peer claims, whichever side opened the
//! connection: public authorities no longer issue certificates for clients. So a handshake accepts any chain (with a
//! valid signature by its key), and the chain is judged afterwards by the stream, which knows for which domain and what
//! else may prove it. A domain that is pinned is believed by its pin and by nothing else. Sessions are never resumed: each stream is judged by the trust of its own time.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use billow_xmpp::s2s::PeerCertificate;
use billow_xmpp::{Domain, planted};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{Acceptor, NoServerSessionStorage};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};
use webpki::{EndEntityCert, KeyUsage};

use crate::{Fingerprint, LocalDomain, StartError, TlsRoots};

/// Where Debian and its kin keep the authorities of the system.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Most certificates of a chain that are looked at.
const MAX_CHAIN: usize = 10;
/// Longest certificate that is looked at.
const MAX_CERTIFICATE: usize = 64 << 10;
/// The name of the protocol in a handshake that comes first (XEP-0368).
const ALPN: &[u8] = b"xmpp-server";
/// A fatal alert, `unrecognized_name` (RFC 6066 §3): the handshake asks for a domain that is not here.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 112];

/// Our certificates and whose we believe.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    trust: Arc<Trust>,
    locals: RwLock<BTreeMap<Domain, Arc<Local>>>,
    /// What connects for those who have no certificate: to look, for nobody is proved by it.
    visitor: Option<[Arc<ClientConfig>; 2]>,
}

/// The TLS of one domain of ours, for streams that agree on TLS first and for those that begin with it.
struct Local {
    client: Arc<ClientConfig>,
    direct_client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    direct_server: Arc<ServerConfig>,
}

impl Tls {
    pub(crate) fn new(locals: &[LocalDomain], roots: &TlsRoots) -> Result<Self, StartError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trust = Arc::new(Trust::new(roots, provider.clone())?);
        let tls = Self {
            provider,
            trust,
            locals: RwLock::default(),
            visitor: None,
        };
        for local in locals {
            tls.replace(local)?;
        }
        Ok(tls)
    }

    /// The same, which also connects for domains that have no certificate here.
    pub(crate) fn with_visitors(mut self) -> Result<Self, StartError> {
        let any = Arc::new(AnyChain {
            provider: self.provider.clone(),
        });
        let mut client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| StartError::Roots(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(any)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        let mut direct = client.clone();
        direct.alpn_protocols = vec![ALPN.to_vec()];
        self.visitor = Some([Arc::new(client), Arc::new(direct)]);
        Ok(self)
    }

    /// Whether a chain would be believed now as that of a server of a domain.
    pub(crate) fn judge(&self, chain: &[Vec<u8>], domain: &Domain) -> Result<(), String> {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        self.trust.check(&chain, domain)
    }

    /// From the next handshake on a domain of ours shows that certificate. One that cannot be used changes nothing.
    pub(crate) fn replace(&self, local: &LocalDomain) -> Result<(), StartError> {
        let made = make_local(local, &self.provider).map_err(|reason| StartError::Certificate {
            domain: local.domain.clone(),
            reason,
        })?;
        let mut locals = self
            .locals
            .write()
            .expect("nothing panics while it holds the certificates");
        locals.insert(local.domain.clone(), Arc::new(made));
        Ok(())
    }

    fn local(&self, domain: &Domain) -> Result<Arc<Local>, String> {
        let locals = self
            .locals
            .read()
            .expect("nothing panics while it holds the certificates");
        let local = locals.get(domain).cloned();
        local.ok_or_else(|| "there is no certificate of ours".to_owned())
    }

    /// The handshake on a connection that we made, as `local`, to the server of `peer`. Whose certificate it is that
    /// the server shows is for the stream to judge.
    pub(crate) async fn connect(
        &self,
        local: &Domain,
        peer: &Domain,
        socket: TcpStream,
        direct: bool,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(peer.to_ascii()).map_err(|_| "the domain is no name for TLS".to_owned())?;
        let config = match (self.local(local), &self.visitor) {
            (Ok(local), _) if direct => local.direct_client.clone(),
            (Ok(local), _) => local.client.clone(),
            (Err(_), Some(visitor)) => visitor[usize::from(direct)].clone(),
            (Err(reason), None) => return Err(reason),
        };
        let stream = TlsConnector::from(config).connect(name, socket).await;
        let stream = stream.map_err(|error| format!("TLS with {peer} failed: {error}"))?;
        if direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(format!("TLS with {peer} failed: it does not speak XMPP there"));
        }
        Ok(stream.into())
    }

    /// The handshake on a connection that a peer made. The certificate is that of the domain that the handshake asks
    /// for, which must be ours; if it asks for none, that of `local`, and without that of the first.
    pub(crate) async fn accept(
        &self,
        local: Option<&Domain>,
        socket: TcpStream,
        direct: bool,
    ) -> Result<TlsStream<TcpStream>, String> {
        let failed = |error: std::io::Error| format!("TLS failed: {error}");
        let mut hello = LazyConfigAcceptor::new(Acceptor::default(), socket)
            .await
            .map_err(failed)?;
        let asked = hello.client_hello();
        let speaks_xmpp = asked.alpn().is_some_and(|mut names| names.any(|name| name == ALPN));
        let asked = asked.server_name().map(str::to_owned);
        if direct && !speaks_xmpp {
            return Err("TLS failed: the protocol that is asked for is not XMPP".to_owned());
        }
        let found = match &asked {
            Some(name) => name.parse().ok().and_then(|name| self.local(&name).ok()),
            None => self.local_or_first(local),
        };
        let Some(found) = found else {
            // The peer may be gone before it hears the reason.
            let _ = hello.io.write_all(&UNRECOGNIZED_NAME).await;
            return Err("TLS failed: it was asked for a domain that is not here".to_owned());
        };
        let config = if direct { &found.direct_server } else { &found.server };
        let stream = hello.into_stream(config.clone()).await;
        stream.map(TlsStream::from).map_err(failed)
    }

    fn local_or_first(&self, local: Option<&Domain>) -> Option<Arc<Local>> {
        let locals = self
            .locals
            .read()
            .expect("nothing panics while it holds the certificates");
        match local {
            Some(local) => locals.get(local).cloned(),
            None => locals.values().next().cloned(),
        }
    }

    /// From now on the server of `host` must prove that it is the server of `base` too. Whether that is new.
    pub(crate) fn guess(&self, host: &Domain, base: &Domain) -> bool {
        let old = self.trust.guesses_mut().insert(host.clone(), base.clone());
        old.as_ref() != Some(base)
    }

    /// The server of a domain must prove only that again.
    pub(crate) fn no_guess(&self, host: &Domain) {
        self.trust.guesses_mut().remove(host);
    }

    /// Whether the server of a domain must prove that it is another's too.
    pub(crate) fn is_guess(&self, host: &Domain) -> bool {
        self.trust.guessed_for(host).is_some()
    }

    /// The certificate that the peer showed in the handshake.
    pub(crate) fn certificate_of(&self, stream: &TlsStream<TcpStream>) -> Option<Box<dyn PeerCertificate>> {
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(Box::new(self.chain(chain)))
    }

    fn chain(&self, chain: &[CertificateDer<'_>]) -> Chain {
        Chain {
            chain: chain
                .iter()
                .take(MAX_CHAIN)
                .map(|one| one.clone().into_owned())
                .collect(),
            trust: self.trust.clone(),
        }
    }
}

/// By what a peer's key is known: the hash of its certificate.
pub(crate) fn fingerprint_of(stream: &TlsStream<TcpStream>) -> Option<Fingerprint> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    Some(Fingerprint(Sha256::digest(leaf).into()))
}

/// What a handshake showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The version of TLS, as people write it.
    pub(crate) version: &'static str,
    /// The peer's chain as it sent it, DER.
    pub(crate) chain: Vec<Vec<u8>>,
}

impl Shown {
    pub(crate) fn of(stream: &TlsStream<TcpStream>) -> Self {
        let session = stream.get_ref().1;
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS",
        };
        let chain = session.peer_certificates().unwrap_or_default();
        let chain = chain.iter().take(MAX_CHAIN).map(|one| one.to_vec()).collect();
        Self { version, chain }
    }
}

/// Whose certificates are believed, and for which domain.
struct Trust {
    roots: RootCertStore,
    pins: BTreeMap<Domain, Pinned>,
    /// Hosts that are only guessed to serve a domain, with that domain: their certificate must be good for both (T-09).
    guesses: RwLock<BTreeMap<Domain, Domain>>,
    provider: Arc<CryptoProvider>,
}

/// What is believed for one domain, in place of the roots.
struct Pinned {
    roots: RootCertStore,
    leaves: Vec<Fingerprint>,
}

impl Trust {
    fn new(wanted: &TlsRoots, provider: Arc<CryptoProvider>) -> Result<Self, StartError> {
        let mut pins = BTreeMap::new();
        for (domain, pin) in &wanted.pins {
            let mut pinned = Pinned {
                roots: RootCertStore::empty(),
                leaves: pin.fingerprints.clone(),
            };
            for certificate in CertificateDer::pem_slice_iter(&pin.certificates_pem) {
                let certificate = certificate.map_err(|error| StartError::Roots(format!("{domain}: {error}")))?;
                pinned.leaves.push(Fingerprint(Sha256::digest(&certificate).into()));
                // One that is no authority counts as itself only.
                let _ = pinned.roots.add(certificate);
            }
            if pinned.leaves.is_empty() {
                return Err(StartError::Roots(format!("{domain} is pinned to nothing")));
            }
            pins.insert(domain.clone(), pinned);
        }
        Ok(Self {
            roots: load_roots(wanted)?,
            pins,
            guesses: RwLock::default(),
            provider,
        })
    }

    fn guesses_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<Domain, Domain>> {
        self.guesses.write().expect("nothing panics while it holds the guesses")
    }

    fn guessed_for(&self, host: &Domain) -> Option<Domain> {
        let guesses = self.guesses.read().expect("nothing panics while it holds the guesses");
        guesses.get(host).cloned()
    }

    /// Whether a chain is good now, as that of a server of `domain`; and of the domain for which that is a guess, if it is one.
    fn check(&self, chain: &[CertificateDer<'_>], domain: &Domain) -> Result<(), String> {
        self.check_for(chain, domain)?;
        let Some(base) = self.guessed_for(domain) else {
            return Ok(());
        };
        let checked = self.check_for(chain, &base);
        checked.map_err(|reason| format!("{domain} is only guessed to serve {base}, and for {base}: {reason}"))
    }

    fn check_for(&self, chain: &[CertificateDer<'_>], domain: &Domain) -> Result<(), String> {
        let (leaf, intermediates) = chain
            .split_first()
            .ok_or_else(|| "there is no certificate".to_owned())?;
        if chain.iter().any(|one| one.len() > MAX_CERTIFICATE) {
            return Err("a certificate is too long".to_owned());
        }
        // No authority may issue such (RFC 5280 §4.1.2.2); what is read of it in two ways can be revoked in one only.
        let below_zero = |one: &CertificateDer<'_>| {
            let serial =
                EndEntityCert::try_from(one).map(|read| read.serial().first().is_some_and(|top| top & 0x80 != 0));
            serial.unwrap_or(false)
        };
        if chain.iter().any(below_zero) {
            return Err("a certificate has a serial number below zero".to_owned());
        }
        let roots = match self.pins.get(domain) {
            Some(pinned) if pinned.leaves.contains(&Fingerprint(Sha256::digest(leaf).into())) => return Ok(()),
            Some(pinned) if !planted::is("a pin is forgotten") => &pinned.roots,
            _ => &self.roots,
        };
        let text = |error: webpki::Error| in_words(&error);
        let leaf = EndEntityCert::try_from(leaf).map_err(text)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let usage = KeyUsage::server_auth();
        let now = UnixTime::now();
        let issued = leaf.verify_for_usage(algorithms, &roots.roots, intermediates, now, usage, None, None);
        if !planted::is("anybody may issue a certificate") {
            issued.map_err(text)?;
        }
        let name = ServerName::try_from(domain.to_ascii()).map_err(|error| error.to_string())?;
        let named = leaf.verify_is_valid_for_subject_name(&name).map_err(text);
        named.or_else(|reason| {
            planted::is("a certificate's name is not compared")
                .then_some(())
                .ok_or(reason)
        })
    }
}

/// What is wrong with a chain, first as the library names it, then in words.
fn in_words(error: &webpki::Error) -> String {
    let words = match error {
        webpki::Error::CertNotValidForName(_) => return "it is not valid for the name of the domain".to_owned(),
        webpki::Error::UnknownIssuer => "no authority that we trust has issued it",
        webpki::Error::CertExpired { .. } => return "it has expired".to_owned(),
        webpki::Error::CertNotValidYet { .. } => return "it is not valid yet".to_owned(),
        webpki::Error::CaUsedAsEndEntity => "it is that of an authority, not of a server",
        webpki::Error::RequiredEkuNotFoundContext(_) => return "it is not for servers".to_owned(),
        other => return other.to_string(),
    };
    format!("{error}: {words}")
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

fn make_local(local: &LocalDomain, provider: &Arc<CryptoProvider>) -> Result<Local, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&local.chain_pem).collect();
    let chain = chain.map_err(|error| format!("the certificate file: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate file holds no certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(&local.key_pem).map_err(|error| format!("the key file: {error}"))?;
    let text = |error: rustls::Error| error.to_string();
    let any = Arc::new(AnyChain {
        provider: provider.clone(),
    });
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .dangerous()
        .with_custom_certificate_verifier(any.clone())
        .with_client_auth_cert(chain.clone(), key.clone_key())
        .map_err(text)?;
    client.resumption = Resumption::disabled();
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_client_cert_verifier(any)
        .with_single_cert(chain, key)
        .map_err(text)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let (mut direct_client, mut direct_server) = (client.clone(), server.clone());
    direct_client.alpn_protocols = vec![ALPN.to_vec()];
    direct_server.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Local {
        client: Arc::new(client),
        direct_client: Arc::new(direct_client),
        server: Arc::new(server),
        direct_server: Arc::new(direct_server),
    })
}

/// A peer's chain, judged when asked.
struct Chain {
    chain: Vec<CertificateDer<'static>>,
    trust: Arc<Trust>,
}

impl PeerCertificate for Chain {
    fn check(&self, domain: &Domain) -> Result<(), String> {
        self.trust.check(&self.chain, domain)
    }
}

/// Lets any chain pass whose key signed the handshake, on either side; [`Chain`] is the judge.
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
        self.tls12(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls13(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for AnyChain {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls12(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls13(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl AnyChain {
    fn tls12(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signature, algorithms)
    }
}

#[cfg(test)]
mod certificates;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod tests;
