//! Where a submission lands at its host: whether it may, and its operations as they fit the newest version.

use std::collections::{BTreeMap, BTreeSet};

use billow_model::doc::schema::Schema;
use billow_model::transform::TransformError;
use billow_model::{
    Delta, Document, DocumentId, Domain, HashedVersion, ParticipantId, Timestamp, TransformedDelta, Version,
    WaveletName, WaveletOp, planted,
};

use billow_wire::{AppliedDelta, Encoded, SignedDelta};

use crate::access::may_write;
use crate::limits::{PARTICIPANTS_MAX, Refusal, VERSIONS_BEHIND_MAX, check_document, check_one_body, has_astral_text};
use crate::log::{Carried, CarryError, Carrying, Log};
use crate::record::{Record, StoredRecord};
use crate::remote::Contradiction;

/// Operations of a user of ours, against a shown version. Carried by the correct rules: they are signed as they land, so
/// nobody else ever transforms them.
pub(crate) fn place_local(
    log: &Log,
    author: &ParticipantId,
    version: Version,
    ops: Vec<WaveletOp>,
    legacy: &BTreeSet<Domain>,
) -> Result<Vec<WaveletOp>, Refusal> {
    let creates = version == Version::ZERO && log.head().version() == Version::ZERO;
    if creates {
        if author.name().is_empty() || !matches!(ops.first(), Some(WaveletOp::AddParticipant(who)) if who == author) {
            return Err(Refusal::FirstAddsAuthor);
        }
    } else if !may_write(log.head().participants(), author) {
        return Err(Refusal::NotParticipant(author.clone()));
    }
    if version > log.shown().version() {
        return Err(Refusal::UnknownVersion);
    }
    check_boundary(log, version)?;
    let ops = log
        .carry(author, ops, version)
        .map_err(|error| not_transformed(author, &error))?;
    check_schema(log, &ops)?;
    check_growth(log, &ops, legacy)?;
    Ok(ops)
}

/// A delta that another server signed, against a sealed version. Taken only if the reference, which every replica may
/// be, carries it to the same operations as the correct rules do (decision 7).
pub(crate) fn place_signed(log: &Log, delta: &Delta, legacy: &BTreeSet<Domain>) -> Result<Vec<WaveletOp>, Refusal> {
    if delta.target.version == Version::ZERO {
        return Err(Refusal::CreatesWavelet);
    }
    if !delta.address_path.is_empty() {
        return Err(Refusal::DoesNotApply("an address path is not supported".to_owned()));
    }
    if !may_write(log.head().participants(), &delta.author) && !planted::is("anybody may write") {
        return Err(Refusal::NotParticipant(delta.author.clone()));
    }
    check_target(log, &delta.target)?;
    let author = &delta.author;
    let ops = log
        .carry(author, delta.ops.clone(), delta.target.version)
        .map_err(|error| not_transformed(author, &error))?;
    let carrying = Carrying::new(delta.ops.clone(), delta.target.version);
    match log.carry_like_reference(author, carrying) {
        Ok(Carried::Ops(theirs)) if theirs == ops => {}
        _ if planted::is("where the reference is wrong nothing is refused") => {}
        _ => return Err(Refusal::Rebase),
    }
    // The reference leaves this to its own clients; here everybody's deltas keep to the rules of a document (B-137).
    check_schema(log, &ops)?;
    check_growth(log, &ops, legacy)?;
    Ok(ops)
}

/// Whether a target names a sealed boundary of the history that is not too far back.
pub(crate) fn check_target(log: &Log, target: &HashedVersion) -> Result<(), Refusal> {
    check_boundary(log, target.version)?;
    match log.hash(target.version) {
        Some(hash) if *hash == target.hash => Ok(()),
        Some(_) if target.version == log.head().version() => Err(Refusal::InvalidHash(target.clone())),
        _ => Err(Refusal::UnknownVersion),
    }
}

fn check_boundary(log: &Log, version: Version) -> Result<(), Refusal> {
    let head = log.head().version();
    let near = version <= head && head.number() - version.number() <= VERSIONS_BEHIND_MAX;
    if near && log.index(version).is_some() {
        Ok(())
    } else {
        Err(Refusal::UnknownVersion)
    }
}

fn not_transformed(author: &ParticipantId, error: &CarryError) -> Refusal {
    match error {
        CarryError::Transform(TransformError::RemovedAuthor) => Refusal::AuthorRemoved(author.clone()),
        CarryError::Transform(other) => Refusal::DoesNotApply(other.to_string()),
        CarryError::TooMuch => Refusal::UnknownVersion,
    }
}

/// Checks each operation against the document as the operations before it leave it. A document is copied only if the
/// delta touches it twice.
fn check_schema(log: &Log, ops: &[WaveletOp]) -> Result<(), Refusal> {
    let wavelet = log.head();
    let mut changed: BTreeMap<&DocumentId, Document> = BTreeMap::new();
    for (index, op) in ops.iter().enumerate() {
        let WaveletOp::MutateDocument { id, op } = op else {
            continue;
        };
        let schema = schema_of(wavelet.name(), id);
        let empty = Document::new();
        let document = changed
            .get(id)
            .or_else(|| wavelet.document(id).map(|(document, _)| document))
            .unwrap_or(&empty);
        check_document(document, op)?;
        if schema == Schema::Blip {
            check_one_body(document, op)?;
        }
        schema
            .check(document, op)
            .map_err(|error| Refusal::Schema(error.to_string()))?;
        let again = ops[index + 1..]
            .iter()
            .any(|later| matches!(later, WaveletOp::MutateDocument { id: other, .. } if other == id));
        if again {
            let mut next = document.clone();
            next.apply(op)
                .map_err(|error| Refusal::DoesNotApply(error.to_string()))?;
            changed.insert(id, next);
        }
    }
    Ok(())
}

