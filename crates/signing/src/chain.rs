//! Certificate chains: their form, their names, and whether a trusted authority stands behind them (protocol.md §4.4, §4.5).

use std::collections::BTreeSet;

use billow_model::{Domain, Timestamp, planted};
use billow_wire::SignerInfo;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::stack::Stack;
use openssl::x509::{X509, X509Ref, X509StoreContext, X509VerifyResult};

use crate::der;
use crate::roots::TrustRoots;

/// Longer chains are refused before anything is computed.
pub(crate) const MAX_CERTIFICATES: usize = 8;
/// Bigger chains are refused before anything is parsed.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
/// Weaker RSA keys are refused.
pub(crate) const MIN_BITS: u32 = 2048;
/// Bigger RSA keys cost the verifier too much.
pub(crate) const MAX_BITS: u32 = 8192;
/// Bigger exponents cost the verifier too much; everybody uses 65537.
const MAX_EXPONENT_BITS: i32 = 64;

/// From when to when every certificate of a chain is valid, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The latest notBefore.
    pub from: Timestamp,
    /// The earliest notAfter.
    pub until: Timestamp,
}

impl Validity {
    /// Whether all certificates are valid at `at`.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at <= self.until
    }
}

/// Why a certificate chain does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Outside one to eight certificates in 64 KiB.
    #[error("expected 1 to {MAX_CERTIFICATES} certificates in {MAX_BYTES} bytes, got {certificates} in {bytes}")]
    Size {
        /// How many there are.
        certificates: usize,
        /// How long they are together.
        bytes: usize,
    },
    /// Not DER, or with bytes after its end.
    #[error("certificate {index} of the chain is not one DER certificate")]
    Malformed {
        /// Which one, the signer's own being 0.
        index: usize,
    },
    /// A certificate is not issued by the one after it.
    #[error("certificate {index} of the chain is not issued by certificate {}: {reason}", .index + 1)]
    Order {
        /// Which one, the signer's own being 0.
        index: usize,
        /// OpenSSL's word for it.
        reason: &'static str,
    },
    /// The same certificate twice.
    #[error("certificate {index} occurs twice in the chain")]
    Duplicate {
        /// The second occurrence.
        index: usize,
    },
    /// Not an RSA key that this protocol can use.
    #[error("expected an RSA key of {MIN_BITS} to {MAX_BITS} bits in the signer's certificate, got {got}")]
    Key {
        /// What it is.
        got: String,
    },
    /// No name in it is a domain.
    #[error("the signer's certificate names no domain: it needs a subjectAltName of type DNS with the wave domain")]
    NoDomain,
    /// It says that it signs for a domain for which its certificates do not speak.
    #[error("the chain is given as that of {given}, but speaks for {domains}")]
    OtherDomain {
        /// What it says.
        given: Domain,
        /// The domains for which it speaks.
        domains: String,
    },
    /// No trusted authority at its end, or expired, or otherwise broken.
    #[error("the chain of {domains} is not trusted: {reason}")]
    Untrusted {
        /// The domains that the certificate names.
        domains: String,
        /// OpenSSL's word for it.
        reason: String,
    },
    /// The domain has posted enough of them.
    #[error("{domain} has posted as many chains as are kept of one domain")]
    TooMany {
        /// Whose.
        domain: Domain,
    },
    /// OpenSSL failed in itself.
    #[error("openssl: {0}")]
    OpenSsl(String),
}

impl From<ErrorStack> for ChainError {
    fn from(error: ErrorStack) -> Self {
        Self::OpenSsl(error.to_string())
    }
}

/// A chain that was checked.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    /// The key whose signatures count.
    pub(crate) key: PKey<Public>,
    /// The domains for which they count.
    pub(crate) domains: BTreeSet<Domain>,
    /// When they count.
    pub(crate) validity: Validity,
}

impl Chain {
    /// Checks form, order, key, and, for each domain that the certificate names, that an authority which may speak for it stands behind it at `at`.
    pub(crate) fn check(info: &SignerInfo, roots: &TrustRoots, at: Timestamp) -> Result<Self, ChainError> {
        let certificates = parse(info)?;
        let target = &certificates[0];
        let key = public_key(target)?;
        let mut names = dns_names(target);
        if !has_dns_names(target) {
            // An old self-made certificate with a common name only: it counts where the operator has pinned that very domain.
            names.extend(common_name(target).filter(|name| roots.pinned().any(|pinned| pinned == name)));
        }
        if names.is_empty() {
            return Err(ChainError::NoDomain);
        }
        let mut domains = BTreeSet::new();
        let mut validity: Option<Validity> = None;
        let mut refusal = String::new();
        let (pinned, general): (Vec<Domain>, Vec<Domain>) = names
            .iter()
            .cloned()
            .partition(|name| roots.pinned().any(|pinned| pinned == name));
        let groups = pinned
            .into_iter()
            .map(|domain| vec![domain])
            .chain((!general.is_empty()).then_some(general));
        for group in groups {
            match trusted(&certificates, roots, &group[0], at)? {
                Ok(found) => {
                    let held = validity.get_or_insert(found);
                    *held = Validity {
                        from: held.from.max(found.from),
                        until: held.until.min(found.until),
                    };
                    domains.extend(group);
                }
                Err(reason) => refusal = reason,
            }
        }
        let Some(validity) = validity else {
            return Err(ChainError::Untrusted {
                domains: listed(&names),
                reason: refusal,
            });
        };
        // The id does not cover the domain, so without this anybody could rename a chain for all who ask us for it.
        if !domains.contains(&info.domain) && !planted::is("a chain is whose it is said to be") {
            return Err(ChainError::OtherDomain {
                given: info.domain.clone(),
                domains: listed(&domains),
            });
        }
        Ok(Self { key, domains, validity })
    }
}

