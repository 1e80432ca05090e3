//! Every delta that the recorded Java servers applied reads, writes back the same, and chains to the recorded hashes.
//! `BILLOW_CAPTURES` names another directory.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::HashMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use billow_model::{HashedVersion, WaveletName};
use billow_wire::{AppliedDelta, Encoded, Message};
use serde_json::Value;

fn captures() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures");
    std::env::var_os("BILLOW_CAPTURES").map_or_else(default, PathBuf::from)
}

fn hash_of(json: &Value) -> Vec<u8> {
    let text = json["hash"].as_str().unwrap();
    if json["version"] == 0 {
        text.as_bytes().to_vec()
    } else {
        hex::decode(text).unwrap()
    }
}

#[test]
fn applied_deltas_chain_to_the_recorded_hashes() {
    let mut deltas = 0;
    let mut files: Vec<_> = std::fs::read_dir(captures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.to_string_lossy().ends_with(".deltas.jsonl"));
    files.sort();
    for path in &files {
        let mut heads: HashMap<String, HashedVersion> = HashMap::new();
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let json: Value = serde_json::from_str(line).unwrap();
            let uri = json["wavelet"].as_str().unwrap();
            let name = WaveletName::from_uri(uri).unwrap();
            let head = heads
                .entry(uri.to_owned())
                .or_insert_with(|| HashedVersion::zero(&name));
            let bytes = STANDARD.decode(json["applied_delta_b64"].as_str().unwrap()).unwrap();
            let applied =
                Encoded::<AppliedDelta>::decode(bytes.into()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(applied.value().encode(), *applied.bytes());
            assert_eq!(applied.signed.value().encode(), *applied.signed.bytes());
            assert_eq!(applied.signed.delta.value().encode(), *applied.signed.delta.bytes());
            assert_eq!(applied.applied_at(), &*head);
            assert_eq!(applied.signed.delta.author.as_str(), json["author"]);
            *head = head.next(applied.bytes(), applied.operations_applied.into());
            assert_eq!(head.version.number(), json["result"]["version"].as_u64().unwrap());
            assert_eq!(head.hash.as_bytes(), hash_of(&json["result"]));
            deltas += 1;
        }
    }
    println!("{} files, {deltas} applied deltas", files.len());
    assert!(files.len() >= 14 && deltas > 600);
}
