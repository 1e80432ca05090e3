//! The two machines, alone and together.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod hosted;
mod lab;
mod pair;
mod refusals;
mod remote;
