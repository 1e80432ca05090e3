//! Certificate chains: asked for (an iq of type get) and posted (an iq of type set), remote → host (protocol.md §5.13, §5.14).

use billow_wire::exchange::SignerRequest;
use billow_wire::{HashAlgorithm, SignerId, SignerInfo};
use billow_xmpp::{Element, element};
use bytes::Bytes;

use super::read;
use crate::error::FederationError;
use crate::ns;

const MALFORMED: &str = "Malformed signer request";
const MALFORMED_POST: &str = "Malformed post signer request";
const MALFORMED_RESPONSE: &str = "Bad getDeltaSignatureRequest response";
/// More certificates than any chain may have are not even decoded.
const MAX_CERTIFICATES: usize = 32;

/// The payload of the request for a chain.
#[must_use]
pub fn get(request: &SignerRequest) -> Element {
    let request = element("signer-request", ns::WAVE)
        .attr("signer-id", read::to_base64(request.signer.as_bytes()))
        .attr("history-hash", read::to_base64(request.at.hash.as_bytes()))
        .attr("version", request.at.version.to_string())
        .attr("wavelet-name", request.name.to_uri());
    let items = element("items", ns::PUBSUB).attr("node", "signer").child(request);
    element("pubsub", ns::PUBSUB).child(items).done()
}

/// Reads the payload of a request for a chain.
pub fn parse_get(pubsub: &Element) -> Result<SignerRequest, FederationError> {
    let request = read::descend(pubsub, &["items", "signer-request"], MALFORMED)?;
    let signer = read::base64(read::attr(request, "signer-id", MALFORMED)?, MALFORMED)?;
    Ok(SignerRequest {
        name: read::wavelet_name(request, MALFORMED)?,
        signer: SignerId::from_bytes(&signer),
        at: read::hashed_version(request, ("version", "history-hash"), MALFORMED)?,
    })
}

/// The payload of the answer with a chain: right under `items`, without an `item`.
#[must_use]
pub fn get_response(info: &SignerInfo) -> Element {
    element("pubsub", ns::PUBSUB)
        .child(element("items", ns::PUBSUB).child(signature(info)))
        .done()
}

/// Reads the payload of an answer with a chain.
pub fn parse_get_response(pubsub: &Element) -> Result<SignerInfo, FederationError> {
    parse_signature(
        read::descend(pubsub, &["items", "signature"], MALFORMED_RESPONSE)?,
        MALFORMED_RESPONSE,
    )
}

/// The payload that posts a chain.
#[must_use]
pub fn post(info: &SignerInfo) -> Element {
    let item = element("item", ns::PUBSUB).child(signature(info));
    element("pubsub", ns::PUBSUB)
        .child(element("publish", ns::PUBSUB).attr("node", "signer").child(item))
        .done()
}

/// Reads the payload that posts a chain.
pub fn parse_post(pubsub: &Element) -> Result<SignerInfo, FederationError> {
    parse_signature(
        read::descend(pubsub, &["publish", "item", "signature"], MALFORMED_POST)?,
        MALFORMED_POST,
    )
}

/// The payload of the answer to a post.
#[must_use]
pub fn post_response() -> Element {
    let item = element("item", ns::PUBSUB)
        .attr("node", "signer")
        .child(element("signature-response", ns::WAVE));
    element("pubsub", ns::PUBSUB)
        .child(element("publish", ns::PUBSUB).child(item))
        .done()
}

/// Reads the payload of an answer to a post.
pub fn parse_post_response(pubsub: &Element) -> Result<(), FederationError> {
    read::descend(pubsub, &["publish", "item", "signature-response"], "No valid response").map(|_| ())
}

fn signature(info: &SignerInfo) -> Element {
    let algorithm = match info.hash {
        HashAlgorithm::Sha256 => "SHA256",
        HashAlgorithm::Sha512 => "SHA512",
    };
    let certificates = info
        .certificates
        .iter()
        .map(|der| element("certificate", ns::WAVE).text(read::to_base64(der)));
    element("signature", ns::WAVE)
        .attr("domain", info.domain.as_str())
        .attr("algorithm", algorithm)
        .children(certificates)
        .done()
}

fn parse_signature(signature: &Element, malformed: &str) -> Result<SignerInfo, FederationError> {
    let refused = |what: String| FederationError::bad_request(format!("{malformed}: {what}"));
    let domain = read::attr(signature, "domain", malformed)?;
    let algorithm = read::attr(signature, "algorithm", malformed)?;
    let hash = match algorithm.to_ascii_uppercase().as_str() {
        "SHA256" => HashAlgorithm::Sha256,
        "SHA512" => HashAlgorithm::Sha512,
        _ => return Err(refused("expected the algorithm SHA256 or SHA512".into())),
    };
    let list: Vec<&Element> = read::children(signature, "certificate")
        .take(MAX_CERTIFICATES + 1)
        .collect();
    if list.is_empty() || list.len() > MAX_CERTIFICATES {
        return Err(refused("expected the certificates of a chain".into()));
    }
    let certificates: Vec<Bytes> = list
        .iter()
        .map(|der| read::base64(&der.text(), malformed))
        .collect::<Result<_, _>>()?;
    if certificates.iter().any(Bytes::is_empty) {
        return Err(refused("an empty certificate".into()));
    }
    Ok(SignerInfo {
        hash,
        domain: domain
            .parse()
            .map_err(|error: billow_model::ParseIdError| refused(error.to_string()))?,
        certificates,
    })
}
