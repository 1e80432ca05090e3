//! The golden vectors of the Java reference that concern signers: `signer.jsonl`. `BILLOW_VECTORS` names another directory.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::PathBuf;

use billow_wire::{HashAlgorithm, Message, SignerInfo};
use bytes::Bytes;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use serde_json::Value;

fn bytes(value: &Value) -> Bytes {
    hex::decode(value.as_str().unwrap()).unwrap().into()
}

/// Ids, and the stored form of a chain.
fn signer_id(case: &Value) -> Result<(), String> {
    let info = SignerInfo {
        hash: if case["hash_algorithm"] == "SHA256" {
            HashAlgorithm::Sha256
        } else {
            HashAlgorithm::Sha512
        },
        domain: case["domain"].as_str().unwrap().parse().unwrap(),
        certificates: case["certificates_der"].as_array().unwrap().iter().map(bytes).collect(),
    };
    if info.id().to_string() != case["signer_id"] {
        return Err(format!("expected the id {}, got {}", case["signer_id"], info.id()));
    }
    let proto = bytes(&case["signer_info_proto"]);
    if SignerInfo::decode(&proto).as_ref() != Ok(&info) || info.encode() != proto {
        return Err("not the same signer info as bytes".into());
    }
    Ok(())
}

/// The reference's signatures: PKCS#1 v1.5 is deterministic, so ours are the same bytes.
fn signature(case: &Value, key: &PKey<Private>) -> Result<(), String> {
    let mut signer = openssl::sign::Signer::new(MessageDigest::sha1(), key).unwrap();
    let got = signer.sign_oneshot_to_vec(&bytes(&case["payload"])).unwrap();
    let expected = bytes(&case["signature"]);
    if got != expected {
        return Err(format!("expected {}, got {}", hex::encode(&expected), hex::encode(got)));
    }
    // The message around it: field 1 the signature, field 2 the signer, field 3 the algorithm.
    let id = bytes(&case["signer_id"]);
    let length = [expected.len() as u8 | 0x80, (expected.len() >> 7) as u8];
    let proto = [
        &[0x0a],
        &length[..],
        &expected,
        &[0x12, id.len() as u8],
        &id,
        &[0x18, 1],
    ]
    .concat();
    if case["signature_proto"] == hex::encode(&proto) {
        Ok(())
    } else {
        Err("not the same signature message".into())
    }
}

#[test]
fn signer() {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let path = std::env::var_os("BILLOW_VECTORS")
        .map_or_else(default, PathBuf::from)
        .join("signer.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let key = cases
        .iter()
        .find_map(|case| case["private_key_pkcs8"].as_str())
        .unwrap();
    let key = PKey::private_key_from_pkcs8(&hex::decode(key).unwrap()).unwrap();
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| match case["kind"].as_str().unwrap() {
            "signer_id" => signer_id(case).err(),
            "signature" => signature(case, &key).err(),
            other => Some(format!("a case of kind {other}")),
        })
        .collect();
    println!(
        "signer.jsonl: {} run, {} passed",
        cases.len(),
        cases.len() - failures.len()
    );
    assert!(cases.len() > 10);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
