//! The state of a wavelet as bytes, so that loading it does not replay its history.
//!
//! The form is our own and private to this crate. Participants and documents are written as the operations that would
//! make them, in the federation's encoding; everything else is a protobuf message beside it.

use std::collections::{BTreeMap, HashMap};

use billow_model::{
    BlipMetadata, Delta, Document, DocumentId, HashedVersion, HistoryHash, ParticipantId, Timestamp, Version, Wavelet,
    WaveletName, WaveletOp, WaveletParts, planted,
};
use billow_wire::Message as _;
use bytes::Bytes;
use prost::Message;

use crate::access::Readers;
use crate::log::{Editor, SessionMark, SignedMark};
use crate::record::{LoadError, SignedDigest, encode_ops};

/// The persisted state of either machine.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) wavelet: Wavelet,
    pub(crate) sealed: HashedVersion,
    pub(crate) readers: Readers,
    pub(crate) sessions: HashMap<Editor, SessionMark>,
    pub(crate) signed: HashMap<SignedDigest, SignedMark>,
    pub(crate) astral: bool,
}

#[derive(Clone, PartialEq, Message)]
struct SnapshotMessage {
    #[prost(uint64, tag = "1")]
    format: u64,
    #[prost(uint64, tag = "2")]
    version: u64,
    #[prost(bytes = "bytes", tag = "3")]
    content: Bytes,
    #[prost(message, repeated, tag = "4")]
    documents: Vec<DocumentMessage>,
    #[prost(string, optional, tag = "5")]
    creator: Option<String>,
    #[prost(int64, tag = "6")]
    created: i64,
    #[prost(int64, tag = "7")]
    last_modified: i64,
    #[prost(uint64, tag = "8")]
    sealed_version: u64,
    #[prost(bytes = "bytes", tag = "9")]
    sealed_hash: Bytes,
    #[prost(message, repeated, tag = "10")]
    readers: Vec<ReaderMessage>,
    #[prost(message, repeated, tag = "11")]
    sessions: Vec<SessionMessage>,
    #[prost(message, repeated, tag = "12")]
    signed: Vec<SignedMessage>,
    #[prost(bool, tag = "13")]
    astral: bool,
}

#[derive(Clone, PartialEq, Message)]
struct DocumentMessage {
    #[prost(string, tag = "1")]
    author: String,
    #[prost(string, repeated, tag = "2")]
    contributors: Vec<String>,
    #[prost(uint64, tag = "3")]
    last_modified_version: u64,
    #[prost(int64, tag = "4")]
    last_modified_time: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ReaderMessage {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(uint64, optional, tag = "2")]
    until: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionMessage {
    #[prost(string, tag = "1")]
    session: String,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(uint64, tag = "3")]
    applied_at: u64,
    #[prost(string, tag = "4")]
    author: String,
}

#[derive(Clone, PartialEq, Message)]
struct SignedMessage {
    #[prost(bytes = "bytes", tag = "1")]
    digest: Bytes,
    #[prost(uint64, tag = "2")]
    applied_at: u64,
    #[prost(uint32, tag = "3")]
    operations: u32,
    #[prost(int64, tag = "4")]
    timestamp: i64,
    #[prost(bytes = "bytes", optional, tag = "5")]
    resulting_hash: Option<Bytes>,
}

const FORMAT: u64 = 1;

impl Snapshot {
    pub(crate) fn encode(&self) -> Bytes {
        let wavelet = &self.wavelet;
        let participants = wavelet.participants().iter().cloned().map(WaveletOp::AddParticipant);
        let documents = wavelet.documents().map(|(id, document, _)| WaveletOp::MutateDocument {
            id: id.clone(),
            op: document.to_op(),
        });
        let ops: Vec<WaveletOp> = participants.chain(documents).collect();
        let writer: ParticipantId = format!("@{}", wavelet.name().host())
            .parse()
            .expect("a domain after an @ is an address");
        SnapshotMessage {
            format: FORMAT,
            version: if planted::is("a snapshot is of another version than it says") {
                self.sealed.version.number().saturating_sub(1)
            } else {
                wavelet.version().number()
            },
            content: encode_ops(wavelet.version(), &writer, &ops),
            documents: wavelet
                .documents()
                .map(|(_, _, metadata)| write_metadata(metadata))
                .collect(),
            creator: wavelet.creator().map(ToString::to_string),
            created: wavelet.created().0,
            last_modified: wavelet.last_modified().0,
            sealed_version: self.sealed.version.number(),
            sealed_hash: Bytes::copy_from_slice(self.sealed.hash.as_bytes()),
            readers: self
                .readers
                .domains()
                .filter(|(_, until)| until.is_none() || !planted::is("a snapshot forgets who was removed"))
                .map(|(domain, until)| ReaderMessage {
                    domain: domain.to_string(),
                    until: until.map(Version::number),
                })
                .collect(),
            sessions: if planted::is("a snapshot forgets who submitted what") {
                Vec::new()
            } else {
                self.sessions.iter().map(write_session).collect()
            },
            signed: self.signed.iter().map(write_signed).collect(),
            astral: self.astral,
        }
        .encode_to_vec()
        .into()
    }

