//! The heart of a server without its web side: live wavelets, the store below them, and two servers that federate over
//! loopback with a name server and an authority of their own.

// What fails here fails the test.
#![allow(clippy::unwrap_used, unreachable_pub)]

// The lab belongs to the binary, which is built on this crate; its files are read here directly.
#[allow(dead_code, unreachable_pub)]
#[path = "../../../billow/src/lab/ca.rs"]
mod ca;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../billow/src/lab/dns.rs"]
mod dns;
mod federated;
mod local;
mod node;
mod raw;
mod refusals;
