//! XMPP with no Wave and no sockets in it: bytes become stream events, stream events become authenticated stanzas.
//!
//! Everything here is pure: the two server-to-server machines ([`s2s::Outgoing`], [`s2s::Incoming`]) and the one for use
//! behind another XMPP server ([`component::Component`]) are told bytes and times and asked what to do; `billow-net`
//! drives them over TCP and TLS. Outside bytes can only ever produce an
//! error value: the parser bounds size, depth and attributes before it builds anything.
//!
//! Inside, stanzas are always in the namespace `jabber:client`; the namespace of the wire (`jabber:server`,
//! `jabber:component:accept`) is mapped at the parser and at the writer, so that one stanza type serves every kind of stream.

pub mod about;
pub mod component;
pub mod contact;
pub mod dialback;
pub mod disco;
pub mod domain;
pub mod element;
pub mod ns;
pub mod parser;
pub mod ping;
#[path = "../../model/src/planted.rs"]
pub mod planted;
pub mod receipts;
pub mod s2s;
pub mod srv;
pub mod stanza;
pub mod stream;

pub use domain::{Domain, ParseDomainError};
pub use element::{Build, EncodeError, element};
pub use jid::{BareJid, FullJid, Jid};
pub use minidom::Element;
pub use stanza::{BadStanza, Condition, ErrorKind, Iq, IqKind, Message, MessageKind, Stanza, StanzaError};
