//! The histories of wavelets: what was applied, what of it is sealed, what our users have under way to other hosts.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use billow_model::{
    Domain, HashedVersion, HistoryHash, ParticipantId, Timestamp, Version, WaveId, WaveletName, planted,
};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest as _, Sha256};

use crate::error::StoreError;
use crate::quota::{self, Quota};
use crate::request::{self, Request};
use crate::snapshot::{self, Snapshot};
use crate::standing::{self, StoredStanding};
use crate::{Store, inbox};

/// Which of a user's changes it is: an editor's name and its count (decision 8 of the client protocol).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Submission {
    /// The editor.
    pub session: String,
    /// Its count, from 1.
    pub sequence: u64,
}

/// A delta as it was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelta {
    /// The version before it.
    pub applied_at: Version,
    /// The version after it.
    pub resulting: Version,
    /// Who did it.
    pub author: ParticipantId,
    /// When the host applied it.
    pub timestamp: Timestamp,
    /// The operations as applied; the store does not look inside.
    pub ops: Bytes,
    /// The submission, if one of our own users made it.
    pub submission: Option<Submission>,
    /// SHA-256 of the signed delta, if another server signed it (or it was signed before it was sent to its host).
    pub signed_digest: Option<[u8; 32]>,
    /// The signed delta, if another server signed it and it is not sealed yet.
    pub signed: Option<Bytes>,
    /// The seal, once there is one.
    pub seal: Option<StoredSeal>,
}

/// What sealing adds to a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSeal {
    /// The version before the delta.
    pub applied_at: Version,
    /// The version after it, with its hash.
    pub resulting: HashedVersion,
    /// The applied delta's bytes.
    pub applied: Bytes,
}

/// A submission to another server's wavelet, signed and on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Which.
    pub submission: Submission,
    /// Whose.
    pub author: ParticipantId,
    /// The signed delta's bytes: what is sent, and sent again.
    pub signed: Bytes,
}

/// Everything that changes together. Either all of it is stored or nothing.
#[derive(Debug, Clone)]
pub struct WaveletWrite {
    /// The wavelet; it need not be known yet.
    pub name: WaveletName,
    /// Deltas that continue the history, in order.
    pub deltas: Vec<StoredDelta>,
    /// Seals that continue the sealed part, in order.
    pub seals: Vec<StoredSeal>,
    /// Participants that the deltas add.
    pub joined: Vec<ParticipantId>,
    /// Participants that the deltas remove.
    pub left: Vec<ParticipantId>,
    /// Submissions to keep until their effect has come back.
    pub sent: Vec<Outgoing>,
    /// Submissions that need not be kept any longer.
    pub settled: Vec<Submission>,
    /// Domains that the deltas are for from these versions on; one that has a cursor keeps it.
    pub reached: Vec<(Domain, Version)>,
    /// How the copy stands to its host from now on.
    pub standing: Option<StoredStanding>,
    /// The deltas take the place of the whole stored history, its participants, summary and snapshot. What is outgoing stays,
    /// and a delta keeps the submission that was stored with the one in its place.
    pub replaces: bool,
    /// For a wavelet of another domain: what that may store here that nobody has opened.
    pub quota: Option<Quota>,
    /// Of the people who join, those who are asked first whether they want to be here.
    pub requests: Vec<Request>,
    /// Domains that are known from now on.
    pub known: Vec<Domain>,
}

impl WaveletWrite {
    /// Nothing yet.
    #[must_use]
    pub fn new(name: WaveletName) -> Self {
        Self {
            name,
            deltas: Vec::new(),
            seals: Vec::new(),
            joined: Vec::new(),
            left: Vec::new(),
            sent: Vec::new(),
            settled: Vec::new(),
            reached: Vec::new(),
            standing: None,
            replaces: false,
            quota: None,
            requests: Vec::new(),
            known: Vec::new(),
        }
    }
}

/// What is needed to take a wavelet up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWavelet {
    /// The latest snapshot, if one was taken.
    pub snapshot: Option<Snapshot>,
    /// The deltas after the snapshot, in order, and before it those that were not sealed when it was taken.
    pub deltas: Vec<StoredDelta>,
    /// How far it is sealed; `None`: not at all.
    pub sealed: Option<HashedVersion>,
    /// Submissions under way to its host.
    pub outgoing: Vec<Outgoing>,
    /// How the copy stands to its host, if that was ever in doubt.
    pub standing: Option<StoredStanding>,
    /// The history up to this version has taken the place of another one.
    pub rebuilt: Option<Version>,
}

