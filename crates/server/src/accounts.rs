//! Accounts: who may sign in here, with what password, and the sessions that came of it.
//!
//! A password is kept as its Argon2id hash, a session's token and an invitation's code as their SHA-256: what is stored
//! opens nothing. Unknown and known addresses are refused in the same words after the same work.

mod attempts;
mod password;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use billow_model::{Domain, ParticipantId, Timestamp};
use billow_store::{Account, AddAccount, Invitation, Store, StoreError, StoredSession, TokenHash};
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;

use crate::clock;
use crate::config::{Config, Registration};
use attempts::Attempts;
use password::Hasher;

pub use password::MAX_PASSWORD_BYTES;

/// A session ends when it was not used for so long.
const IDLE: Duration = Duration::from_secs(14 * 24 * 3600);
/// And when it is so old.
const AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How often "last seen" is written.
const SEEN_EVERY: Duration = Duration::from_secs(3600);

/// The accounts of this server's domain. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    domain: Domain,
    registration: Registration,
    hasher: Hasher,
    attempts: Attempts,
    ended: broadcast::Sender<i64>,
}

/// A session that has been shown to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: i64,
    /// Who.
    pub address: ParticipantId,
    /// Since when.
    pub created: Timestamp,
    /// When it was last used, to the hour.
    pub last_seen: Timestamp,
    /// What it called itself.
    pub label: String,
}

/// What a sign-in gives.
#[derive(Debug)]
pub struct SignedIn {
    /// The session.
    pub session: Session,
    /// The secret that shows it; told once, kept nowhere here.
    pub token: String,
}

/// Why an account could not be made, entered or changed. The text is for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The address cannot be one of ours.
    #[error("{0}")]
    BadAddress(String),
    /// The password is too short, too long or holds a NUL.
    #[error("{0}")]
    BadPassword(String),
    /// There is one of that address.
    #[error("{0} is taken; choose another name")]
    Taken(ParticipantId),
    /// Nobody may register.
    #[error("this server takes no new accounts")]
    RegistrationClosed,
    /// None was given.
    #[error("this server takes new accounts by invitation; ask somebody who has one, and register with its code")]
    InvitationNeeded,
    /// The invitation does not count (any more).
    #[error("this server takes new accounts by invitation; this invitation is unknown, used or past its time")]
    NoInvitation,
    /// Somebody of another domain.
    #[error("{address} signs in at {0}, this is {here}", address.domain())]
    Elsewhere {
        /// Who came.
        address: ParticipantId,
        /// Whose accounts are here.
        here: Domain,
    },
    /// Address or password; which one is not told.
    #[error("the address or the password is not right")]
    NotRight,
    /// Too many tries.
    #[error("too many tries; wait {0} s and try again")]
    TooManyTries(u64),
    /// The store failed.
    #[error("the server cannot do this now: {0}")]
    Store(#[from] StoreError),
}

