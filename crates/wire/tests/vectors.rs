//! The golden vectors of the Java reference that concern bytes: `wire.jsonl` and `history_hash.jsonl`.
//! `BILLOW_VECTORS` names another directory.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::PathBuf;
use std::sync::Arc;

use billow_model::doc::{AnnotationBoundary, AnnotationChange, AttributeChange, Attributes, AttributesUpdate};
use billow_model::{Component, DocOp, HashedVersion, Version, WaveId, WaveletId, WaveletName};
use billow_wire::{AppliedDelta, Encoded, Message};
use bytes::Bytes;
use serde_json::Value;

fn read(file: &str) -> Vec<Value> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let path = std::env::var_os("BILLOW_VECTORS")
        .map_or_else(default, PathBuf::from)
        .join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn read_gz(file: &str) -> Vec<Value> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let path = std::env::var_os("BILLOW_VECTORS")
        .map_or_else(default, PathBuf::from)
        .join(file);
    let packed = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs every case, prints the counts, and fails with the first few failures.
fn run(file: &str, case: impl Fn(&Value) -> Result<(), String>) {
    let cases = read(file);
    let name = |index: usize, case: &Value| {
        case["id"]
            .as_str()
            .or(case["name"].as_str())
            .map_or_else(|| index.to_string(), ToOwned::to_owned)
    };
    let failures: Vec<String> = (cases.iter().enumerate())
        .filter_map(|(index, value)| {
            case(value)
                .err()
                .map(|error| format!("{}: {error}", name(index, value)))
        })
        .collect();
    println!("{file}: {} run, {} passed", cases.len(), cases.len() - failures.len());
    assert!(!cases.is_empty(), "{file} holds no cases");
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures[..failures.len().min(10)].join("\n")
    );
}

fn bytes(value: &Value) -> Bytes {
    hex::decode(value.as_str().unwrap()).unwrap().into()
}

#[test]
fn wire() {
    run("wire.jsonl", |case| {
        let proto = bytes(&case["proto"]);
        let decoded = DocOp::decode(&proto);
        if case.get("error").is_some() {
            return decoded.map_or(Ok(()), |op| Err(format!("expected a refusal, got {op:?}")));
        }
        let expected =
            DocOp::new(case["op"].as_array().unwrap().iter().map(component).collect()).map_err(|e| e.to_string())?;
        let decoded = decoded.map_err(|e| e.to_string())?;
        if decoded != expected {
            return Err(format!("expected {expected:?}, got {decoded:?}"));
        }
        if case["kind"] == "round-trip" && decoded.encode() != proto {
            return Err(format!(
                "expected {}, got {}",
                hex::encode(&proto),
                hex::encode(decoded.encode())
            ));
        }
        Ok(())
    });
}

/// What we write and take, the reference reads: whatever it cannot read is ill-formed here, or does not read here either, or
/// has text beyond U+FFFF, which is kept from its servers.
#[test]
fn whatever_we_write_the_reference_reads() {
    let cases = read_gz("validity.jsonl.gz");
    let (mut ours, mut kept_back, mut unread) = (0, 0, Vec::new());
    for case in &cases {
        let components = case["op"].as_array().unwrap();
        let Some(op) = is_sound(components)
            .then(|| DocOp::new(components.iter().map(component).collect()).ok())
            .flatten()
        else {
            continue;
        };
        let reads = case["wire"].as_str().unwrap().starts_with("ok");
        if op.has_supplementary_text() {
            kept_back += 1;
        } else if DocOp::decode(&op.encode()).is_ok() != reads {
            unread.push(case["id"].as_str().unwrap());
        } else {
            ours += usize::from(reads);
        }
    }
    println!(
        "validity.jsonl: {ours} of {} are ours too, {kept_back} kept from reference servers",
        cases.len()
    );
    assert!(unread.is_empty(), "{unread:?}");
    assert!(ours > 3_000 && kept_back > 0, "{ours} {kept_back}");
}

