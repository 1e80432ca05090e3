//! Other domains' signatures: a delta passes here before anything believes it (protocol.md §4.3, §4.4).

use std::collections::HashMap;

use billow_model::{Domain, Timestamp, planted};
use billow_wire::{Encoded, Signature, SignedDelta, SignerId, SignerInfo};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Public};

use crate::chain::{Chain, ChainError, Validity};
use crate::roots::TrustRoots;
use crate::sha1;

/// Signed by whom it says: the third rung of the ladder of trust. Only [`Verifier::verify`] makes one.
///
/// ```compile_fail,E0423
/// use billow_signing::Verified;
/// use billow_wire::{Encoded, SignedDelta};
///
/// fn believe(signed: Encoded<SignedDelta>) -> Verified<Encoded<SignedDelta>> {
///     Verified(signed) // private field: no signature has been looked at
/// }
/// ```
///
/// Nor does one verified delta lend its seal to another: there is no mutable way in.
///
/// ```compile_fail,E0596
/// use billow_signing::Verified;
/// use billow_wire::{Encoded, SignedDelta};
///
/// fn swap(mut verified: Verified<Encoded<SignedDelta>>, other: Encoded<SignedDelta>) {
///     let inside: &mut Encoded<SignedDelta> = &mut *verified; // no DerefMut
///     *inside = other;
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// What was verified.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What was verified, by value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Why a delta's signatures do not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Its chain has to be fetched first.
    #[error("unknown signer {0}")]
    UnknownSigner(SignerId),
    /// One signature by each domain of the address path and the author's, in that order.
    #[error("expected {expected} signatures, got {got}")]
    Count {
        /// How many domains there are.
        expected: usize,
        /// How many signatures.
        got: usize,
    },
    /// A chain of somebody else.
    #[error("signer {signer} does not speak for {domain}")]
    WrongDomain {
        /// Whose signature it should be.
        domain: Domain,
        /// Who signed.
        signer: SignerId,
    },
    /// A chain that was not, or is no longer, valid.
    #[error("the certificates of {domain} were not valid at the time of the delta")]
    NotValidAt {
        /// Whose they are.
        domain: Domain,
        /// The time asked for.
        at: Timestamp,
        /// When they are valid.
        validity: Validity,
    },
    /// A signature over other bytes, or by another key.
    #[error("the signature of {0} is wrong")]
    BadSignature(Domain),
}

/// The chains that were checked, and the signatures that they vouch for.
pub struct Verifier {
    roots: TrustRoots,
    signers: HashMap<SignerId, Known>,
    /// Chains that a domain has posted of itself.
    posted: HashMap<Domain, Vec<SignerId>>,
}

/// Chains that a domain may have posted and that are valid at one time; a renewal every month leaves room.
pub const POSTED_MAX: usize = 8;

struct Known {
    info: SignerInfo,
    chain: Chain,
}

impl Verifier {
    /// A verifier that knows no signer yet.
    #[must_use]
    pub fn new(roots: TrustRoots) -> Self {
        Self {
            roots,
            signers: HashMap::new(),
            posted: HashMap::new(),
        }
    }

    /// Checks a chain at `at` without remembering it: for who has to store it first. What was believed before it is stored
    /// could not be given to others when it is asked for.
    pub fn check(&self, info: &SignerInfo, at: Timestamp) -> Result<SignerId, ChainError> {
        Chain::check(info, &self.roots, at)?;
        Ok(info.id())
    }

    /// Checks a chain at `at` and remembers it under its true id.
    ///
    /// `at` is the clock for a chain that is to sign new deltas. For a chain that signed history (it may have expired since) it is
    /// the application time of a delta that it signed. What is remembered is the time in which the whole chain is valid,
    /// and [`Self::verify`] accepts it for that time only, so a chain added for old history never lets a new delta pass.
    pub fn add(&mut self, info: SignerInfo, at: Timestamp) -> Result<SignerId, ChainError> {
        let id = info.id();
        if let Some(known) = self.signers.get(&id)
            && known.chain.validity.holds(at)
            && known.chain.domains.contains(&info.domain)
        {
            return Ok(id);
        }
        let chain = Chain::check(&info, &self.roots, at)?;
        self.signers.insert(id.clone(), Known { info, chain });
        Ok(id)
    }

