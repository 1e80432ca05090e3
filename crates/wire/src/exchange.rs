//! The exchanges between a host and its remotes as values (protocol.md §5.9 to §5.14).
//! `billow-federation` turns them into stanzas and back.

use billow_model::{Domain, HashedVersion, Timestamp, Version, WaveletName};

use crate::delta::{AppliedDelta, SignedDelta};
use crate::encoded::Encoded;
use crate::signer::{SignerId, SignerInfo};

/// Host → remote: what was applied to a wavelet, and what the host promises to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveletUpdate {
    /// Which wavelet.
    pub name: WaveletName,
    /// In order of application; may be empty.
    pub deltas: Vec<Encoded<AppliedDelta>>,
    /// The hash may be absent from peers other than the reference.
    pub commit: Option<CommitNotice>,
}

/// Host → remote: everything up to this version is on the host's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitNotice {
    /// The version.
    pub version: Version,
    /// Its hash, if it was sent.
    pub hash: Option<billow_model::HistoryHash>,
    /// SHA-256 of the documents at that version, between Billow servers.
    pub digest: Option<[u8; 32]>,
}

/// Remote → host: apply this delta of one of my users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitRequest {
    /// Which wavelet.
    pub name: WaveletName,
    /// The delta.
    pub delta: Encoded<SignedDelta>,
}

/// Host → remote: it was applied (or had been).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitResponse {
    /// How many operations.
    pub operations_applied: u32,
    /// The version after them.
    pub resulting: HashedVersion,
    /// The host's clock at application.
    pub timestamp: Timestamp,
}

/// Remote → host: the applied deltas of `[from, to)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRequest {
    /// Which wavelet.
    pub name: WaveletName,
    /// A delta boundary with its hash.
    pub from: HashedVersion,
    /// A later boundary with its hash.
    pub to: HashedVersion,
    /// Wanted bound of the answer in bytes; the answer holds at least one delta.
    pub limit: Option<u64>,
}

/// Host → remote: deltas from the asked version on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryResponse {
    /// Contiguous, from `from`.
    pub deltas: Vec<Encoded<AppliedDelta>>,
    /// Up to where the host has committed.
    pub committed: Option<Version>,
    /// Where the answer was cut, if it was.
    pub truncated: Option<Version>,
}

/// Remote → host: the chain of this signer, who signed the delta that ends at `at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerRequest {
    /// Which wavelet.
    pub name: WaveletName,
    /// Which signer.
    pub signer: SignerId,
    /// The version just after a delta with that signature.
    pub at: HashedVersion,
}

/// Remote → host: our chain, before we submit with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostSigner {
    /// The domain the chain is posted to.
    pub to: Domain,
    /// The chain.
    pub signer: SignerInfo,
}