impl Store {
    /// Stores what belongs together; answers when it is on the disk.
    pub async fn append(&self, write: WaveletWrite) -> Result<(), StoreError> {
        self.write(move |connection| append(connection, &write)).await
    }

    /// As [`Store::append`], but answers to a function, on the store's own thread: it must not wait for anything.
    /// Writes are done in the order of the calls.
    pub async fn append_then(
        &self,
        write: WaveletWrite,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.write_then(move |connection| append(connection, &write), done)
            .await
    }

    /// A wavelet as it was left; `None` if there is none of that name.
    pub async fn load(&self, name: &WaveletName) -> Result<Option<StoredWavelet>, StoreError> {
        let name = name.clone();
        self.read(move |connection| load(connection, &name)).await
    }

    /// The deltas from the one that `from` lies in or begins, in order, below `to`, up to about `bytes_max` (at least one, if
    /// there is one).
    pub async fn deltas(
        &self,
        name: &WaveletName,
        from: Version,
        to: Version,
        bytes_max: usize,
    ) -> Result<Vec<StoredDelta>, StoreError> {
        let name = name.clone();
        self.read(move |connection| {
            let Some(wavelet) = find(connection, &name)? else {
                return Ok(Vec::new());
            };
            let mut room = bytes_max;
            deltas(connection, &name, wavelet, from, to, |delta| {
                take(
                    &mut room,
                    delta.ops.len() + delta.seal.as_ref().map_or(0, |s| s.applied.len()),
                )
            })
        })
        .await
    }

