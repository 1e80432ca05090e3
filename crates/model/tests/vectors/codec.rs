//! The vectors' JSON form of operations (their README, "Encoding").

use std::sync::Arc;

use billow_model::doc::{AnnotationBoundary, AnnotationChange, AttributeChange, IllFormed};
use billow_model::{Attributes, AttributesUpdate, Component, DocOp, Document, DocumentId, ParticipantId, WaveletOp};
use serde_json::Value;

/// An operation that is well-formed.
pub(crate) fn op(value: &Value) -> DocOp {
    components(value)
        .and_then(DocOp::new)
        .unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// An operation that may be ill-formed, in the order of attributes too.
pub(crate) fn components(value: &Value) -> Result<Vec<Component>, IllFormed> {
    value
        .as_array()
        .expect("an operation is a list")
        .iter()
        .map(component)
        .collect()
}

/// The document that an operation of insertions makes.
pub(crate) fn document(value: &Value) -> Document {
    let mut document = Document::new();
    document.apply(&op(value)).expect("the document of a case can be made");
    document
}

/// An operation on a wavelet.
pub(crate) fn wavelet_op(value: &Value) -> WaveletOp {
    if let Some(address) = value.get("addParticipant") {
        WaveletOp::AddParticipant(participant(address))
    } else if let Some(address) = value.get("removeParticipant") {
        WaveletOp::RemoveParticipant(participant(address))
    } else if let Some(mutate) = value.get("mutateDocument") {
        WaveletOp::MutateDocument {
            id: DocumentId::new(string(&mutate["documentId"])).expect("an id"),
            op: op(&mutate["operation"]),
        }
    } else {
        assert!(value.get("noOp").is_some(), "an unknown operation: {value}");
        WaveletOp::NoOp
    }
}

/// Operations on a wavelet.
pub(crate) fn wavelet_ops(value: &Value) -> Vec<WaveletOp> {
    value
        .as_array()
        .expect("a list of operations")
        .iter()
        .map(wavelet_op)
        .collect()
}

/// An address.
pub(crate) fn participant(value: &Value) -> ParticipantId {
    string(value).parse().expect("an address")
}

/// A text.
pub(crate) fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a text, got {value}"))
}

fn component(value: &Value) -> Result<Component, IllFormed> {
    let object = value.as_object().expect("a component is an object");
    assert_eq!(object.len(), 1, "a component has one key: {value}");
    let (key, value) = object.iter().next().expect("one key");
    let count_past_limit = IllFormed {
        index: 0,
        reason: "a retain fits 32 bits",
    };
    Ok(match key.as_str() {
        "retain" => Component::Retain(
            value
                .as_i64()
                .and_then(|count| u32::try_from(count).ok())
                .ok_or(count_past_limit)?,
        ),
        "characters" => Component::Characters(string(value).to_owned()),
        "elementStart" => Component::ElementStart {
            kind: shared(&value["type"]),
            attributes: attributes(&value["attributes"])?,
        },
        "elementEnd" => Component::ElementEnd,
        "deleteCharacters" => Component::DeleteCharacters(string(value).to_owned()),
        "deleteElementStart" => Component::DeleteElementStart {
            kind: shared(&value["type"]),
            attributes: attributes(&value["attributes"])?,
        },
        "deleteElementEnd" => Component::DeleteElementEnd,
        "replaceAttributes" => Component::ReplaceAttributes {
            old: attributes(&value["old"])?,
            new: attributes(&value["new"])?,
        },
        "updateAttributes" => {
            let changes = value.as_array().expect("changes");
            let change = |c: &Value| AttributeChange {
                name: shared(&c["key"]),
                old: optional(&c["old"]),
                new: optional(&c["new"]),
            };
            Component::UpdateAttributes(AttributesUpdate::new(changes.iter().map(change).collect())?)
        }
        "annotationBoundary" => {
            let change = |c: &Value| AnnotationChange {
                key: shared(&c["key"]),
                old: optional(&c["old"]),
                new: optional(&c["new"]),
            };
            Component::AnnotationBoundary(AnnotationBoundary {
                ends: value["end"].as_array().expect("ends").iter().map(shared).collect(),
                changes: value["change"]
                    .as_array()
                    .expect("changes")
                    .iter()
                    .map(change)
                    .collect(),
            })
        }
        other => panic!("an unknown component {other}"),
    })
}

fn attributes(value: &Value) -> Result<Attributes, IllFormed> {
    Attributes::new(
        value
            .as_array()
            .expect("pairs")
            .iter()
            .map(|pair| (shared(&pair[0]), shared(&pair[1])))
            .collect(),
    )
}

fn shared(value: &Value) -> Arc<str> {
    string(value).into()
}

fn optional(value: &Value) -> Option<Arc<str>> {
    (!value.is_null()).then(|| shared(value))
}
