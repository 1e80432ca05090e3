//! `billow doctor` on the real binary: set-ups that are well and set-ups with an operator's error in them, on loopback with a
//! name server and authorities of the test's own. Each planted error must be found, by its code, and nothing else be
//! called an error that is not one.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "doctor/actor.rs"]
mod actor;
#[path = "doctor/errors.rs"]
mod errors;
#[path = "doctor/papers.rs"]
mod papers;
#[path = "doctor/sentences.rs"]
mod sentences;
#[path = "doctor/site.rs"]
mod site;
