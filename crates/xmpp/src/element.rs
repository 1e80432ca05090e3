//! Building elements and writing them.
//!
//! The writer is the only way from an [`Element`] to the wire. It refuses what an XML parser would refuse, so that a
//! bad character in one stanza costs that stanza and not the stream.

use minidom::Element;
use rxml::{Namespace, NcName, NcNameStr};

use crate::ns;

/// Deepest element that is written; readers refuse at 32.
const MAX_DEPTH: usize = 32;

/// Why an element cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A character that XML cannot carry.
    #[error("the text holds a character that XML cannot carry")]
    Character,
    /// A name that is no XML name.
    #[error("{0:?} is not an XML name")]
    Name(String),
    /// Nested deeper than any peer would read.
    #[error("nested deeper than {MAX_DEPTH} elements")]
    Depth,
    /// Longer than the peer accepts.
    #[error("{0} bytes is more than a stanza may have")]
    Size(usize),
}

/// Builds an element. The names are those of a protocol, known when the program is written.
#[derive(Debug, Clone)]
pub struct Build(Element);

/// Starts an element of the given name and namespace.
#[must_use]
pub fn element(name: &'static str, namespace: &'static str) -> Build {
    Build(Element::bare(name, namespace))
}

impl Build {
    /// Sets an attribute.
    #[must_use]
    pub fn attr(mut self, name: &'static str, value: impl Into<String>) -> Self {
        set_attr(&mut self.0, name, value);
        self
    }

    /// Sets an attribute if there is a value for it.
    #[must_use]
    pub fn attr_opt(self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Appends a child.
    #[must_use]
    pub fn child(mut self, child: impl Into<Element>) -> Self {
        self.0.append_child(child.into());
        self
    }

    /// Appends children.
    #[must_use]
    pub fn children<E: Into<Element>>(mut self, children: impl IntoIterator<Item = E>) -> Self {
        for child in children {
            self.0.append_child(child.into());
        }
        self
    }

    /// Appends text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.0.append_text(text);
        self
    }

    /// The element.
    #[must_use]
    pub fn done(self) -> Element {
        self.0
    }
}

impl From<Build> for Element {
    fn from(build: Build) -> Self {
        build.0
    }
}

/// Sets an attribute without a namespace, replacing an earlier value.
pub fn set_attr(element: &mut Element, name: &'static str, value: impl Into<String>) {
    let name = NcName::try_from(name).expect("attribute names of a protocol are XML names");
    element.attrs_mut().insert(Namespace::NONE, name, value.into());
}

/// Writes an element as it goes into a stream whose default namespace is `default_ns`.
/// `jabber:client` becomes `wire_ns` on the way.
pub fn encode(
    element: &Element,
    default_ns: &str,
    wire_ns: &'static str,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let written = write(element, default_ns, wire_ns, 1, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write(
    element: &Element,
    inherited: &str,
    wire_ns: &'static str,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if depth > MAX_DEPTH {
        return Err(EncodeError::Depth);
    }
    let own = element.ns();
    let namespace = if own == ns::CLIENT { wire_ns } else { own.as_str() };
    // The stream namespace is declared with its customary prefix on the header.
    let prefix = if namespace == ns::STREAM { "stream:" } else { "" };
    let name = element.name();
    check_name(name)?;
    out.push(b'<');
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(name.as_bytes());
    let inside = if prefix.is_empty() && namespace != inherited {
        write_attr("xmlns", namespace, out)?;
        namespace
    } else {
        inherited
    };
    write_attrs(element, out)?;
    if element.nodes().next().is_none() {
        out.extend_from_slice(b"/>");
        return Ok(());
    }
    out.push(b'>');
    for node in element.nodes() {
        if let Some(child) = node.as_element() {
            write(child, inside, wire_ns, depth + 1, out)?;
        } else if let Some(text) = node.as_text() {
            escape(text, false, out)?;
        }
    }
    out.extend_from_slice(b"</");
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    Ok(())
}

fn write_attrs(element: &Element, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    for (index, ((namespace, name), value)) in element.attrs().iter().enumerate() {
        let name: &str = name.as_ref();
        let namespace: &str = namespace.as_ref();
        if namespace.is_empty() {
            write_attr(name, value, out)?;
        } else if namespace == ns::XML {
            write_attr(&format!("xml:{name}"), value, out)?;
        } else {
            write_attr(&format!("xmlns:a{index}"), namespace, out)?;
            write_attr(&format!("a{index}:{name}"), value, out)?;
        }
    }
    Ok(())
}

/// Writes ` name='value'`.
pub(crate) fn write_attr(name: &str, value: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape(value, true, out)?;
    out.push(b'\'');
    Ok(())
}

fn check_name(name: &str) -> Result<(), EncodeError> {
    <&NcNameStr>::try_from(name)
        .map(|_| ())
        .map_err(|_| EncodeError::Name(name.chars().take(64).collect()))
}

/// Copies text, byte runs at a time, with the characters replaced that XML reserves or would normalise.
fn escape(text: &str, attribute: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let replacement: &[u8] = match byte {
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            b'&' => b"&amp;",
            b'\'' if attribute => b"&apos;",
            b'\n' if attribute => b"&#10;",
            b'\t' if attribute => b"&#9;",
            b'\r' => b"&#13;",
            b'\n' | b'\t' => continue,
            0..0x20 => return Err(EncodeError::Character),
            // U+FFFE and U+FFFF are the only three-byte characters that XML excludes.
            0xEF if matches!(bytes.get(at + 1..at + 3), Some([0xBF, 0xBE | 0xBF])) => {
                return Err(EncodeError::Character);
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(replacement);
        copied = at + 1;
    }
    out.extend_from_slice(&bytes[copied..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(element: &Element) -> String {
        let mut out = Vec::new();
        encode(element, ns::SERVER, ns::SERVER, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_stanza_takes_the_namespace_of_the_stream() {
        let message = element("message", ns::CLIENT)
            .attr("to", "acme.lab")
            .child(element("received", ns::RECEIPTS))
            .child(element("body", ns::CLIENT).text("a < b & 'c' ]]>"))
            .done();
        assert_eq!(
            written(&message),
            "<message to='acme.lab'><received xmlns='urn:xmpp:receipts'/><body>a &lt; b &amp; 'c' ]]&gt;</body></message>"
        );
    }

    #[test]
    fn what_xml_cannot_carry_is_refused_and_leaves_nothing_behind() {
        for bad in ["\0", "\u{1}", "\u{FFFE}", "a\u{FFFF}"] {
            let mut out = b"before".to_vec();
            let body = element("body", ns::CLIENT).text(bad).done();
            assert_eq!(
                encode(&body, ns::SERVER, ns::SERVER, &mut out),
                Err(EncodeError::Character)
            );
            assert_eq!(out, b"before");
        }
        assert_eq!(
            written(&element("a", ns::CLIENT).text("\u{FFFD}😀\r").done()),
            "<a>\u{FFFD}😀&#13;</a>"
        );
    }

    #[test]
    fn an_attribute_survives_quotes_and_newlines() {
        let given = element("a", ns::CLIENT).attr("v", "it's\n\"<&>\"\t").done();
        assert_eq!(written(&given), "<a v='it&apos;s&#10;\"&lt;&amp;&gt;\"&#9;'/>");
    }
}
