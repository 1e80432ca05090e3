//! A little world of our own on loopback: its name server and its certificate authority, so that servers can federate
//! on one machine with nothing switched off. For `billow demo` and for tests.

pub mod ca;
pub mod dns;