    /// The sealed deltas from the one applied at `from`, in order, below `to`, up to about `bytes_max` and at most
    /// `count_max` (at least one, if there is one).
    pub async fn sealed(
        &self,
        name: &WaveletName,
        from: Version,
        to: Option<Version>,
        bytes_max: usize,
        count_max: usize,
    ) -> Result<Vec<StoredSeal>, StoreError> {
        let name = name.clone();
        self.read(move |connection| {
            let Some(wavelet) = find(connection, &name)? else {
                return Ok(Vec::new());
            };
            let mut statement = connection.prepare_cached(
                "SELECT applied_at, resulting, hash, applied FROM seals
                 WHERE wavelet = ? AND applied_at >= ? AND applied_at < ? ORDER BY applied_at LIMIT ?",
            )?;
            let to = to.map_or(i64::MAX, number);
            let count_max = i64::try_from(count_max).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![wavelet, number(from), to, count_max])?;
            let mut chain = Chain::before(connection, wavelet, &name, from)?;
            let (mut out, mut room) = (Vec::new(), bytes_max);
            while let Some(row) = rows.next()? {
                let seal = seal_at(row, 0)?;
                if !take(&mut room, seal.applied.len()) && !out.is_empty() {
                    return Ok(out);
                }
                chain.follow(&seal)?;
                out.push(seal);
                if out.len() as u64 == count_max.cast_unsigned() {
                    return Ok(out);
                }
            }
            // The rows ended by themselves: where the history does, or not (the page that leads to the rest may be damaged).
            let end = sealed_head(connection, wavelet)?.map_or(Version::ZERO, |head| head.version);
            if chain.end().version < end && number(chain.end().version) < to {
                let found = chain.end();
                return Err(StoreError::Damaged(format!(
                    "the sealed history of {name} ends at {end}, found only {found}"
                )));
            }
            Ok(out)
        })
        .await
    }

    /// The hash of the sealed history at a version; `None` if no delta ends there.
    pub async fn hash_at(&self, name: &WaveletName, version: Version) -> Result<Option<HistoryHash>, StoreError> {
        let name = name.clone();
        self.read(move |connection| {
            let Some(wavelet) = find(connection, &name)? else {
                return Ok(None);
            };
            let mut statement = connection.prepare_cached(
                "SELECT applied_at, resulting, hash, applied FROM seals WHERE wavelet = ? AND applied_at < ?
                 ORDER BY applied_at DESC LIMIT 1",
            )?;
            let mut rows = statement.query(params![wavelet, number(version)])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let seal = seal_at(row, 0)?;
            Chain::before(connection, wavelet, &name, seal.applied_at)?.follow(&seal)?;
            Ok((seal.resulting.version == version).then_some(seal.resulting.hash))
        })
        .await
    }

    /// The seal of the delta that ends at a version; `None` if no sealed delta does.
    pub async fn seal_to(&self, name: &WaveletName, version: Version) -> Result<Option<StoredSeal>, StoreError> {
        let name = name.clone();
        self.read(move |connection| {
            let Some(wavelet) = find(connection, &name)? else { return Ok(None) };
            let mut statement = connection.prepare_cached(
                "SELECT applied_at, resulting, hash, applied FROM seals WHERE wavelet = ? AND applied_at < ? ORDER BY applied_at DESC LIMIT 1",
            )?;
            let mut rows = statement.query(params![wavelet, number(version)])?;
            let found = rows.next()?.map(|row| seal_at(row, 0)).transpose()?;
            Ok(found.filter(|seal| seal.resulting.version == version))
        })
        .await
    }

    /// Where a signed delta with this digest was applied, if it was.
    pub async fn find_signed(&self, name: &WaveletName, digest: [u8; 32]) -> Result<Option<StoredDelta>, StoreError> {
        let name = name.clone();
        self.read(move |connection| {
            let Some(wavelet) = find(connection, &name)? else {
                return Ok(None);
            };
            let mut statement = connection
                .prepare_cached(
                    "SELECT applied_at, resulting FROM deltas INDEXED BY deltas_by_digest WHERE wavelet = ? AND signed_digest = ?",
                )?;
            let found: Option<(i64, i64)> = statement
                .query_row(params![wavelet, digest], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((from, to)) = found else { return Ok(None) };
            let mut found = deltas(connection, &name, wavelet, version(from), version(to), |_| true)?.into_iter();
            match found.next() {
                Some(delta) if delta.signed_digest == Some(digest) => Ok(Some(delta)),
                _ => Err(StoreError::Damaged(format!(
                    "the index of signed deltas leads to another delta at {from} of {name}"
                ))),
            }
        })
        .await
    }

    /// Whether a wavelet of that name is stored.
    pub async fn has(&self, name: &WaveletName) -> Result<bool, StoreError> {
        let name = name.clone();
        self.read(move |connection| Ok(find(connection, &name)?.is_some()))
            .await
    }

    /// The wavelets of a wave.
    pub async fn wavelets(&self, wave: &WaveId) -> Result<Vec<WaveletName>, StoreError> {
        let wave = wave.to_string();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT name FROM wavelets WHERE wave = ? ORDER BY name")?;
            names(statement.query([wave])?)
        })
        .await
    }

    /// Removes the seals of wavelets that no peer has a cursor of, and snapshots that hold their hashes, so that they are
    /// sealed anew. Answers how many wavelets these are.
    pub async fn unseal_unshared(&self) -> Result<usize, StoreError> {
        self.write(|connection| {
            let unshared = "wavelet NOT IN (SELECT wavelet FROM cursors)
                AND wavelet NOT IN (SELECT d.wavelet FROM deltas d WHERE d.signed_digest IS NOT NULL)";
            let wavelets = connection.query_row(
                &format!("SELECT count(DISTINCT wavelet) FROM seals WHERE {unshared}"),
                [],
                |row| row.get::<_, i64>(0),
            )?;
            connection.execute(&format!("DELETE FROM snapshots WHERE {unshared}"), [])?;
            connection.execute(&format!("DELETE FROM seals WHERE {unshared}"), [])?;
            Ok(usize::try_from(wavelets).unwrap_or(usize::MAX))
        })
        .await
    }

    /// The wavelets that a peer has a cursor of and that are not sealed to their end.
    pub async fn unsealed_shared(&self) -> Result<Vec<WaveletName>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT name FROM wavelets w WHERE id IN (SELECT wavelet FROM cursors)
                    AND (SELECT max(applied_at) FROM deltas WHERE wavelet = w.id)
                        IS NOT (SELECT max(applied_at) FROM seals WHERE wavelet = w.id) ORDER BY name",
            )?;
            names(statement.query([])?)
        })
        .await
    }

    /// The wavelets that have submissions under way to their host.
    pub async fn wavelets_with_outgoing(&self) -> Result<Vec<WaveletName>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT name FROM wavelets WHERE id IN (SELECT DISTINCT wavelet FROM outgoing) ORDER BY name",
            )?;
            names(statement.query([])?)
        })
        .await
    }
}