    pub(crate) fn decode(name: WaveletName, bytes: &[u8]) -> Result<Self, LoadError> {
        read(name, bytes).map_err(LoadError::Snapshot)
    }
}

fn read(name: WaveletName, bytes: &[u8]) -> Result<Snapshot, String> {
    let message = <SnapshotMessage as Message>::decode(bytes).map_err(|error| error.to_string())?;
    if message.format != FORMAT {
        return Err(format!("expected format {FORMAT}, got {}", message.format));
    }
    let content = Delta::decode(&message.content).map_err(|error| error.to_string())?;
    let mut participants = Vec::new();
    let mut documents = BTreeMap::new();
    let mut metadata = message.documents.into_iter();
    for op in content.ops {
        match op {
            WaveletOp::AddParticipant(who) => participants.push(who),
            WaveletOp::MutateDocument { id, op } => {
                let about = metadata.next().ok_or("a document without metadata")?;
                documents.insert(id.clone(), read_document(&id, &op, about)?);
            }
            WaveletOp::RemoveParticipant(_) | WaveletOp::NoOp => {
                return Err("an operation that makes no state".to_owned());
            }
        }
    }
    let mut readers = Readers::default();
    for reader in message.readers {
        let domain = reader
            .domain
            .parse()
            .map_err(|error: billow_model::ParseIdError| error.to_string())?;
        readers.set(domain, reader.until.map(Version::new));
    }
    let parts = WaveletParts {
        version: Version::new(message.version),
        participants,
        documents,
        creator: message.creator.map(|text| address(&text)).transpose()?,
        created: Timestamp(message.created),
        last_modified: Timestamp(message.last_modified),
    };
    Ok(Snapshot {
        wavelet: Wavelet::from_parts(name, parts),
        sealed: HashedVersion {
            version: Version::new(message.sealed_version),
            hash: HistoryHash::from_bytes(&message.sealed_hash),
        },
        readers,
        sessions: message
            .sessions
            .into_iter()
            // Snapshots of before there was an author in it: nothing is known of these.
            .filter(|session| !session.author.is_empty())
            .map(read_session)
            .collect::<Result<_, _>>()?,
        signed: message.signed.into_iter().map(read_signed).collect::<Result<_, _>>()?,
        astral: message.astral,
    })
}

fn address(text: &str) -> Result<ParticipantId, String> {
    text.parse()
        .map_err(|error: billow_model::ParseParticipantError| error.to_string())
}

fn read_document(
    id: &DocumentId,
    op: &billow_model::DocOp,
    about: DocumentMessage,
) -> Result<(Document, BlipMetadata), String> {
    let mut document = Document::new();
    document.apply(op).map_err(|error| format!("document {id}: {error}"))?;
    let metadata = BlipMetadata {
        author: address(&about.author)?,
        contributors: about
            .contributors
            .iter()
            .map(|text| address(text))
            .collect::<Result<_, _>>()?,
        last_modified_version: Version::new(about.last_modified_version),
        last_modified_time: Timestamp(about.last_modified_time),
    };
    Ok((document, metadata))
}

fn write_metadata(metadata: &BlipMetadata) -> DocumentMessage {
    DocumentMessage {
        author: metadata.author.to_string(),
        contributors: metadata.contributors.iter().map(ToString::to_string).collect(),
        last_modified_version: metadata.last_modified_version.number(),
        last_modified_time: metadata.last_modified_time.0,
    }
}

fn write_session(((author, session), mark): (&Editor, &SessionMark)) -> SessionMessage {
    SessionMessage {
        session: session.to_string(),
        sequence: mark.sequence,
        applied_at: mark.applied_at.number(),
        author: author.to_string(),
    }
}

fn read_session(message: SessionMessage) -> Result<(Editor, SessionMark), String> {
    let mark = SessionMark {
        sequence: message.sequence,
        applied_at: Version::new(message.applied_at),
    };
    Ok(((address(&message.author)?, message.session.into()), mark))
}

fn write_signed((digest, mark): (&SignedDigest, &SignedMark)) -> SignedMessage {
    SignedMessage {
        digest: Bytes::copy_from_slice(digest.as_bytes()),
        applied_at: mark.applied_at.number(),
        operations: mark.operations,
        timestamp: mark.timestamp.0,
        resulting_hash: mark
            .resulting
            .as_ref()
            .map(|resulting| Bytes::copy_from_slice(resulting.hash.as_bytes())),
    }
}

fn read_signed(message: SignedMessage) -> Result<(SignedDigest, SignedMark), String> {
    let digest: [u8; 32] = message
        .digest
        .as_ref()
        .try_into()
        .map_err(|_| "a digest of another length".to_owned())?;
    let applied_at = Version::new(message.applied_at);
    let version = applied_at.plus(u64::from(message.operations));
    let resulting = message.resulting_hash.map(|hash| HashedVersion {
        version,
        hash: HistoryHash::from_bytes(&hash),
    });
    let mark = SignedMark {
        applied_at,
        operations: message.operations,
        timestamp: Timestamp(message.timestamp),
        resulting,
    };
    Ok((SignedDigest::from_bytes(digest), mark))
}
