//! The namespaces of the federation.

/// Everything of Wave's own: `wavelet-update`, `submit-request`, …
pub const WAVE: &str = "http://waveprotocol.org/protocol/0.2/waveserver";
/// Requests between servers are wrapped in this.
pub const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
/// Updates are wrapped in this.
pub const PUBSUB_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
/// Carets and who is here, between Billow servers.
pub const PRESENCE: &str = "urn:billow:presence:0";
/// Digests of documents in commit notices, between Billow servers.
pub const DIGEST: &str = "urn:billow:digest:0";
/// Asking another server whether it reaches us, between Billow servers.
pub const REACH: &str = "urn:billow:reach:0";
