//! Messages of the client protocol → the model. What comes in is checked here; every refusal says what was expected.
//! (The other way there is nothing to check: `wavelets/shown.rs`.)

use std::sync::Arc;

use billow_model::doc::{AnnotationBoundary, AnnotationChange, AttributeChange};
use billow_model::{
    Attributes, AttributesUpdate, Component, DocOp, DocumentId, ParticipantId, Version, WaveletName, WaveletOp,
};

use super::messages::{ChangeMessage, ElementMessage, OpComponent, Operation};

/// The longest document id, session name or annotation key from a client, in bytes.
const NAME_MAX: usize = 256;
/// The largest number that JavaScript holds exactly.
const SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Why a message is not what it should be; one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Untranslatable(pub String);

impl Untranslatable {
    fn new(expected: impl std::fmt::Display) -> Self {
        Self(expected.to_string())
    }
}

/// A version as a client says it.
pub(crate) fn version(number: u64) -> Result<Version, Untranslatable> {
    match number <= SAFE_INTEGER {
        true => Ok(Version::new(number)),
        false => Err(Untranslatable(format!(
            "expected a version up to 2^53 - 1, got {number}"
        ))),
    }
}

/// A wavelet's name as a client says it.
pub(crate) fn wavelet_name(text: &str) -> Result<WaveletName, Untranslatable> {
    text.parse().map_err(Untranslatable::new)
}

/// An editor's name: some letters and digits, random.
pub(crate) fn session_name(text: &str) -> Result<Arc<str>, Untranslatable> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:+=/".contains(c);
    match !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(plain) {
        true => Ok(text.into()),
        false => Err(Untranslatable(format!(
            "expected a session name of 1 to {NAME_MAX} letters and digits, got {:?}",
            text.chars().take(80).collect::<String>()
        ))),
    }
}

/// Operations as a client says them.
pub fn operations(messages: Vec<Operation>) -> Result<Vec<WaveletOp>, Untranslatable> {
    let numbered =
        |(at, message)| operation(message).map_err(|error| Untranslatable(format!("operation {at}: {error}")));
    messages.into_iter().enumerate().map(numbered).collect()
}

fn operation(message: Operation) -> Result<WaveletOp, Untranslatable> {
    Ok(match message {
        Operation::AddParticipant(address) => WaveletOp::AddParticipant(participant(&address)?),
        Operation::RemoveParticipant(address) => WaveletOp::RemoveParticipant(participant(&address)?),
        Operation::NoOp(flag) => only_true("noOp", flag).map(|()| WaveletOp::NoOp)?,
        Operation::MutateDocument { document_id, operation } => WaveletOp::MutateDocument {
            id: self::document_id(&document_id)?,
            op: doc_op(operation).map_err(|error| Untranslatable(format!("document {document_id}: {error}")))?,
        },
    })
}

fn participant(address: &str) -> Result<ParticipantId, Untranslatable> {
    address.parse().map_err(Untranslatable::new)
}

pub(crate) fn document_id(id: &str) -> Result<DocumentId, Untranslatable> {
    if id.len() > NAME_MAX || id.contains(char::is_control) {
        return Err(Untranslatable(format!(
            "expected a document id of at most {NAME_MAX} bytes like b+abc"
        )));
    }
    DocumentId::new(id).map_err(Untranslatable::new)
}

/// A document operation as a client says it, and as a snapshot says a document.
pub fn doc_op(messages: Vec<OpComponent>) -> Result<DocOp, Untranslatable> {
    let components = messages.into_iter().map(component).collect::<Result<_, _>>()?;
    DocOp::new(components).map_err(Untranslatable::new)
}

