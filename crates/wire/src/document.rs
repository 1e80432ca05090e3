//! Document operations ⇄ protobuf, with the reference reader's quirks (operations.md §2, "Wire form quirks").

use std::sync::Arc;

use billow_model::doc::{AnnotationBoundary, AnnotationChange, AttributeChange, Attributes, AttributesUpdate};
use billow_model::{Component, DocOp};
use bytes::Bytes;
use prost::Message as _;

use crate::encoded::{DecodeError, Message};
use crate::{groups, proto};

const MESSAGE: &str = "document operation";

impl Message for DocOp {
    fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        DecodeError::of_groups(MESSAGE, bytes, &groups::DOCUMENT_OPERATION)?;
        let message =
            proto::DocumentOperation::decode(bytes.clone()).map_err(|e| DecodeError::new(MESSAGE, e.to_string()))?;
        from_proto(message)
    }

    fn encode(&self) -> Bytes {
        to_proto(self).encode_to_vec().into()
    }
}

pub(crate) fn from_proto(message: proto::DocumentOperation) -> Result<DocOp, DecodeError> {
    let components = message
        .component
        .into_iter()
        .filter_map(|c| component(c).transpose())
        .collect::<Result<_, _>>()?;
    DocOp::new(components).map_err(|e| DecodeError::new(MESSAGE, e.to_string()))
}

