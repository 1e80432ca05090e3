//! XMPP ping (XEP-0199).

use minidom::Element;

use crate::{element, ns};

/// The payload of a ping.
#[must_use]
pub fn request() -> Element {
    element("ping", ns::PING).done()
}

/// Whether the payload of an `iq` of type `get` is a ping; it is answered with an empty result.
#[must_use]
pub fn is_request(payload: &Element) -> bool {
    payload.is("ping", ns::PING)
}
