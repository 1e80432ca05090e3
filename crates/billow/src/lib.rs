//! The `billow` program as a library: its commands, the client protocol from the other end, and the lab (a DNS server
//! and a certificate authority on loopback) that the demo and the tests run in.

pub mod client;
pub mod command;
pub mod lab;