pub(crate) fn names(mut rows: rusqlite::Rows<'_>) -> Result<Vec<WaveletName>, StoreError> {
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.extend(readable(row, 0)?);
    }
    Ok(out)
}

/// A name, or another id, in a list. A row that holds none is left out and logged: it must not hide the others.
pub(crate) fn readable<T: FromStr<Err: Display>>(row: &Row<'_>, column: usize) -> Result<Option<T>, StoreError> {
    let text: String = row.get(column)?;
    let read = text.parse();
    Ok(read
        .inspect_err(|error| tracing::error!("a row of the store is left out: {error}"))
        .ok())
}

/// The row of a wavelet.
pub(crate) fn find(connection: &Connection, name: &WaveletName) -> Result<Option<i64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id FROM wavelets WHERE name = ?")?;
    Ok(statement.query_row([name.to_string()], |row| row.get(0)).optional()?)
}

/// The row of a wavelet, made if need be.
pub(crate) fn find_or_add(connection: &Connection, name: &WaveletName) -> Result<i64, StoreError> {
    if let Some(wavelet) = find(connection, name)? {
        return Ok(wavelet);
    }
    let mut statement = connection.prepare_cached("INSERT INTO wavelets (name, wave) VALUES (?, ?)")?;
    Ok(statement.insert([name.to_string(), name.wave().to_string()])?)
}

fn append(connection: &Connection, write: &WaveletWrite) -> Result<(), StoreError> {
    let known = find(connection, &write.name)?;
    let wavelet = known.map_or_else(|| find_or_add(connection, &write.name), Ok)?;
    let submissions = match write.replaces {
        true => standing::clear(connection, wavelet)?,
        false => HashMap::new(),
    };
    if let Some(quota) = write.quota.filter(|_| !write.deltas.is_empty()) {
        quota::charge(connection, wavelet, known.is_none(), write, quota)?;
    }
    if let Some(first) = write.deltas.first() {
        check_follows(&write.name, "the history", head(connection, wavelet)?, first.applied_at)?;
    }
    for (earlier, later) in write.deltas.iter().zip(write.deltas.iter().skip(1)) {
        check_follows(&write.name, "the history", earlier.resulting, later.applied_at)?;
    }
    for delta in &write.deltas {
        let submission = delta.submission.as_ref().or_else(|| submissions.get(&delta.applied_at));
        add_delta(connection, wavelet, delta, submission)?;
    }
    standing::keep(connection, wavelet, write)?;
    let seals: Vec<&StoredSeal> = write
        .deltas
        .iter()
        .filter_map(|delta| delta.seal.as_ref())
        .chain(&write.seals)
        .collect();
    add_seals(connection, wavelet, &write.name, &seals)?;
    inbox::change_participants(connection, wavelet, &write.joined, &write.left)?;
    request::note(connection, wavelet, write)?;
    for outgoing in &write.sent {
        // Signed anew after a change of mind of the host: the later bytes count.
        let mut statement = connection.prepare_cached(
            "INSERT OR REPLACE INTO outgoing (wavelet, session, sequence, author, signed) VALUES (?, ?, ?, ?, ?)",
        )?;
        let Submission { session, sequence } = &outgoing.submission;
        statement.execute(params![
            wavelet,
            session,
            signed(*sequence),
            outgoing.author.as_str(),
            outgoing.signed.as_ref()
        ])?;
    }
    for Submission { session, sequence } in &write.settled {
        let mut statement =
            connection.prepare_cached("DELETE FROM outgoing WHERE wavelet = ? AND session = ? AND sequence = ?")?;
        statement.execute(params![wavelet, session, signed(*sequence)])?;
    }
    for (domain, from) in &write.reached {
        let mut statement = connection.prepare_cached(
            "INSERT INTO cursors (wavelet, peer, version) VALUES (?, ?, ?) ON CONFLICT (wavelet, peer) DO UPDATE SET until = NULL",
        )?;
        statement.execute(params![wavelet, domain.as_str(), number(*from)])?;
    }
    Ok(())
}

fn check_follows(name: &WaveletName, what: &str, head: Version, next: Version) -> Result<(), StoreError> {
    if head == next || planted::is("a delta need not follow the one before") {
        Ok(())
    } else {
        Err(StoreError::Conflict(format!(
            "{what} of {name} ends at {head}, not at {next}"
        )))
    }
}

