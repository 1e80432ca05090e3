//! The federation over XMPP stanzas: every stanza both ways, and the machines of its two roles (protocol.md §5, §6).
//!
//! Pure like everything below the server: the machines ([`discovery::Discovery`], [`host::Host`], [`remote::Remote`]) are told what
//! happened and when, and are asked what to do. [`inbound::read`] is the one door for what peers send: it never panics
//! and says for everything either what it means or what to answer.

pub mod discovery;
mod error;
pub mod held;
pub mod host;
mod ids;
pub mod inbound;
pub mod legacy;
pub mod ns;
pub mod pings;
pub mod remote;
pub mod stanza;
pub mod steps;

pub use error::{Code, FederationError};
pub use ids::Ids;
