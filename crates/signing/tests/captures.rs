//! Every signature that the recorded Java servers made passes the verifier, with their chains and their authority.
//! `BILLOW_CAPTURES` names another directory.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use billow_model::Timestamp;
use billow_signing::{ChainError, Signer, SignerError, TrustRoots, Verifier, VerifyError};
use billow_wire::{AppliedDelta, Encoded};
use serde_json::Value;

fn captures() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures");
    std::env::var_os("BILLOW_CAPTURES").map_or_else(default, PathBuf::from)
}

fn key_file(name: &str) -> Vec<u8> {
    std::fs::read(captures().join("keys").join(name)).unwrap()
}

fn signer(domain: &str) -> Signer {
    // In the wrong order on purpose: root, intermediate, target. Beta's chain holds all three, the others have no intermediate.
    let middle = if domain == "beta.test" {
        key_file("sub.pem")
    } else {
        Vec::new()
    };
    let chain = [key_file("ca.pem"), middle, key_file(&format!("{domain}.crt"))].concat();
    Signer::from_pem(domain.parse().unwrap(), &key_file(&format!("{domain}.key")), &chain).unwrap()
}

fn deltas() -> Vec<Encoded<AppliedDelta>> {
    let mut files: Vec<_> = std::fs::read_dir(captures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.to_string_lossy().ends_with(".deltas.jsonl"));
    files.sort();
    let texts: Vec<String> = files
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let bytes = |line: &str| {
        let json: Value = serde_json::from_str(line).unwrap();
        STANDARD.decode(json["applied_delta_b64"].as_str().unwrap()).unwrap()
    };
    texts
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| Encoded::decode(bytes(line).into()).unwrap())
        .collect()
}

#[test]
fn every_recorded_signature_passes_and_is_the_one_that_we_would_make() {
    let roots = TrustRoots::none().with_pem(&key_file("ca.pem")).unwrap();
    let mut verifier = Verifier::new(roots);
    let signers = ["alpha.test", "beta.test", "gamma.test"].map(signer);
    let deltas = deltas();
    for applied in &deltas {
        let signed = applied.signed.clone();
        let unknown: Vec<_> = verifier.unknown(&signed).cloned().collect();
        for own in signers.iter().filter(|signer| unknown.contains(signer.id())) {
            assert_eq!(verifier.add(own.info().clone(), applied.timestamp).unwrap(), *own.id());
        }
        let own = signers
            .iter()
            .find(|signer| *signer.domain() == signed.delta.author.domain())
            .unwrap();
        assert_eq!(
            own.sign(signed.delta.clone()).unwrap(),
            signed,
            "PKCS#1 v1.5 is deterministic"
        );
        let signed = Encoded::decode(signed.bytes().clone()).unwrap();
        verifier.verify(signed, applied.timestamp).unwrap();
    }
    println!("{} signatures verified", deltas.len());
    assert!(deltas.len() > 600);
}

#[test]
fn a_certificate_that_nobody_trusts_and_a_common_name_only_are_refused() {
    let roots = TrustRoots::none().with_pem(&key_file("ca.pem")).unwrap();
    let rogue = Signer::from_pem(
        "alpha.test".parse().unwrap(),
        &key_file("rogue.key"),
        &key_file("rogue.crt"),
    );
    assert!(matches!(rogue, Err(SignerError::Name { .. })), "{rogue:?}");
    let mut info = signer("alpha.test").info().clone();
    let certificate = openssl::x509::X509::from_pem(&key_file("rogue.crt")).unwrap();
    info.certificates = vec![certificate.to_der().unwrap().into()];
    let now = Timestamp(1_800_000_000_000);
    assert_eq!(
        Verifier::new(roots.clone()).add(info.clone(), now),
        Err(ChainError::NoDomain)
    );
    // The operator may say that this very certificate speaks for alpha.test; its common name then counts.
    let pinned = roots
        .pin("alpha.test".parse().unwrap(), &key_file("rogue.crt"))
        .unwrap();
    let mut verifier = Verifier::new(pinned);
    verifier.add(info, now).unwrap();
    // And from then on the authority's certificate for it does not.
    let refused = verifier.add(signer("alpha.test").info().clone(), now);
    assert!(matches!(refused, Err(ChainError::Untrusted { .. })), "{refused:?}");
    verifier.add(signer("gamma.test").info().clone(), now).unwrap();
}

#[test]
fn one_changed_bit_anywhere_in_a_signed_delta_is_refused() {
    let roots = TrustRoots::none().with_pem(&key_file("ca.pem")).unwrap();
    let mut verifier = Verifier::new(roots);
    let applied = deltas().remove(0);
    for own in ["alpha.test", "beta.test", "gamma.test"].map(signer) {
        verifier.add(own.info().clone(), applied.timestamp).unwrap();
    }
    let (mut refused, mut reasons) = (0, std::collections::BTreeMap::<&str, u32>::new());
    let bytes = applied.signed.bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(signed) = Encoded::decode(flipped.into()) else {
            *reasons.entry("does not read").or_default() += 1;
            continue;
        };
        let reason = match verifier.verify(signed, applied.timestamp).unwrap_err() {
            VerifyError::UnknownSigner(_) => "unknown signer",
            VerifyError::Count { .. } => "count",
            VerifyError::WrongDomain { .. } => "wrong domain",
            VerifyError::NotValidAt { .. } => "time",
            VerifyError::BadSignature(_) => "bad signature",
        };
        *reasons.entry(reason).or_default() += 1;
        refused += 1;
    }
    println!("{reasons:?}");
    assert!(refused > 1000);
}
