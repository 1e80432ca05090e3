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

#[cfg(test)]
mod tests {
    use billow_xmpp::Element;

    use super::*;

    /// The table of protocol.md §5.5: code, condition, type, number of old.
    const TABLE: [(Code, &str, &str, &str); 9] = [
        (Code::BadRequest, "bad-request", "modify", "400"),
        (Code::ItemNotFound, "item-not-found", "cancel", "404"),
        (Code::NotAcceptable, "not-acceptable", "modify", "406"),
        (Code::NotAuthorized, "not-authorized", "auth", "401"),
        (Code::ResourceConstraint, "resource-constraint", "wait", "500"),
        (Code::UndefinedCondition, "undefined-condition", "wait", "500"),
        (Code::RemoteServerTimeout, "remote-server-timeout", "wait", "504"),
        (Code::UnexpectedRequest, "unexpected-request", "wait", "400"),
        (Code::InternalServerError, "internal-server-error", "wait", "500"),
    ];
    const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

    fn read(inner: &str) -> FederationError {
        let stanza = format!("<iq xmlns='jabber:client' type='error' id='1'>{inner}</iq>");
        FederationError::from_stanza(&StanzaError::of(&stanza.parse::<Element>().unwrap()))
    }

    #[test]
    fn every_code_is_written_as_the_reference_writes_it_and_read_back() {
        for (code, condition, kind, number) in TABLE {
            let error = FederationError::new(code, "why");
            let element = error.to_stanza().to_element();
            assert_eq!(
                (element.attr("type"), element.attr("code")),
                (Some(kind), Some(number)),
                "{condition}"
            );
            let children: Vec<&str> = element.children().map(Element::name).collect();
            assert_eq!(children, [condition, "text"]);
            assert!(element.children().all(|child| child.has_ns(STANZAS)));
            assert_eq!(FederationError::from_stanza(&StanzaError::parse(&element)), error);
            // Without a text, with one in another language, with extras and without a type.
            let bare = format!("<error><x xmlns='urn:x'/><{condition} xmlns='{STANZAS}'>!</{condition}></error>");
            assert_eq!(read(&bare), FederationError::new(code, ""));
        }
    }

    #[test]
    fn every_other_condition_and_every_number_alone_is_understood() {
        let condition = |name: &str| read(&format!("<error type='cancel'><{name} xmlns='{STANZAS}'/></error>")).code;
        let others = [
            "conflict",
            "feature-not-implemented",
            "forbidden",
            "gone",
            "jid-malformed",
            "not-allowed",
            "payment-required",
            "policy-violation",
            "recipient-unavailable",
            "redirect",
            "registration-required",
            "remote-server-not-found",
            "service-unavailable",
            "subscription-required",
            "of-a-later-rfc",
        ];
        for name in others {
            assert_eq!(condition(name), Code::UndefinedCondition, "{name}");
        }
        let number = |code: &str| read(&format!("<error code='{code}'/>")).code;
        let numbers = [
            ("400", Code::BadRequest),
            ("401", Code::NotAuthorized),
            ("404", Code::ItemNotFound),
            ("406", Code::NotAcceptable),
            ("500", Code::InternalServerError),
            ("504", Code::RemoteServerTimeout),
        ];
        for (code, expected) in numbers {
            assert_eq!(number(code), expected, "{code}");
        }
        for code in ["302", "402", "403", "405", "407", "409", "501", "503", "999", ""] {
            assert_eq!(number(code), Code::UndefinedCondition, "{code}");
        }
        // An error without an error in it is one all the same: the reference takes it for a success.
        assert_eq!(read("").code, Code::UndefinedCondition);
        assert_eq!(read("<error/>").code, Code::UndefinedCondition);
    }
}
