//! Reads everything again and checks it, a slice at a time, so that damage is found while there are copies elsewhere and
//! not on the day on which it is needed.

use billow_model::{Version, WaveletName};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::Store;
use crate::directory;
use crate::error::StoreError;
use crate::history::{Chain, DELTA_COLUMNS, DELTA_TABLES, delta_at, find, number, version};

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of which wavelet; `None`: of the store as a whole, or of a wavelet whose name is not known.
    pub wavelet: Option<WaveletName>,
    /// What, in words.
    pub what: String,
}

/// How far a pass has come.
#[derive(Debug, Clone, Default)]
pub struct ScrubPosition {
    /// The row of the wavelet that was looked through last.
    after: i64,
    /// The wavelet that is being looked through.
    within: Option<Within>,
    done: bool,
    /// Deltas read in this pass.
    pub deltas: u64,
    /// Wavelets looked through in this pass.
    pub wavelets: u64,
}

#[derive(Debug, Clone)]
struct Within {
    wavelet: i64,
    name: WaveletName,
    next: Version,
    chain: Chain,
    /// The rest has no seals yet.
    unsealed: bool,
}

impl ScrubPosition {
    /// Whether everything was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }
}

impl Store {
    /// Reads on from a position, about as many deltas, and says what it found. A damaged history is left at its first fault.
    pub async fn scrub(
        &self,
        mut position: ScrubPosition,
        deltas_max: u64,
    ) -> Result<(ScrubPosition, Vec<Finding>), StoreError> {
        self.read(move |connection| {
            let mut findings = Vec::new();
            let until = position.deltas.saturating_add(deltas_max);
            while !position.done && position.deltas < until {
                step(connection, &mut position, until, &mut findings)?;
            }
            Ok((position, findings))
        })
        .await
    }
}

fn step(
    connection: &Connection,
    position: &mut ScrubPosition,
    until: u64,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let Some(mut within) = position.within.take() else {
        return next_wavelet(connection, position, findings);
    };
    match read_history(connection, &mut within, position, until) {
        Ok(true) => {}
        Ok(false) => position.within = Some(within),
        Err(StoreError::Damaged(what)) => findings.push(Finding {
            wavelet: Some(within.name),
            what,
        }),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Begins with the next wavelet; after the last, looks through what belongs to none.
fn next_wavelet(
    connection: &Connection,
    position: &mut ScrubPosition,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let next: Option<i64> = connection
        .prepare_cached(
            "SELECT min(id) FROM (SELECT min(id) AS id FROM wavelets WHERE id > ?1
             UNION ALL SELECT min(wavelet) FROM deltas WHERE wavelet > ?1)",
        )?
        .query_row([position.after], |row| row.get(0))?;
    let mut found = |wavelet: Option<&WaveletName>, what: String| {
        findings.push(Finding {
            wavelet: wavelet.cloned(),
            what,
        });
    };
    let Some(wavelet) = next else {
        for what in directory::findings(connection)? {
            found(None, what);
        }
        position.done = true;
        return Ok(());
    };
    position.after = wavelet;
    position.wavelets += 1;
    // Wavelets without any delta count too, so that a slice ends.
    position.deltas += 1;
    let text: Option<String> = connection
        .prepare_cached("SELECT name FROM wavelets NOT INDEXED WHERE id = ?")?
        .query_row([wavelet], |row| row.get(0))
        .optional()?;
    let Some(Ok(name)) = text.as_deref().map(str::parse::<WaveletName>) else {
        found(
            None,
            format!("the history of number {wavelet} is of no wavelet that can be named ({text:?})"),
        );
        return Ok(());
    };
    if find(connection, &name)? != Some(wavelet) {
        found(Some(&name), "the index of names leads elsewhere".to_owned());
    }
    for what in beside(connection, wavelet)? {
        found(Some(&name), what);
    }
    position.within = Some(Within {
        wavelet,
        next: Version::ZERO,
        chain: Chain::start(&name),
        unsealed: false,
        name,
    });
    Ok(())
}

/// What lies beside the history of a wavelet: its snapshot, its summary, its indexes.
fn beside(connection: &Connection, wavelet: i64) -> Result<Vec<String>, StoreError> {
    let checks = [
        (
            "the snapshot is not as it was written",
            "SELECT count(*) FROM snapshots WHERE wavelet = ?1 AND sum IS NOT row_sum(wavelet, version, sealed, state)",
        ),
        (
            "the summary is not as it was written",
            "SELECT count(*) FROM summaries WHERE wavelet = ?1 AND sum IS NOT row_sum(wavelet, version, data)",
        ),
        (
            "the index of signed deltas leads to others",
            "SELECT count(*) FROM (SELECT applied_at, signed_digest FROM deltas INDEXED BY deltas_by_digest
                WHERE wavelet = ?1 AND signed_digest IS NOT NULL
             EXCEPT SELECT applied_at, signed_digest FROM deltas NOT INDEXED WHERE wavelet = ?1)",
        ),
        (
            "signed deltas are missing from their index",
            "SELECT count(*) FROM (SELECT applied_at, signed_digest FROM deltas NOT INDEXED
                WHERE wavelet = ?1 AND signed_digest IS NOT NULL
             EXCEPT SELECT applied_at, signed_digest FROM deltas INDEXED BY deltas_by_digest
                WHERE wavelet = ?1 AND signed_digest IS NOT NULL)",
        ),
        (
            "seals are there of deltas that are not",
            "SELECT count(*) FROM seals s WHERE wavelet = ?1
                AND NOT EXISTS (SELECT 1 FROM deltas d WHERE d.wavelet = ?1 AND d.applied_at = s.applied_at)",
        ),
    ];
    let mut found = Vec::new();
    for (what, sql) in checks {
        let count: i64 = connection.prepare_cached(sql)?.query_row([wavelet], |row| row.get(0))?;
        if count > 0 {
            found.push(format!("{what} ({count})"));
        }
    }
    Ok(found)
}

/// Reads on in a history; whether its end is reached.
fn read_history(
    connection: &Connection,
    within: &mut Within,
    position: &mut ScrubPosition,
    until: u64,
) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {DELTA_COLUMNS} FROM {DELTA_TABLES} WHERE d.wavelet = ? AND d.applied_at >= ? ORDER BY d.applied_at"
    ))?;
    let mut rows = statement.query(params![within.wavelet, number(within.next)])?;
    while let Some(row) = rows.next()? {
        if position.deltas >= until {
            return Ok(false);
        }
        position.deltas += 1;
        let at = version(row.get(0)?);
        let delta = delta_at(row)?;
        if at != within.next {
            return Err(StoreError::Damaged(format!(
                "expected the delta at {}, found the one at {at}",
                within.next
            )));
        }
        match &delta.seal {
            Some(_) if within.unsealed => {
                return Err(StoreError::Damaged(format!(
                    "the delta at {at} is sealed and one before it is not"
                )));
            }
            Some(seal) if seal.resulting.version != delta.resulting => {
                return Err(StoreError::Damaged(format!(
                    "the delta at {at} and its seal end at different versions"
                )));
            }
            Some(seal) => within.chain.follow(seal)?,
            None => within.unsealed = true,
        }
        within.next = delta.resulting;
    }
    Ok(true)
}