fn component(message: OpComponent) -> Result<Component, Untranslatable> {
    Ok(match message {
        OpComponent::Retain(items) => Component::Retain(items),
        OpComponent::Characters(text) => Component::Characters(text),
        OpComponent::ElementStart(element) => {
            let (kind, attributes) = element_parts(element)?;
            Component::ElementStart { kind, attributes }
        }
        OpComponent::ElementEnd(flag) => only_true("elementEnd", flag).map(|()| Component::ElementEnd)?,
        OpComponent::DeleteCharacters(text) => Component::DeleteCharacters(text),
        OpComponent::DeleteElementStart(element) => {
            let (kind, attributes) = element_parts(element)?;
            Component::DeleteElementStart { kind, attributes }
        }
        OpComponent::DeleteElementEnd(flag) => {
            only_true("deleteElementEnd", flag).map(|()| Component::DeleteElementEnd)?
        }
        OpComponent::ReplaceAttributes { old, new } => Component::ReplaceAttributes {
            old: attributes(old)?,
            new: attributes(new)?,
        },
        OpComponent::UpdateAttributes(changes) => {
            let changes = changes
                .into_iter()
                .map(|ChangeMessage { key, old, new }| AttributeChange {
                    name: key.into(),
                    old: old.map(Arc::from),
                    new: new.map(Arc::from),
                });
            Component::UpdateAttributes(AttributesUpdate::from_changes(changes.collect()).map_err(Untranslatable::new)?)
        }
        OpComponent::AnnotationBoundary { end, change } => Component::AnnotationBoundary(AnnotationBoundary {
            ends: end.into_iter().map(Arc::from).collect(),
            changes: change.into_iter().map(annotation_change).collect(),
        }),
    })
}

fn only_true(key: &str, flag: bool) -> Result<(), Untranslatable> {
    if flag {
        Ok(())
    } else {
        Err(Untranslatable(format!("expected \"{key}\": true, got false")))
    }
}

fn element_parts(element: ElementMessage) -> Result<(Arc<str>, Attributes), Untranslatable> {
    Ok((element.kind.into(), attributes(element.attributes)?))
}

fn attributes(pairs: Vec<(String, String)>) -> Result<Attributes, Untranslatable> {
    let count = pairs.len();
    let attributes = Attributes::from_pairs(pairs.into_iter().map(|(name, value)| (name.into(), value.into())));
    match attributes.iter().count() == count {
        true => Ok(attributes),
        false => Err(Untranslatable("expected each attribute once".to_owned())),
    }
}

fn annotation_change(ChangeMessage { key, old, new }: ChangeMessage) -> AnnotationChange {
    AnnotationChange {
        key: key.into(),
        old: old.map(Arc::from),
        new: new.map(Arc::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(json: &str) -> Result<String, Untranslatable> {
        let messages: Vec<Operation> = serde_json::from_str(json).unwrap();
        let ops = operations(messages)?;
        Ok(serde_json::to_string(&ops.iter().map(crate::wavelets::operation).collect::<Vec<_>>()).unwrap())
    }

    #[test]
    fn every_operation_goes_there_and_back() {
        let json = concat!(
            r#"[{"addParticipant":"bob@acme.lab"},{"removeParticipant":"bob@acme.lab"},{"noOp":true},"#,
            r#"{"mutateDocument":{"documentId":"b+1","operation":["#,
            r#"{"retain":3},{"annotationBoundary":{"end":[],"change":[{"key":"style/fontWeight","old":null,"new":"bold"}]}},"#,
            r#"{"elementStart":{"type":"line","attributes":[["i","1"],["t","li"]]}},{"elementEnd":true},{"characters":"a😀"},"#,
            r#"{"annotationBoundary":{"end":["style/fontWeight"],"change":[]}},"#,
            r#"{"updateAttributes":[{"key":"t","old":"h1","new":null}]},"#,
            r#"{"replaceAttributes":{"old":[["a","b"]],"new":[]}},{"deleteCharacters":"xy"},"#,
            r#"{"deleteElementStart":{"type":"line","attributes":[]}},{"deleteElementEnd":true}]}}]"#
        );
        assert_eq!(there_and_back(json).unwrap(), json);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let refused = |json| there_and_back(json).unwrap_err().0;
        assert_eq!(
            refused(r#"[{"addParticipant":"bob"}]"#),
            "operation 0: expected an address like alice@example.org, got \"bob\""
        );
        assert_eq!(
            refused(r#"[{"noOp":true},{"noOp":false}]"#),
            "operation 1: expected \"noOp\": true, got false"
        );
        let ill_formed = r#"[{"mutateDocument":{"documentId":"b+1","operation":[{"elementEnd":true}]}}]"#;
        assert!(
            refused(ill_formed).starts_with("operation 0: document b+1: "),
            "{}",
            refused(ill_formed)
        );
        let twice = r#"[{"mutateDocument":{"documentId":"b+1","operation":[
            {"elementStart":{"type":"x","attributes":[["a","1"],["a","2"]]}},{"elementEnd":true}]}}]"#;
        assert!(refused(twice).contains("each attribute once"));
        assert!(version(1 << 53).is_err());
        assert!(session_name("").is_err() && session_name("a b").is_err() && session_name("aZ0-_").is_ok());
    }
}
