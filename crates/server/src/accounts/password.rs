//! Passwords: what may be one, and their Argon2id hashes. Hashing takes 19 MiB and a core, so only as many run at once as
//! there are cores. The memory is used again: what is taken anew each time is given back to the system only by and by, and
//! a crowd that guesses would make the server grow.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{Output, ParamsString, PasswordHash, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use billow_model::planted;
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization as _;

/// The longest password, in bytes of its normal form.
pub const MAX_PASSWORD_BYTES: usize = 1024;
const MIN_PASSWORD_BYTES: usize = 8;

/// A new password in normal form C, or why it cannot be one.
pub(super) fn checked(password: &str) -> Result<String, String> {
    // Normal form C may be longer than what was given, never three times as long.
    if password.len() > 3 * MAX_PASSWORD_BYTES {
        return Err(format!(
            "a password has at most {MAX_PASSWORD_BYTES} bytes, got {}",
            password.len()
        ));
    }
    let normal: String = password.nfc().collect();
    if normal.len() < MIN_PASSWORD_BYTES {
        return Err(format!("a password has at least {MIN_PASSWORD_BYTES} characters"));
    }
    if normal.len() > MAX_PASSWORD_BYTES {
        return Err(format!(
            "a password has at most {MAX_PASSWORD_BYTES} bytes, got {}",
            normal.len()
        ));
    }
    if normal.contains('\0') {
        return Err("a password has no NUL in it".to_owned());
    }
    Ok(normal)
}

/// Makes and compares hashes, a few at a time.
pub(super) struct Hasher {
    room: Semaphore,
    memory: Arc<Mutex<Vec<Memory>>>,
    /// Compared with when there is no account, so that this takes as long.
    nobody: String,
}

impl Hasher {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            room: Semaphore::new(cores),
            memory: Arc::default(),
            nobody: hash(&hex::encode(random_salt()), &mut Memory::default()),
        }
    }

    /// The hash of a checked password, with its salt and parameters.
    pub(super) async fn hash(&self, password: String) -> String {
        self.on_a_core(move |memory| hash(&password, memory)).await
    }

    /// Whether this is the password of a hash; `None` never matches and takes as long.
    pub(super) async fn matches(&self, password: &str, stored: Option<String>) -> bool {
        let given = checked(password).ok();
        let right = given.is_some() && stored.is_some();
        let given = given.unwrap_or_else(|| "no password at all".to_owned());
        let stored = stored.unwrap_or_else(|| self.nobody.clone());
        let same = self.on_a_core(move |memory| is_of(&given, &stored, memory));
        let same = same.await || planted::is("any password is right");
        same && right
    }

    async fn on_a_core<T: Send + 'static>(&self, work: impl FnOnce(&mut Memory) -> T + Send + 'static) -> T {
        let _room = self.room.acquire().await.expect("the semaphore is never closed");
        let memory = Arc::clone(&self.memory);
        let work = move || {
            let lock = || memory.lock().unwrap_or_else(PoisonError::into_inner);
            let mut own = lock().pop().unwrap_or_default();
            let done = work(&mut own);
            let mut kept = lock();
            if kept.len() < KEPT {
                kept.push(own);
            }
            done
        };
        tokio::task::spawn_blocking(work).await.expect("hashing does not panic")
    }
}

/// Of so many hashes at once the memory is kept for the next ones.
const KEPT: usize = 2;

/// What one hash is computed in.
type Memory = Vec<Block>;

fn params() -> Params {
    Params::new(19 * 1024, 2, 1, None).expect("these parameters are within Argon2's bounds")
}

fn hash(password: &str, memory: &mut Memory) -> String {
    let salt = random_salt();
    let output = compute(password, &salt, params(), memory).expect("a password of these bounds can be hashed");
    let salt = SaltString::encode_b64(&salt).expect("16 bytes are a salt");
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params()).expect("these parameters can be written"),
        salt: Some(salt.as_salt()),
        hash: Some(output),
    };
    hash.to_string()
}

/// Whether a password is the one of a stored hash.
fn is_of(password: &str, stored: &str, memory: &mut Memory) -> bool {
    let Ok(stored) = PasswordHash::new(stored) else {
        return false;
    };
    let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else {
        return false;
    };
    let mut bytes = [0; 64];
    let is_ours = stored.algorithm == Algorithm::Argon2id.ident() && stored.version == Some(Version::V0x13.into());
    let (true, Ok(salt), Ok(params)) = (is_ours, salt.decode_b64(&mut bytes), Params::try_from(&stored)) else {
        return false;
    };
    // The comparison takes the same time wherever they differ.
    compute(password, salt, params, memory).is_ok_and(|output| output == expected)
}

fn compute(password: &str, salt: &[u8], params: Params, memory: &mut Memory) -> argon2::Result<Output> {
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    if memory.len() < params.block_count() {
        memory.resize(params.block_count(), Block::default());
    }
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut output, memory)?;
    Ok(Output::new(&output).expect("the output is as long as outputs are"))
}

fn random_salt() -> [u8; 16] {
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).expect("the system has randomness");
    salt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r_19_a_password_is_kept_as_argon2id_with_a_salt_of_its_own() {
        let hasher = Hasher::new();
        let one = hasher.hash("a long password".to_owned()).await;
        let other = hasher.hash("a long password".to_owned()).await;
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, other);
        assert!(hasher.matches("a long password", Some(one.clone())).await);
        assert!(hasher.matches("a long password", Some(other)).await);
        assert!(!hasher.matches("another password", Some(one)).await);
        assert!(!hasher.matches("a long password", None).await);
    }

    #[tokio::test]
    async fn what_another_program_has_hashed_is_known() {
        use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
        let salt = SaltString::encode_b64(&random_salt()).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params());
        let theirs = argon2.hash_password(b"a long password", &salt).unwrap().to_string();
        let hasher = Hasher::new();
        assert!(hasher.matches("a long password", Some(theirs.clone())).await);
        assert!(!hasher.matches("another password", Some(theirs)).await);
        let ours = hasher.hash("a long password".to_owned()).await;
        argon2
            .verify_password(b"a long password", &PasswordHash::new(&ours).unwrap())
            .unwrap();
        assert!(!hasher.matches("a long password", Some("no hash".to_owned())).await);
    }
}
