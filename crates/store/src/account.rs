//! People who sign in here, their sessions, and invitations. Passwords and tokens come here only as hashes.

use billow_model::{ParticipantId, Timestamp, planted};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::Store;
use crate::error::StoreError;

/// SHA-256 of a secret that somebody else keeps: a session's token, an invitation's code.
pub type TokenHash = [u8; 32];

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose.
    pub address: ParticipantId,
    /// The hash of the password with how it was made (PHC form).
    pub password: String,
    /// Since when.
    pub created: Timestamp,
}

/// What became of a new account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddAccount {
    /// It is there now.
    Added,
    /// There was one of that address.
    Exists,
    /// The invitation is unknown, used up or past its time.
    NoInvitation,
}

/// A signed-in client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    /// Its number; never used twice.
    pub id: i64,
    /// Of the token that it shows.
    pub token_hash: TokenHash,
    /// Who.
    pub address: ParticipantId,
    /// Since when.
    pub created: Timestamp,
    /// When it last showed its token (as often as somebody says so).
    pub last_seen: Timestamp,
    /// What it called itself: the browser, the program.
    pub label: String,
}

/// Leave to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Of its code.
    pub code_hash: TokenHash,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is void.
    pub expires: Timestamp,
    /// How often it may still be used.
    pub uses: u32,
    /// For whom or what, in the words of its maker.
    pub label: String,
}

impl Store {
    /// Adds an account; with an invitation, uses that up in the same step.
    pub async fn add_account(&self, account: Account, invitation: Option<TokenHash>) -> Result<AddAccount, StoreError> {
        self.write(move |connection| {
            let mut exists = connection.prepare_cached("SELECT 1 FROM accounts WHERE address = ?")?;
            if exists.exists([account.address.as_str()])? {
                return Ok(AddAccount::Exists);
            }
            if let Some(code) = invitation {
                let mut invitation = connection.prepare_cached(
                    "UPDATE invitations SET uses = uses - 1 WHERE code_hash = ? AND uses > 0 AND expires > ?",
                )?;
                if invitation.execute(params![code, account.created.0])? == 0 {
                    return Ok(AddAccount::NoInvitation);
                }
            }
            let mut statement =
                connection.prepare_cached("INSERT INTO accounts (address, password, created) VALUES (?, ?, ?)")?;
            statement.execute(params![account.address.as_str(), account.password, account.created.0])?;
            Ok(AddAccount::Added)
        })
        .await
    }

    /// An account by its address.
    pub async fn account(&self, address: &ParticipantId) -> Result<Option<Account>, StoreError> {
        let address = address.clone();
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT password, created FROM accounts WHERE address = ?")?;
            let found = statement
                .query_row([address.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            Ok(found.map(|(password, created)| Account {
                address,
                password,
                created: Timestamp(created),
            }))
        })
        .await
    }

    /// How many accounts there are.
    pub async fn account_count(&self) -> Result<u64, StoreError> {
        self.read(|connection| {
            Ok(connection
                .query_row("SELECT count(*) FROM accounts", [], |row| row.get::<_, i64>(0))?
                .cast_unsigned())
        })
        .await
    }

