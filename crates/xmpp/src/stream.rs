//! What frames a stream: its header, its limits, and the errors that end it (RFC 6120 §4).

use minidom::Element;

use crate::element::{element, encode, write_attr};
use crate::{Domain, ns};

/// How much a peer may make us hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one stanza, and of the header.
    pub bytes: usize,
    /// Elements within one another, the stanza being the first.
    pub depth: usize,
    /// Elements of one stanza: an element takes far more memory than the four bytes it may have on the wire.
    pub elements: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Bytes of the name of an element or attribute, its prefix included.
    pub name: usize,
}

impl Limits {
    /// For peers that have not said who they are.
    pub const BEFORE_AUTH: Self = Self {
        bytes: 64 << 10,
        depth: 32,
        elements: 128,
        attributes: 64,
        name: 1 << 10,
    };
    /// For peers that have.
    pub const AFTER_AUTH: Self = Self {
        bytes: 512 << 10,
        depth: 32,
        elements: 16_384,
        attributes: 64,
        name: 1 << 10,
    };
}

/// The opening of a stream as a peer sent it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamHeader {
    /// Who the peer says it is.
    pub from: Option<String>,
    /// Whom it wants.
    pub to: Option<String>,
    /// Its id for the stream.
    pub id: Option<String>,
    /// Major and minor version.
    pub version: Option<(u32, u32)>,
    /// Whether it declares the prefix of server dialback.
    pub dialback: bool,
}

macro_rules! stream_conditions {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// Why a stream ends (RFC 6120 §4.9.3).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum StreamCondition {
            $(#[doc = $name] $variant,)*
        }

        impl StreamCondition {
            /// The name on the wire.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            fn by_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

stream_conditions! {
    BadFormat "bad-format",
    BadNamespacePrefix "bad-namespace-prefix",
    Conflict "conflict",
    ConnectionTimeout "connection-timeout",
    HostGone "host-gone",
    HostUnknown "host-unknown",
    ImproperAddressing "improper-addressing",
    InternalServerError "internal-server-error",
    InvalidFrom "invalid-from",
    InvalidNamespace "invalid-namespace",
    InvalidXml "invalid-xml",
    NotAuthorized "not-authorized",
    NotWellFormed "not-well-formed",
    PolicyViolation "policy-violation",
    RemoteConnectionFailed "remote-connection-failed",
    Reset "reset",
    ResourceConstraint "resource-constraint",
    RestrictedXml "restricted-xml",
    SeeOtherHost "see-other-host",
    SystemShutdown "system-shutdown",
    UndefinedCondition "undefined-condition",
    UnsupportedEncoding "unsupported-encoding",
    UnsupportedFeature "unsupported-feature",
    UnsupportedStanzaType "unsupported-stanza-type",
    UnsupportedVersion "unsupported-version",
}

/// A stream error: sent, it ends the stream; received, it says why the stream ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", condition.name(), if text.is_empty() { String::new() } else { format!(" ({text})") })]
pub struct StreamError {
    /// What it is.
    pub condition: StreamCondition,
    /// For people.
    pub text: String,
}

impl StreamError {
    /// A stream error.
    #[must_use]
    pub fn new(condition: StreamCondition, text: impl Into<String>) -> Self {
        Self {
            condition,
            text: text.into(),
        }
    }

    /// Reads a `stream:error` element.
    #[must_use]
    pub fn parse(error: &Element) -> Self {
        let mut named = error.children().filter(|child| child.has_ns(ns::STREAM_ERRORS));
        let condition = named.find_map(|child| StreamCondition::by_name(child.name()));
        let text = error
            .get_child("text", ns::STREAM_ERRORS)
            .map(Element::text)
            .unwrap_or_default();
        let condition = condition.unwrap_or(StreamCondition::UndefinedCondition);
        Self {
            condition,
            text: text.chars().filter(|c| !c.is_control()).take(300).collect(),
        }
    }

    /// The `stream:error` element.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let text = (!self.text.is_empty()).then(|| element("text", ns::STREAM_ERRORS).text(&self.text));
        element("error", ns::STREAM)
            .child(Element::bare(self.condition.name(), ns::STREAM_ERRORS))
            .children(text)
            .done()
    }
}

/// Writes the header of a stream of ours. `xmlns:db` is always declared: Openfire asks for it.
pub(crate) fn write_header(from: &Domain, to: Option<&Domain>, id: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
    let attrs = [
        ("xmlns", Some(ns::SERVER)),
        ("xmlns:stream", Some(ns::STREAM)),
        ("xmlns:db", Some(ns::DIALBACK)),
        ("id", id),
        ("from", Some(from.as_str())),
        ("to", to.map(Domain::as_str)),
        ("version", Some("1.0")),
    ];
    for (name, value) in attrs {
        if let Some(value) = value {
            write_attr(name, value, out).expect("domains and our own ids hold no control characters");
        }
    }
    out.push(b'>');
}

/// Writes the header of a component's stream. It has neither a version nor who we are (XEP-0114 §3): the name is
/// in `to`.
pub(crate) fn write_component_header(name: &Domain, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
    for (attr, value) in [
        ("xmlns", ns::COMPONENT),
        ("xmlns:stream", ns::STREAM),
        ("to", name.as_str()),
    ] {
        write_attr(attr, value, out).expect("domains hold no control characters");
    }
    out.push(b'>');
}

/// Writes an element of ours that belongs to the stream and not to a stanza.
pub(crate) fn write_element(element: &Element, out: &mut Vec<u8>) {
    encode(element, ns::SERVER, ns::SERVER, out).expect("elements of the protocol hold only what was checked");
}

/// The end of a stream.
pub(crate) const FOOTER: &[u8] = b"</stream:stream>";
