//! Stanza ids that nobody can guess (B-061).

use std::fmt;

use sha2::{Digest, Sha256};

/// A source of ids of 128 bits. Its secret comes from the driver's randomness; two sources never share one.
pub struct Ids {
    seed: [u8; 32],
    next: u64,
}

impl Ids {
    /// A source with this secret.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, next: 0 }
    }

    /// The next id: 32 hexadecimal digits.
    pub fn fresh(&mut self) -> String {
        let digest = Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.next.to_be_bytes())
            .finalize();
        self.next = self.next.wrapping_add(1);
        hex::encode(&digest[..16])
    }

    /// A number from 0 up to and not including `bound`, for jitter.
    pub(crate) fn below(&mut self, bound: i64) -> i64 {
        let digest = Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.next.to_le_bytes())
            .chain_update(b"jitter")
            .finalize();
        self.next = self.next.wrapping_add(1);
        let number = digest[..7]
            .iter()
            .fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
        number % bound.max(1)
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ids").field("next", &self.next).finish_non_exhaustive()
    }
}