/// Whether the components can be values at all: counts of 32 bits, attribute changes of different names.
fn is_sound(components: &[Value]) -> bool {
    components.iter().all(|component| {
        let (key, value) = component.as_object().unwrap().iter().next().unwrap();
        match key.as_str() {
            "retain" => value.as_u64().is_some_and(|count| u32::try_from(count).is_ok()),
            "updateAttributes" => {
                let names: Vec<&str> = value
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|c| c["key"].as_str().unwrap())
                    .collect();
                names.iter().collect::<std::collections::BTreeSet<_>>().len() == names.len()
            }
            _ => true,
        }
    })
}

#[test]
fn history_hash() {
    run("history_hash.jsonl", |case| {
        let wave: WaveId = case["wave_id"].as_str().unwrap().parse().map_err(|_| "wave id")?;
        let (domain, id) = case["wavelet_id"].as_str().unwrap().split_once('!').unwrap();
        let name = WaveletName::new(
            wave,
            WaveletId::new(domain.parse().unwrap(), id).map_err(|_| "wavelet id")?,
        );
        if name.to_uri() != case["uri"] {
            return Err(format!("expected {}, got {}", case["uri"], name.to_uri()));
        }
        let mut version = HashedVersion::zero(&name);
        same(&version, &case["version_zero"])?;
        for step in case["steps"].as_array().unwrap() {
            let applied = Encoded::<AppliedDelta>::decode(bytes(&step["applied_delta"])).map_err(|e| e.to_string())?;
            if *applied.applied_at() != version || u64::from(applied.operations_applied) != step["operations_applied"] {
                return Err(format!("applied at {}, expected {version}", applied.applied_at()));
            }
            version = version.next(applied.bytes(), applied.operations_applied.into());
            same(&version, &step["after"])?;
            if applied.resulting() != version.version {
                return Err(format!("resulting version {}, expected {version}", applied.resulting()));
            }
            if applied.value().encode() != *applied.bytes()
                || applied.signed.delta.value().encode() != *applied.signed.delta.bytes()
            {
                return Err("not the same bytes when written again".into());
            }
        }
        Ok(())
    });
}

fn same(version: &HashedVersion, expected: &Value) -> Result<(), String> {
    let number = Version::new(expected["version"].as_u64().unwrap());
    if version.version == number && hex::encode(version.hash.as_bytes()) == expected["hash"] {
        Ok(())
    } else {
        Err(format!("expected {expected}, got {version}"))
    }
}

fn component(json: &Value) -> Component {
    let (key, value) = json.as_object().unwrap().iter().next().unwrap();
    let text = || value.as_str().unwrap().to_owned();
    match key.as_str() {
        "retain" => Component::Retain(u32::try_from(value.as_u64().unwrap()).unwrap()),
        "characters" => Component::Characters(text()),
        "elementStart" => Component::ElementStart {
            kind: string(&value["type"]),
            attributes: attributes(&value["attributes"]),
        },
        "elementEnd" => Component::ElementEnd,
        "deleteCharacters" => Component::DeleteCharacters(text()),
        "deleteElementStart" => Component::DeleteElementStart {
            kind: string(&value["type"]),
            attributes: attributes(&value["attributes"]),
        },
        "deleteElementEnd" => Component::DeleteElementEnd,
        "replaceAttributes" => Component::ReplaceAttributes {
            old: attributes(&value["old"]),
            new: attributes(&value["new"]),
        },
        "updateAttributes" => {
            let change = |c: &Value| AttributeChange {
                name: string(&c["key"]),
                old: optional(&c["old"]),
                new: optional(&c["new"]),
            };
            Component::UpdateAttributes(AttributesUpdate::from_changes(list(value, change)).unwrap())
        }
        "annotationBoundary" => {
            let change = |c: &Value| AnnotationChange {
                key: string(&c["key"]),
                old: optional(&c["old"]),
                new: optional(&c["new"]),
            };
            Component::AnnotationBoundary(AnnotationBoundary {
                ends: list(&value["end"], string),
                changes: list(&value["change"], change),
            })
        }
        other => panic!("a component {other}"),
    }
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(read).collect()
}

fn string(value: &Value) -> Arc<str> {
    value.as_str().unwrap().into()
}

fn optional(value: &Value) -> Option<Arc<str>> {
    value.as_str().map(Into::into)
}

fn attributes(value: &Value) -> Attributes {
    Attributes::from_pairs(list(value, |pair| (string(&pair[0]), string(&pair[1]))))
}
