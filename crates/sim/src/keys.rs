//! The keys of simulated servers: the same in every run, so that a seed gives the same bytes. Nobody else trusts them.

use std::sync::OnceLock;

use billow_model::Domain;
use billow_signing::{Signer, TrustRoots};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};

/// The domains; the last one is where the hostile server lives.
pub const DOMAINS: [&str; 7] = [
    "initech.lab",
    "acme.lab",
    "hooli.lab",
    "globex.lab",
    "umbrella.lab",
    "wonka.lab",
    "evil.lab",
];

/// Which of [`DOMAINS`] the hostile server has.
pub const EVIL: usize = 6;

const PEM: [(&str, &str); 7] = [
    (
        include_str!("../keys/initech.key.pem"),
        include_str!("../keys/initech.pem"),
    ),
    (include_str!("../keys/acme.key.pem"), include_str!("../keys/acme.pem")),
    (include_str!("../keys/hooli.key.pem"), include_str!("../keys/hooli.pem")),
    (
        include_str!("../keys/globex.key.pem"),
        include_str!("../keys/globex.pem"),
    ),
    (
        include_str!("../keys/umbrella.key.pem"),
        include_str!("../keys/umbrella.pem"),
    ),
    (include_str!("../keys/wonka.key.pem"), include_str!("../keys/wonka.pem")),
    (include_str!("../keys/evil.key.pem"), include_str!("../keys/evil.pem")),
];

/// The domain of this index.
#[must_use]
pub fn domain(index: usize) -> Domain {
    DOMAINS[index].parse().expect("the list holds domains")
}

/// Its signer.
#[must_use]
pub fn signer(index: usize) -> Signer {
    static SIGNERS: OnceLock<Vec<Signer>> = OnceLock::new();
    let signers = SIGNERS.get_or_init(|| {
        let signer = |(index, (key, chain)): (usize, &(&str, &str))| {
            Signer::from_pem(domain(index), key.as_bytes(), chain.as_bytes()).expect("the keys are in order")
        };
        PEM.iter().enumerate().map(signer).collect()
    });
    signers[index].clone()
}

/// A signature by the hostile server's key of whatever it likes. Its [`signer`], like any of ours, signs for its own
/// users only.
#[must_use]
pub fn sign_with_the_hostile_key(bytes: &[u8]) -> Vec<u8> {
    static KEY: OnceLock<PKey<Private>> = OnceLock::new();
    let key = KEY.get_or_init(|| PKey::private_key_from_pem(PEM[EVIL].0.as_bytes()).expect("the keys are in order"));
    let signer = openssl::sign::Signer::new(MessageDigest::sha1(), key);
    let signed = signer.and_then(|mut signer| signer.sign_oneshot_to_vec(bytes));
    signed.expect("a key in memory signs")
}

/// Whom all of them believe.
#[must_use]
pub fn roots() -> TrustRoots {
    let pem = include_bytes!("../keys/root.pem");
    TrustRoots::none()
        .with_pem(pem)
        .expect("the authority's certificate is in order")
}
