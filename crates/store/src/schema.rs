//! The tables, and how an older file becomes a current one. `user_version` counts the steps done.

use std::path::Path;

use billow_model::planted;
use rusqlite::Connection;

use crate::error::OpenError;

/// One text per step; a step once released is never edited.
const STEPS: &[&str] = &[FIRST, SUMS, STANDINGS, UNOPENED, STRANGERS];

/// Brings the database to the latest schema; each step is one transaction.
///
/// The steps may use `row_sum`, which the connection must know (sum.rs).
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let known = u32::try_from(STEPS.len()).expect("there are few steps");
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known && !planted::is("a newer schema is opened all the same") {
        let path = Path::new(connection.path().unwrap_or_default());
        let path = path.parent().unwrap_or(path).to_owned();
        return Err(OpenError::NewerSchema { path, found, known });
    }
    for (step, sql) in (1_u32..).zip(STEPS).skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", step)?;
        transaction.commit()?;
    }
    Ok(())
}

/// How copies of others' wavelets stand to their hosts; which keys peers have shown.
const STANDINGS: &str = "
-- state: refetching, refetched, quarantined, dropped or following. evidence: the store does not look inside.
-- rebuilt: the history up to this version took the place of another one; who knows that one needs everything anew.
CREATE TABLE standings (
    wavelet INTEGER PRIMARY KEY REFERENCES wavelets,
    state TEXT NOT NULL,
    evidence BLOB NOT NULL,
    rebuilt INTEGER
) STRICT;

-- Sealed histories that the operator has dropped; dropped: when, in ms since 1970.
CREATE TABLE transcripts (
    wavelet INTEGER NOT NULL REFERENCES wavelets,
    dropped INTEGER NOT NULL,
    applied_at INTEGER NOT NULL,
    resulting INTEGER NOT NULL,
    hash BLOB NOT NULL,
    applied BLOB NOT NULL,
    PRIMARY KEY (wavelet, dropped, applied_at)
) STRICT, WITHOUT ROWID;

