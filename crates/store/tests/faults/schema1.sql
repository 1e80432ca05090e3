-- The first schema as it was released, with something in every table.
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

INSERT INTO meta VALUES ('domain', CAST('initech.lab' AS BLOB));
INSERT INTO wavelets VALUES (1, 'initech.lab/w+old/~/conv+root', 'initech.lab/w+old');
INSERT INTO deltas VALUES
    (1, 0, 1, 'alice@initech.lab', 1000, CAST('operations at 0' AS BLOB), 'editor', 1, NULL),
    (1, 1, 2, 'alice@initech.lab', 1001, CAST('operations at 1' AS BLOB), 'editor', 2, NULL);
INSERT INTO snapshots VALUES (1, 1, 0, x'010203');
INSERT INTO participants VALUES ('alice@initech.lab', 1);
INSERT INTO summaries VALUES (1, 1, x'0405');
INSERT INTO outgoing VALUES (1, 'editor', 3, 'alice@initech.lab', x'06');
INSERT INTO cursors VALUES (1, 'acme.lab', 1, NULL);
INSERT INTO signers VALUES (x'0a', 'acme.lab', x'0b');
INSERT INTO accounts VALUES ('alice@initech.lab', 'a hash', 5);
INSERT INTO sessions VALUES (1, x'0c', 'alice@initech.lab', 5, 6, 'a browser');
INSERT INTO invitations VALUES (x'0d', 5, 6, 1, 'a friend');
PRAGMA user_version = 1;
