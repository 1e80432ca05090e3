//! The properties of outside input.

use billow_model::doc::compose::compose;
use billow_model::doc::invert::invert;
use billow_model::doc::transform::transform;
use billow_model::{DocOp, Document, WaveletName};

use super::components::components;

/// Bytes as operations, one after the other on a document: none panics; one that does not fit changes nothing; one that
/// fits is undone by its inverse. Any two transform and compose, or are refused. Says how many applied and were refused.
pub fn any_operation(bytes: &[u8]) -> (usize, usize) {
    let (mut applied, mut refused) = (0, 0);
    let mut document = Document::new();
    let mut before = DocOp::default();
    for bytes in bytes.split(|&byte| byte == 0xFF) {
        let Ok(op) = DocOp::new(components(bytes)) else {
            continue;
        };
        // Whatever these answer.
        let _ = (transform(&op, &before), compose(&before, &op));
        let (digest, old) = (document.digest(), document.to_op());
        if document.apply(&op).is_ok() {
            applied += 1;
            let mut undone = document.clone();
            undone.apply(&invert(&op)).expect("an inverse fits after its operation");
            assert_eq!(undone.to_op(), old, "the inverse of {op:?}");
        } else {
            refused += 1;
            assert_eq!(document.to_op(), old, "{op:?} was refused and changed the document");
            assert_eq!(document.digest(), digest);
        }
        before = op;
    }
    (applied, refused)
}

/// Any text as a wavelet name: a name that is read and modern comes back from its own URI. Says whether it was read.
pub fn any_uri(text: &str) -> bool {
    let Ok(name) = WaveletName::from_uri(text) else {
        return false;
    };
    if name.is_modern() {
        assert_eq!(
            WaveletName::from_uri(&name.to_uri()).as_ref(),
            Ok(&name),
            "the URI of {name}"
        );
    }
    true
}
