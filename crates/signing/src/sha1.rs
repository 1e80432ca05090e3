//! SHA-1 as far as it can be trusted: `SHA1_RSA` is the only signature algorithm of the protocol (protocol.md §4.2), and
//! collisions can be bought. Bytes that bear the marks of every known way of making one are neither signed nor believed.

use billow_model::planted;
use sha1_checked::Sha1;

/// Whether bytes look made to have the SHA-1 digest of others.
pub(crate) fn is_collision(bytes: &[u8]) -> bool {
    Sha1::try_digest(bytes).has_collision() && !planted::is("bytes made to collide are signed")
}

#[cfg(test)]
mod tests {
    use billow_model::{Domain, Timestamp};
    use openssl::hash::MessageDigest;
    use openssl::sha::sha1;

    use crate::verifier::rsa_sha1;
    use crate::{Authority, Signer, Validity};

    /// The published pairs: "SHAttered" (2017, its first 320 bytes) and "SHA-1 is a Shambles" (2020, chosen prefixes).
    const PAIRS: [[&[u8]; 2]; 2] = [
        [
            include_bytes!("../tests/data/shattered-1.bin"),
            include_bytes!("../tests/data/shattered-2.bin"),
        ],
        [
            include_bytes!("../tests/data/sha-mbles-1.bin"),
            include_bytes!("../tests/data/sha-mbles-2.bin"),
        ],
    ];

    #[test]
    fn b_109_a_collision_is_neither_signed_nor_believed() {
        let day = Validity {
            from: Timestamp(0),
            until: Timestamp(86_400_000),
        };
        let domain: Domain = "acme.lab".parse().unwrap();
        let issued = Authority::new("lab", day).unwrap().issue(&domain, &[], day).unwrap();
        let signer = Signer::from_pem(domain, &issued.key_pem, &issued.chain_pem).unwrap();
        let key = openssl::pkey::PKey::private_key_from_pem(&issued.key_pem).unwrap();
        let public = openssl::x509::X509::from_pem(&issued.chain_pem)
            .unwrap()
            .public_key()
            .unwrap();
        let by_hand = |bytes: &[u8]| {
            let mut hand = openssl::sign::Signer::new(MessageDigest::sha1(), &key).unwrap();
            hand.sign_oneshot_to_vec(bytes).unwrap()
        };
        for [one, other] in PAIRS {
            assert!(one != other && sha1(one) == sha1(other), "a collision it is");
            // Also with an innocent end, which is how one would be used.
            for tail in [&b""[..], b"and all that follows"] {
                let (one, other) = ([one, tail].concat(), [other, tail].concat());
                let signature = by_hand(&one);
                assert_eq!(signature, by_hand(&other), "one signature for two texts");
                for bytes in [&one, &other] {
                    assert!(!rsa_sha1(&public, bytes, &signature));
                    assert!(signer.sign_bytes(bytes).is_err());
                }
            }
        }
        // Ordinary bytes are as they were.
        for innocent in [&b""[..], b"a delta", &[0; 70_000]] {
            let signature = signer.sign_bytes(innocent).unwrap();
            assert_eq!(signature, by_hand(innocent));
            assert!(rsa_sha1(&public, innocent, &signature));
        }
    }
}