/// Some of them, for people.
fn listed(domains: &BTreeSet<Domain>) -> String {
    domains
        .iter()
        .map(Domain::as_str)
        .take(5)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The certificates of a chain in the right form and order.
fn parse(info: &SignerInfo) -> Result<Vec<X509>, ChainError> {
    let bytes = info.certificates.iter().map(|der| der.len()).sum();
    let count = info.certificates.len();
    if count == 0 || count > MAX_CERTIFICATES || bytes > MAX_BYTES {
        return Err(ChainError::Size {
            certificates: count,
            bytes,
        });
    }
    let mut certificates = Vec::with_capacity(count);
    for (index, der) in info.certificates.iter().enumerate() {
        if info.certificates[..index].contains(der) {
            return Err(ChainError::Duplicate { index });
        }
        let certificate = X509::from_der(der).map_err(|_| ChainError::Malformed { index })?;
        if certificate.to_der()?.len() != der.len() {
            return Err(ChainError::Malformed { index });
        }
        certificates.push(certificate);
    }
    for (index, pair) in certificates.windows(2).enumerate() {
        let result = pair[1].issued(&pair[0]);
        if result != X509VerifyResult::OK {
            return Err(ChainError::Order {
                index,
                reason: result.error_string(),
            });
        }
    }
    Ok(certificates)
}

/// The signer's RSA key, if it is neither too weak nor too expensive.
pub(crate) fn public_key(certificate: &X509Ref) -> Result<PKey<Public>, ChainError> {
    let refused = |got: String| ChainError::Key { got };
    let key = certificate
        .public_key()
        .map_err(|_| refused("a key that cannot be read".into()))?;
    if key.id() != Id::RSA {
        return Err(refused("a key that is not RSA".into()));
    }
    if !(MIN_BITS..=MAX_BITS).contains(&key.bits()) {
        return Err(refused(format!("{} bits", key.bits())));
    }
    let exponent = key.rsa()?.e().num_bits();
    if exponent > MAX_EXPONENT_BITS {
        return Err(refused(format!("an exponent of {exponent} bits")));
    }
    Ok(key)
}

/// The domains that a certificate names exactly: dNSName entries, no wildcards, no other case, no common name (RFC 9525).
pub(crate) fn dns_names(certificate: &X509Ref) -> BTreeSet<Domain> {
    let names = certificate.subject_alt_names();
    names
        .iter()
        .flatten()
        .filter_map(|name| name.dnsname()?.parse().ok())
        .collect()
}

fn has_dns_names(certificate: &X509Ref) -> bool {
    certificate
        .subject_alt_names()
        .is_some_and(|names| names.iter().any(|name| name.dnsname().is_some()))
}

/// The common name, if there is exactly one and it is a domain.
fn common_name(certificate: &X509Ref) -> Option<Domain> {
    let mut names = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    let name = names.next()?.data().to_string().ok()?.parse().ok()?;
    names.next().is_none().then_some(name)
}

/// Runs OpenSSL's path validation and gives the validity of the path found, its root included; or the reason it found none.
fn trusted(
    certificates: &[X509],
    roots: &TrustRoots,
    domain: &Domain,
    at: Timestamp,
) -> Result<Result<Validity, String>, ChainError> {
    // COMPAT(reference): its verifier lets the critical extension of Wave pass, in any certificate of the chain
    // (CachedCertPathValidator.java). All others that OpenSSL does not know are looked for here, in its place.
    let (mut wave, mut others) = (false, false);
    for certificate in certificates {
        let bytes = certificate.to_der()?;
        for extension in der::extensions(&bytes) {
            wave |= extension.critical && extension.oid == der::WAVE;
            others |= extension.is_unknown_and_critical() && extension.oid != der::WAVE;
        }
    }
    let tolerated = wave && !others;
    let store = roots.store(Some(domain), at.0.div_euclid(1000), tolerated)?;
    let mut untrusted = Stack::new()?;
    for certificate in &certificates[1..] {
        untrusted.push(certificate.clone())?;
    }
    let mut context = X509StoreContext::new()?;
    let mut path = Vec::new();
    let mut reason = String::new();
    let good = context.init(&store, &certificates[0], &untrusted, |context| {
        let good = context.verify_cert()?;
        if good {
            path = context
                .chain()
                .map(|chain| chain.iter().map(ToOwned::to_owned).collect())
                .unwrap_or_default();
        } else {
            reason = context.error().error_string().to_owned();
        }
        Ok(good)
    })?;
    if good {
        validity(path.iter().chain(certificates)).map(Ok)
    } else {
        Ok(Err(reason))
    }
}

/// When all of these certificates are valid.
pub(crate) fn validity<'a>(certificates: impl IntoIterator<Item = &'a X509>) -> Result<Validity, ChainError> {
    let mut all = Validity {
        from: Timestamp(i64::MIN),
        until: Timestamp(i64::MAX),
    };
    for certificate in certificates {
        all.from = all.from.max(timestamp(certificate.not_before())?);
        all.until = all.until.min(timestamp(certificate.not_after())?);
    }
    Ok(all)
}

fn timestamp(time: &Asn1TimeRef) -> Result<Timestamp, ChainError> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(Timestamp(
        (i64::from(since.days) * 86_400 + i64::from(since.secs)) * 1000,
    ))
}
