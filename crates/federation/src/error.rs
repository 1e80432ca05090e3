//! What a federation request can fail with, and its form as a stanza error: one table (protocol.md §5.5).

use billow_xmpp::{Condition, StanzaError};

/// The codes of the reference's FederationError; a peer may fail to understand any other condition (protocol.md T18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request can never succeed.
    BadRequest,
    /// It asks for something that is not there, or not for the asker.
    ItemNotFound,
    /// It was right once: the wavelet has moved on.
    NotAcceptable,
    /// The asker may not.
    NotAuthorized,
    /// Too much at once.
    ResourceConstraint,
    /// Anything else.
    UndefinedCondition,
    /// Nobody answers.
    RemoteServerTimeout,
    /// Out of order.
    UnexpectedRequest,
    /// Our fault.
    InternalServerError,
}

impl Code {
    const TABLE: [(Self, Condition); 9] = [
        (Self::BadRequest, Condition::BadRequest),
        (Self::ItemNotFound, Condition::ItemNotFound),
        (Self::NotAcceptable, Condition::NotAcceptable),
        (Self::NotAuthorized, Condition::NotAuthorized),
        (Self::ResourceConstraint, Condition::ResourceConstraint),
        (Self::UndefinedCondition, Condition::UndefinedCondition),
        (Self::RemoteServerTimeout, Condition::RemoteServerTimeout),
        (Self::UnexpectedRequest, Condition::UnexpectedRequest),
        (Self::InternalServerError, Condition::InternalServerError),
    ];

    /// The code as a stanza's condition.
    #[must_use]
    pub fn condition(self) -> Condition {
        Self::TABLE
            .iter()
            .find(|(code, _)| *code == self)
            .expect("the table is complete")
            .1
    }

    /// The code that a condition means; those without one of their own count as undefined.
    #[must_use]
    pub fn of(condition: Condition) -> Self {
        Self::TABLE
            .iter()
            .find(|(_, known)| *known == condition)
            .map_or(Self::UndefinedCondition, |(code, _)| *code)
    }
}

/// A failed request, and the reason in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", .code.condition().name())]
pub struct FederationError {
    /// Which kind.
    pub code: Code,
    /// For people and logs.
    pub reason: String,
}

impl FederationError {
    /// A failure of a kind.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    /// A request that is wrong in itself.
    #[must_use]
    pub fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, reason)
    }

    /// What a peer's stanza error means.
    #[must_use]
    pub fn from_stanza(error: &StanzaError) -> Self {
        Self::new(Code::of(error.condition), error.text.clone().unwrap_or_default())
    }

    /// As a stanza error.
    #[must_use]
    pub fn to_stanza(&self) -> StanzaError {
        StanzaError::new(self.code.condition(), self.reason.clone())
    }
}
