//! Reading pieces of stanzas: children, attributes, numbers, base64, names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use billow_model::{HashedVersion, HistoryHash, Version, WaveletName};
use billow_wire::{DecodeError, Encoded, Message};
use billow_xmpp::Element;
use bytes::Bytes;

use crate::error::FederationError;

/// The children of a local name, whatever their namespace (protocol.md §5.3).
pub(super) fn children<'a>(element: &'a Element, name: &'a str) -> impl Iterator<Item = &'a Element> {
    element.children().filter(move |child| child.name() == name)
}

/// The first child of a local name.
pub(super) fn child<'a>(element: &'a Element, name: &str, malformed: &str) -> Result<&'a Element, FederationError> {
    element
        .children()
        .find(|child| child.name() == name)
        .ok_or_else(|| missing(malformed, name))
}

/// A chain of first children.
pub(super) fn descend<'a>(
    element: &'a Element,
    path: &[&str],
    malformed: &str,
) -> Result<&'a Element, FederationError> {
    path.iter()
        .try_fold(element, |element, name| child(element, name, malformed))
}

pub(super) fn attr<'a>(element: &'a Element, name: &'static str, malformed: &str) -> Result<&'a str, FederationError> {
    element.attr(name).ok_or_else(|| missing(malformed, name))
}

fn missing(malformed: &str, what: &str) -> FederationError {
    FederationError::bad_request(format!("{malformed}: {what} is missing"))
}

/// Standard base64 with padding; white space is passed over, anything else is refused.
pub(super) fn base64(text: &str, malformed: &str) -> Result<Bytes, FederationError> {
    let decoded = if text.contains(|c: char| c.is_ascii_whitespace()) {
        STANDARD.decode(text.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>())
    } else {
        STANDARD.decode(text)
    };
    decoded
        .map(Bytes::from)
        .map_err(|error| FederationError::bad_request(format!("{malformed}: not base64 ({error})")))
}

pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A version or a time: plain decimal digits.
pub(super) fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, FederationError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(FederationError::bad_request(format!("Invalid format of {what}")));
    }
    text.parse()
        .map_err(|_| FederationError::bad_request(format!("Invalid format of {what}")))
}

/// The highest version that may be named, as in the deltas.
const MAX_VERSION: u64 = 1 << 52;

pub(super) fn version(text: &str, what: &str) -> Result<Version, FederationError> {
    let number: u64 = number(text, what)?;
    if number > MAX_VERSION {
        return Err(FederationError::bad_request(format!("Invalid format of {what}")));
    }
    Ok(Version::new(number))
}

/// A version and its hash from two attributes.
pub(super) fn hashed_version(
    element: &Element,
    (version_name, hash_name): (&'static str, &'static str),
    malformed: &str,
) -> Result<HashedVersion, FederationError> {
    let version = version(attr(element, version_name, malformed)?, version_name)?;
    let hash = history_hash(attr(element, hash_name, malformed)?, malformed)?;
    Ok(HashedVersion { version, hash })
}

pub(super) fn history_hash(text: &str, malformed: &str) -> Result<HistoryHash, FederationError> {
    base64(text, malformed).map(|bytes| HistoryHash::from_bytes(&bytes))
}

/// A name that may be federated; others could be read, but neither stored nor found again (protocol.md §1.7).
pub(super) fn wavelet_name(element: &Element, malformed: &str) -> Result<WaveletName, FederationError> {
    let uri = attr(element, "wavelet-name", malformed)?;
    let name = WaveletName::from_uri(uri)
        .map_err(|error| FederationError::bad_request(format!("Malformed wavelet name: {error}")))?;
    if !name.is_modern() {
        Err(FederationError::bad_request(
            "Malformed wavelet name: its ids are of the old form, which is not federated",
        ))
    } else if !name.is_acceptable() {
        Err(FederationError::bad_request(
            "Malformed wavelet name: an id is too long, or holds characters that cannot be seen",
        ))
    } else {
        Ok(name)
    }
}

/// The text of an element as the message that it should be.
pub(super) fn message<T: Message>(element: &Element, malformed: &str) -> Result<Encoded<T>, FederationError> {
    let bytes = base64(&element.text(), malformed)?;
    Encoded::decode(bytes).map_err(|error: DecodeError| FederationError::bad_request(format!("{malformed}: {error}")))
}
