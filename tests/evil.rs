//! A real server against a peer that speaks the federation's wire as it likes: `evil.lab`, with keys, a certificate and
//! a name of its own like anybody's, in this process. Each test makes a move of hardening group C, E, F or G, and shows
//! that it is refused with a reason and counted, that nothing has changed, and that the wavelet goes on.
//!
//! `love.lab` is a third domain, honest, whose key the tests hold so that there are deltas of hers to misuse.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "evil/bytes.rs"]
mod bytes_changed;
#[path = "evil/chain.rs"]
mod chain;
#[path = "evil/doubt.rs"]
mod doubt;
#[path = "evil/flood.rs"]
mod flood;
#[path = "evil/gate.rs"]
mod gate;
#[path = "evil/history.rs"]
mod history;
#[path = "evil/moves.rs"]
mod moves;
#[path = "evil/names.rs"]
mod names;
#[path = "evil/peer.rs"]
mod peer;
#[path = "evil/scenarios.rs"]
mod scenarios;
#[path = "evil/slow.rs"]
mod slow;
#[path = "evil/stanzas.rs"]
mod stanzas;
#[path = "evil/submissions.rs"]
mod submissions;
#[path = "evil/updates.rs"]
mod updates;
#[path = "evil/world.rs"]
mod world;