fn head(connection: &Connection, wavelet: i64) -> Result<Version, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT resulting FROM deltas WHERE wavelet = ? ORDER BY applied_at DESC LIMIT 1")?;
    Ok(version(
        statement
            .query_row([wavelet], |row| row.get(0))
            .optional()?
            .unwrap_or(0),
    ))
}

pub(crate) fn sealed_head(connection: &Connection, wavelet: i64) -> Result<Option<HashedVersion>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT resulting, hash FROM seals WHERE wavelet = ? ORDER BY applied_at DESC LIMIT 1")?;
    let found: Option<(i64, Vec<u8>)> = statement
        .query_row([wavelet], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(number, hash)| HashedVersion {
        version: version(number),
        hash: HistoryHash::from_bytes(&hash),
    }))
}

fn add_delta(
    connection: &Connection,
    wavelet: i64,
    delta: &StoredDelta,
    submission: Option<&Submission>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO deltas (wavelet, applied_at, resulting, author, timestamp, ops, session, sequence, signed_digest, sum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, row_sum(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9))",
    )?;
    statement.execute(params![
        wavelet,
        number(delta.applied_at),
        number(delta.resulting),
        delta.author.as_str(),
        delta.timestamp.0,
        delta.ops.as_ref(),
        submission.map(|s| &s.session),
        submission.map(|s| signed(s.sequence)),
        delta.signed_digest,
    ])?;
    if let (Some(original), None) = (&delta.signed, &delta.seal) {
        let mut statement =
            connection.prepare_cached("INSERT INTO originals (wavelet, applied_at, signed) VALUES (?, ?, ?)")?;
        statement.execute(params![wavelet, number(delta.applied_at), original.as_ref()])?;
    }
    Ok(())
}

fn add_seals(
    connection: &Connection,
    wavelet: i64,
    name: &WaveletName,
    seals: &[&StoredSeal],
) -> Result<(), StoreError> {
    if seals.is_empty() {
        return Ok(());
    }
    let mut chain = Chain(sealed_head(connection, wavelet)?.unwrap_or_else(|| HashedVersion::zero(name)));
    for seal in seals {
        check_follows(name, "the sealed history", chain.end().version, seal.applied_at)?;
        chain
            .follow(seal)
            .map_err(|error| StoreError::Conflict(error.to_string()))?;
        let mut statement =
            connection.prepare_cached("SELECT resulting FROM deltas WHERE wavelet = ? AND applied_at = ?")?;
        let resulting: Option<i64> = statement
            .query_row(params![wavelet, number(seal.applied_at)], |row| row.get(0))
            .optional()?;
        if resulting != Some(number(seal.resulting.version)) {
            return Err(StoreError::Conflict(format!(
                "no delta of {name} leads from {} to {}",
                seal.applied_at, seal.resulting.version
            )));
        }
        let mut statement = connection.prepare_cached(
            "INSERT INTO seals (wavelet, applied_at, resulting, hash, applied) VALUES (?, ?, ?, ?, ?)",
        )?;
        let hash = seal.resulting.hash.as_bytes();
        statement.execute(params![
            wavelet,
            number(seal.applied_at),
            number(seal.resulting.version),
            hash,
            seal.applied.as_ref()
        ])?;
        let mut statement = connection.prepare_cached("DELETE FROM originals WHERE wavelet = ? AND applied_at = ?")?;
        statement.execute(params![wavelet, number(seal.applied_at)])?;
    }
    Ok(())
}

fn load(connection: &Connection, name: &WaveletName) -> Result<Option<StoredWavelet>, StoreError> {
    let Some(wavelet) = find(connection, name)? else {
        return Ok(None);
    };
    let snapshot = snapshot::latest(connection, wavelet)?;
    let sealed = sealed_head(connection, wavelet)?;
    let from = snapshot
        .as_ref()
        .map_or(Version::ZERO, |snapshot| snapshot.version.min(snapshot.sealed));
    let deltas = deltas(connection, name, wavelet, from, Version::new(i64::MAX as u64), |_| true)?;
    let outgoing = outgoing(connection, wavelet)?;
    let (standing, rebuilt) = standing::load(connection, wavelet)?;
    Ok(Some(StoredWavelet {
        snapshot,
        deltas,
        sealed,
        outgoing,
        standing,
        rebuilt,
    }))
}