impl Accounts {
    /// The accounts kept in a store.
    #[must_use]
    pub fn new(config: &Config, store: Store) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                domain: config.domain.clone(),
                registration: config.accounts.registration,
                hasher: Hasher::new(),
                attempts: Attempts::new(config.limits.registrations_per_hour),
                ended: broadcast::channel(256).0,
            }),
        }
    }

    /// Who may register.
    #[must_use]
    pub fn registration(&self) -> Registration {
        self.inner.registration
    }

    /// Makes an account and signs it in.
    pub async fn register(
        &self,
        from: IpAddr,
        address: &str,
        password: &str,
        invitation: Option<&str>,
        label: &str,
    ) -> Result<SignedIn, AccountError> {
        let inner = &self.inner;
        if inner.registration == Registration::Closed {
            return Err(AccountError::RegistrationClosed);
        }
        let invitation = match (inner.registration, invitation) {
            (Registration::Invitation, None) => return Err(AccountError::InvitationNeeded),
            (Registration::Invitation, Some(code)) => Some(hash_of(code)),
            _ => None,
        };
        let address = self.local_address(address)?;
        let password = password::checked(password).map_err(AccountError::BadPassword)?;
        inner
            .attempts
            .allow_registration(from, clock::tick())
            .map_err(AccountError::TooManyTries)?;
        let hash = inner.hasher.hash(password).await;
        let account = Account {
            address: address.clone(),
            password: hash,
            created: clock::now(),
        };
        match inner.store.add_account(account, invitation).await? {
            AddAccount::Added => {}
            AddAccount::Exists => return Err(AccountError::Taken(address)),
            AddAccount::NoInvitation => return Err(AccountError::NoInvitation),
        }
        tracing::info!(%address, "registered");
        self.new_session(address, label).await
    }

    /// Makes an account without asking anybody; for the person who runs the server.
    pub async fn add(&self, address: &str, password: &str) -> Result<ParticipantId, AccountError> {
        let address = self.local_address(address)?;
        let password = password::checked(password).map_err(AccountError::BadPassword)?;
        let hash = self.inner.hasher.hash(password).await;
        let account = Account {
            address: address.clone(),
            password: hash,
            created: clock::now(),
        };
        match self.inner.store.add_account(account, None).await? {
            AddAccount::Added => Ok(address),
            AddAccount::Exists | AddAccount::NoInvitation => Err(AccountError::Taken(address)),
        }
    }

    /// Makes an invitation; answers its code.
    pub async fn invite(&self, label: &str, uses: u32, lasts: Duration) -> Result<String, AccountError> {
        let code = new_token();
        let created = clock::now();
        let expires = later(created, lasts);
        let label = label.to_owned();
        let invitation = Invitation {
            code_hash: hash_of(&code),
            created,
            expires,
            uses,
            label,
        };
        self.inner.store.add_invitation(invitation).await?;
        Ok(code)
    }

    /// Where accounts are by invitation and there is none yet, nobody could invite: this is the first one's code,
    /// good for a day. A new one at each start, until somebody has registered.
    pub async fn first_invitation(&self) -> Result<Option<String>, AccountError> {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        if self.inner.registration != Registration::Invitation || self.inner.store.account_count().await? > 0 {
            return Ok(None);
        }
        self.invite("the first account", 1, DAY).await.map(Some)
    }

    /// Begins a session for who knows the password.
    pub async fn sign_in(
        &self,
        from: IpAddr,
        address: &str,
        password: &str,
        label: &str,
    ) -> Result<SignedIn, AccountError> {
        let inner = &self.inner;
        let known = address.trim().to_lowercase();
        if let Ok(address) = known.parse::<ParticipantId>()
            && address.domain() != inner.domain
        {
            let here = inner.domain.clone();
            return Err(AccountError::Elsewhere { address, here });
        }
        inner
            .attempts
            .allow_sign_in(from, &known, clock::tick())
            .map_err(AccountError::TooManyTries)?;
        let account = match self.local_address(address) {
            Ok(address) => inner.store.account(&address).await?,
            Err(_) => None,
        };
        let right = inner
            .hasher
            .matches(password, account.as_ref().map(|account| account.password.clone()))
            .await;
        match account {
            Some(account) if right => {
                inner.attempts.succeeded(from, &known);
                self.new_session(account.address, label).await
            }
            _ => {
                inner.attempts.failed(from, &known, clock::tick());
                Err(AccountError::NotRight)
            }
        }
    }

    /// The session that a token shows; `None` if it has ended or never was.
    pub async fn session(&self, token: &str) -> Result<Option<Session>, AccountError> {
        let inner = &self.inner;
        let Some(stored) = inner.store.session(hash_of(token)).await? else {
            return Ok(None);
        };
        let now = clock::steady();
        if now >= later(stored.last_seen, IDLE) || now >= later(stored.created, AGE) {
            inner.store.end_session(&stored.address, stored.id).await?;
            self.tell_ended([stored.id]);
            return Ok(None);
        }
        if now >= later(stored.last_seen, SEEN_EVERY) {
            inner.store.touch_session(stored.id, now).await?;
        }
        Ok(Some(stored.into()))
    }

    /// Whether a session that was good still is.
    pub async fn is_open(&self, session: &Session) -> Result<bool, AccountError> {
        let sessions = self.inner.store.sessions(&session.address).await?;
        Ok(sessions.iter().any(|open| open.id == session.id))
    }

    /// All sessions of an account, oldest first.
    pub async fn sessions(&self, address: &ParticipantId) -> Result<Vec<Session>, AccountError> {
        Ok(self
            .inner
            .store
            .sessions(address)
            .await?
            .into_iter()
            .map(Session::from)
            .collect())
    }

    /// Ends a session of this account; whether there was one.
    pub async fn end_session(&self, address: &ParticipantId, id: i64) -> Result<bool, AccountError> {
        let ended = self.inner.store.end_session(address, id).await?;
        if ended {
            self.tell_ended([id]);
        }
        Ok(ended)
    }

    /// Changes the password, and ends all other sessions of the account.
    pub async fn change_password(
        &self,
        from: IpAddr,
        session: &Session,
        old: &str,
        new: &str,
    ) -> Result<(), AccountError> {
        let inner = &self.inner;
        let address = &session.address;
        inner
            .attempts
            .allow_sign_in(from, address.as_str(), clock::tick())
            .map_err(AccountError::TooManyTries)?;
        let new = password::checked(new).map_err(AccountError::BadPassword)?;
        let account = inner.store.account(address).await?;
        if !inner.hasher.matches(old, account.map(|account| account.password)).await {
            inner.attempts.failed(from, address.as_str(), clock::tick());
            return Err(AccountError::NotRight);
        }
        let hash = inner.hasher.hash(new).await;
        let ended = inner.store.set_password(address, hash, Some(session.id)).await?;
        tracing::info!(%address, "password changed");
        self.tell_ended(ended.unwrap_or_default());
        Ok(())
    }

    /// The numbers of sessions as they end. One that falls behind must ask for its session anew.
    #[must_use]
    pub fn ended_sessions(&self) -> broadcast::Receiver<i64> {
        self.inner.ended.subscribe()
    }

    /// When a session will have ended at the latest.
    #[must_use]
    pub fn session_ends(&self, session: &Session) -> Timestamp {
        later(session.created, AGE)
    }

    fn tell_ended(&self, ids: impl IntoIterator<Item = i64>) {
        for id in ids {
            // No receiver: no socket is open.
            let _ = self.inner.ended.send(id);
        }
    }

    async fn new_session(&self, address: ParticipantId, label: &str) -> Result<SignedIn, AccountError> {
        let token = new_token();
        let created = clock::now();
        let label: String = label.chars().filter(|c| !c.is_control()).take(100).collect();
        let id = self
            .inner
            .store
            .add_session(hash_of(&token), &address, created, &label)
            .await?;
        Ok(SignedIn {
            session: Session {
                id,
                address,
                created,
                last_seen: created,
                label,
            },
            token,
        })
    }

    /// An address as an account may have it; a name without a domain is of ours.
    fn local_address(&self, given: &str) -> Result<ParticipantId, AccountError> {
        let domain = &self.inner.domain;
        let bad = |what: String| AccountError::BadAddress(what);
        let given = given.trim();
        let full = if given.contains('@') {
            given.to_owned()
        } else {
            format!("{given}@{domain}")
        };
        let address: ParticipantId = full.parse().map_err(|error| bad(format!("{error}")))?;
        if address.domain() != *domain {
            return Err(bad(format!("accounts here end in @{domain}, got {address}")));
        }
        let name = address.name();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        if name.is_empty()
            || name.len() > 64
            || !name.chars().all(plain)
            || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            return Err(bad(format!(
                "a name has 1 to 64 letters a-z, digits, dots, hyphens or underscores and begins with a letter or digit, got {name:?}"
            )));
        }
        Ok(address)
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts")
            .field("domain", &self.inner.domain)
            .finish_non_exhaustive()
    }
}

