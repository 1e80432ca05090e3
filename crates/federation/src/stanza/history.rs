//! Asking for history: remote → host, an iq of type get (protocol.md §5.11).

use billow_wire::exchange::{HistoryRequest, HistoryResponse};
use billow_xmpp::{Element, element};

use super::read;
use crate::error::FederationError;
use crate::ns;

const MALFORMED: &str = "Malformed history request";
const MALFORMED_RESPONSE: &str = "Malformed history response";
const START: (&str, &str) = ("start-version", "start-version-hash");
const END: (&str, &str) = ("end-version", "end-version-hash");

/// The payload of the request.
#[must_use]
pub fn request(history: &HistoryRequest) -> Element {
    let request = element("delta-history", ns::WAVE)
        .attr("start-version", history.from.version.to_string())
        .attr("start-version-hash", read::to_base64(history.from.hash.as_bytes()))
        .attr("end-version", history.to.version.to_string())
        .attr("end-version-hash", read::to_base64(history.to.hash.as_bytes()))
        .attr_opt("response-length-limit", history.limit.map(|limit| limit.to_string()))
        .attr("wavelet-name", history.name.to_uri());
    let items = element("items", ns::PUBSUB).attr("node", "wavelet").child(request);
    element("pubsub", ns::PUBSUB).child(items).done()
}

/// Reads the payload of a request. An empty or reversed range is refused here (the reference would not answer at all).
pub fn parse_request(pubsub: &Element) -> Result<HistoryRequest, FederationError> {
    let request = read::descend(pubsub, &["items", "delta-history"], MALFORMED)?;
    let name = read::wavelet_name(request, MALFORMED)?;
    let from = read::hashed_version(request, START, MALFORMED)?;
    let to = read::hashed_version(request, END, MALFORMED)?;
    if from.version >= to.version {
        return Err(FederationError::bad_request(format!("{MALFORMED}: the range is empty")));
    }
    let limit = request
        .attr("response-length-limit")
        .map(|text| read::number::<i64>(text, "response length limit"))
        .transpose()?;
    // One of 0 or less is none: the reference counts so.
    let limit = limit
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    Ok(HistoryRequest { name, from, to, limit })
}

/// The payload of the answer: an item for each delta, then for what is committed and where it was cut.
#[must_use]
pub fn response(history: &HistoryResponse) -> Element {
    let item = |child: Element| element("item", ns::PUBSUB).child(child);
    let deltas = history.deltas.iter().map(|delta| {
        element("applied-delta", ns::WAVE)
            .text(read::to_base64(delta.bytes()))
            .done()
    });
    let version =
        |name, version: billow_model::Version| element(name, ns::WAVE).attr("version", version.to_string()).done();
    let committed = history.committed.map(|at| version("commit-notice", at));
    let truncated = history.truncated.map(|at| version("history-truncated", at));
    let items = element("items", ns::PUBSUB).children(deltas.chain(committed).chain(truncated).map(item));
    element("pubsub", ns::PUBSUB).child(items).done()
}

/// Reads the payload of an answer. The two versions are told on as they are; the reference's say nothing (protocol.md T4).
pub fn parse_response(pubsub: &Element) -> Result<HistoryResponse, FederationError> {
    let items = read::child(pubsub, "items", MALFORMED_RESPONSE)?;
    let mut history = HistoryResponse {
        deltas: Vec::new(),
        committed: None,
        truncated: None,
    };
    for entry in items.children().flat_map(Element::children) {
        let version = || read::version(read::attr(entry, "version", MALFORMED_RESPONSE)?, "version");
        match entry.name() {
            "applied-delta" => history.deltas.push(read::message(entry, MALFORMED_RESPONSE)?),
            "commit-notice" => history.committed = Some(version()?),
            "history-truncated" => history.truncated = Some(version()?),
            _ => {}
        }
    }
    Ok(history)
}
