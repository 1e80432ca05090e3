//! Deltas and states as clients see them: turned into JSON once, however many clients there are.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use billow_model::doc::{AnnotationBoundary, AnnotationChange, AttributeChange};
use billow_model::{Attributes, Component, DocOp, HashedVersion, ParticipantId, Wavelet, WaveletName, WaveletOp};
use billow_wavelet::Record;

use crate::web::messages::{
    ChangeMessage, DeltaMessage, DocumentState, ElementMessage, OpComponent, Operation, OwnSubmission, ServerMessage,
    WaveletState,
};

/// A delta on its way to clients.
#[derive(Debug)]
pub struct ShownDelta {
    name: WaveletName,
    record: Arc<Record>,
    for_author: OnceLock<Arc<str>>,
    for_others: OnceLock<Arc<str>>,
}

impl ShownDelta {
    /// A delta of this wavelet.
    #[must_use]
    pub fn new(name: WaveletName, record: Arc<Record>) -> Self {
        Self {
            name,
            record,
            for_author: OnceLock::new(),
            for_others: OnceLock::new(),
        }
    }

    /// Its wavelet.
    #[must_use]
    pub fn name(&self) -> &WaveletName {
        &self.name
    }

    /// The delta.
    #[must_use]
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// The message `Delta` for this user; with the submission's identity if it is the author.
    #[must_use]
    pub fn json(&self, user: &ParticipantId) -> Arc<str> {
        let own = *user == self.record.delta.author && self.record.submission().is_some();
        let text = if own { &self.for_author } else { &self.for_others };
        text.get_or_init(|| {
            to_json(&ServerMessage::Delta {
                delta: self.message(own),
            })
        })
        .clone()
    }

    fn message(&self, own: bool) -> DeltaMessage {
        let submission = self.record.submission().filter(|_| own);
        DeltaMessage {
            wavelet: self.name.to_string(),
            version: self.record.applied_at().number(),
            author: self.record.delta.author.to_string(),
            timestamp: self.record.delta.timestamp.0,
            operations: self.record.delta.ops.iter().map(operation).collect(),
            own: submission.map(|s| OwnSubmission {
                session: s.session.to_string(),
                sequence: s.sequence,
            }),
        }
    }
}

impl Deref for ShownDelta {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

fn to_json(message: &ServerMessage) -> Arc<str> {
    serde_json::to_string(message)
        .expect("the messages hold nothing that JSON cannot")
        .into()
}

/// A state as the client protocol has it.
#[must_use]
pub fn state(wavelet: &Wavelet, sealed: &HashedVersion) -> WaveletState {
    WaveletState {
        wavelet: wavelet.name().to_string(),
        host: wavelet.name().host().to_string(),
        version: wavelet.version().number(),
        hash: hex::encode(sealed.hash.as_bytes()),
        hashed_version: sealed.version.number(),
        digest: hex::encode(wavelet.digest()),
        participants: wavelet.participants().iter().map(ToString::to_string).collect(),
        creator: wavelet.creator().map(ToString::to_string).unwrap_or_default(),
        created: wavelet.created().0,
        last_modified: wavelet.last_modified().0,
        documents: wavelet
            .documents()
            .map(|(id, document, about)| DocumentState {
                id: id.to_string(),
                content: components(&document.to_op()),
                author: about.author.to_string(),
                contributors: about.contributors.iter().map(ToString::to_string).collect(),
                last_modified_version: about.last_modified_version.number(),
                last_modified_time: about.last_modified_time.0,
            })
            .collect(),
    }
}

/// An operation as the client protocol has it.
#[must_use]
pub fn operation(op: &WaveletOp) -> Operation {
    match op {
        WaveletOp::AddParticipant(who) => Operation::AddParticipant(who.to_string()),
        WaveletOp::RemoveParticipant(who) => Operation::RemoveParticipant(who.to_string()),
        WaveletOp::NoOp => Operation::NoOp(true),
        WaveletOp::MutateDocument { id, op } => Operation::MutateDocument {
            document_id: id.to_string(),
            operation: components(op),
        },
    }
}

fn components(op: &DocOp) -> Vec<OpComponent> {
    op.components().iter().map(component).collect()
}

fn component(component: &Component) -> OpComponent {
    match component {
        Component::Retain(count) => OpComponent::Retain(*count),
        Component::Characters(text) => OpComponent::Characters(text.clone()),
        Component::ElementStart { kind, attributes } => OpComponent::ElementStart(element(kind, attributes)),
        Component::ElementEnd => OpComponent::ElementEnd(true),
        Component::DeleteCharacters(text) => OpComponent::DeleteCharacters(text.clone()),
        Component::DeleteElementStart { kind, attributes } => {
            OpComponent::DeleteElementStart(element(kind, attributes))
        }
        Component::DeleteElementEnd => OpComponent::DeleteElementEnd(true),
        Component::ReplaceAttributes { old, new } => OpComponent::ReplaceAttributes {
            old: pairs(old),
            new: pairs(new),
        },
        Component::UpdateAttributes(update) => {
            OpComponent::UpdateAttributes(update.changes().iter().map(attribute_change).collect())
        }
        Component::AnnotationBoundary(AnnotationBoundary { ends, changes }) => OpComponent::AnnotationBoundary {
            end: ends.iter().map(ToString::to_string).collect(),
            change: changes.iter().map(annotation_change).collect(),
        },
    }
}

fn element(kind: &str, attributes: &Attributes) -> ElementMessage {
    ElementMessage {
        kind: kind.to_owned(),
        attributes: pairs(attributes),
    }
}

fn pairs(attributes: &Attributes) -> Vec<(String, String)> {
    attributes
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

fn attribute_change(change: &AttributeChange) -> ChangeMessage {
    let AttributeChange { name, old, new } = change;
    ChangeMessage {
        key: name.to_string(),
        old: old.as_deref().map(Into::into),
        new: new.as_deref().map(Into::into),
    }
}

fn annotation_change(change: &AnnotationChange) -> ChangeMessage {
    let AnnotationChange { key, old, new } = change;
    ChangeMessage {
        key: key.to_string(),
        old: old.as_deref().map(Into::into),
        new: new.as_deref().map(Into::into),
    }
}