fn schema_of(name: &WaveletName, document: &DocumentId) -> Schema {
    Schema::of(name.wavelet(), document)
}

/// Checks the number of participants, and that no legacy peer gets text that it cannot take (decision 9).
pub(crate) fn check_growth(log: &Log, ops: &[WaveletOp], legacy: &BTreeSet<Domain>) -> Result<(), Refusal> {
    let added = ops.iter().filter_map(|op| match op {
        WaveletOp::AddParticipant(who) => Some(who),
        _ => None,
    });
    if log.head().participants().len() + added.clone().count() > PARTICIPANTS_MAX {
        return Err(Refusal::TooLarge(format!(
            "a wavelet has at most {PARTICIPANTS_MAX} participants"
        )));
    }
    if legacy.is_empty() {
        return Ok(());
    }
    let new_text = has_astral_text(ops);
    let present = log.head().participants().iter().filter(|_| new_text);
    let joining = added.filter(|_| new_text || log.astral());
    match present
        .chain(joining)
        .map(ParticipantId::domain)
        .find(|domain| legacy.contains(domain))
    {
        Some(domain) => Err(Refusal::LegacyPeer(domain)),
        None => Ok(()),
    }
}

/// What a replica makes of an applied delta that is next in the history.
pub(crate) enum Replayed {
    /// It applies like this.
    Delta(TransformedDelta),
    /// It was made against a version older than the records in memory.
    NeedsOlder(Version),
}

/// Computes from an applied delta what its host has computed, exactly as the reference does. `carrying`: how far its
/// operations have come through older records already.
pub(crate) fn replay(
    now: Timestamp,
    log: &Log,
    applied: &AppliedDelta,
    signed: &Encoded<SignedDelta>,
    carrying: Option<Carrying>,
) -> Result<Replayed, Contradiction> {
    const TIME_MAX: i64 = 1 << 52;
    /// A clock may be wrong; one that is more than a year wrong is not believed.
    const AHEAD_MAX_MS: i64 = 366 * 86_400_000;
    let ours = log.hashed_head().expect("every record of a replica has its seal");
    if applied.applied_at() != ours && !planted::is("the history's hash is not compared") {
        return Err(Contradiction::AppliedAt {
            ours: ours.clone(),
            theirs: applied.applied_at().clone(),
        });
    }
    let latest = now.0.saturating_add(AHEAD_MAX_MS).min(TIME_MAX - 1);
    if !(0..=latest).contains(&applied.timestamp.0) {
        return Err(Contradiction::Timestamp(applied.timestamp.0));
    }
    let Delta {
        target, author, ops, ..
    } = signed.delta.value().clone();
    let at = carrying.as_ref().map_or(target.version, Carrying::at);
    if at < log.base() {
        // A host of ours takes nothing that is so old. The reference's would; it would have to be very patient.
        let near = ours.version.number() - target.version.number() <= VERSIONS_BEHIND_MAX;
        return if near {
            Ok(Replayed::NeedsOlder(at))
        } else {
            Err(Contradiction::TooOld(target.version))
        };
    }
    let other = log.hash(target.version) != Some(&target.hash);
    if carrying.is_none() && other && !planted::is("an author's target is not compared") {
        return Err(Contradiction::Target { target });
    }
    let carrying = carrying.unwrap_or_else(|| Carrying::patient(ops, target.version));
    let ops = match log.carry_like_reference(&author, carrying).map_err(not_carried)? {
        Carried::Ops(ops) => ops,
        Carried::Duplicate(record) => return Err(repeats(&record)),
    };
    let (count, theirs) = (ops.len() as u64, u64::from(applied.operations_applied));
    if count == 0 || count != theirs {
        return Err(Contradiction::OperationCount { ours: count, theirs });
    }
    Ok(Replayed::Delta(TransformedDelta {
        author,
        applied_at: ours.version,
        ops,
        timestamp: applied.timestamp,
    }))
}

/// Carries the operations of such a delta on, past records from the store that begin where they fit.
pub(crate) fn carry_through(
    signed: &Encoded<SignedDelta>,
    carrying: Option<Carrying>,
    records: &[StoredRecord],
) -> Result<Carrying, Contradiction> {
    let Delta {
        target, author, ops, ..
    } = signed.delta.value();
    let mut carrying = match carrying {
        Some(carrying) => carrying,
        None => {
            let first = records.first();
            let at = first.and_then(|first| first.seal.as_ref()).map(|seal| &seal.applied_at);
            if at != Some(target) {
                return Err(Contradiction::Target { target: target.clone() });
            }
            Carrying::patient(ops.clone(), target.version)
        }
    };
    match carrying.past_stored(author, records).map_err(not_carried)? {
        Some(record) => Err(repeats(&record)),
        None => Ok(carrying),
    }
}

fn not_carried(error: CarryError) -> Contradiction {
    Contradiction::DoesNotApply(error.to_string())
}

fn repeats(record: &Record) -> Contradiction {
    Contradiction::DoesNotApply(format!("it repeats the delta at version {}", record.applied_at()))
}
