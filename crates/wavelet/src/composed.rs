//! Operations as a reference server takes them safely: one for each document (operations.md §8, decision: contested deltas).

use billow_model::WaveletOp;
use billow_model::doc::compose::{ComposeError, compose};

/// The same changes with at most one operation on each document. The reference transforms each operation of a delta by itself, against
/// what the others of the delta have not been applied to; with one a document it computes what everybody else does.
pub(crate) fn one_op_a_document(ops: Vec<WaveletOp>) -> Result<Vec<WaveletOp>, ComposeError> {
    let mut composed: Vec<WaveletOp> = Vec::new();
    for op in ops {
        let earlier = match &op {
            WaveletOp::MutateDocument { id, .. } => composed.iter_mut().find_map(|earlier| match earlier {
                WaveletOp::MutateDocument { id: other, op } if other == id => Some(op),
                _ => None,
            }),
            WaveletOp::AddParticipant(_) | WaveletOp::RemoveParticipant(_) | WaveletOp::NoOp => None,
        };
        match (earlier, op) {
            (Some(earlier), WaveletOp::MutateDocument { op, .. }) => *earlier = compose(earlier, &op)?,
            (_, op) => composed.push(op),
        }
    }
    Ok(composed)
}

#[cfg(test)]
mod tests {
    use billow_model::{Component, DocOp, DocumentId, Wavelet, WaveletName};

    use super::*;

    fn change(document: &str, components: Vec<Component>) -> WaveletOp {
        WaveletOp::MutateDocument {
            id: DocumentId::new(document).unwrap(),
            op: DocOp::new(components).unwrap(),
        }
    }

    #[test]
    fn several_operations_on_a_document_become_one_with_the_same_effect() {
        let text = |text: &str| Component::Characters(text.to_owned());
        let delete = |text: &str| Component::DeleteCharacters(text.to_owned());
        let ops = vec![
            WaveletOp::AddParticipant("alice@initech.lab".parse().unwrap()),
            change("a", vec![text("hello")]),
            change("b", vec![text("x")]),
            change("a", vec![Component::Retain(5), text(" world")]),
            WaveletOp::AddParticipant("bob@acme.lab".parse().unwrap()),
            change("a", vec![delete("hello"), Component::Retain(6)]),
            change("b", vec![delete("x")]),
        ];
        let composed = one_op_a_document(ops.clone()).unwrap();
        assert_eq!(composed.len(), 4, "{composed:?}");
        let name: WaveletName = "initech.lab/w+a/~/conv+root".parse().unwrap();
        let [one_by_one, at_once] = [ops, composed].map(|ops| {
            let mut wavelet = Wavelet::new(name.clone());
            for op in ops {
                let delta = billow_model::TransformedDelta {
                    author: "alice@initech.lab".parse().unwrap(),
                    applied_at: wavelet.version(),
                    ops: vec![op],
                    timestamp: billow_model::Timestamp(0),
                };
                wavelet.apply(&delta).unwrap();
            }
            let documents = wavelet
                .documents()
                .map(|(id, document, _)| (id.clone(), document.text()));
            (wavelet.participants().to_vec(), documents.collect::<Vec<_>>())
        });
        assert_eq!(one_by_one, at_once);
    }

    #[test]
    fn operations_that_do_not_follow_one_another_are_an_error() {
        let ops = vec![
            change("a", vec![Component::Characters("xyz".to_owned())]),
            change("a", vec![Component::Retain(1)]),
        ];
        assert!(one_op_a_document(ops).is_err());
    }
}
