//! Who is asked first: users whom a domain that nobody here knows has invited; which domains are known; whom a user wants
//! nothing of.

use billow_model::{Domain, ParticipantId, Timestamp, WaveletName};
use rusqlite::{Connection, params};

use crate::Store;
use crate::error::StoreError;
use crate::history::{WaveletWrite, find, readable};

const WAITING: &str = "waiting";
const DECLINED: &str = "declined";

/// A user of ours, or with an empty name all of them, was added to a wavelet by a domain that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who was added.
    pub address: ParticipantId,
    /// To which wavelet.
    pub name: WaveletName,
    /// By whom.
    pub inviter: ParticipantId,
    /// When that was stored here.
    pub since: Timestamp,
    /// The user does not want it.
    pub declined: bool,
}

/// What a user has said to requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settlement {
    /// These are requests no longer.
    pub accepted: Vec<(ParticipantId, WaveletName)>,
    /// These are kept as they are here, in place of what was kept of the same address and wavelet.
    pub declined: Vec<Request>,
    /// These domains are known from now on.
    pub known: Vec<Domain>,
    /// Since when.
    pub now: Timestamp,
}

impl Store {
    /// All requests, whosever, whether or not they were declined.
    pub async fn requests(&self) -> Result<Vec<Request>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT r.address, w.name, r.inviter, r.since, r.state FROM requests r JOIN wavelets w ON w.id = r.wavelet
                 ORDER BY r.since",
            )?;
            let mut rows = statement.query([])?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                let (Some(address), Some(name), Some(inviter)) =
                    (readable(row, 0)?, readable(row, 1)?, readable(row, 2)?)
                else {
                    continue;
                };
                out.push(Request {
                    address,
                    name,
                    inviter,
                    since: Timestamp(row.get(3)?),
                    declined: row.get::<_, String>(4)? == DECLINED,
                });
            }
            Ok(out)
        })
        .await
    }

    /// Keeps what a user has said.
    pub async fn settle_requests(&self, settlement: Settlement) -> Result<(), StoreError> {
        self.write(move |connection| {
            for (address, name) in &settlement.accepted {
                if let Some(wavelet) = find(connection, name)? {
                    let mut statement =
                        connection.prepare_cached("DELETE FROM requests WHERE address = ? AND wavelet = ?")?;
                    statement.execute(params![address.as_str(), wavelet])?;
                }
            }
            for request in &settlement.declined {
                if let Some(wavelet) = find(connection, &request.name)? {
                    keep(connection, wavelet, request, "REPLACE")?;
                }
            }
            know(connection, &settlement.known, settlement.now)
        })
        .await
    }

    /// The domains that are known.
    pub async fn known_domains(&self) -> Result<Vec<Domain>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT domain FROM known_domains")?;
            let mut rows = statement.query([])?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                out.extend(readable(row, 0)?);
            }
            Ok(out)
        })
        .await
    }

    /// Which users want no invitations of which domains.
    pub async fn blocks(&self) -> Result<Vec<(ParticipantId, Domain)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT address, domain FROM blocks")?;
            let mut rows = statement.query([])?;
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                out.extend(readable(row, 0)?.zip(readable(row, 1)?));
            }
            Ok(out)
        })
        .await
    }

    /// A user wants no invitations of a domain, or does again.
    pub async fn keep_block(&self, user: &ParticipantId, domain: &Domain, blocked: bool) -> Result<(), StoreError> {
        let (user, domain) = (user.clone(), domain.clone());
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(match blocked {
                true => "INSERT OR IGNORE INTO blocks (address, domain) VALUES (?, ?)",
                false => "DELETE FROM blocks WHERE address = ? AND domain = ?",
            })?;
            statement.execute([user.as_str(), domain.as_str()])?;
            Ok(())
        })
        .await
    }
}

/// What a write of a wavelet says about requests. One that was declined outlives the user's removal, so that inviting
/// somebody again changes nothing.
pub(crate) fn note(connection: &Connection, wavelet: i64, write: &WaveletWrite) -> Result<(), StoreError> {
    for address in &write.left {
        let mut statement =
            connection.prepare_cached("DELETE FROM requests WHERE address = ? AND wavelet = ? AND state = ?")?;
        statement.execute(params![address.as_str(), wavelet, WAITING])?;
    }
    for request in &write.requests {
        keep(connection, wavelet, request, "IGNORE")?;
    }
    let now = write.deltas.last().map_or(Timestamp(0), |delta| delta.timestamp);
    know(connection, &write.known, now)
}

fn keep(connection: &Connection, wavelet: i64, request: &Request, or: &str) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "INSERT OR {or} INTO requests (address, wavelet, inviter, since, state) VALUES (?, ?, ?, ?, ?)"
    ))?;
    let state = if request.declined { DECLINED } else { WAITING };
    let Request {
        address,
        inviter,
        since,
        ..
    } = request;
    statement.execute(params![address.as_str(), wavelet, inviter.as_str(), since.0, state])?;
    Ok(())
}

fn know(connection: &Connection, domains: &[Domain], now: Timestamp) -> Result<(), StoreError> {
    for domain in domains {
        let mut statement =
            connection.prepare_cached("INSERT OR IGNORE INTO known_domains (domain, since) VALUES (?, ?)")?;
        statement.execute(params![domain.as_str(), now.0])?;
    }
    Ok(())
}
