//! The way to other servers.
//!
//! [`FederationHandle`] is what wavelets ask of other servers. The driver behind it owns the machines of
//! [`billow_federation`] and the net.

mod handle;

pub use handle::{FederationHandle, Request, Requests};
