//! The wavelet update: host → remote, a message (protocol.md §5.9, §5.10).

use billow_model::{HashedVersion, WaveletName};
use billow_wire::exchange::{CommitNotice, WaveletUpdate};
use billow_xmpp::{Element, Jid, Message, element, receipts};
use bytes::Bytes;

use super::read;
use crate::error::FederationError;
use crate::ns;

const MALFORMED: &str = "Malformed wavelet update";

/// An update to be sent. Several deltas go into one `wavelet-update`: a receiver may read only the first of an item (protocol.md T6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Which wavelet.
    pub name: &'a WaveletName,
    /// The bytes of the applied deltas, in order.
    pub deltas: &'a [Bytes],
    /// What is on disk here.
    pub commit: Option<&'a HashedVersion>,
    /// The digest of the documents at the committed version, for a Billow peer.
    pub digest: Option<[u8; 32]>,
}

/// The message that carries an update and asks for a receipt.
#[must_use]
pub fn message(from: Jid, to: Jid, id: String, update: &Outgoing<'_>) -> Message {
    let deltas = update
        .deltas
        .iter()
        .map(|bytes| element("applied-delta", ns::WAVE).text(read::to_base64(bytes)));
    let commit = update.commit.map(|version| {
        let digest = update
            .digest
            .map(|digest| element("digest", ns::DIGEST).text(read::to_base64(&digest)));
        element("commit-notice", ns::WAVE)
            .attr("version", version.version.to_string())
            .attr("history-hash", read::to_base64(version.hash.as_bytes()))
            .children(digest)
    });
    let update = element("wavelet-update", ns::WAVE)
        .attr("wavelet-name", update.name.to_uri())
        .children(deltas)
        .children(commit);
    let item = element("item", ns::PUBSUB_EVENT).child(update);
    let items = element("items", ns::PUBSUB_EVENT).child(item);
    Message::new(from, to, id)
        .with(receipts::request())
        .with(element("event", ns::PUBSUB_EVENT).child(items))
}

/// The `event` of a message, if it is an update.
#[must_use]
pub fn event(message: &Message) -> Option<&Element> {
    message.payload("event", ns::PUBSUB_EVENT)
}

/// Reads all updates of an `event`: each stands or falls by itself. An error for the whole is one of its wrapping.
pub fn parse(event: &Element) -> Result<Vec<Result<WaveletUpdate, FederationError>>, FederationError> {
    let items = event.children().find(|child| child.name() == "items");
    let items = items.ok_or_else(|| FederationError::bad_request("Items element missing from update message"))?;
    if read::children(items, "item").next().is_none() {
        return Err(FederationError::bad_request("No items included"));
    }
    let updates = read::children(items, "item").flat_map(|item| read::children(item, "wavelet-update"));
    Ok(updates.map(parse_one).collect())
}

fn parse_one(update: &Element) -> Result<WaveletUpdate, FederationError> {
    let name = read::wavelet_name(update, MALFORMED)?;
    let deltas = read::children(update, "applied-delta")
        .map(|delta| read::message(delta, MALFORMED))
        .collect::<Result<_, _>>()?;
    // Of several notices the highest says what the others say.
    let commits = read::children(update, "commit-notice")
        .map(parse_commit)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(WaveletUpdate {
        name,
        deltas,
        commit: commits.into_iter().max_by_key(|commit| commit.version),
    })
}

fn parse_commit(notice: &Element) -> Result<CommitNotice, FederationError> {
    let version = read::version(read::attr(notice, "version", MALFORMED)?, "version")?;
    let hash = notice
        .attr("history-hash")
        .map(|text| read::history_hash(text, MALFORMED))
        .transpose()?;
    // A digest that does not read is as good as none: it only ever warns.
    let digest = notice
        .get_child("digest", ns::DIGEST)
        .and_then(|digest| read::base64(&digest.text(), MALFORMED).ok());
    Ok(CommitNotice {
        version,
        hash,
        digest: digest.and_then(|bytes| bytes[..].try_into().ok()),
    })
}
