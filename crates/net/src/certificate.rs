//! A certificate of ours looked at as a peer will, before anything listens.

use billow_xmpp::Domain;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use webpki::EndEntityCert;

use crate::LocalDomain;

impl LocalDomain {
    /// Whether the files hold a certificate for the domain, and its key: what every peer asks for, whomever it trusts.
    /// The error says what was found instead.
    pub fn check(&self) -> Result<(), String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.chain_pem).collect();
        let chain = chain.map_err(|error| format!("expected PEM certificates, {error}"))?;
        let leaf = chain.first().cloned().ok_or("expected a PEM certificate, found none")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key_pem)
            .map_err(|error| format!("expected an unencrypted PEM key, {error}"))?;
        CertifiedKey::from_der(chain, key, &default_provider())
            .map_err(|error| format!("the key does not go with the certificate: {error}"))?;
        names(&leaf, &self.domain)
    }
}

fn names(leaf: &CertificateDer<'_>, domain: &Domain) -> Result<(), String> {
    let name = ServerName::try_from(domain.to_ascii()).map_err(|_| format!("{domain} is no name for TLS"))?;
    EndEntityCert::try_from(leaf)
        .and_then(|leaf| leaf.verify_is_valid_for_subject_name(&name))
        .map_err(|error| format!("the first certificate is not for {domain}: {error}"))
}
