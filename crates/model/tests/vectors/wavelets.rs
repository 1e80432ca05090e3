//! Wavelet operations and deltas against each other.

use std::collections::BTreeMap;

use billow_model::transform::{
    Side, TransformError, is_duplicate, transform_delta, transform_delta_like_reference, transform_op,
};
use billow_model::{DocOp, Document, WaveletOp};
use serde_json::Value;

use crate::codec::{document, participant, string, wavelet_op, wavelet_ops};
use crate::files::{Report, equal};

/// The reference's class for an error of ours, or "any" for a document's (its class depends on where Java noticed).
fn same_error(error: &TransformError, class: &str) -> Result<(), String> {
    match error {
        TransformError::RemovedAuthor => equal("error", &"RemovedAuthorException", &class),
        TransformError::Participants => equal("error", &"TransformException", &class),
        TransformError::Document(_) => equal("no removed author", &(class != "RemovedAuthorException"), &true),
    }
}

pub(crate) fn wavelet_transform(report: &mut Report) {
    for case in report.cases() {
        let (client_author, server_author) = (participant(&case["client_author"]), participant(&case["server_author"]));
        let got = transform_op(
            &wavelet_op(&case["client"]),
            &client_author,
            &wavelet_op(&case["server"]),
            &server_author,
        );
        let outcome = match (case.get("error"), got) {
            (Some(error), Err(got)) => same_error(&got, string(&error["class"])),
            (Some(_), Ok(pair)) => Err(format!("transformed to {pair:?}")),
            (None, Err(error)) => Err(error.to_string()),
            (None, Ok((client, server))) => equal("client_t", &client, &wavelet_op(&case["client_t"]))
                .and_then(|()| equal("server_t", &server, &wavelet_op(&case["server_t"]))),
        };
        report.case(string(&case["id"]), outcome);
    }
}

pub(crate) fn delta_transform(report: &mut Report) {
    for case in report.cases() {
        let outcome = both_ways(&case);
        report.case(string(&case["id"]), outcome);
    }
}

fn both_ways(case: &Value) -> Result<(), String> {
    let (client_author, server_author) = (participant(&case["client_author"]), participant(&case["server_author"]));
    let (client, server) = (wavelet_ops(&case["client"]), wavelet_ops(&case["server"]));
    let client = Side {
        author: &client_author,
        ops: &client,
    };
    let server = Side {
        author: &server_author,
        ops: &server,
    };
    let duplicate = is_duplicate(client, server);
    equal(
        "duplicate",
        &duplicate,
        &case["duplicate"].as_bool().expect("a verdict"),
    )?;
    match (case["delta_pair"].get("error"), transform_delta(client, server)) {
        // The reference's client drops a duplicate here; the caller of `is_duplicate` does so for us.
        _ if duplicate => equal(
            "pair client_t",
            &case["delta_pair"]["client_t"].as_array().map(Vec::len),
            &Some(0),
        )?,
        (Some(error), Err(got)) => same_error(&got, string(&error["class"]))?,
        (None, Ok((client_t, server_t))) => {
            equal(
                "pair client_t",
                &client_t,
                &wavelet_ops(&case["delta_pair"]["client_t"]),
            )?;
            equal(
                "pair server_t",
                &server_t,
                &wavelet_ops(&case["delta_pair"]["server_t"]),
            )?;
            let one = after(case, client.ops.iter().chain(&server_t))?;
            equal("documents", &one, &after(case, server.ops.iter().chain(&client_t))?)?;
        }
        (_, got) => return Err(format!("pair: {got:?}")),
    }
    match (
        case["box_server"].get("error"),
        transform_delta_like_reference(client, server),
    ) {
        (Some(error), Err(got)) => same_error(&got, string(&error["class"])),
        (None, Ok(client_t)) => equal("box client_t", &client_t, &wavelet_ops(&case["box_server"]["client_t"])),
        (_, got) => Err(format!("box: {got:?}")),
    }
}

/// The documents after a list of operations.
fn after<'a>(case: &Value, ops: impl Iterator<Item = &'a WaveletOp>) -> Result<BTreeMap<String, DocOp>, String> {
    let docs = case["docs"].as_object().expect("documents");
    let mut docs: BTreeMap<String, Document> = docs.iter().map(|(id, doc)| (id.clone(), document(doc))).collect();
    for op in ops {
        if let WaveletOp::MutateDocument { id, op } = op {
            docs.entry(id.to_string())
                .or_default()
                .apply(op)
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(docs.into_iter().map(|(id, doc)| (id, doc.to_op())).collect())
}
