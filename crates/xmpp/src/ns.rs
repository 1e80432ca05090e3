//! The namespaces that are spoken here.

/// Stanzas, inside this program.
pub const CLIENT: &str = "jabber:client";
/// Stanzas, on a server-to-server stream.
pub const SERVER: &str = "jabber:server";
/// Stanzas, on the stream of a component (XEP-0114).
pub const COMPONENT: &str = "jabber:component:accept";
/// Server dialback (XEP-0220).
pub const DIALBACK: &str = "jabber:server:dialback";
/// Server dialback as a feature of a stream (XEP-0220 §2.2).
pub const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// The stream element, its features and its errors.
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Conditions of stream errors.
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Conditions of stanza errors.
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// STARTTLS.
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Stream compression (XEP-0138), which is never offered.
pub const COMPRESS: &str = "http://jabber.org/protocol/compress";
/// Service discovery: what an entity is.
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// Service discovery: which items it has.
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// XMPP ping (XEP-0199).
pub const PING: &str = "urn:xmpp:ping";
/// Message receipts (XEP-0184).
pub const RECEIPTS: &str = "urn:xmpp:receipts";
/// `xml:lang` and its kin.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// Stream limits advertisement (XEP-0478).
pub const STREAM_LIMITS: &str = "urn:xmpp:stream-limits:0";
/// What an entity runs (XEP-0092).
pub const VERSION: &str = "jabber:iq:version";
/// What time it is at an entity (XEP-0202).
pub const TIME: &str = "urn:xmpp:time";
