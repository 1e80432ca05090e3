//! A wavelet's life, at its host and at the other servers that take part.
//!
//! Two machines, which decide and never act (no clock, socket, file or key inside):
//!
//! - [`HostedWavelet`] orders the deltas of a wavelet of ours: it checks who may write, transforms, applies, has them
//!   stored, shows them, and then seals them one by one: signed, hashed, ready to leave the server.
//! - [`RemoteWavelet`] is our copy of somebody else's: it verifies and applies what the host says, fetches what is
//!   missing, and carries our users' submissions to the host, one at a time, until the host has answered.
//!
//! [`Machine`] is either of them, where it does not matter which.
//!
//! Both are told things with `handle(now, input)` and asked with `poll()` until it returns `None`; `deadline()` says when
//! they next want a tick. Everything with an effect (storing, signing, verifying, sending, fetching) is an output, and its
//! result comes back as an input. Three versions order everything: applied ≥ persisted (shown) ≥ sealed.
//! Nothing is answered or shown before it is persisted, and nothing leaves the server before its seal is.

//!
//! Both stand on the upper rungs of the ladder of trust: bytes, an authenticated stanza, from the right peer, decoded with its
//! bytes, verified, applied. The types leave no way around a rung. An update that nobody has compared with its sender does
//! not reach a remote wavelet:
//!
//! ```compile_fail,E0308
//! use billow_wavelet::RemoteInput;
//! use billow_wire::exchange::WaveletUpdate;
//!
//! fn take(update: WaveletUpdate) -> RemoteInput {
//!     RemoteInput::Update { tag: 1, update } // expected `FromHost<WaveletUpdate>`
//! }
//! ```
//!
//! A delta whose signatures nobody has checked does not reach a hosted wavelet:
//!
//! ```compile_fail,E0308
//! use billow_wavelet::HostedInput;
//! use billow_wire::{Encoded, SignedDelta};
//!
//! fn submit(delta: Encoded<SignedDelta>) -> HostedInput {
//!     HostedInput::RemoteSubmit { ticket: 1, delta } // expected `Verified<Encoded<SignedDelta>>`
//! }
//! ```
//!
//! Nor can it be said of such a delta, by whoever drives the machine, that it was checked:
//!
//! ```compile_fail,E0308
//! use billow_wavelet::remote::Verification;
//! use billow_wire::{Encoded, SignedDelta};
//!
//! fn wave_through(delta: Encoded<SignedDelta>) -> Verification {
//!     Verification::Good(delta) // expected `Verified<Encoded<SignedDelta>>`
//! }
//! ```

pub mod access;
mod backoff;
mod composed;
pub mod hosted;
pub mod limits;
mod log;
mod machine;
mod pace;
mod placement;
pub mod record;
pub mod reference;
pub mod remote;
mod snapshot;

pub use access::Readers;
pub use hosted::{HostedInput, HostedOutput, HostedWavelet};
pub use limits::Refusal;
pub use machine::{Machine, Seals, Written};
pub use record::{LoadError, Origin, Record, Seal, SignedDigest, StoredRecord, Submission};
pub use remote::{Evidence, RemoteInput, RemoteOutput, RemoteWavelet, Standing};
