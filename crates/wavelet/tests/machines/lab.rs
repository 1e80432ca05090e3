//! Names and keys that the tests share. One certificate authority and a key per domain, made once.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use billow_model::{DocumentId, Domain, ParticipantId, Timestamp, WaveletName};
use billow_signing::{Authority, Signer, TrustRoots, Validity, Verifier};

pub(crate) const DOMAINS: [&str; 3] = ["initech.lab", "acme.lab", "hooli.lab"];
pub(crate) const START: i64 = 1_800_000_000_000;

pub(crate) struct Keys {
    pub(crate) roots: Vec<u8>,
    pub(crate) signers: Vec<Signer>,
}

pub(crate) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let validity = Validity {
            from: Timestamp(START - 1_000_000_000),
            until: Timestamp(START + 100_000_000_000),
        };
        let authority = Authority::new("Lab", validity).unwrap();
        let signer = |name: &&str| {
            let issued = authority.issue(&domain(name), &[], validity).unwrap();
            Signer::from_pem(domain(name), &issued.key_pem, &issued.chain_pem).unwrap()
        };
        Keys {
            roots: authority.certificate_pem().unwrap(),
            signers: DOMAINS.iter().map(signer).collect(),
        }
    })
}

pub(crate) fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

pub(crate) fn name() -> WaveletName {
    "initech.lab/w+pair/~/conv+root".parse().unwrap()
}

pub(crate) fn address(text: &str) -> ParticipantId {
    text.parse().unwrap()
}

pub(crate) fn notes() -> DocumentId {
    DocumentId::new("notes").unwrap()
}

/// A verifier that trusts the lab's authority and knows no signer.
pub(crate) fn verifier() -> Verifier {
    Verifier::new(TrustRoots::none().with_pem(&keys().roots).unwrap())
}

/// The domains of the server with this index.
pub(crate) fn local(server: usize) -> BTreeSet<Domain> {
    BTreeSet::from([domain(DOMAINS[server])])
}
