//! Checksums of rows. SQLite has none of its own, so a bit that flips on the disk would be read as if it had been written.
//!
//! Each row of nearly every table has the sum of its other columns beside it, as `row_sum` gives it, an SQL function of
//! ours. Deltas get theirs as they are written; the other tables have triggers. Seals need none: the hashes of the history
//! run through them. What another server signed has its digest beside it.

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};

/// Makes `row_sum` known to a connection.
pub(crate) fn register(connection: &Connection) -> Result<(), rusqlite::Error> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("row_sum", -1, flags, |context| Ok(row_sum(context)))
}

/// The first eight bytes of the SHA-256 of the values, each with its type and length.
fn row_sum(context: &Context<'_>) -> i64 {
    let mut digest = Sha256::new();
    for index in 0..context.len() {
        let number;
        let (kind, bytes): (u8, &[u8]) = match context.get_raw(index) {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(value) => {
                number = value.to_le_bytes();
                (1, &number)
            }
            ValueRef::Real(value) => {
                number = value.to_le_bytes();
                (2, &number)
            }
            ValueRef::Text(bytes) => (3, bytes),
            ValueRef::Blob(bytes) => (4, bytes),
        };
        digest.update([kind]);
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    }
    let digest = digest.finalize();
    i64::from_le_bytes(digest[..8].try_into().expect("a digest has more than eight bytes"))
}
