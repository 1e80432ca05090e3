//! Whom we believe when a chain says whose it is: certificate authorities, and pins of single domains.

use std::collections::BTreeMap;

use billow_model::Domain;
use openssl::x509::X509;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};

use crate::chain::ChainError;

/// RSA of 2048 bits and more, and no certificate signed with SHA-1 or MD5 below a root (OpenSSL's own scale).
const SECURITY_LEVEL: i32 = 2;

/// The certificate authorities whose chains count, and the domains whose chain must come from one of their own.
#[derive(Clone, Default)]
pub struct TrustRoots {
    system: bool,
    authorities: Vec<X509>,
    pins: BTreeMap<Domain, Vec<X509>>,
}

/// Why a PEM text holds no certificates to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected PEM certificates to trust{}, {reason}", .domain.as_ref().map(|d| format!(" for {d}")).unwrap_or_default())]
pub struct RootsError {
    /// The pinned domain, if it was a pin.
    pub domain: Option<Domain>,
    /// What was found instead.
    pub reason: String,
}

impl TrustRoots {
    /// Nobody, to begin a list with.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The authorities that the operating system trusts, where OpenSSL looks for them.
    #[must_use]
    pub fn system() -> Self {
        Self {
            system: true,
            ..Self::default()
        }
    }

    /// Trusts these authorities as well.
    pub fn with_pem(mut self, pem: &[u8]) -> Result<Self, RootsError> {
        self.authorities.extend(certificates(None, pem)?);
        Ok(self)
    }

    /// From now on a chain speaks for `domain` only if it ends at, or is, one of these certificates: no other authority counts for it.
    /// A self-signed signer becomes acceptable by pinning its domain to it.
    pub fn pin(mut self, domain: Domain, pem: &[u8]) -> Result<Self, RootsError> {
        let certificates = certificates(Some(&domain), pem)?;
        self.pins.entry(domain).or_default().extend(certificates);
        Ok(self)
    }

    pub(crate) fn pinned(&self) -> impl Iterator<Item = &Domain> {
        self.pins.keys()
    }

    /// The store that decides about `domain` at `unix` seconds; with `any_extension` it passes over critical extensions
    /// that it does not know, which somebody else must have looked at.
    pub(crate) fn store(
        &self,
        domain: Option<&Domain>,
        unix: i64,
        any_extension: bool,
    ) -> Result<X509Store, ChainError> {
        let mut store = X509StoreBuilder::new()?;
        let mut param = X509VerifyParam::new()?;
        param.set_time(unix);
        param.set_auth_level(SECURITY_LEVEL);
        if any_extension {
            param.set_flags(X509VerifyFlags::IGNORE_CRITICAL)?;
        }
        let pins = domain.and_then(|domain| self.pins.get(domain));
        if pins.is_some() {
            param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        } else if self.system {
            store.set_default_paths()?;
        }
        for certificate in pins.unwrap_or(&self.authorities) {
            store.add_cert(certificate.clone())?;
        }
        store.set_param(&param)?;
        Ok(store.build())
    }
}

fn certificates(domain: Option<&Domain>, pem: &[u8]) -> Result<Vec<X509>, RootsError> {
    let refused = |reason: String| RootsError {
        domain: domain.cloned(),
        reason,
    };
    match X509::stack_from_pem(pem) {
        Ok(list) if list.is_empty() => Err(refused("found none".into())),
        Ok(list) => Ok(list),
        Err(error) => Err(refused(format!("got something else ({error})"))),
    }
}
