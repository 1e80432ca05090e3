//! Addresses of participants: `alice@example.org` (protocol.md §1.9).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::id::{Domain, is_invisible};

/// A lower-cased address `name@domain`. The name may be empty: `@example.org` is the whole domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId(Arc<str>);

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an address like alice@example.org, got {given:?}")]
pub struct ParseParticipantError {
    /// What was given.
    pub given: String,
}

impl ParticipantId {
    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('@').map_or("", |(name, _)| name)
    }

    /// The domain that speaks for this participant.
    #[must_use]
    pub fn domain(&self) -> Domain {
        let (_, domain) = self.0.split_once('@').expect("an address holds an @");
        domain
            .parse()
            .expect("the domain was checked when the address was parsed")
    }
}

impl FromStr for ParticipantId {
    type Err = ParseParticipantError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseParticipantError {
            given: text.chars().take(300).collect(),
        };
        let lower = text.to_lowercase();
        let (name, domain) = lower.split_once('@').ok_or_else(refused)?;
        if name.contains(|c: char| c.is_whitespace() || is_invisible(c))
            || domain.parse::<Domain>().is_err()
            || lower.len() > 255
        {
            return Err(refused());
        }
        Ok(Self(lower.into()))
    }
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
