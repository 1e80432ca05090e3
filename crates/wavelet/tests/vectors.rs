//! The reference's golden vectors that are about whole histories: submissions to a host, and the history hash.
//!
//! `BILLOW_VECTORS` names the directory; by default it lies beside the checkout. Prints per file the cases run and passed.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use billow_model::doc::{AnnotationBoundary, AnnotationChange, AttributeChange};
use billow_model::{
    Attributes, AttributesUpdate, Component, DocOp, DocumentId, HashedVersion, HistoryHash, Timestamp, Version,
    Wavelet, WaveletName, WaveletOp,
};
use billow_wavelet::Refusal;
use billow_wavelet::reference::{Outcome, ReferenceHost, ReferenceReplica};
use billow_wire::{AppliedDelta, Encoded, SignedDelta};
use bytes::Bytes;
use serde_json::Value;

fn lines(file: &str) -> Vec<Value> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let directory = std::env::var_os("BILLOW_VECTORS").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let path = directory.join(file);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error} (set BILLOW_VECTORS)", path.display()));
    let mut text = String::new();
    if file.ends_with(".gz") {
        flate2::read::GzDecoder::new(&bytes[..])
            .read_to_string(&mut text)
            .unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn shared(value: &Value) -> Arc<str> {
    text(value).into()
}

fn optional(value: &Value) -> Option<Arc<str>> {
    value.as_str().map(Into::into)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn bytes(value: &Value) -> Bytes {
    hex::decode(text(value)).unwrap().into()
}

fn version(value: &Value) -> HashedVersion {
    let number = value["version"].as_u64().unwrap();
    HashedVersion {
        version: Version::new(number),
        hash: HistoryHash::from_bytes(&bytes(&value["hash"])),
    }
}

fn name(case: &Value) -> WaveletName {
    let zero = String::from_utf8(version(&case["version_zero"]).hash.as_bytes().to_vec()).unwrap();
    WaveletName::from_uri(&zero).unwrap()
}

/// Key, old value, new value.
type Change = (Arc<str>, Option<Arc<str>>, Option<Arc<str>>);

fn attributes(value: &Value) -> Attributes {
    Attributes::from_pairs(list(value).iter().map(|pair| (shared(&pair[0]), shared(&pair[1]))))
}

fn component(value: &Value) -> Component {
    let (key, value) = value.as_object().unwrap().iter().next().unwrap();
    let element = || (shared(&value["type"]), attributes(&value["attributes"]));
    let changes = |value: &Value| -> Vec<Change> {
        list(value)
            .iter()
            .map(|change| {
                (
                    shared(&change["key"]),
                    optional(&change["old"]),
                    optional(&change["new"]),
                )
            })
            .collect()
    };
    match key.as_str() {
        "retain" => Component::Retain(u32::try_from(value.as_u64().unwrap()).unwrap()),
        "characters" => Component::Characters(text(value).to_owned()),
        "elementStart" => {
            let (kind, attributes) = element();
            Component::ElementStart { kind, attributes }
        }
        "elementEnd" => Component::ElementEnd,
        "deleteCharacters" => Component::DeleteCharacters(text(value).to_owned()),
        "deleteElementStart" => {
            let (kind, attributes) = element();
            Component::DeleteElementStart { kind, attributes }
        }
        "deleteElementEnd" => Component::DeleteElementEnd,
        "replaceAttributes" => Component::ReplaceAttributes {
            old: attributes(&value["old"]),
            new: attributes(&value["new"]),
        },
        "updateAttributes" => {
            let changes = changes(value)
                .into_iter()
                .map(|(name, old, new)| AttributeChange { name, old, new })
                .collect();
            Component::UpdateAttributes(AttributesUpdate::from_changes(changes).unwrap())
        }
        "annotationBoundary" => Component::AnnotationBoundary(AnnotationBoundary {
            ends: list(&value["end"]).iter().map(shared).collect(),
            changes: changes(&value["change"])
                .into_iter()
                .map(|(key, old, new)| AnnotationChange { key, old, new })
                .collect(),
        }),
        other => panic!("no component {other}"),
    }
}

fn doc_op(value: &Value) -> DocOp {
    DocOp::new(list(value).iter().map(component).collect()).unwrap()
}

fn wavelet_op(value: &Value) -> WaveletOp {
    let (key, value) = value.as_object().unwrap().iter().next().unwrap();
    match key.as_str() {
        "addParticipant" => WaveletOp::AddParticipant(text(value).parse().unwrap()),
        "removeParticipant" => WaveletOp::RemoveParticipant(text(value).parse().unwrap()),
        "noOp" => WaveletOp::NoOp,
        "mutateDocument" => WaveletOp::MutateDocument {
            id: DocumentId::new(text(&value["documentId"])).unwrap(),
            op: doc_op(&value["operation"]),
        },
        other => panic!("no operation {other}"),
    }
}

/// Compares a wavelet with the state that the reference's replica ended in.
fn check_state(wavelet: &Wavelet, end: &Value) -> Result<(), String> {
    let same = |what: &str, equal: bool| {
        if equal {
            Ok(())
        } else {
            Err(format!("final {what} differs"))
        }
    };
    let participants: Vec<&str> = wavelet.participants().iter().map(|one| one.as_str()).collect();
    same(
        "participants",
        participants == list(&end["participants"]).iter().map(text).collect::<Vec<_>>(),
    )?;
    same(
        "creator",
        wavelet.creator().map(|one| one.as_str()) == end["creator"].as_str(),
    )?;
    same(
        "creation time",
        Some(wavelet.created().0) == end["creation_time"].as_i64(),
    )?;
    same(
        "last modified time",
        Some(wavelet.last_modified().0) == end["last_modified_time"].as_i64(),
    )?;
    let documents = end["documents"].as_object().unwrap();
    same("number of documents", wavelet.documents().count() == documents.len())?;
    for (id, expected) in documents {
        let (document, about) = wavelet
            .document(&DocumentId::new(id).unwrap())
            .ok_or(format!("document {id} is missing"))?;
        same(
            &format!("content of {id}"),
            document.to_op() == doc_op(&expected["content"]),
        )?;
        let contributors: Vec<&str> = about.contributors.iter().map(|one| one.as_str()).collect();
        same(
            &format!("author of {id}"),
            about.author.as_str() == text(&expected["author"]),
        )?;
        same(
            &format!("contributors of {id}"),
            contributors == list(&expected["contributors"]).iter().map(text).collect::<Vec<_>>(),
        )?;
        same(
            &format!("version of {id}"),
            Some(about.last_modified_version.number()) == expected["last_modified_version"].as_u64(),
        )?;
        same(
            &format!("time of {id}"),
            Some(about.last_modified_time.0) == expected["last_modified_time"].as_i64(),
        )?;
    }
    Ok(())
}

/// How the steps of a session fared at a Billow host, which is stricter (decisions 7 and 8).
#[derive(Default)]
struct Billow {
    applied: usize,
    rebase: usize,
    refused: usize,
}

fn check_step(
    host: &mut ReferenceHost,
    replica: &mut ReferenceReplica,
    step: &Value,
    billow: &mut Billow,
) -> Result<(), String> {
    let outcome = text(&step["outcome"]);
    let Ok(signed) = Encoded::<SignedDelta>::decode(bytes(&step["signed_delta"])) else {
        return if outcome == "rejected" {
            Ok(())
        } else {
            Err(format!("does not decode, should be {outcome}"))
        };
    };
    let placed = host.place_like_billow(&signed);
    match &placed {
        Ok(_) => billow.applied += 1,
        Err(Refusal::Rebase) => billow.rebase += 1,
        Err(_) => billow.refused += 1,
    }
    let result = host.submit(signed, Timestamp(step["timestamp"].as_i64().unwrap()));
    match (outcome, result) {
        ("access_denied", Err(Refusal::NotParticipant(_))) => Ok(()),
        ("rejected", Err(refusal)) if !matches!(refusal, Refusal::NotParticipant(_)) => {
            match (placed, refusal) {
                (Ok(_), Refusal::LegacyPeer(_)) | (Err(_), _) => Ok(()), // decision 9: without such a peer the text is allowed
                (Ok(_), refusal) => Err(format!("a Billow host takes what the reference refuses: {refusal}")),
            }
        }
        ("applied", Ok(Outcome::Applied(record, seal))) => {
            let expected: Vec<WaveletOp> = list(&step["transformed"]).iter().map(wavelet_op).collect();
            if placed.is_ok_and(|ops| ops != expected) {
                return Err("a Billow host applies something else".to_owned());
            }
            let same = record.delta.ops == expected
                && seal.applied.bytes() == &bytes(&step["applied_delta"])
                && seal.applied_at == version(&step["applied_at"])
                && seal.resulting == version(&step["resulting"])
                && Some(record.delta.timestamp.0) == step["application_timestamp"].as_i64();
            let followed = replica
                .follow(seal.applied.clone())
                .map_err(|error| format!("replica: {error}"))?;
            let agrees = followed.delta == record.delta && replica.version() == host.version();
            if same && agrees {
                Ok(())
            } else {
                Err("applied otherwise than the reference does".to_owned())
            }
        }
        ("duplicate", Ok(Outcome::Duplicate(record, seal))) => {
            let same = seal.applied.bytes() == &bytes(&step["applied_delta"])
                && seal.resulting == version(&step["resulting"])
                && Some(record.delta.timestamp.0) == step["application_timestamp"].as_i64();
            if same {
                Ok(())
            } else {
                Err("taken for a repetition of another delta".to_owned())
            }
        }
        (_, result) => Err(format!("expected {outcome}, got {result:?}")),
    }
}

#[test]
fn the_host_and_a_replica_do_what_the_reference_does() {
    let (sessions, mut passed, mut steps) = (lines("submit.jsonl.gz"), 0, 0);
    let mut billow = Billow::default();
    for session in &sessions {
        let mut host = ReferenceHost::new(name(session));
        let mut replica = ReferenceReplica::new(name(session));
        let mut check = || -> Result<(), String> {
            for (index, step) in list(&session["steps"]).iter().enumerate() {
                steps += 1;
                check_step(&mut host, &mut replica, step, &mut billow)
                    .map_err(|error| format!("step {index} ({}): {error}", step["kind"]))?;
            }
            if *host.version() != version(&session["final"]["version"]) {
                return Err("final version differs".to_owned());
            }
            check_state(replica.wavelet(), &session["final"])
        };
        match check() {
            Ok(()) => passed += 1,
            Err(error) => eprintln!("submit {}: {error}", session["id"]),
        }
    }
    println!(
        "submit.jsonl.gz: {} cases run, {passed} passed ({steps} steps)",
        sessions.len()
    );
    println!(
        "  a Billow host: {} applied alike, {} to be made anew, {} refused",
        billow.applied, billow.rebase, billow.refused
    );
    assert_eq!(passed, sessions.len());
    assert!(billow.applied > 500 && billow.rebase > 0, "the vectors reach both");
}

#[test]
fn the_history_hash_is_the_references() {
    let (cases, mut passed) = (lines("history_hash.jsonl"), 0);
    for case in &cases {
        let name = name(case);
        let mut at = HashedVersion::zero(&name);
        let mut replica = ReferenceReplica::new(name.clone());
        let mut good = at == version(&case["version_zero"]) && name.to_uri() == text(&case["uri"]);
        for step in list(&case["steps"]) {
            let applied = Encoded::<AppliedDelta>::decode(bytes(&step["applied_delta"])).unwrap();
            at = at.next(applied.bytes(), step["operations_applied"].as_u64().unwrap());
            good = good && at == version(&step["after"]);
            good = good && replica.follow(applied).is_ok() && *replica.version() == at;
        }
        passed += usize::from(good);
    }
    println!("history_hash.jsonl: {} cases run, {passed} passed", cases.len());
    assert_eq!(passed, cases.len());
}
