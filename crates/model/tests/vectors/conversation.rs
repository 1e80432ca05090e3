//! The operations per user action, as the reference's models emit them. Actions that a builder of ours makes are built on
//! the state and compared; all are applied, and the end states compared.

use std::collections::BTreeMap;

use billow_model::conversation::{
    Place, add_inline_thread, add_thread, append_blip, delete_blip, empty_blip, insert_blip_before, mark_blip_read,
    mark_wavelet_read, merged, start_conversation,
};
use billow_model::doc::edit;
use billow_model::{
    Document, DocumentId, ParticipantId, Timestamp, TransformedDelta, Version, WaveId, Wavelet, WaveletId, WaveletName,
    WaveletOp,
};
use serde_json::Value;

use crate::codec::{string, wavelet_ops};
use crate::files::{Report, equal};
use crate::xml::xml;

type Built = Result<Vec<WaveletOp>, String>;

pub(crate) fn model_ops(report: &mut Report) {
    let mut wavelets: BTreeMap<String, Wavelet> = BTreeMap::new();
    let mut built = 0;
    for case in report.cases() {
        let (id, action) = (string(&case["wavelet"]), string(&case["action"]));
        let wavelet = wavelets.entry(id.to_owned()).or_insert_with(|| wavelet(id));
        let outcome = if action == "FINAL STATE" {
            final_state(wavelet, &case["documents_xml"])
        } else {
            let expected = wavelet_ops(&case["ops"]);
            let compared = build(wavelet, action).map_or(Ok(()), |ours| {
                built += 1;
                let ours = ours?;
                equal("operations", &ours, &expected)?;
                merged_does_the_same(wavelet, ours)
            });
            compared.and_then(|()| apply(wavelet, expected))
        };
        report.case(&format!("{id} {action}"), outcome);
    }
    report.note(format!("{built} built and compared, the others applied"));
}

fn wavelet(id: &str) -> Wavelet {
    let domain: billow_model::Domain = "example.com".parse().expect("a domain");
    let wave = WaveId::new(domain.clone(), "w+seed").expect("an id");
    Wavelet::new(WaveletName::new(wave, WaveletId::new(domain, id).expect("an id")))
}

fn alice() -> ParticipantId {
    "alice@example.com".parse().expect("an address")
}

fn apply(wavelet: &mut Wavelet, ops: Vec<WaveletOp>) -> Result<(), String> {
    let delta = TransformedDelta {
        author: alice(),
        applied_at: wavelet.version(),
        ops,
        timestamp: Timestamp(1),
    };
    wavelet.apply(&delta).map_err(|error| error.to_string())
}

/// One operation for each document leads to the same state.
fn merged_does_the_same(wavelet: &Wavelet, ops: Vec<WaveletOp>) -> Result<(), String> {
    let (mut stepwise, mut at_once) = (wavelet.clone(), wavelet.clone());
    apply(&mut stepwise, ops.clone())?;
    apply(&mut at_once, merged(ops).map_err(|error| error.to_string())?)?;
    equal("digest after merging", &at_once.digest(), &stepwise.digest())
}

fn id(text: &str) -> DocumentId {
    DocumentId::new(text).expect("an id")
}

fn document(wavelet: &Wavelet, name: &str) -> Document {
    wavelet
        .document(&id(name))
        .map_or_else(Document::new, |(document, _)| document.clone())
}

fn one(name: &str, op: Result<billow_model::DocOp, billow_model::doc::IllFormed>) -> Built {
    Ok(vec![WaveletOp::MutateDocument {
        id: id(name),
        op: op.map_err(|error| error.to_string())?,
    }])
}

fn text<E: std::fmt::Display>(ops: Result<Vec<WaveletOp>, E>) -> Built {
    ops.map_err(|error| error.to_string())
}