    /// As [`Verifier::check`], for a chain that its domain posts: there may be only so many.
    pub fn check_post(&self, info: &SignerInfo, now: Timestamp) -> Result<SignerId, ChainError> {
        let known = self.posted.get(&info.domain).map(Vec::as_slice).unwrap_or_default();
        let valid = |id: &&SignerId| {
            self.signers
                .get(*id)
                .is_some_and(|known| known.chain.validity.holds(now))
        };
        if known.contains(&info.id()) || known.iter().filter(valid).count() < POSTED_MAX {
            return self.check(info, now);
        }
        let domain = info.domain.clone();
        Err(ChainError::TooMany { domain })
    }

    /// Like [`Self::add`], for a chain that its domain gives us unasked: of those only [`POSTED_MAX`] that are valid now.
    pub fn post(&mut self, info: SignerInfo, now: Timestamp) -> Result<SignerId, ChainError> {
        let (id, domain) = (info.id(), info.domain.clone());
        let mut posted = self.posted.remove(&domain).unwrap_or_default();
        posted.retain(|id| {
            self.signers
                .get(id)
                .is_some_and(|known| known.chain.validity.holds(now))
        });
        let added = if posted.contains(&id) || posted.len() < POSTED_MAX {
            self.add(info, now)
        } else {
            Err(ChainError::TooMany { domain: domain.clone() })
        };
        if added.is_ok() && !posted.contains(&id) {
            posted.push(id);
        }
        if !posted.is_empty() {
            self.posted.insert(domain, posted);
        }
        added
    }

    /// The chain of a signer, to give to those who ask.
    #[must_use]
    pub fn signer(&self, id: &SignerId) -> Option<&SignerInfo> {
        self.signers.get(id).map(|known| &known.info)
    }

    /// The signers of a delta whose chains are not known here.
    pub fn unknown<'a>(&'a self, signed: &'a SignedDelta) -> impl Iterator<Item = &'a SignerId> {
        signed
            .signatures
            .iter()
            .map(|signature| &signature.signer)
            .filter(|id| !self.signers.contains_key(id))
    }

    /// Checks all signatures of a delta as of `at`.
    ///
    /// For a delta that is new here (a submission, a fresh update) `at` is the clock. For history `at` is the time at which the host
    /// says it applied the delta, never later than the clock: old deltas outlive the certificates of their time. The host could only use that lie
    /// together with a stolen key, and its own history shows it to every other remote.
    pub fn verify(
        &self,
        signed: Encoded<SignedDelta>,
        at: Timestamp,
    ) -> Result<Verified<Encoded<SignedDelta>>, VerifyError> {
        let domains = signing_domains(&signed);
        if domains.len() != signed.signatures.len() {
            return Err(VerifyError::Count {
                expected: domains.len(),
                got: signed.signatures.len(),
            });
        }
        for (domain, signature) in domains.iter().zip(&signed.signatures) {
            self.verify_one(signed.delta.bytes(), domain, signature, at)?;
        }
        Ok(Verified(signed))
    }

    fn verify_one(
        &self,
        bytes: &[u8],
        domain: &Domain,
        signature: &Signature,
        at: Timestamp,
    ) -> Result<(), VerifyError> {
        let unknown = || VerifyError::UnknownSigner(signature.signer.clone());
        let chain = &self.signers.get(&signature.signer).ok_or_else(unknown)?.chain;
        if !chain.domains.contains(domain) && !planted::is("any chain signs for anybody") {
            return Err(VerifyError::WrongDomain {
                domain: domain.clone(),
                signer: signature.signer.clone(),
            });
        }
        if !chain.validity.holds(at) && !planted::is("a chain counts after its time") {
            return Err(VerifyError::NotValidAt {
                domain: domain.clone(),
                at,
                validity: chain.validity,
            });
        }
        if rsa_sha1(&chain.key, bytes, &signature.bytes) || planted::is("signatures are not checked") {
            Ok(())
        } else {
            Err(VerifyError::BadSignature(domain.clone()))
        }
    }
}

/// The domains of the address path, then the author's; each once (protocol.md §4.3).
fn signing_domains(signed: &SignedDelta) -> Vec<Domain> {
    let mut domains = Vec::new();
    for address in signed.delta.address_path.iter().chain([&signed.delta.author]) {
        let domain = address.domain();
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}

/// PKCS#1 v1.5 with SHA-1, as OpenSSL checks it: the whole padding must be what the signer would have made. Never for
/// bytes that were made to collide.
pub(crate) fn rsa_sha1(key: &PKey<Public>, bytes: &[u8], signature: &[u8]) -> bool {
    let holds = openssl::sign::Verifier::new(MessageDigest::sha1(), key)
        .and_then(|mut verifier| verifier.verify_oneshot(signature, bytes))
        .unwrap_or(false);
    holds && !sha1::is_collision(bytes)
}
