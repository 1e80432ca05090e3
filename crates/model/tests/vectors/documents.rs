//! Operations on one document: apply, compose, invert, normalise, transform, attribution.

use billow_model::doc::compose::compose;
use billow_model::doc::invert::invert;
use billow_model::doc::normalize;
use billow_model::doc::transform::transform;
use billow_model::{DocOp, Document};
use serde_json::Value;

use crate::codec::{document, op, string};
use crate::files::{Report, equal};
use crate::xml::xml;

fn applied(document: &Document, ops: &[&DocOp]) -> Result<Document, String> {
    let mut document = document.clone();
    ops.iter()
        .try_for_each(|op| document.apply(op))
        .map_err(|error| error.to_string())?;
    Ok(document)
}

fn text<T>(result: Result<T, impl std::fmt::Display>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn each(report: &mut Report, check: impl Fn(&Value) -> Result<(), String>) {
    for (index, case) in report.cases().iter().enumerate() {
        let id = ["id", "name"]
            .iter()
            .find_map(|key| case[key].as_str())
            .map_or_else(|| index.to_string(), str::to_owned);
        report.case(&id, check(case));
    }
}

pub(crate) fn apply(report: &mut Report) {
    each(report, |case| {
        let result = applied(&document(&case["doc"]), &[&op(&case["op"])])?;
        equal(
            "length",
            &(result.len() as u64),
            &case["length"].as_u64().expect("a length"),
        )?;
        equal("result", &result.to_op(), &op(&case["result"]))?;
        equal("XML", &xml(&result), &string(&case["result_xml"]).to_owned())
    });
}

pub(crate) fn invert_ops(report: &mut Report) {
    each(report, |case| {
        let (doc, op_) = (document(&case["doc"]), op(&case["op"]));
        let inverse = invert(&op_);
        equal("inverse", &inverse, &op(&case["inverse"]))?;
        equal("result", &applied(&doc, &[&op_])?.to_op(), &op(&case["result"]))?;
        equal("undone", &applied(&doc, &[&op_, &inverse])?.to_op(), &op(&case["doc"]))
    });
}

pub(crate) fn normalize_ops(report: &mut Report) {
    each(report, |case| {
        equal(
            "normalized",
            &text(normalize(&op(&case["op"])))?,
            &op(&case["normalized"]),
        )
    });
}

pub(crate) fn compose_pairs(report: &mut Report) {
    each(report, |case| {
        let composed = text(compose(&op(&case["a"]), &op(&case["b"])))?;
        equal("composed", &composed, &op(&case["composed"]))?;
        equal(
            "result",
            &applied(&document(&case["doc"]), &[&composed])?.to_op(),
            &op(&case["result"]),
        )
    });
}

pub(crate) fn compose_chain(report: &mut Report) {
    each(report, |case| {
        let ops: Vec<DocOp> = case["ops"].as_array().expect("a chain").iter().map(op).collect();
        let left = ops[1..].iter().try_fold(ops[0].clone(), |a, b| compose(&a, b));
        let (last, before) = ops.split_last().expect("a chain");
        let right = before.iter().rev().try_fold(last.clone(), |b, a| compose(a, &b));
        for (name, fold) in [("left_fold", left), ("right_fold", right), ("collector", collect(&ops))] {
            let fold = text(fold)?;
            equal(name, &fold, &op(&case[name]))?;
            equal(
                "result",
                &applied(&document(&case["doc"]), &[&fold])?.to_op(),
                &op(&case["result"]),
            )?;
        }
        Ok(())
    });
}

/// As the reference's collector folds: like a binary counter of pending compositions.
fn collect(ops: &[DocOp]) -> Result<DocOp, billow_model::doc::compose::ComposeError> {
    let mut levels: Vec<Option<DocOp>> = Vec::new();
    for op in ops {
        let mut carry = op.clone();
        let mut level = 0;
        loop {
            match levels.get_mut(level) {
                None => {
                    levels.push(Some(carry));
                    break;
                }
                Some(slot) => match slot.take() {
                    None => {
                        *slot = Some(carry);
                        break;
                    }
                    Some(earlier) => carry = compose(&earlier, &carry)?,
                },
            }
            level += 1;
        }
    }
    let mut pending = levels.into_iter().flatten();
    let first = pending.next().expect("at least one operation");
    pending.try_fold(first, |later, earlier| compose(&earlier, &later))
}

pub(crate) fn compose_errors(report: &mut Report) {
    each(report, |case| match compose(&op(&case["a"]), &op(&case["b"])) {
        Err(_) => Ok(()),
        Ok(composed) => Err(format!("composed to {composed:?}")),
    });
}

pub(crate) fn transform_pairs(report: &mut Report) {
    each(report, |case| {
        let (client, server) = (op(&case["client"]), op(&case["server"]));
        let (client_t, server_t) = text(transform(&client, &server))?;
        equal("client_t", &client_t, &op(&case["client_t"]))?;
        equal("server_t", &server_t, &op(&case["server_t"]))?;
        let doc = document(&case["doc"]);
        let result = op(&case["result"]);
        equal(
            "client then server_t",
            &applied(&doc, &[&client, &server_t])?.to_op(),
            &result,
        )?;
        equal(
            "server then client_t",
            &applied(&doc, &[&server, &client_t])?.to_op(),
            &result,
        )
    });
}

pub(crate) fn transform_errors(report: &mut Report) {
    each(report, |case| {
        match transform(&op(&case["client"]), &op(&case["server"])) {
            Err(_) => Ok(()),
            Ok(pair) => Err(format!("transformed to {pair:?}")),
        }
    });
}

pub(crate) fn transform_quirks(report: &mut Report) {
    each(report, |case| {
        let (client_t, server_t) = text(transform(&op(&case["client"]), &op(&case["server"])))?;
        equal("client_t", &client_t, &op(&case["client_t"]))?;
        equal("server_t", &server_t, &op(&case["server_t"]))
    });
}

pub(crate) fn attribution(report: &mut Report) {
    each(report, |case| {
        equal(
            "worthy",
            &op(&case["op"]).is_worthy(),
            &case["worthy"].as_bool().expect("a verdict"),
        )
    });
}