/// What our builders make of an action, if one does.
fn build(wavelet: &Wavelet, action: &str) -> Option<Built> {
    let root: WaveletId = "example.com/conv+root".parse().expect("an id");
    let append = |place, blip| text(append_blip(wavelet, place, &id(blip), empty_blip()));
    let read = |blip, version| {
        text(mark_blip_read(
            &document(wavelet, "m/read"),
            &root,
            &id(blip),
            Version::new(version),
        ))
    };
    let blip = document(wavelet, "b+seedA");
    let seed = |op| one("b+seedA", op);
    let tags = document(wavelet, "tags");
    let tag = |at, name: &str| {
        let content = vec![billow_model::Component::Characters(name.to_owned())];
        one("tags", edit::insert(&tags, at, edit::element("tag", &[], content)))
    };
    Some(match action {
        "create wave: root conversation wavelet (creator added, manifest initialised)"
        | "create a second (private reply) conversation wavelet" => Ok(start_conversation(&alice())),
        "append first blip to root thread" => append(Place::Root, "b+seedA"),
        "append second blip to root thread" => append(Place::Root, "b+seedB"),
        "add reply thread to first blip" => text(add_thread(wavelet, &id("b+seedA"), "b+seedC")),
        "append blip to reply thread" => append(Place::Thread("b+seedC"), "b+seedC"),
        "add inline reply thread to first blip at location 6" => {
            text(add_inline_thread(wavelet, &id("b+seedA"), 6, "b+seedD"))
        }
        "append blip to inline reply thread" => append(Place::Thread("b+seedD"), "b+seedD"),
        "insert blip before second blip in root thread" => text(insert_blip_before(
            wavelet,
            &id("b+seedB"),
            &id("b+seedE"),
            empty_blip(),
        )),
        "delete the only blip of the reply thread (removes the thread)" => text(delete_blip(wavelet, &id("b+seedC"))),
        "delete inline reply thread" => text(delete_blip(wavelet, &id("b+seedD"))),
        "delete second blip" => text(delete_blip(wavelet, &id("b+seedB"))),
        "annotate [3,8) style/fontWeight=bold" => seed(edit::annotate(&blip, 3, 8, "style/fontWeight", Some("bold"))),
        "annotate [3,8) link/manual" => seed(edit::annotate(&blip, 3, 8, "link/manual", Some("http://example.com/"))),
        "delete items [4,10) (crosses annotations)" => seed(edit::delete(&blip, 4, 10)),
        "set attribute i=2 on last line" => seed(edit::set_attribute(&blip, 18, "i", Some("2"))),
        "remove attribute t from last line" => seed(edit::set_attribute(&blip, 18, "t", None)),
        "insert text at 4 inside annotated range" => seed(edit::insert(
            &blip,
            4,
            vec![billow_model::Component::Characters("日本".to_owned())],
        )),
        "add tag first" => tag(0, "first"),
        "add tag second" => tag(7, "second"),
        "insert tag zeroth at 0" => tag(0, "zeroth"),
        "delete tag first" => one("tags", edit::delete(&tags, 8, 15)),
        "delete tag 0" => one("tags", edit::delete(&tags, 0, 8)),
        "mark blip b+1 read at 5" => read("b+1", 5),
        "mark blip b+1 read at 9" => read("b+1", 9),
        "mark blip b+1 read at 7 (older, no effect)" => read("b+1", 7),
        "mark blip b+2 read at 10" => read("b+2", 10),
        "mark blip b+1 read at 15 (covered by wavelet)" => read("b+1", 15),
        "mark wavelet read at 20" => text(mark_wavelet_read(&document(wavelet, "m/read"), &root, Version::new(20))),
        _ => return None,
    })
}

fn final_state(wavelet: &Wavelet, documents: &Value) -> Result<(), String> {
    for (name, expected) in documents.as_object().expect("documents") {
        equal(name, &xml(&document(wavelet, name)).as_str(), &string(expected))?;
    }
    Ok(())
}