/// The columns of a delta, `d` in the query, with its seal `s` and what another server signed, `o`; see [`delta_at`].
pub(crate) const DELTA_COLUMNS: &str = "d.applied_at, d.resulting, d.author, d.timestamp, d.ops, d.session, d.sequence, d.signed_digest, o.signed,
    s.applied_at, s.resulting, s.hash, s.applied,
    d.sum IS row_sum(d.wavelet, d.applied_at, d.resulting, d.author, d.timestamp, d.ops, d.session, d.sequence, d.signed_digest)";

/// Where these columns come from.
pub(crate) const DELTA_TABLES: &str = "deltas d
    LEFT JOIN originals o ON o.wavelet = d.wavelet AND o.applied_at = d.applied_at
    LEFT JOIN seals s ON s.wavelet = d.wavelet AND s.applied_at = d.applied_at";

fn deltas(
    connection: &Connection,
    name: &WaveletName,
    wavelet: i64,
    from: Version,
    to: Version,
    mut room: impl FnMut(&StoredDelta) -> bool,
) -> Result<Vec<StoredDelta>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {DELTA_COLUMNS} FROM {DELTA_TABLES}
         WHERE d.wavelet = ?1 AND d.resulting > ?2 AND d.applied_at < ?3
               AND d.applied_at >= coalesce((SELECT max(applied_at) FROM deltas WHERE wavelet = ?1 AND applied_at <= ?2), 0)
         ORDER BY d.applied_at"
    ))?;
    let mut rows = statement.query(params![wavelet, number(from), number(to)])?;
    let (mut out, mut full): (Vec<StoredDelta>, _) = (Vec::new(), false);
    let mut chain = None;
    while let Some(row) = rows.next()? {
        let delta = delta_at(row)?;
        if !room(&delta) && !out.is_empty() {
            full = true;
            break;
        }
        if let Some(before) = out.last()
            && before.resulting != delta.applied_at
        {
            let (end, next) = (before.resulting, delta.applied_at);
            return Err(StoreError::Damaged(format!(
                "after the delta that ends at {end} comes the one at {next}"
            )));
        }
        if let Some(seal) = &delta.seal {
            let chain = match &mut chain {
                Some(chain) => chain,
                None => chain.insert(Chain::before(connection, wavelet, name, seal.applied_at)?),
            };
            chain.follow(seal)?;
        }
        out.push(delta);
    }
    drop(rows);
    check_reach(connection, wavelet, from, to, &out, full)?;
    Ok(out)
}

/// Whether the rows that were found are all that should be there: the page that leads to the rest may be damaged.
fn check_reach(
    connection: &Connection,
    wavelet: i64,
    from: Version,
    to: Version,
    found: &[StoredDelta],
    full: bool,
) -> Result<(), StoreError> {
    let head = head(connection, wavelet)?;
    let sealed = sealed_head(connection, wavelet)?.map_or(Version::ZERO, |sealed| sealed.version);
    let end = found.last().map_or(from, |last| last.resulting);
    let begins = found.first().is_none_or(|first| first.applied_at <= from);
    if sealed > head || !begins || !full && end < head.min(to) {
        return Err(StoreError::Damaged(format!(
            "of the history up to {head}, sealed up to {sealed}, only a part was found: from {} to {end}",
            found.first().map_or(from, |first| first.applied_at)
        )));
    }
    Ok(())
}

/// The hashes of a history, followed from seal to seal: each covers the one before it and the bytes of its delta.
#[derive(Debug, Clone)]
pub(crate) struct Chain(HashedVersion);

impl Chain {
    /// At the start of a wavelet.
    pub(crate) fn start(name: &WaveletName) -> Self {
        Self(HashedVersion::zero(name))
    }

    /// At the end of the seal before this version.
    pub(crate) fn before(
        connection: &Connection,
        wavelet: i64,
        name: &WaveletName,
        at: Version,
    ) -> Result<Self, StoreError> {
        let mut statement = connection.prepare_cached(
            "SELECT resulting, hash FROM seals WHERE wavelet = ? AND applied_at < ? ORDER BY applied_at DESC LIMIT 1",
        )?;
        let before = statement
            .query_row(params![wavelet, number(at)], |row| {
                Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
            })
            .optional()?;
        Ok(before.map_or_else(
            || Self::start(name),
            |(at, hash)| {
                Self(HashedVersion {
                    version: version(at),
                    hash: HistoryHash::from_bytes(&hash),
                })
            },
        ))
    }