/// Of several fields set the first in this order counts; of none, the component is skipped.
fn component(c: proto::Component) -> Result<Option<Component>, DecodeError> {
    Ok(Some(if let Some(boundary) = c.annotation_boundary {
        Component::AnnotationBoundary(from_boundary(boundary)?)
    } else if let Some(text) = c.characters {
        Component::Characters(text)
    } else if let Some(start) = c.element_start {
        let (kind, attributes) = element(start)?;
        Component::ElementStart { kind, attributes }
    } else if c.element_end.is_some() {
        Component::ElementEnd
    } else if let Some(count) = c.retain_item_count {
        let count = u32::try_from(count)
            .map_err(|_| DecodeError::new(MESSAGE, format!("expected a retain above 0, got {count}")))?;
        Component::Retain(count)
    } else if let Some(text) = c.delete_characters {
        Component::DeleteCharacters(text)
    } else if let Some(start) = c.delete_element_start {
        let (kind, attributes) = element(start)?;
        Component::DeleteElementStart { kind, attributes }
    } else if c.delete_element_end.is_some() {
        Component::DeleteElementEnd
    } else if let Some(replace) = c.replace_attributes {
        if replace.empty == Some(true) {
            Component::ReplaceAttributes {
                old: Attributes::default(),
                new: Attributes::default(),
            }
        } else {
            Component::ReplaceAttributes {
                old: attributes(replace.old_attribute)?,
                new: attributes(replace.new_attribute)?,
            }
        }
    } else if let Some(update) = c.update_attributes {
        let list = if update.empty == Some(true) {
            Vec::new()
        } else {
            update.attribute_update
        };
        let changes = list
            .into_iter()
            .map(|u| {
                let name = u.key.ok_or_else(|| DecodeError::missing(MESSAGE, "key"))?;
                Ok(AttributeChange {
                    name: name.into(),
                    old: u.old_value.map(Into::into),
                    new: u.new_value.map(Into::into),
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        Component::UpdateAttributes(
            AttributesUpdate::from_changes(changes).map_err(|e| DecodeError::new(MESSAGE, e.to_string()))?,
        )
    } else {
        return Ok(None);
    }))
}

fn from_boundary(boundary: proto::AnnotationBoundary) -> Result<AnnotationBoundary, DecodeError> {
    if boundary.empty == Some(true) {
        return Ok(AnnotationBoundary::default());
    }
    let changes = boundary
        .change
        .into_iter()
        .map(|u| {
            let key = u.key.ok_or_else(|| DecodeError::missing(MESSAGE, "key"))?;
            // The reference's validator lets it pass, its reader does not (operations.md §1); an end without a change is none.
            if key.is_empty() {
                return Err(DecodeError::new(MESSAGE, "an annotation key is not empty"));
            }
            Ok(AnnotationChange {
                key: key.into(),
                old: u.old_value.map(Into::into),
                new: u.new_value.map(Into::into),
            })
        })
        .collect::<Result<_, DecodeError>>()?;
    Ok(AnnotationBoundary {
        ends: boundary.end.into_iter().map(Into::into).collect(),
        changes,
    })
}

fn element(start: proto::ElementStart) -> Result<(Arc<str>, Attributes), DecodeError> {
    let kind = start.kind.ok_or_else(|| DecodeError::missing(MESSAGE, "type"))?;
    Ok((kind.into(), attributes(start.attribute)?))
}

fn attributes(pairs: Vec<proto::KeyValuePair>) -> Result<Attributes, DecodeError> {
    let pairs = pairs
        .into_iter()
        .map(|pair| {
            let key = pair.key.ok_or_else(|| DecodeError::missing(MESSAGE, "key"))?;
            let value = pair.value.ok_or_else(|| DecodeError::missing(MESSAGE, "value"))?;
            Ok((key.into(), value.into()))
        })
        .collect::<Result<Vec<(Arc<str>, Arc<str>)>, DecodeError>>()?;
    Ok(Attributes::from_pairs(pairs))
}

pub(crate) fn to_proto(op: &DocOp) -> proto::DocumentOperation {
    proto::DocumentOperation {
        component: op.components().iter().map(to_component).collect(),
    }
}

fn to_component(component: &Component) -> proto::Component {
    let mut out = proto::Component::default();
    match component {
        Component::Retain(count) => out.retain_item_count = Some(i32::try_from(*count).unwrap_or(i32::MAX)),
        Component::Characters(text) => out.characters = Some(text.clone()),
        Component::ElementStart { kind, attributes } => out.element_start = Some(to_element(kind, attributes)),
        Component::ElementEnd => out.element_end = Some(true),
        Component::DeleteCharacters(text) => out.delete_characters = Some(text.clone()),
        Component::DeleteElementStart { kind, attributes } => {
            out.delete_element_start = Some(to_element(kind, attributes))
        }
        Component::DeleteElementEnd => out.delete_element_end = Some(true),
        Component::ReplaceAttributes { old, new } => {
            let empty = (old.is_empty() && new.is_empty()).then_some(true);
            out.replace_attributes = Some(proto::ReplaceAttributes {
                empty,
                old_attribute: to_pairs(old),
                new_attribute: to_pairs(new),
            });
        }
        Component::UpdateAttributes(update) => {
            let empty = update.changes().is_empty().then_some(true);
            let attribute_update = update
                .changes()
                .iter()
                .map(|c| to_update(&c.name, c.old.as_ref(), c.new.as_ref()))
                .collect();
            out.update_attributes = Some(proto::UpdateAttributes {
                empty,
                attribute_update,
            });
        }
        Component::AnnotationBoundary(boundary) => {
            let empty = (boundary.ends.is_empty() && boundary.changes.is_empty()).then_some(true);
            let change = boundary
                .changes
                .iter()
                .map(|c| to_update(&c.key, c.old.as_ref(), c.new.as_ref()))
                .collect();
            let end = boundary.ends.iter().map(|key| key.to_string()).collect();
            out.annotation_boundary = Some(proto::AnnotationBoundary { empty, end, change });
        }
    }
    out
}

fn to_element(kind: &str, attributes: &Attributes) -> proto::ElementStart {
    proto::ElementStart {
        kind: Some(kind.to_owned()),
        attribute: to_pairs(attributes),
    }
}

fn to_pairs(attributes: &Attributes) -> Vec<proto::KeyValuePair> {
    attributes
        .iter()
        .map(|(key, value)| proto::KeyValuePair {
            key: Some(key.to_string()),
            value: Some(value.to_string()),
        })
        .collect()
}

fn to_update(key: &str, old: Option<&Arc<str>>, new: Option<&Arc<str>>) -> proto::KeyValueUpdate {
    proto::KeyValueUpdate {
        key: Some(key.to_owned()),
        old_value: old.map(|v| v.to_string()),
        new_value: new.map(|v| v.to_string()),
    }
}
