//! Reads what can still be read of a damaged store, and only what verifies: each wavelet's history from its start up to the
//! first delta that is not as it was written.

use std::path::Path;

use billow_model::{Version, WaveletName};
use rusqlite::{Connection, OpenFlags, params};

use crate::error::{OpenError, StoreError};
use crate::folder::open_error;
use crate::history::{Chain, DELTA_COLUMNS, DELTA_TABLES, StoredDelta, delta_at, version};
use crate::sum;

/// What is left of a wavelet.
#[derive(Debug, Clone)]
pub struct Salvaged {
    /// The wavelet.
    pub name: WaveletName,
    /// Its deltas from version 0 on, all of which verify.
    pub deltas: Vec<StoredDelta>,
    /// What ended it; `None`: it is whole.
    pub fault: Option<String>,
}

/// Gives each wavelet of the store in a data folder to a function; answers what cannot be read at all. The store is only
/// read, and may be in use.
pub fn salvage(data: &Path, mut each: impl FnMut(Salvaged)) -> Result<Vec<String>, OpenError> {
    let database = data.join("billow.db");
    if !database.exists() {
        return Err(OpenError::MissingDatabase { path: database });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || {
        let connection = Connection::open_with_flags(&database, flags)?;
        connection.pragma_update(None, "query_only", true)?;
        sum::register(&connection)?;
        Ok(connection)
    };
    let connection = connect().map_err(|error| open_error(&database, error))?;
    let mut lost = Vec::new();
    let names = wavelets(&connection, &mut lost).map_err(|error| open_error(&database, error))?;
    for (wavelet, name) in names {
        let (mut deltas, mut chain) = (Vec::new(), Chain::start(&name));
        let read = read(&connection, wavelet, &mut chain, &mut deltas);
        each(Salvaged {
            name,
            deltas,
            fault: read.err().map(|error| error.to_string()),
        });
    }
    Ok(lost)
}

fn wavelets(connection: &Connection, lost: &mut Vec<String>) -> Result<Vec<(i64, WaveletName)>, rusqlite::Error> {
    let mut statement = connection.prepare("SELECT id, name FROM wavelets NOT INDEXED ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut names = Vec::new();
    loop {
        match rows.next() {
            Ok(Some(row)) => {
                let (id, text): (i64, String) = (row.get(0)?, row.get(1)?);
                match text.parse() {
                    Ok(name) => names.push((id, name)),
                    Err(error) => lost.push(format!(
                        "the wavelet of number {id} has no name that can be read: {error}"
                    )),
                }
            }
            Ok(None) => return Ok(names),
            Err(error) => {
                lost.push(format!("the list of wavelets breaks off: {error}"));
                return Ok(names);
            }
        }
    }
}

fn read(
    connection: &Connection,
    wavelet: i64,
    chain: &mut Chain,
    deltas: &mut Vec<StoredDelta>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {DELTA_COLUMNS} FROM {DELTA_TABLES} WHERE d.wavelet = ? ORDER BY d.applied_at"
    ))?;
    let mut rows = statement.query(params![wavelet])?;
    let mut next = Version::ZERO;
    while let Some(row) = rows.next()? {
        let at = version(row.get(0)?);
        if at != next {
            return Err(StoreError::Damaged(format!(
                "expected the delta at {next}, found the one at {at}"
            )));
        }
        let delta = delta_at(row)?;
        if let Some(seal) = &delta.seal {
            chain.follow(seal)?;
        }
        next = delta.resulting;
        deltas.push(delta);
    }
    Ok(())
}
