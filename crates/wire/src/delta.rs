//! Deltas, signed and applied ⇄ protobuf (protocol.md §3).

use billow_model::{Delta, DocumentId, HashedVersion, HistoryHash, ParticipantId, Timestamp, Version, WaveletOp};
use bytes::Bytes;
use prost::Message as _;

use crate::encoded::{DecodeError, Encoded, Message};
use crate::signer::SignerId;
use crate::{document, groups, proto};

/// The highest version that every client can count to: the protocol's JSON carries versions as doubles (protocol.md T25).
const MAX_VERSION: u64 = 1 << 52;

/// A signature over a delta's bytes: PKCS#1 v1.5 with SHA-1, the protocol's only algorithm (protocol.md §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The signature itself.
    pub bytes: Bytes,
    /// Which certificate chain made it.
    pub signer: SignerId,
}

/// A delta's bytes with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedDelta {
    /// The delta with the bytes that are signed.
    pub delta: Encoded<Delta>,
    /// One by each domain of the address path and the author's (protocol.md §4.3).
    pub signatures: Vec<Signature>,
}

/// A signed delta and where the host applied it. Its bytes are what the history hash covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedDelta {
    /// The original, as its author's server signed it.
    pub signed: Encoded<SignedDelta>,
    /// Where it was applied; absent means at its target version (protocol.md §2).
    pub applied_at: Option<HashedVersion>,
    /// How many operations the version rose.
    pub operations_applied: u32,
    /// The host's clock.
    pub timestamp: Timestamp,
}

impl SignedDelta {
    /// Whether one of the signatures names this signer. That it holds is for a verifier to say.
    #[must_use]
    pub fn is_signed_by(&self, signer: &SignerId) -> bool {
        self.signatures.iter().any(|signature| signature.signer == *signer)
    }
}

impl AppliedDelta {
    /// The version the delta was applied at.
    #[must_use]
    pub fn applied_at(&self) -> &HashedVersion {
        self.applied_at.as_ref().unwrap_or(&self.signed.delta.target)
    }

    /// The version after it.
    #[must_use]
    pub fn resulting(&self) -> Version {
        self.applied_at().version.plus(u64::from(self.operations_applied))
    }
}

impl Message for Delta {
    fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        const MESSAGE: &str = "delta";
        DecodeError::of_groups(MESSAGE, bytes, &groups::DELTA)?;
        let message =
            proto::WaveletDelta::decode(bytes.clone()).map_err(|e| DecodeError::new(MESSAGE, e.to_string()))?;
        let target = from_version(
            message
                .hashed_version
                .ok_or_else(|| DecodeError::missing(MESSAGE, "hashed_version"))?,
        )?;
        let author = address(message.author.ok_or_else(|| DecodeError::missing(MESSAGE, "author"))?)?;
        let ops = message.operation.into_iter().map(from_op).collect::<Result<_, _>>()?;
        let address_path = message
            .address_path
            .into_iter()
            .map(address)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            target,
            author,
            ops,
            address_path,
        })
    }

    fn encode(&self) -> Bytes {
        proto::WaveletDelta {
            hashed_version: Some(to_version(&self.target)),
            author: Some(self.author.to_string()),
            operation: self.ops.iter().map(to_op).collect(),
            address_path: self.address_path.iter().map(ToString::to_string).collect(),
        }
        .encode_to_vec()
        .into()
    }
}

