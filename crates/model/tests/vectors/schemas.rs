//! Validity: well-formed, fits the document, keeps to the schema; the most severe finding is the verdict.

use billow_model::DocOp;
use billow_model::doc::schema::Schema;
use serde_json::Value;

use crate::codec::{components, document, string};
use crate::files::{Report, equal};

/// Text beyond U+FFFF is ill-formed for the reference and allowed here: an item is a Unicode scalar value, so that people
/// can write emoji. With each case, the verdict without the reference's rule (other faults of the case stay faults).
const SUPPLEMENTARY: [(&str, &str); 34] = [
    ("v154", "VALID"),
    ("v293", "VALID"),
    ("v324", "INVALID_DOCUMENT"),
    ("v631", "VALID"),
    ("v729", "INVALID_DOCUMENT"),
    ("v748", "VALID"),
    ("v1481", "VALID"),
    ("v1498", "VALID"),
    ("v1540", "INVALID_DOCUMENT"),
    ("v1554", "INVALID_DOCUMENT"),
    ("v1556", "VALID"),
    ("v2224", "VALID"),
    ("v2296", "VALID"),
    ("v2429", "VALID"),
    ("v2625", "VALID"),
    ("v2654", "VALID"),
    ("v2664", "VALID"),
    ("v2704", "VALID"),
    ("v2874", "INVALID_DOCUMENT"),
    ("v2877", "VALID"),
    ("v2926", "VALID"),
    ("v3102", "INVALID_DOCUMENT"),
    ("v3180", "VALID"),
    ("v3271", "VALID"),
    ("v3414", "INVALID_DOCUMENT"),
    ("v5087", "VALID"),
    ("v5400", "VALID"),
    ("v5406", "VALID"),
    ("v5412", "VALID"),
    ("v5430", "VALID"),
    ("v5436", "VALID"),
    ("v5448", "VALID"),
    ("v5454", "VALID"),
    ("v5460", "VALID"),
];

pub(crate) fn validity(report: &mut Report) {
    let mut allowed = 0;
    for case in report.cases() {
        let id = string(&case["id"]);
        let verdict = verdict(&case);
        let expected = string(&case["verdict"]);
        let exception = SUPPLEMENTARY.iter().find(|(other, _)| *other == id);
        let outcome = match (exception, expected) {
            (Some((_, ours)), _) => {
                allowed += 1;
                equal(
                    "the violation is of the rule on surrogates",
                    &string(&case["violation"]).contains("surrogate"),
                    &true,
                )
                .and_then(|()| equal("verdict without it", &verdict, ours))
            }
            // The reference threw; what matters is that the operation is refused.
            (None, "EXCEPTION") => equal("refused", &(verdict != "VALID"), &true),
            (None, expected) => equal("verdict", &verdict, &expected).map_err(|error| format!("{error}\n  {case}")),
        };
        report.case(id, outcome);
    }
    report.note(format!("{allowed} with text beyond U+FFFF judged by our rule"));
}

fn verdict(case: &Value) -> &'static str {
    let document = document(&case["doc"]);
    let Ok(op) = components(&case["op"]).and_then(DocOp::new) else {
        return "ILL_FORMED";
    };
    if document.check(&op).is_err() {
        return "INVALID_DOCUMENT";
    }
    if schema(string(&case["schema"])).check(&document, &op).is_err() {
        "INVALID_SCHEMA"
    } else {
        "VALID"
    }
}

fn schema(name: &str) -> Schema {
    match name {
        "none" => Schema::None,
        "blip" => Schema::Blip,
        "manifest" => Schema::Manifest,
        "roles" => Schema::Roles,
        "udw-read" => Schema::Read,
        "udw-folder" => Schema::Folder,
        "udw-archive" => Schema::Archive,
        "udw-mute" => Schema::Muted,
        "udw-cleared" => Schema::Cleared,
        "udw-presentation" => Schema::Presentation,
        "udw-seen" => Schema::Seen,
        "udw-gadget" => Schema::Gadgets,
        "udw-abuse" => Schema::Abuse,
        other => panic!("an unknown schema {other}"),
    }
}
