//! The protobuf messages as they lie on the wire: proto2, package `federation` (protocol.md §3).
//!
//! Required fields are `Option` here too, because prost reads a missing one as zero; `delta.rs` and `document.rs` refuse it.
#![allow(
    missing_docs,
    reason = "the names and numbers are the reference's; protocol.md §3 explains them"
)]

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HashedVersion {
    #[prost(int64, optional, tag = "1")]
    pub version: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub history_hash: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WaveletDelta {
    #[prost(message, optional, tag = "1")]
    pub hashed_version: Option<HashedVersion>,
    #[prost(string, optional, tag = "2")]
    pub author: Option<String>,
    #[prost(message, repeated, tag = "3")]
    pub operation: Vec<WaveletOperation>,
    #[prost(string, repeated, tag = "4")]
    pub address_path: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WaveletOperation {
    #[prost(string, optional, tag = "1")]
    pub add_participant: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub remove_participant: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub mutate_document: Option<MutateDocument>,
    #[prost(bool, optional, tag = "4")]
    pub no_op: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MutateDocument {
    #[prost(string, optional, tag = "1")]
    pub document_id: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub document_operation: Option<DocumentOperation>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DocumentOperation {
    #[prost(message, repeated, tag = "1")]
    pub component: Vec<Component>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Component {
    #[prost(message, optional, tag = "1")]
    pub annotation_boundary: Option<AnnotationBoundary>,
    #[prost(string, optional, tag = "2")]
    pub characters: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub element_start: Option<ElementStart>,
    #[prost(bool, optional, tag = "4")]
    pub element_end: Option<bool>,
    #[prost(int32, optional, tag = "5")]
    pub retain_item_count: Option<i32>,
    #[prost(string, optional, tag = "6")]
    pub delete_characters: Option<String>,
    #[prost(message, optional, tag = "7")]
    pub delete_element_start: Option<ElementStart>,
    #[prost(bool, optional, tag = "8")]
    pub delete_element_end: Option<bool>,
    #[prost(message, optional, tag = "9")]
    pub replace_attributes: Option<ReplaceAttributes>,
    #[prost(message, optional, tag = "10")]
    pub update_attributes: Option<UpdateAttributes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyValuePair {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyValueUpdate {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub old_value: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub new_value: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ElementStart {
    #[prost(string, optional, tag = "1")]
    pub kind: Option<String>,
    #[prost(message, repeated, tag = "2")]
    pub attribute: Vec<KeyValuePair>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReplaceAttributes {
    #[prost(bool, optional, tag = "1")]
    pub empty: Option<bool>,
    #[prost(message, repeated, tag = "2")]
    pub old_attribute: Vec<KeyValuePair>,
    #[prost(message, repeated, tag = "3")]
    pub new_attribute: Vec<KeyValuePair>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UpdateAttributes {
    #[prost(bool, optional, tag = "1")]
    pub empty: Option<bool>,
    #[prost(message, repeated, tag = "2")]
    pub attribute_update: Vec<KeyValueUpdate>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AnnotationBoundary {
    #[prost(bool, optional, tag = "1")]
    pub empty: Option<bool>,
    #[prost(string, repeated, tag = "2")]
    pub end: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub change: Vec<KeyValueUpdate>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SignedDelta {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub delta: Option<Bytes>,
    #[prost(message, repeated, tag = "2")]
    pub signature: Vec<Signature>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Signature {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub signature_bytes: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub signer_id: Option<Bytes>,
    #[prost(int32, optional, tag = "3")]
    pub signature_algorithm: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AppliedDelta {
    /// Kept as bytes: the signed delta is an opaque part of what is hashed. A message field that occurs twice is the two merged, which
    /// is the same as their bytes one after the other.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub signed_original_delta: Vec<Bytes>,
    #[prost(message, optional, tag = "2")]
    pub hashed_version_applied_at: Option<HashedVersion>,
    #[prost(int32, optional, tag = "3")]
    pub operations_applied: Option<i32>,
    #[prost(int64, optional, tag = "4")]
    pub application_timestamp: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SignerInfo {
    #[prost(int32, optional, tag = "1")]
    pub hash_algorithm: Option<i32>,
    #[prost(string, optional, tag = "2")]
    pub domain: Option<String>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub certificate: Vec<Bytes>,
}