impl From<StoredSession> for Session {
    fn from(stored: StoredSession) -> Self {
        let StoredSession {
            id,
            address,
            created,
            last_seen,
            label,
            ..
        } = stored;
        Self {
            id,
            address,
            created,
            last_seen,
            label,
        }
    }
}

/// 256 random bits as text.
fn new_token() -> String {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hash_of(secret: &str) -> TokenHash {
    Sha256::digest(secret.as_bytes()).into()
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.later(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn accounts(dir: &tempfile::TempDir, registration: Registration) -> Accounts {
        let mut config = Config {
            domain: "example.org".parse().unwrap(),
            ..Config::default()
        };
        config.accounts.registration = registration;
        Accounts::new(&config, Store::open(dir.path()).unwrap())
    }

    #[tokio::test]
    async fn who_registers_can_sign_in_and_out() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = accounts(&dir, Registration::Open);
        let first = accounts
            .register(HERE, "Alice@Example.org", "correct horse", None, "test")
            .await
            .unwrap();
        assert_eq!(first.session.address.as_str(), "alice@example.org");
        let second = accounts.sign_in(HERE, "alice", "correct horse", "test").await.unwrap();
        assert_eq!(
            accounts.session(&second.token).await.unwrap().unwrap().id,
            second.session.id
        );
        assert_eq!(accounts.sessions(&first.session.address).await.unwrap().len(), 2);
        assert!(
            accounts
                .end_session(&first.session.address, second.session.id)
                .await
                .unwrap()
        );
        assert_eq!(accounts.session(&second.token).await.unwrap(), None);
        assert_eq!(
            accounts
                .register(HERE, "alice", "correct horse", None, "")
                .await
                .unwrap_err(),
            AccountError::Taken(first.session.address)
        );
    }

    #[tokio::test]
    async fn a_wrong_password_and_an_unknown_address_are_refused_alike() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = accounts(&dir, Registration::Open);
        accounts
            .register(HERE, "alice", "correct horse", None, "")
            .await
            .unwrap();
        let wrong = accounts.sign_in(HERE, "alice", "correct house", "").await.unwrap_err();
        let unknown = accounts
            .sign_in(HERE, "mallory", "correct house", "")
            .await
            .unwrap_err();
        let elsewhere = accounts
            .sign_in(HERE, "alice@example.com", "correct horse", "")
            .await
            .unwrap_err();
        assert_eq!([&wrong, &unknown], [&AccountError::NotRight; 2]);
        assert_eq!(
            elsewhere.to_string(),
            "alice@example.com signs in at example.com, this is example.org"
        );
    }

    #[tokio::test]
    async fn many_wrong_passwords_make_the_guesser_wait() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = accounts(&dir, Registration::Open);
        accounts
            .register(HERE, "alice", "correct horse", None, "")
            .await
            .unwrap();
        let mut refused = None;
        for _ in 0..10 {
            refused = accounts.sign_in(HERE, "alice", "wrong horse", "").await.err();
        }
        assert!(matches!(refused, Some(AccountError::TooManyTries(_))), "{refused:?}");
        let elsewhere: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(
            accounts.sign_in(elsewhere, "alice", "correct horse", "").await.is_ok(),
            "the owner still gets in"
        );
    }

    #[tokio::test]
    async fn a_new_password_ends_the_other_sessions() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = accounts(&dir, Registration::Open);
        let mine = accounts
            .register(HERE, "alice", "correct horse", None, "")
            .await
            .unwrap();
        let other = accounts.sign_in(HERE, "alice", "correct horse", "").await.unwrap();
        let mut ended = accounts.ended_sessions();
        let changed = accounts
            .change_password(HERE, &mine.session, "wrong horse", "battery staple")
            .await;
        assert_eq!(changed, Err(AccountError::NotRight));
        accounts
            .change_password(HERE, &mine.session, "correct horse", "battery staple")
            .await
            .unwrap();
        assert_eq!(ended.recv().await.unwrap(), other.session.id);
        assert_eq!(accounts.session(&other.token).await.unwrap(), None);
        assert!(accounts.session(&mine.token).await.unwrap().is_some());
        assert!(accounts.sign_in(HERE, "alice", "battery staple", "").await.is_ok());
    }

    #[tokio::test]
    async fn an_invitation_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = accounts(&dir, Registration::Invitation);
        assert_eq!(
            accounts
                .register(HERE, "alice", "correct horse", None, "")
                .await
                .unwrap_err(),
            AccountError::InvitationNeeded
        );
        let code = accounts.invite("for alice", 1, Duration::from_secs(60)).await.unwrap();
        assert!(
            accounts
                .register(HERE, "alice", "correct horse", Some(&code), "")
                .await
                .is_ok()
        );
        assert_eq!(
            accounts
                .register(HERE, "bob", "correct horse", Some(&code), "")
                .await
                .unwrap_err(),
            AccountError::NoInvitation
        );
    }

    #[tokio::test]
    async fn addresses_and_passwords_have_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = accounts(&dir, Registration::Open);
        for bad in [
            "",
            "@example.org",
            "a b",
            "alice@example.com",
            "..",
            "aliçe",
            "a\0b",
            &"a".repeat(65),
        ] {
            let error = accounts
                .register(HERE, bad, "correct horse", None, "")
                .await
                .unwrap_err();
            assert!(matches!(error, AccountError::BadAddress(_)), "{bad:?}: {error}");
        }
        for bad in ["", "1234567", "12345678\0", &"x".repeat(1025)] {
            let error = accounts.register(HERE, "alice", bad, None, "").await.unwrap_err();
            assert!(matches!(error, AccountError::BadPassword(_)), "{bad:?}: {error}");
        }
        // "e" with a combining accent is the same password as the one letter.
        accounts
            .register(HERE, "alice", "cafe\u{301} au lait", None, "")
            .await
            .unwrap();
        assert!(accounts.sign_in(HERE, "alice", "caf\u{e9} au lait", "").await.is_ok());
    }
}