    /// Goes on over a seal, if it continues the history.
    pub(crate) fn follow(&mut self, seal: &StoredSeal) -> Result<(), StoreError> {
        let operations = seal.resulting.version.number().saturating_sub(seal.applied_at.number());
        let follows = seal.applied_at == self.0.version && self.0.next(&seal.applied, operations) == seal.resulting;
        if !follows && !planted::is("the hashes of a stored history are not followed") {
            return Err(StoreError::Damaged(format!(
                "the applied delta at {} does not continue the hashed history, which ends at {}",
                seal.applied_at, self.0
            )));
        }
        self.0 = seal.resulting.clone();
        Ok(())
    }

    /// Where it has come to.
    pub(crate) fn end(&self) -> &HashedVersion {
        &self.0
    }
}

/// A delta, if it is what was written.
pub(crate) fn delta_at(row: &Row<'_>) -> Result<StoredDelta, StoreError> {
    let damaged = |what: &str| {
        let at = row.get::<_, i64>(0).unwrap_or_default();
        StoreError::Damaged(format!("{what} at version {at} is not as it was written"))
    };
    if !row.get::<_, bool>(13)? && !planted::is("a row's sum is not compared") {
        return Err(damaged("the delta"));
    }
    let author: String = row.get(2)?;
    let session: Option<String> = row.get(5)?;
    let sequence: Option<i64> = row.get(6)?;
    let sealed: Option<i64> = row.get(9)?;
    let signed = row.get::<_, Option<Vec<u8>>>(8)?.map(Bytes::from);
    let signed_digest: Option<[u8; 32]> = row.get(7)?;
    if let Some(signed) = &signed
        && signed_digest != Some(Sha256::digest(signed).into())
    {
        return Err(damaged("what was signed for the delta"));
    }
    Ok(StoredDelta {
        applied_at: version(row.get(0)?),
        resulting: version(row.get(1)?),
        author: author.parse().map_err(|e| StoreError::unreadable("an author", e))?,
        timestamp: Timestamp(row.get(3)?),
        ops: bytes_at(row, 4)?,
        submission: session.zip(sequence).map(|(session, sequence)| Submission {
            session,
            sequence: sequence.cast_unsigned(),
        }),
        signed_digest,
        signed,
        seal: sealed.map(|_| seal_at(row, 9)).transpose()?,
    })
}

pub(crate) fn seal_at(row: &Row<'_>, first: usize) -> Result<StoredSeal, StoreError> {
    let hash: Vec<u8> = row.get(first + 2)?;
    Ok(StoredSeal {
        applied_at: version(row.get(first)?),
        resulting: HashedVersion {
            version: version(row.get(first + 1)?),
            hash: HistoryHash::from_bytes(&hash),
        },
        applied: bytes_at(row, first + 3)?,
    })
}

fn outgoing(connection: &Connection, wavelet: i64) -> Result<Vec<Outgoing>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT session, sequence, author, signed FROM outgoing WHERE wavelet = ? ORDER BY session, sequence",
    )?;
    let mut rows = statement.query([wavelet])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let author: String = row.get(2)?;
        out.push(Outgoing {
            submission: Submission {
                session: row.get(0)?,
                sequence: row.get::<_, i64>(1)?.cast_unsigned(),
            },
            author: author.parse().map_err(|e| StoreError::unreadable("an author", e))?,
            signed: bytes_at(row, 3)?,
        });
    }
    Ok(out)
}

fn take(room: &mut usize, bytes: usize) -> bool {
    let fits = bytes <= *room;
    *room = room.saturating_sub(bytes);
    fits
}

pub(crate) fn bytes_at(row: &Row<'_>, column: usize) -> Result<Bytes, StoreError> {
    Ok(Bytes::from(row.get::<_, Vec<u8>>(column)?))
}

/// SQLite's numbers are signed; a version from outside is below 2^63 (it is an int64 on the wire), a count of ours too.
pub(crate) fn number(version: Version) -> i64 {
    i64::try_from(version.number()).unwrap_or(i64::MAX)
}

pub(crate) fn version(number: i64) -> Version {
    Version::new(number.cast_unsigned())
}

fn signed(sequence: u64) -> i64 {
    sequence.cast_signed()
}
