//! What a wave is: ids, versions, documents, operations and how they are applied, composed and transformed.
//!
//! This crate decides and never acts: no I/O, no clock, no bytes on a wire.
//! It is the only place where the laws of the operations are written down in Rust; the browser has a twin in
//! `web/src/ot`, held equal by the same vectors.

pub mod conversation;
pub mod delta;
pub mod doc;
pub mod id;
pub mod participant;
pub mod planted;
pub mod transform;
mod uri;
pub mod version;
pub mod wavelet;

pub use delta::{Delta, Timestamp, TransformedDelta, WaveletOp};
pub use doc::{Attributes, AttributesUpdate, Component, DocOp, Document};
pub use id::{DocumentId, Domain, ParseIdError, WaveId, WaveletId, WaveletName};
pub use participant::{ParseParticipantError, ParticipantId};
pub use version::{HashedVersion, HistoryHash, Version};
pub use wavelet::{BlipMetadata, Wavelet, WaveletParts};
