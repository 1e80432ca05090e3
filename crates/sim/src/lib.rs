//! Servers without a network, a disk or a clock: the pure machines put together as the server puts them together.
//!
//! [`World`] is several of them with users, a bad network, bad disks and perhaps a hostile server, from one seed.
//!
//! For tests only; nothing that is shipped uses this crate. [`Node`] is one server: it is told stanzas, submissions and
//! that its disk has taken something, and is asked what it sends, shows, answers, writes and wants signed. Whoever drives
//! it decides what time it is, what the network does to its stanzas, and what a crash leaves on its disk.
//!
//! ```text
//!   submissions ─┐                            ┌─ shown deltas, answers
//!   stanzas in ──┤  Node: Inbound, Discovery, ├─ stanzas out
//!   signed ──────┤  Host, Remote, Hosted- and ├─ to be signed
//!   synced ──────┤  RemoteWavelet, Verifier   ├─ to be synced
//!   the time ────┘  ── over a Disk ──         └─ the next deadline
//! ```

pub mod dice;
pub mod disk;
#[allow(dead_code, reason = "the laws of the model use the rest")]
#[path = "../../model/tests/laws/generators.rs"]
mod generators;
pub mod keys;
pub mod node;
mod oracle;
#[cfg(feature = "planted")]
pub mod planted;
pub mod world;

pub use disk::Disk;
pub use node::{Action, Config, Event, Node, Now};
pub use world::{Outcome, Violation, World};
