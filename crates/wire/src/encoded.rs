//! A value with the bytes it came from.

use billow_model::planted;
use bytes::Bytes;

use crate::groups::{self, Shape};

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {message}: {reason}")]
pub struct DecodeError {
    /// The message that was expected.
    pub message: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl DecodeError {
    pub(crate) fn new(message: &'static str, reason: impl Into<String>) -> Self {
        Self {
            message,
            reason: reason.into(),
        }
    }

    /// Refuses bytes with a group in them.
    pub(crate) fn of_groups(message: &'static str, bytes: &[u8], shape: &Shape) -> Result<(), Self> {
        if groups::has_group(bytes, shape) {
            Err(Self::new(
                message,
                "expected fields that are known or have a length, got a group",
            ))
        } else {
            Ok(())
        }
    }

    pub(crate) fn missing(message: &'static str, field: &str) -> Self {
        Self::new(message, format!("required field {field} is missing"))
    }
}

/// A value that has a form in bytes.
pub trait Message: Sized {
    /// Reads the bytes; refuses what the reference's reader refuses.
    fn decode(bytes: &Bytes) -> Result<Self, DecodeError>;
    /// Writes the canonical bytes.
    fn encode(&self) -> Bytes;
}

/// A value and its bytes, which never come apart.
///
/// There is no way to put other bytes beside a value, so what is verified and hashed is what was read:
///
/// ```compile_fail,E0451
/// use billow_wire::{AppliedDelta, Encoded};
///
/// fn pretend(value: AppliedDelta, bytes: bytes::Bytes) -> Encoded<AppliedDelta> {
///     Encoded { value, bytes } // private fields
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded<T> {
    value: T,
    bytes: Bytes,
}

impl<T: Message> Encoded<T> {
    /// Reads somebody's bytes and keeps them.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let value = T::decode(&bytes)?;
        if planted::is("what came is encoded anew") {
            return Ok(Self::new(value));
        }
        Ok(Self { value, bytes })
    }

    /// Writes a value of our own, once.
    pub fn new(value: T) -> Self {
        Self {
            bytes: value.encode(),
            value,
        }
    }
}

impl<T> Encoded<T> {
    /// The meaning.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The bytes: what is signed, hashed, stored and sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<T> std::ops::Deref for Encoded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