    /// Sets a password and ends all sessions but one; says which were ended, or `None` if there is no such account.
    pub async fn set_password(
        &self,
        address: &ParticipantId,
        password: String,
        but_session: Option<i64>,
    ) -> Result<Option<Vec<i64>>, StoreError> {
        let address = address.to_string();
        self.write(move |connection| {
            let mut statement = connection.prepare_cached("UPDATE accounts SET password = ? WHERE address = ?")?;
            if statement.execute(params![password, address])? == 0 {
                return Ok(None);
            }
            if planted::is("a session outlives its password") {
                return Ok(Some(Vec::new()));
            }
            let mut statement =
                connection.prepare_cached("DELETE FROM sessions WHERE address = ? AND id IS NOT ? RETURNING id")?;
            let ended = statement
                .query_map(params![address, but_session], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(Some(ended))
        })
        .await
    }

    /// Adds a session; answers its number. [`StoreError::Conflict`] if there is no such account.
    pub async fn add_session(
        &self,
        token_hash: TokenHash,
        address: &ParticipantId,
        now: Timestamp,
        label: &str,
    ) -> Result<i64, StoreError> {
        let (address, label) = (address.to_string(), label.to_owned());
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO sessions (token_hash, address, created, last_seen, label) VALUES (?1, ?2, ?3, ?3, ?4)",
            )?;
            Ok(statement.insert(params![token_hash, address, now.0, label])?)
        })
        .await
    }

    /// The session that shows this token.
    pub async fn session(&self, token_hash: TokenHash) -> Result<Option<StoredSession>, StoreError> {
        self.read(move |connection| Ok(sessions(connection, "token_hash = ?", params![token_hash])?.pop()))
            .await
    }

    /// All sessions of an account, oldest first.
    pub async fn sessions(&self, address: &ParticipantId) -> Result<Vec<StoredSession>, StoreError> {
        let address = address.to_string();
        self.read(move |connection| sessions(connection, "address = ?", params![address]))
            .await
    }

    /// Notes that a session was seen.
    pub async fn touch_session(&self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| {
            connection
                .prepare_cached("UPDATE sessions SET last_seen = max(last_seen, ?) WHERE id = ?")?
                .execute(params![now.0, id])?;
            Ok(())
        })
        .await
    }

    /// Ends a session of this account; whether there was one.
    pub async fn end_session(&self, address: &ParticipantId, id: i64) -> Result<bool, StoreError> {
        let address = address.to_string();
        self.write(move |connection| {
            let mut statement = connection.prepare_cached("DELETE FROM sessions WHERE id = ? AND address = ?")?;
            Ok(statement.execute(params![id, address])? > 0)
        })
        .await
    }

    /// Ends all sessions that were not seen since; answers how many.
    pub async fn end_sessions_unseen_since(&self, then: Timestamp) -> Result<usize, StoreError> {
        self.write(move |connection| {
            Ok(connection
                .prepare_cached("DELETE FROM sessions WHERE last_seen < ?")?
                .execute([then.0])?)
        })
        .await
    }

    /// Adds an invitation.
    pub async fn add_invitation(&self, invitation: Invitation) -> Result<(), StoreError> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO invitations (code_hash, created, expires, uses, label) VALUES (?, ?, ?, ?, ?)",
            )?;
            let Invitation {
                code_hash,
                created,
                expires,
                uses,
                label,
            } = &invitation;
            statement.execute(params![code_hash, created.0, expires.0, uses, label])?;
            Ok(())
        })
        .await
    }

    /// An invitation by the hash of its code, whether or not it still counts.
    pub async fn invitation(&self, code_hash: TokenHash) -> Result<Option<Invitation>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection
                .prepare_cached("SELECT created, expires, uses, label FROM invitations WHERE code_hash = ?")?;
            let found = statement.query_row([code_hash], |row| {
                Ok(Invitation {
                    code_hash,
                    created: Timestamp(row.get(0)?),
                    expires: Timestamp(row.get(1)?),
                    uses: row.get(2)?,
                    label: row.get(3)?,
                })
            });
            Ok(found.optional()?)
        })
        .await
    }
}

fn sessions(
    connection: &Connection,
    which: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<Vec<StoredSession>, StoreError> {
    let sql =
        format!("SELECT id, token_hash, address, created, last_seen, label FROM sessions WHERE {which} ORDER BY id");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(session_at(row)?);
    }
    Ok(out)
}

fn session_at(row: &Row<'_>) -> Result<StoredSession, StoreError> {
    let address: String = row.get(2)?;
    Ok(StoredSession {
        id: row.get(0)?,
        token_hash: row.get(1)?,
        address: address.parse().map_err(|e| StoreError::unreadable("an address", e))?,
        created: Timestamp(row.get(3)?),
        last_seen: Timestamp(row.get(4)?),
        label: row.get(5)?,
    })
}
