//! Servers without a network, a disk or a clock: the pure machines put together as the server puts them together.
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

pub mod disk;
pub mod node;

pub use disk::Disk;
pub use node::{Action, Config, Event, Node, Now};
