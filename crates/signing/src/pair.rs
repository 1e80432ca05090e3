//! A key with its certificates, looked at as other servers will look at them.
//!
//! A pair has one of two roles or both. The *TLS host* shows it in handshakes; TLS libraries judge it, RSA and EC are
//! both good. The *signer* signs users' deltas with it; other Wave servers judge it, and the protocol knows RSA only.

use std::fmt;

use billow_model::{Domain, Timestamp};
use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::stack::Stack;
use openssl::x509::{X509, X509NameRef, X509StoreContext, X509VerifyResult};

use crate::chain::{self, ChainError, MIN_BITS, Validity};
use crate::der;
use crate::key::{self, KeyError, PrivateKey};
use crate::roots::TrustRoots;

/// What a pair is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Shown in TLS handshakes.
    Tls,
    /// Signs deltas.
    Signer,
}

/// A private key and the certificates that lead from it to an authority.
#[derive(Debug, Clone)]
pub struct Pair {
    key: PrivateKey,
    chain: Vec<X509>,
    strays: Vec<X509>,
}

/// Why a key and certificates are no pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificates.
    #[error("expected PEM certificates ({reason})")]
    Certificates {
        /// What was found.
        reason: String,
    },
    /// They are of different pairs.
    #[error(
        "the key does not go with the certificate: none of the certificates ({subjects}) belongs to this key ({key})"
    )]
    Mismatch {
        /// Whose certificates they are.
        subjects: String,
        /// What the key is.
        key: String,
    },
}

/// Something about a pair that its owner should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether others will refuse the pair for it.
    pub grave: bool,
    /// What is wrong, and what to do.
    pub text: String,
}

/// What a certificate says, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Whose it is.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// The DNS names in it.
    pub names: Vec<String>,
    /// Its first and last moment, in words.
    pub dates: (String, String),
    /// Its last moment.
    pub until: Timestamp,
    /// The kind of its key.
    pub key: String,
    /// Critical extensions that only Wave servers may let pass, or nobody.
    pub critical: Vec<String>,
}

