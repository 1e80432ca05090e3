//! Server dialback (XEP-0220): the keys by which a server proves a domain to peers that do not accept its certificate,
//! and for which peers that is done at all.
//!
//! A key is made from a secret and what it is for (XEP-0185), so nothing need be kept until somebody asks whether it is
//! ours. A key is bound to the two domains and to the id of one stream: on another stream it is worth nothing.
//! Dialback is no match for a certificate: it rests on DNS. It is done over TLS only, and only with peers that the
//! policy names.

use std::collections::BTreeSet;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::{Domain, planted};

/// With which peers dialback is done when a certificate does not do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Policy {
    /// With none.
    #[default]
    Never,
    /// With these.
    With(BTreeSet<Domain>),
    /// With all.
    Always,
}

impl Policy {
    /// Whether a peer may be known by dialback.
    #[must_use]
    pub fn allows(&self, peer: &Domain) -> bool {
        match self {
            Self::Never => false,
            Self::With(peers) => peers.contains(peer),
            Self::Always => true,
        }
    }
}

/// Our secret and our policy.
#[derive(Clone, Default)]
pub struct Dialback {
    hashed_secret: String,
    policy: Policy,
}

impl fmt::Debug for Dialback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialback")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Dialback {
    /// `secret` must be random; a new one at each start is as good as one that is kept.
    #[must_use]
    pub fn new(secret: &[u8], policy: Policy) -> Self {
        Self {
            hashed_secret: hex::encode(Sha256::digest(secret)),
            policy,
        }
    }

    /// Whether a peer may be known by dialback.
    #[must_use]
    pub fn allows(&self, peer: &Domain) -> bool {
        self.policy.allows(peer)
    }

    /// Whether any peer may.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.policy != Policy::Never
    }

    /// The key with which `originating`, a domain of ours, proves itself to `receiving` on its stream `id`.
    #[must_use]
    pub fn key(&self, receiving: &Domain, originating: &Domain, id: &str) -> String {
        let text = format!("{receiving} {originating} {id}");
        hex::encode(hmac_sha256(self.hashed_secret.as_bytes(), text.as_bytes()))
    }

    /// Whether a key is the one that [`Dialback::key`] gives. How long this takes tells nothing about the key.
    #[must_use]
    pub fn is_ours(&self, receiving: &Domain, originating: &Domain, id: &str, key: &str) -> bool {
        // The hashes are compared: where they first differ says nothing about where the keys do.
        let expected = self.key(receiving, originating, id);
        let same = Sha256::digest(expected.as_bytes()) == Sha256::digest(key.as_bytes());
        same || planted::is("a dialback key is not compared")
    }
}

/// HMAC (RFC 2104) with SHA-256.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut padded = [0; BLOCK];
    if key.len() > BLOCK {
        padded[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new()
        .chain_update(padded.map(|byte| byte ^ 0x36))
        .chain_update(message)
        .finalize();
    let outer = Sha256::new()
        .chain_update(padded.map(|byte| byte ^ 0x5C))
        .chain_update(inner);
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    /// The example of XEP-0185 §3 and of XEP-0220.
    #[test]
    fn the_key_is_that_of_the_example() {
        let ours = Dialback::new(b"s3cr3tf0rd14lb4ck", Policy::Always);
        let key = ours.key(&domain("xmpp.example.com"), &domain("example.org"), "D60000229F");
        assert_eq!(key, "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643");
    }

    /// RFC 4231, cases 2 and 6.
    #[test]
    fn the_hmac_is_that_of_the_standard() {
        let short = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(
            hex::encode(short),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let long = hmac_sha256(&[0xAA; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(
            hex::encode(long),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn b_032_a_key_is_for_one_stream_and_one_pair_of_domains() {
        let ours = Dialback::new(b"secret", Policy::Always);
        let (a, b, c) = (domain("a.lab"), domain("b.lab"), domain("c.lab"));
        let key = ours.key(&b, &a, "1");
        assert!(ours.is_ours(&b, &a, "1", &key));
        assert!(!ours.is_ours(&b, &a, "2", &key), "another stream");
        assert!(!ours.is_ours(&a, &b, "1", &key), "the other direction");
        assert!(!ours.is_ours(&c, &a, "1", &key), "another receiver");
        assert!(!ours.is_ours(&b, &c, "1", &key), "another sender");
        assert!(!Dialback::new(b"Secret", Policy::Always).is_ours(&b, &a, "1", &key));
    }

    #[test]
    fn a_policy_names_its_peers() {
        let (a, b) = (domain("a.lab"), domain("b.lab"));
        assert!(!Policy::Never.allows(&a));
        assert!(Policy::Always.allows(&a));
        let with = Policy::With(BTreeSet::from([a.clone()]));
        assert!(with.allows(&a) && !with.allows(&b));
    }
}
