//! Who is where in a wavelet right now, between Billow servers: a message that nobody keeps, signs or acknowledges.

use billow_model::{DocumentId, ParticipantId, Version, WaveletName};
use billow_xmpp::{Element, Jid, Message, element};

use super::read;
use crate::error::FederationError;
use crate::ns;

const MALFORMED: &str = "Malformed presence";
/// Longest session name that is read.
const MAX_SESSION: usize = 64;

/// Where somebody's caret is. It travels both ways: from a remote to the host, and from the host to all other remotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The wavelet.
    pub name: WaveletName,
    /// Who.
    pub address: ParticipantId,
    /// One of their open clients.
    pub session: String,
    /// The version that the positions count in.
    pub version: Version,
    /// The caret; none: here, but nowhere in particular.
    pub caret: Option<Caret>,
    /// Whether they are writing.
    pub typing: bool,
    /// They have gone; the rest says only who.
    pub gone: bool,
}

/// A caret or a selection in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caret {
    /// Which document.
    pub document: DocumentId,
    /// Where the selection was begun, in items.
    pub anchor: u64,
    /// Where the caret is, in items.
    pub focus: u64,
}

/// The message that carries a presence. It has no id, because it is never answered.
#[must_use]
pub fn message(from: Jid, to: Jid, presence: &Presence) -> Message {
    let caret = presence.caret.as_ref().map(|caret| {
        element("caret", ns::PRESENCE)
            .attr("document", caret.document.as_str())
            .attr("anchor", caret.anchor.to_string())
            .attr("focus", caret.focus.to_string())
    });
    let presence = element("presence", ns::PRESENCE)
        .attr("wavelet-name", presence.name.to_uri())
        .attr("address", presence.address.as_str())
        .attr("session", &presence.session)
        .attr("version", presence.version.to_string())
        .attr_opt("typing", presence.typing.then_some("true"))
        .attr_opt("gone", presence.gone.then_some("true"))
        .children(caret);
    Message {
        id: None,
        ..Message::new(from, to, "")
    }
    .with(presence)
}

/// Reads a presence.
pub fn parse(presence: &Element) -> Result<Presence, FederationError> {
    let refused = |what: String| FederationError::bad_request(format!("{MALFORMED}: {what}"));
    let address = read::attr(presence, "address", MALFORMED)?;
    let session = read::attr(presence, "session", MALFORMED)?;
    if session.is_empty() || session.len() > MAX_SESSION {
        return Err(refused(format!("expected a session of 1 to {MAX_SESSION} bytes")));
    }
    let flag = |name: &str| presence.attr(name) == Some("true");
    let caret = presence
        .children()
        .find(|child| child.name() == "caret")
        .map(parse_caret)
        .transpose()?;
    Ok(Presence {
        name: read::wavelet_name(presence, MALFORMED)?,
        address: address
            .parse()
            .map_err(|error: billow_model::ParseParticipantError| refused(error.to_string()))?,
        session: session.to_owned(),
        version: read::version(read::attr(presence, "version", MALFORMED)?, "version")?,
        caret,
        typing: flag("typing"),
        gone: flag("gone"),
    })
}

fn parse_caret(caret: &Element) -> Result<Caret, FederationError> {
    let document = read::attr(caret, "document", MALFORMED)?;
    let position = |name| read::number(read::attr(caret, name, MALFORMED)?, name);
    Ok(Caret {
        document: DocumentId::new(document)
            .map_err(|error| FederationError::bad_request(format!("{MALFORMED}: {error}")))?,
        anchor: position("anchor")?,
        focus: position("focus")?,
    })
}