impl Pair {
    /// Reads a key and certificates, which may come in any order and with others that do not belong to them.
    pub fn from_pem(key_pem: &[u8], passphrase: Option<&[u8]>, certificates_pem: &[u8]) -> Result<Self, PairError> {
        let key = PrivateKey::from_pem(key_pem, passphrase)?;
        let certificates = certificates(certificates_pem)?;
        match arrange(&key, certificates) {
            Ok((chain, strays)) => Ok(Self { key, chain, strays }),
            Err(certificates) => Err(PairError::Mismatch {
                subjects: listed(certificates.iter().map(|one| name(one.subject_name()))),
                key: key.to_string(),
            }),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The certificate of the key, then each one's issuer.
    pub fn chain_pem(&self) -> Result<Vec<u8>, ChainError> {
        let mut pem = Vec::new();
        for certificate in &self.chain {
            pem.extend(certificate.to_pem()?);
        }
        Ok(pem)
    }

    /// When all certificates of the chain are valid.
    pub fn validity(&self) -> Result<Validity, ChainError> {
        chain::validity(&self.chain)
    }

    /// When the key's own certificate is valid.
    pub fn leaf_validity(&self) -> Result<Validity, ChainError> {
        chain::validity(&self.chain[..1])
    }

    /// The chain for people, the key's own certificate first.
    pub fn shown(&self) -> Result<Vec<Shown>, ChainError> {
        self.chain.iter().map(shown).collect()
    }

    /// What others will say to it, as that of `domain`, at `at`. `roots` are the authorities that they are thought to
    /// trust. Grave findings first.
    pub fn findings(
        &self,
        domain: &Domain,
        role: Role,
        roots: &TrustRoots,
        at: Timestamp,
    ) -> Result<Vec<Finding>, ChainError> {
        let mut found = Vec::new();
        self.look_at_key(role, &mut found);
        self.look_at_names(domain, role, &mut found);
        self.look_at_dates(at, &mut found)?;
        self.look_at_extensions(role, &mut found)?;
        self.look_at_trust(domain, role, roots, at, &mut found)?;
        for stray in &self.strays {
            found.push(warning(format!(
                "the certificate of {} issued none of the others; it is left out",
                name(stray.subject_name())
            )));
        }
        found.sort_by_key(|finding| !finding.grave);
        Ok(found)
    }

    /// Those findings that are about dates.
    pub fn date_findings(&self, at: Timestamp) -> Result<Vec<Finding>, ChainError> {
        let mut found = Vec::new();
        self.look_at_dates(at, &mut found)?;
        Ok(found)
    }

    fn look_at_key(&self, role: Role, found: &mut Vec<Finding>) {
        let key = self.key.as_openssl();
        if role == Role::Signer && key.id() != Id::RSA {
            found.push(grave(format!(
                "the key is {}: deltas are signed with RSA only; keep it for TLS and make an RSA pair for signing",
                self.key
            )));
        } else if key.id() == Id::RSA && key.bits() < MIN_BITS {
            found.push(grave(format!("the key is {}: expected at least {MIN_BITS}", self.key)));
        }
    }

    fn look_at_names(&self, domain: &Domain, role: Role, found: &mut Vec<Finding>) {
        let names = dns_names(&self.chain[0]);
        let has = |wanted: &str| {
            let wild = wanted.split_once('.').map(|(_, parent)| format!("*.{parent}"));
            let wild = wild.filter(|_| role == Role::Tls);
            names.iter().any(|name| name == wanted || Some(name) == wild.as_ref())
        };
        if !has(domain.as_str()) {
            found.push(grave(format!(
                "the certificate is not for {domain}: it names {}; have one issued with the subjectAltName DNS:{domain}",
                if names.is_empty() { "no domain".to_owned() } else { names.join(", ") }
            )));
        } else if role == Role::Tls && !has(&format!("wave.{domain}")) {
            found.push(warning(format!(
                "the certificate does not name wave.{domain}: servers that look for the wave service at that name will not \
                 believe it"
            )));
        }
    }

    fn look_at_dates(&self, at: Timestamp, found: &mut Vec<Finding>) -> Result<(), ChainError> {
        for certificate in &self.chain {
            let shown = shown(certificate)?;
            let whose = &shown.subject;
            let days = days_left(shown.until, at);
            if chain::validity([certificate])?.from > at {
                found.push(grave(format!(
                    "the certificate of {whose} is not valid before {}: is the clock right?",
                    shown.dates.0
                )));
            } else if shown.until < at {
                found.push(grave(format!(
                    "the certificate of {whose} expired on {}",
                    shown.dates.1
                )));
            } else if days < WARN_DAYS[0] {
                found.push(warning(format!(
                    "the certificate of {whose} expires in {days} days, on {}",
                    shown.dates.1
                )));
            }
        }
        Ok(())
    }

    fn look_at_extensions(&self, role: Role, found: &mut Vec<Finding>) -> Result<(), ChainError> {
        for certificate in &self.chain {
            let bytes = certificate.to_der()?;
            for extension in der::extensions(&bytes) {
                let oid = der::dotted(extension.oid);
                if extension.is_unknown_and_critical() && (role == Role::Tls || extension.oid != der::WAVE) {
                    let advice = if extension.oid == der::WAVE {
                        "only Wave servers understand it, and only for signers: use the pair as the signer's, and another for TLS"
                    } else {
                        "nobody understands it"
                    };
                    found.push(grave(format!(
                        "the certificate of {} bears the critical extension {oid}: {advice}",
                        name(certificate.subject_name())
                    )));
                }
                let own = std::ptr::eq(certificate, &self.chain[0]);
                if own && role == Role::Tls && extension.oid == der::USAGE && !extension.is_for_servers() {
                    found.push(grave(
                        "the certificate is not for servers: its extended key usage lacks serverAuth".into(),
                    ));
                }
            }
        }
        Ok(())
    }

    fn look_at_trust(
        &self,
        domain: &Domain,
        role: Role,
        roots: &TrustRoots,
        at: Timestamp,
        found: &mut Vec<Finding>,
    ) -> Result<(), ChainError> {
        let store = roots.store(Some(domain), at.0.div_euclid(1000), role == Role::Signer)?;
        let mut others = Stack::new()?;
        for certificate in &self.chain[1..] {
            others.push(certificate.clone())?;
        }
        let mut context = X509StoreContext::new()?;
        let mut result = X509VerifyResult::OK;
        context.init(&store, &self.chain[0], &others, |context| {
            if !context.verify_cert()? {
                result = context.error();
            }
            Ok(())
        })?;
        let last = self.chain.last().expect("a pair has a certificate");
        match result.as_raw() {
            // Told already: dates, extensions.
            0 | 9 | 10 | 34 => {}
            18 => found.push(warning(format!(
                "the certificate is self-signed: other servers believe it only where their operators have said so for {domain}"
            ))),
            19 => found.push(warning(format!(
                "the chain ends at {}, which is not trusted here: other servers need it among their trust_roots",
                name(last.subject_name())
            ))),
            2 | 20 | 21 => found.push(grave(format!(
                "an intermediate certificate is missing: that of {}, which issued the certificate of {}, is neither in the \
                 file nor trusted here; add it (or, if it is your own authority, name it in trust_roots)",
                name(last.issuer_name()),
                name(last.subject_name())
            ))),
            _ => found.push(grave(format!("the chain is refused: {}", result.error_string()))),
        }
        Ok(())
    }
}

/// So many days before its end a certificate is warned of; the last is the most urgent.
pub const WARN_DAYS: [i64; 4] = [30, 14, 7, 1];

/// Whole days from `at` until `until`; negative after it.
#[must_use]
pub fn days_left(until: Timestamp, at: Timestamp) -> i64 {
    until.0.saturating_sub(at.0).div_euclid(86_400_000)
}

/// What each certificate of a PEM text says.
pub fn show(pem: &[u8]) -> Result<Vec<Shown>, PairError> {
    let refused = |error: ChainError| PairError::Certificates {
        reason: error.to_string(),
    };
    certificates(pem)?
        .iter()
        .map(|certificate| shown(certificate).map_err(refused))
        .collect()
}

/// The certificates of a PEM text, each once.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<X509>, PairError> {
    let refused = |reason: String| PairError::Certificates { reason };
    let mut once: Vec<X509> = Vec::new();
    for certificate in X509::stack_from_pem(pem).map_err(|error| refused(error.to_string()))? {
        if !once.contains(&certificate) {
            once.push(certificate);
        }
    }
    if once.is_empty() {
        return Err(refused("it holds none".into()));
    }
    Ok(once)
}

/// The certificate of the key, then each one's issuer; and those that issued none of them. Or, where none is the key's, all of them.
pub(crate) fn arrange(key: &PrivateKey, mut rest: Vec<X509>) -> Result<(Vec<X509>, Vec<X509>), Vec<X509>> {
    let of_key = |certificate: &X509| {
        certificate
            .public_key()
            .is_ok_and(|public| public.public_eq(key.as_openssl()))
    };
    let Some(own) = rest.iter().position(of_key) else {
        return Err(rest);
    };
    let mut chain = vec![rest.swap_remove(own)];
    while let Some(last) = chain.last()
        && let Some(issuer) = rest
            .iter()
            .position(|certificate| certificate.issued(last) == X509VerifyResult::OK)
    {
        let issuer = rest.swap_remove(issuer);
        chain.push(issuer);
    }
    Ok((chain, rest))
}

fn shown(certificate: &X509) -> Result<Shown, ChainError> {
    let bytes = certificate.to_der()?;
    let unknown = der::extensions(&bytes).into_iter();
    let unknown = unknown.filter(der::Extension::is_unknown_and_critical);
    Ok(Shown {
        subject: name(certificate.subject_name()),
        issuer: name(certificate.issuer_name()),
        names: dns_names(certificate),
        dates: (
            certificate.not_before().to_string(),
            certificate.not_after().to_string(),
        ),
        until: chain::validity([certificate])?.until,
        key: certificate
            .public_key()
            .map_or_else(|_| "unreadable".to_owned(), |key| key::in_words(&key)),
        critical: unknown.map(|extension| der::dotted(extension.oid)).collect(),
    })
}

/// The DNS names as they stand, wildcards too.
fn dns_names(certificate: &X509) -> Vec<String> {
    let names = certificate.subject_alt_names();
    let names = names.iter().flatten();
    names.filter_map(|name| name.dnsname().map(str::to_owned)).collect()
}

/// `CN=example.org, O=Example`.
fn name(name: &X509NameRef) -> String {
    let parts = name.entries().map(|entry| {
        let kind = entry.object().nid();
        let kind = if kind == Nid::UNDEF {
            "?"
        } else {
            kind.short_name().unwrap_or("?")
        };
        let text = entry.data().to_string().unwrap_or_else(|_| "?".into());
        format!("{kind}={text}")
    });
    let text = listed(parts);
    if text.is_empty() { "(nobody)".to_owned() } else { text }
}

fn listed(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn grave(text: String) -> Finding {
    Finding { grave: true, text }
}

fn warning(text: String) -> Finding {
    Finding { grave: false, text }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "tls",
            Self::Signer => "signer",
        })
    }
}
