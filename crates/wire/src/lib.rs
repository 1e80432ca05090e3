//! Bytes ⇄ model: the protobuf messages of the federation (protocol.md §3) and the six exchanges as values.
//!
//! Hashes and signatures cover the very bytes that travelled (protocol.md T1), so everything signed or hashed is an
//! [`Encoded`]: a value together with the bytes it came from. Nothing here is ever encoded a second time.

pub mod delta;
pub mod document;
mod encoded;
pub mod exchange;
mod from_host;
mod groups;
mod proto;
pub mod signer;

pub use delta::{AppliedDelta, Signature, SignedDelta};
pub use encoded::{DecodeError, Encoded, Message};
pub use from_host::{FromHost, NotTheHost};
pub use signer::{HashAlgorithm, SignerId, SignerInfo};
