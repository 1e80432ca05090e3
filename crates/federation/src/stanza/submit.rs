//! Submitting a delta: remote → host, an iq of type set (protocol.md §5.12).

use billow_model::Timestamp;
use billow_wire::exchange::{SubmitRequest, SubmitResponse};
use billow_xmpp::{Element, element};

use super::read;
use crate::error::FederationError;
use crate::ns;

const MALFORMED: &str = "Malformed submit request";
const MALFORMED_RESPONSE: &str = "Invalid submitResponse";

/// The payload of the request.
#[must_use]
pub fn request(submit: &SubmitRequest) -> Element {
    let delta = element("delta", ns::WAVE)
        .attr("wavelet-name", submit.name.to_uri())
        .text(read::to_base64(submit.delta.bytes()));
    let request = element("submit-request", ns::WAVE).child(delta);
    let publish = element("publish", ns::PUBSUB)
        .attr("node", "wavelet")
        .child(element("item", ns::PUBSUB).child(request));
    element("pubsub", ns::PUBSUB).child(publish).done()
}

/// Reads the payload of a request.
pub fn parse_request(pubsub: &Element) -> Result<SubmitRequest, FederationError> {
    let delta = read::descend(pubsub, &["publish", "item", "submit-request", "delta"], MALFORMED)?;
    Ok(SubmitRequest {
        name: read::wavelet_name(delta, MALFORMED)?,
        delta: read::message(delta, "Malformed delta")?,
    })
}

/// The payload of the answer.
#[must_use]
pub fn response(response: &SubmitResponse) -> Element {
    let version = element("hashed-version", ns::WAVE)
        .attr("history-hash", read::to_base64(response.resulting.hash.as_bytes()))
        .attr("version", response.resulting.version.to_string());
    let response = element("submit-response", ns::WAVE)
        .attr("application-timestamp", response.timestamp.0.to_string())
        .attr("operations-applied", response.operations_applied.to_string())
        .child(version);
    let publish = element("publish", ns::PUBSUB).child(element("item", ns::PUBSUB).child(response));
    element("pubsub", ns::PUBSUB).child(publish).done()
}

/// Reads the payload of an answer.
pub fn parse_response(pubsub: &Element) -> Result<SubmitResponse, FederationError> {
    let response = read::descend(pubsub, &["publish", "item", "submit-response"], MALFORMED_RESPONSE)?;
    let timestamp = read::attr(response, "application-timestamp", MALFORMED_RESPONSE)?;
    let operations = read::attr(response, "operations-applied", MALFORMED_RESPONSE)?;
    let version = read::child(response, "hashed-version", MALFORMED_RESPONSE)?;
    Ok(SubmitResponse {
        operations_applied: read::number(operations, "operations-applied")?,
        resulting: read::hashed_version(version, ("version", "history-hash"), MALFORMED_RESPONSE)?,
        timestamp: Timestamp(read::number(timestamp, "application-timestamp")?),
    })
}