impl Message for SignedDelta {
    fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        const MESSAGE: &str = "signed delta";
        DecodeError::of_groups(MESSAGE, bytes, &groups::SIGNED_DELTA)?;
        let message =
            proto::SignedDelta::decode(bytes.clone()).map_err(|e| DecodeError::new(MESSAGE, e.to_string()))?;
        let delta = Encoded::decode(message.delta.ok_or_else(|| DecodeError::missing(MESSAGE, "delta"))?)?;
        let signatures = message
            .signature
            .into_iter()
            .map(|s| {
                if s.signature_algorithm != Some(1) {
                    return Err(DecodeError::new(MESSAGE, "expected the signature algorithm SHA1_RSA"));
                }
                Ok(Signature {
                    bytes: s
                        .signature_bytes
                        .ok_or_else(|| DecodeError::missing(MESSAGE, "signature_bytes"))?,
                    signer: SignerId::from_bytes(
                        &s.signer_id.ok_or_else(|| DecodeError::missing(MESSAGE, "signer_id"))?,
                    ),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { delta, signatures })
    }

    fn encode(&self) -> Bytes {
        let signature = self
            .signatures
            .iter()
            .map(|s| proto::Signature {
                signature_bytes: Some(s.bytes.clone()),
                signer_id: Some(Bytes::copy_from_slice(s.signer.as_bytes())),
                signature_algorithm: Some(1),
            })
            .collect();
        proto::SignedDelta {
            delta: Some(self.delta.bytes().clone()),
            signature,
        }
        .encode_to_vec()
        .into()
    }
}

impl Message for AppliedDelta {
    fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        const MESSAGE: &str = "applied delta";
        DecodeError::of_groups(MESSAGE, bytes, &groups::APPLIED_DELTA)?;
        let message =
            proto::AppliedDelta::decode(bytes.clone()).map_err(|e| DecodeError::new(MESSAGE, e.to_string()))?;
        let signed = match &message.signed_original_delta[..] {
            [] => return Err(DecodeError::missing(MESSAGE, "signed_original_delta")),
            [one] => one.clone(),
            several => several.concat().into(),
        };
        let operations = message
            .operations_applied
            .ok_or_else(|| DecodeError::missing(MESSAGE, "operations_applied"))?;
        let timestamp = message
            .application_timestamp
            .ok_or_else(|| DecodeError::missing(MESSAGE, "application_timestamp"))?;
        Ok(Self {
            signed: Encoded::decode(signed)?,
            applied_at: message.hashed_version_applied_at.map(from_version).transpose()?,
            operations_applied: u32::try_from(operations).map_err(|_| {
                DecodeError::new(
                    MESSAGE,
                    format!("expected operations_applied of 0 or more, got {operations}"),
                )
            })?,
            timestamp: Timestamp(timestamp),
        })
    }

    fn encode(&self) -> Bytes {
        proto::AppliedDelta {
            signed_original_delta: vec![self.signed.bytes().clone()],
            hashed_version_applied_at: self.applied_at.as_ref().map(to_version),
            operations_applied: Some(i32::try_from(self.operations_applied).unwrap_or(i32::MAX)),
            application_timestamp: Some(self.timestamp.0),
        }
        .encode_to_vec()
        .into()
    }
}

fn from_version(message: proto::HashedVersion) -> Result<HashedVersion, DecodeError> {
    const MESSAGE: &str = "hashed version";
    let version = message
        .version
        .ok_or_else(|| DecodeError::missing(MESSAGE, "version"))?;
    let version = u64::try_from(version)
        .ok()
        .filter(|version| *version <= MAX_VERSION)
        .ok_or_else(|| {
            DecodeError::new(
                MESSAGE,
                format!("expected a version between 0 and {MAX_VERSION}, got {version}"),
            )
        })?;
    let hash = message
        .history_hash
        .ok_or_else(|| DecodeError::missing(MESSAGE, "history_hash"))?;
    Ok(HashedVersion {
        version: Version::new(version),
        hash: HistoryHash::from_bytes(&hash),
    })
}

fn to_version(version: &HashedVersion) -> proto::HashedVersion {
    proto::HashedVersion {
        version: Some(i64::try_from(version.version.number()).unwrap_or(i64::MAX)),
        history_hash: Some(Bytes::copy_from_slice(version.hash.as_bytes())),
    }
}

/// Of several fields set the first in this order counts: noOp, add, remove, mutate (protocol.md §3).
fn from_op(op: proto::WaveletOperation) -> Result<WaveletOp, DecodeError> {
    const MESSAGE: &str = "wavelet operation";
    if op.no_op.is_some() {
        Ok(WaveletOp::NoOp)
    } else if let Some(participant) = op.add_participant {
        Ok(WaveletOp::AddParticipant(address(participant)?))
    } else if let Some(participant) = op.remove_participant {
        Ok(WaveletOp::RemoveParticipant(address(participant)?))
    } else if let Some(mutate) = op.mutate_document {
        let id = mutate
            .document_id
            .ok_or_else(|| DecodeError::missing(MESSAGE, "document_id"))?;
        let op = mutate
            .document_operation
            .ok_or_else(|| DecodeError::missing(MESSAGE, "document_operation"))?;
        Ok(WaveletOp::MutateDocument {
            id: DocumentId::new(&id).map_err(|e| DecodeError::new(MESSAGE, e.to_string()))?,
            op: document::from_proto(op)?,
        })
    } else {
        Err(DecodeError::new(MESSAGE, "expected one operation, got none"))
    }
}

fn to_op(op: &WaveletOp) -> proto::WaveletOperation {
    let mut out = proto::WaveletOperation::default();
    match op {
        WaveletOp::NoOp => out.no_op = Some(true),
        WaveletOp::AddParticipant(participant) => out.add_participant = Some(participant.to_string()),
        WaveletOp::RemoveParticipant(participant) => out.remove_participant = Some(participant.to_string()),
        WaveletOp::MutateDocument { id, op } => {
            out.mutate_document = Some(proto::MutateDocument {
                document_id: Some(id.to_string()),
                document_operation: Some(document::to_proto(op)),
            });
        }
    }
    out
}

/// An address in the one form that every server writes: two spellings of one author would be two different deltas.
fn address(text: String) -> Result<ParticipantId, DecodeError> {
    let address: ParticipantId = text
        .parse()
        .map_err(|e: billow_model::ParseParticipantError| DecodeError::new("address", e.to_string()))?;
    if address.as_str() == text {
        Ok(address)
    } else {
        Err(DecodeError::new("address", format!("expected {address}, got {text:?}")))
    }
}
