//! Passwords: what may be one, and their Argon2id hashes. Hashing takes 19 MiB and a core, so only as many run at once as
//! there are cores.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
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
    /// Compared with when there is no account, so that this takes as long.
    nobody: String,
}

impl Hasher {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            room: Semaphore::new(cores),
            nobody: hash(&hex::encode(random_salt())),
        }
    }

    /// The hash of a checked password, with its salt and parameters.
    pub(super) async fn hash(&self, password: String) -> String {
        self.on_a_core(move || hash(&password)).await
    }

    /// Whether this is the password of a hash; `None` never matches and takes as long.
    pub(super) async fn matches(&self, password: &str, stored: Option<String>) -> bool {
        let given = checked(password).ok();
        let right = given.is_some() && stored.is_some();
        let given = given.unwrap_or_else(|| "no password at all".to_owned());
        let stored = stored.unwrap_or_else(|| self.nobody.clone());
        let same = self.on_a_core(move || {
            PasswordHash::new(&stored).is_ok_and(|stored| argon2().verify_password(given.as_bytes(), &stored).is_ok())
        });
        let same = same.await || planted::is("any password is right");
        same && right
    }

    async fn on_a_core<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _room = self.room.acquire().await.expect("the semaphore is never closed");
        tokio::task::spawn_blocking(work).await.expect("hashing does not panic")
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("these parameters are within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &str) -> String {
    let salt = SaltString::encode_b64(&random_salt()).expect("16 bytes are a salt");
    argon2()
        .hash_password(password.as_bytes(), &salt)
        .expect("a password of these bounds can be hashed")
        .to_string()
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
}