-- The last TLS certificate that a peer has shown; fingerprint: its SHA-256.
CREATE TABLE peer_keys (peer TEXT PRIMARY KEY, fingerprint BLOB NOT NULL, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

const FIRST: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

-- name: example.org/w+abc/~/conv+root; wave: example.org/w+abc
CREATE TABLE wavelets (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, wave TEXT NOT NULL) STRICT;
CREATE INDEX wavelets_by_wave ON wavelets (wave);

-- What was applied, in order. session and sequence: the submission, when one of our own users made it.
-- signed_digest: SHA-256 of the signed delta, when another server signed it.
CREATE TABLE deltas (
    wavelet INTEGER NOT NULL REFERENCES wavelets,
    applied_at INTEGER NOT NULL,
    resulting INTEGER NOT NULL,
    author TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    ops BLOB NOT NULL,
    session TEXT,
    sequence INTEGER,
    signed_digest BLOB,
    PRIMARY KEY (wavelet, applied_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX deltas_by_digest ON deltas (wavelet, signed_digest) WHERE signed_digest IS NOT NULL;

-- The signed bytes of other servers' deltas that are not sealed yet; once sealed they are inside the applied delta.
CREATE TABLE originals (
    wavelet INTEGER NOT NULL REFERENCES wavelets,
    applied_at INTEGER NOT NULL,
    signed BLOB NOT NULL,
    PRIMARY KEY (wavelet, applied_at)
) STRICT, WITHOUT ROWID;

-- The applied delta's bytes and the history hash after it.
CREATE TABLE seals (
    wavelet INTEGER NOT NULL REFERENCES wavelets,
    applied_at INTEGER NOT NULL,
    resulting INTEGER NOT NULL,
    hash BLOB NOT NULL,
    applied BLOB NOT NULL,
    PRIMARY KEY (wavelet, applied_at)
) STRICT, WITHOUT ROWID;

-- The latest snapshot of each wavelet; sealed: how far the wavelet was sealed then.
CREATE TABLE snapshots (
    wavelet INTEGER PRIMARY KEY REFERENCES wavelets,
    version INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    state BLOB NOT NULL
) STRICT;

CREATE TABLE participants (
    address TEXT NOT NULL,
    wavelet INTEGER NOT NULL REFERENCES wavelets,
    PRIMARY KEY (address, wavelet)
) STRICT, WITHOUT ROWID;
CREATE INDEX participants_by_wavelet ON participants (wavelet);

-- What the inbox shows of a wavelet; can be made anew from the wavelet.
CREATE TABLE summaries (wavelet INTEGER PRIMARY KEY REFERENCES wavelets, version INTEGER NOT NULL, data BLOB NOT NULL) STRICT;

-- Submissions of our users to other servers' wavelets, from before they leave until their effect has come back.
CREATE TABLE outgoing (
    wavelet INTEGER NOT NULL REFERENCES wavelets,
    session TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    author TEXT NOT NULL,
    signed BLOB NOT NULL,
    PRIMARY KEY (wavelet, session, sequence)
) STRICT, WITHOUT ROWID;

-- How far a peer has acknowledged a wavelet that we host.
CREATE TABLE cursors (
    wavelet INTEGER NOT NULL REFERENCES wavelets,
    peer TEXT NOT NULL,
    version INTEGER NOT NULL,
    until INTEGER,
    PRIMARY KEY (wavelet, peer)
) STRICT, WITHOUT ROWID;
CREATE INDEX cursors_by_peer ON cursors (peer);

CREATE TABLE signers (id BLOB PRIMARY KEY, domain TEXT NOT NULL, info BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (address TEXT PRIMARY KEY, password TEXT NOT NULL, created INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token_hash BLOB NOT NULL UNIQUE,
    address TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    created INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    label TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_by_address ON sessions (address);
CREATE TABLE invitations (
    code_hash BLOB PRIMARY KEY,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    label TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Gives a table the sums of its rows, now and whenever one is written.
macro_rules! summed {
    ($table:literal, $columns:literal, $row:literal) => {
        concat!(
            "ALTER TABLE ",
            $table,
            " ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;\n",
            "UPDATE ",
            $table,
            " SET sum = row_sum(",
            $columns,
            ");\n",
            "CREATE TRIGGER ",
            $table,
            "_added AFTER INSERT ON ",
            $table,
            " BEGIN UPDATE ",
            $table,
            " SET sum = row_sum(",
            $columns,
            ") WHERE ",
            $row,
            "; END;\n",
            "CREATE TRIGGER ",
            $table,
            "_changed AFTER UPDATE OF ",
            $columns,
            " ON ",
            $table,
            " BEGIN UPDATE ",
            $table,
            " SET sum = row_sum(",
            $columns,
            ") WHERE ",
            $row,
            "; END;\n",
        )
    };
}

const SUMS: &str = concat!(
    summed!("meta", "key, value", "key = NEW.key"),
    summed!("wavelets", "id, name, wave", "id = NEW.id"),
    summed!("snapshots", "wavelet, version, sealed, state", "wavelet = NEW.wavelet"),
    summed!("participants", "address, wavelet", "address = NEW.address AND wavelet = NEW.wavelet"),
    summed!("summaries", "wavelet, version, data", "wavelet = NEW.wavelet"),
    summed!(
        "outgoing",
        "wavelet, session, sequence, author, signed",
        "wavelet = NEW.wavelet AND session = NEW.session AND sequence = NEW.sequence"
    ),
    summed!("cursors", "wavelet, peer, version, until", "wavelet = NEW.wavelet AND peer = NEW.peer"),
    summed!("signers", "id, domain, info", "id = NEW.id"),
    summed!("accounts", "address, password, created", "address = NEW.address"),
    summed!("sessions", "id, token_hash, address, created, last_seen, label", "id = NEW.id"),
    summed!("invitations", "code_hash, created, expires, uses, label", "code_hash = NEW.code_hash"),
    // Too many and too often written for a trigger; history.rs gives them their sums.
    "ALTER TABLE deltas ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
     UPDATE deltas SET sum = row_sum(wavelet, applied_at, resulting, author, timestamp, ops, session, sequence, signed_digest);"
);
const UNOPENED: &str = "
-- Wavelets of other domains that none of our users has opened, and what they take; and the sums for each domain.
CREATE TABLE unopened (wavelet INTEGER PRIMARY KEY REFERENCES wavelets, bytes INTEGER NOT NULL) STRICT;
CREATE TABLE unopened_of (domain TEXT PRIMARY KEY, wavelets INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

const STRANGERS: &str = concat!(
    "
-- What the administrator has decided about other domains. pattern: a domain, or *.domain for those below it, or * for all.
-- verdict: allow, block or ask.
CREATE TABLE decisions (pattern TEXT PRIMARY KEY, verdict TEXT NOT NULL, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Domains that wait for such a decision. way: in (it spoke to us) or out (somebody here wants to reach it).
CREATE TABLE undecided (domain TEXT PRIMARY KEY, way TEXT NOT NULL, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Domains that somebody here has invited somebody of, or has accepted a request of. Who shares a wave already is known.
CREATE TABLE known_domains (domain TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO known_domains (domain, since) SELECT DISTINCT substr(address, instr(address, '@') + 1), 0 FROM participants;
INSERT OR IGNORE INTO known_domains (domain, since)
    SELECT DISTINCT substr(name, 1, instr(name, '/') - 1), 0 FROM wavelets WHERE instr(name, '/') > 0;

-- Waves to which a domain that was not known has invited a user. state: waiting or declined.
CREATE TABLE requests (
    address TEXT NOT NULL,
    wavelet INTEGER NOT NULL REFERENCES wavelets,
    inviter TEXT NOT NULL,
    since INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (address, wavelet)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_wavelet ON requests (wavelet);

-- Domains of which a user wants no invitations.
CREATE TABLE blocks (address TEXT NOT NULL, domain TEXT NOT NULL, PRIMARY KEY (address, domain)) STRICT, WITHOUT ROWID;
",
    summed!("decisions", "pattern, verdict, since", "pattern = NEW.pattern"),
    summed!("undecided", "domain, way, since", "domain = NEW.domain"),
    summed!("known_domains", "domain, since", "domain = NEW.domain"),
    summed!(
        "requests",
        "address, wavelet, inviter, since, state",
        "address = NEW.address AND wavelet = NEW.wavelet"
    ),
    summed!("blocks", "address, domain", "address = NEW.address AND domain = NEW.domain"),
);
