//! Stanzas: `iq` and `message` as values, their errors, and the reading of whatever a peer sent.
//!
//! Reading is total. What is not a proper stanza becomes a [`BadStanza`], which carries the error to answer with, if
//! one may be answered: errors and results are never answered with an error (two servers would go on for ever).

use jid::Jid;
use minidom::Element;

use crate::element::{element, set_attr};
use crate::ns;

/// Longest id that is accepted.
pub const MAX_ID: usize = 256;

/// A stanza that was understood as far as its kind goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Stanza {
    /// A question or its answer.
    Iq(Iq),
    /// A message.
    Message(Message),
    /// A presence, which we do not look into.
    Presence(Element),
}

/// A question or its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Iq {
    /// Who speaks.
    pub from: Jid,
    /// Who is spoken to.
    pub to: Jid,
    /// By which the answer is known.
    pub id: String,
    /// What is said.
    pub kind: IqKind,
}

/// What an [`Iq`] says.
#[derive(Debug, Clone, PartialEq)]
pub enum IqKind {
    /// Asks.
    Get(Element),
    /// Orders.
    Set(Element),
    /// Answers.
    Result(Option<Element>),
    /// Refuses.
    Error(StanzaError),
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub from: Jid,
    /// Who is spoken to.
    pub to: Jid,
    /// By which a receipt knows it.
    pub id: Option<String>,
    /// The type.
    pub kind: MessageKind,
    /// The children, without the `error` of an error.
    pub payloads: Vec<Element>,
}

/// The type of a [`Message`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageKind {
    /// The default, and what every unknown type counts as (RFC 6121 §5.2.2).
    Normal,
    /// `chat`
    Chat,
    /// `groupchat`
    Groupchat,
    /// `headline`
    Headline,
    /// The message came back.
    Error(StanzaError),
}

/// Something in the place of a stanza that is not a proper one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("bad stanza: {reason}")]
pub struct BadStanza {
    /// What is wrong, for the log.
    pub reason: &'static str,
    /// The error to send back, where one may be sent.
    pub reply: Option<Box<Element>>,
}

impl Stanza {
    /// Reads a stanza.
    pub fn parse(element: &Element) -> Result<Self, BadStanza> {
        match element.name() {
            _ if !element.has_ns(ns::CLIENT) => Err(BadStanza {
                reason: "not in the namespace of stanzas",
                reply: None,
            }),
            "iq" => Iq::parse(element).map(Self::Iq),
            "message" => Message::parse(element).map(Self::Message),
            "presence" => Ok(Self::Presence(element.clone())),
            _ => Err(BadStanza {
                reason: "neither iq nor message nor presence",
                reply: None,
            }),
        }
    }
}

impl Iq {
    /// A question.
    #[must_use]
    pub fn get(from: Jid, to: Jid, id: impl Into<String>, payload: impl Into<Element>) -> Self {
        Self {
            from,
            to,
            id: id.into(),
            kind: IqKind::Get(payload.into()),
        }
    }

    /// An order.
    #[must_use]
    pub fn set(from: Jid, to: Jid, id: impl Into<String>, payload: impl Into<Element>) -> Self {
        Self {
            from,
            to,
            id: id.into(),
            kind: IqKind::Set(payload.into()),
        }
    }

    /// The answer to this question.
    #[must_use]
    pub fn result(&self, payload: Option<Element>) -> Self {
        self.answer(IqKind::Result(payload))
    }

    /// The refusal of this question.
    #[must_use]
    pub fn error(&self, error: StanzaError) -> Self {
        self.answer(IqKind::Error(error))
    }

    fn answer(&self, kind: IqKind) -> Self {
        Self {
            from: self.to.clone(),
            to: self.from.clone(),
            id: self.id.clone(),
            kind,
        }
    }

    /// Whether it is a question or an order, so that it must be answered.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.kind, IqKind::Get(_) | IqKind::Set(_))
    }

    fn parse(element: &Element) -> Result<Self, BadStanza> {
        let bad = |reason| bad_stanza(element, reason);
        let id = element
            .attr("id")
            .filter(|id| !id.is_empty())
            .ok_or_else(|| bad("an iq needs an id"))?;
        if id.len() > MAX_ID {
            return Err(bad("the id is too long"));
        }
        let (from, to) = addresses(element)?;
        let mut payloads = element.children().filter(|child| !is_error_child(child));
        let first = payloads.next().cloned();
        let kind = match (element.attr("type"), first) {
            (Some("get" | "set"), Some(_)) if payloads.next().is_some() => {
                return Err(bad("a question has exactly one child"));
            }
            (Some("get"), Some(payload)) => IqKind::Get(payload),
            (Some("set"), Some(payload)) => IqKind::Set(payload),
            (Some("get" | "set"), None) => return Err(bad("a question has exactly one child")),
            (Some("result"), payload) => IqKind::Result(payload),
            (Some("error"), _) => IqKind::Error(StanzaError::of(element)),
            _ => return Err(bad("the type is none of get, set, result, error")),
        };
        Ok(Self {
            from,
            to,
            id: id.to_owned(),
            kind,
        })
    }

    /// The stanza as an element.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let (kind, child) = match &self.kind {
            IqKind::Get(payload) => ("get", Some(payload.clone())),
            IqKind::Set(payload) => ("set", Some(payload.clone())),
            IqKind::Result(payload) => ("result", payload.clone()),
            IqKind::Error(error) => ("error", Some(error.to_element())),
        };
        element("iq", ns::CLIENT)
            .attr("type", kind)
            .attr("id", &self.id)
            .attr("from", self.from.as_str())
            .attr("to", self.to.as_str())
            .children(child)
            .done()
    }
}

impl Message {
    /// A message of type normal, without payload.
    #[must_use]
    pub fn new(from: Jid, to: Jid, id: impl Into<String>) -> Self {
        Self {
            from,
            to,
            id: Some(id.into()),
            kind: MessageKind::Normal,
            payloads: Vec::new(),
        }
    }

    /// The message with one more payload.
    #[must_use]
    pub fn with(mut self, payload: impl Into<Element>) -> Self {
        self.payloads.push(payload.into());
        self
    }

    /// The first payload of that name.
    #[must_use]
    pub fn payload(&self, name: &str, namespace: &str) -> Option<&Element> {
        self.payloads.iter().find(|payload| payload.is(name, namespace))
    }

    /// The message that tells the sender of this one what is wrong with it. An error is not answered.
    #[must_use]
    pub fn error(&self, error: StanzaError) -> Option<Self> {
        let kind = match self.kind {
            MessageKind::Error(_) => return None,
            _ => MessageKind::Error(error),
        };
        Some(Self {
            from: self.to.clone(),
            to: self.from.clone(),
            id: self.id.clone(),
            kind,
            payloads: Vec::new(),
        })
    }

    fn parse(element: &Element) -> Result<Self, BadStanza> {
        let id = element.attr("id").filter(|id| !id.is_empty()).map(str::to_owned);
        if id.as_ref().is_some_and(|id| id.len() > MAX_ID) {
            return Err(bad_stanza(element, "the id is too long"));
        }
        let (from, to) = addresses(element)?;
        let kind = match element.attr("type") {
            Some("chat") => MessageKind::Chat,
            Some("groupchat") => MessageKind::Groupchat,
            Some("headline") => MessageKind::Headline,
            Some("error") => MessageKind::Error(StanzaError::of(element)),
            _ => MessageKind::Normal,
        };
        let payloads = element
            .children()
            .filter(|child| !is_error_child(child))
            .cloned()
            .collect();
        Ok(Self {
            from,
            to,
            id,
            kind,
            payloads,
        })
    }

    /// The stanza as an element.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let (kind, error) = match &self.kind {
            MessageKind::Normal => (None, None),
            MessageKind::Chat => (Some("chat"), None),
            MessageKind::Groupchat => (Some("groupchat"), None),
            MessageKind::Headline => (Some("headline"), None),
            MessageKind::Error(error) => (Some("error"), Some(error.to_element())),
        };
        element("message", ns::CLIENT)
            .attr_opt("type", kind)
            .attr_opt("id", self.id.as_ref())
            .attr("from", self.from.as_str())
            .attr("to", self.to.as_str())
            .children(self.payloads.iter().cloned())
            .children(error)
            .done()
    }
}

/// The error reply to a stanza that is known only as an element, for example one that could not be delivered:
/// addresses swapped, id kept, no payload. `None` for stanzas that must not be answered.
#[must_use]
pub fn error_reply(stanza: &Element, error: &StanzaError) -> Option<Element> {
    let name = match (stanza.name(), stanza.attr("type")) {
        ("iq", Some("result" | "error")) | (_, Some("error")) => return None,
        ("iq", _) => "iq",
        ("message", _) => "message",
        _ => return None,
    };
    let mut reply = element(name, ns::CLIENT)
        .attr("type", "error")
        .child(error.to_element())
        .done();
    for (given, ours) in [("id", "id"), ("from", "to"), ("to", "from")] {
        if let Some(value) = stanza.attr(given).filter(|value| value.len() <= 3071) {
            set_attr(&mut reply, ours, value);
        }
    }
    Some(reply)
}

fn bad_stanza(stanza: &Element, reason: &'static str) -> BadStanza {
    let error = StanzaError::new(Condition::BadRequest, reason);
    BadStanza {
        reason,
        reply: error_reply(stanza, &error).map(Box::new),
    }
}

fn addresses(stanza: &Element) -> Result<(Jid, Jid), BadStanza> {
    let read = |name: &str| stanza.attr(name).and_then(|text| Jid::new(text).ok());
    match (read("from"), read("to")) {
        (Some(from), Some(to)) => Ok((from, to)),
        // Without a valid address there is nobody to answer.
        _ => Err(BadStanza {
            reason: "from and to must be addresses",
            reply: None,
        }),
    }
}

fn is_error_child(child: &Element) -> bool {
    child.is("error", ns::CLIENT)
}

/// What went wrong with a stanza (RFC 6120 §8.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", condition.name(), text.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
pub struct StanzaError {
    /// What to do about it.
    pub kind: ErrorKind,
    /// What it is.
    pub condition: Condition,
    /// For people.
    pub text: Option<String>,
}

/// What the sender of a refused stanza should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Give proof of who you are.
    Auth,
    /// Give up.
    Cancel,
    /// Go on, this was only a warning.
    Continue,
    /// Change what you sent.
    Modify,
    /// Try again later.
    Wait,
}

impl ErrorKind {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Auth, "auth"),
        (Self::Cancel, "cancel"),
        (Self::Continue, "continue"),
        (Self::Modify, "modify"),
        (Self::Wait, "wait"),
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(kind, _)| *kind == self)
            .expect("the table is complete")
            .1
    }
}

macro_rules! conditions {
    ($($variant:ident $name:literal $kind:ident $code:literal),* $(,)?) => {
        /// The conditions of RFC 6120 §8.3.3 and RFC 3920 §9.3.3.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Condition {
            $(#[doc = $name] $variant,)*
        }

        impl Condition {
            /// Each condition with its name, its usual type and its code of old (XEP-0086).
            const TABLE: &'static [(Self, &'static str, ErrorKind, &'static str)] =
                &[$((Self::$variant, $name, ErrorKind::$kind, $code),)*];
        }
    };
}

conditions! {
    BadRequest "bad-request" Modify "400",
    Conflict "conflict" Cancel "409",
    FeatureNotImplemented "feature-not-implemented" Cancel "501",
    Forbidden "forbidden" Auth "403",
    Gone "gone" Cancel "302",
    InternalServerError "internal-server-error" Wait "500",
    ItemNotFound "item-not-found" Cancel "404",
    JidMalformed "jid-malformed" Modify "400",
    NotAcceptable "not-acceptable" Modify "406",
    NotAllowed "not-allowed" Cancel "405",
    NotAuthorized "not-authorized" Auth "401",
    PaymentRequired "payment-required" Auth "402",
    PolicyViolation "policy-violation" Modify "500",
    RecipientUnavailable "recipient-unavailable" Wait "404",
    Redirect "redirect" Modify "302",
    RegistrationRequired "registration-required" Auth "407",
    RemoteServerNotFound "remote-server-not-found" Cancel "404",
    RemoteServerTimeout "remote-server-timeout" Wait "504",
    ResourceConstraint "resource-constraint" Wait "500",
    ServiceUnavailable "service-unavailable" Cancel "503",
    SubscriptionRequired "subscription-required" Auth "407",
    UndefinedCondition "undefined-condition" Wait "500",
    UnexpectedRequest "unexpected-request" Wait "400",
}

impl Condition {
    fn row(self) -> &'static (Self, &'static str, ErrorKind, &'static str) {
        Self::TABLE
            .iter()
            .find(|row| row.0 == self)
            .expect("the table is made with the type")
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The type that usually goes with it (protocol.md §5.5).
    #[must_use]
    pub fn usual_kind(self) -> ErrorKind {
        self.row().2
    }

    /// The numeric code that old software reads.
    #[must_use]
    pub fn legacy_code(self) -> &'static str {
        self.row().3
    }

    fn by_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn by_legacy_code(code: &str) -> Option<Self> {
        Self::TABLE
            .iter()
            .filter(|row| !matches!(row.0, Self::JidMalformed | Self::PolicyViolation))
            .find(|row| row.3 == code)
            .map(|row| row.0)
    }
}

impl StanzaError {
    /// An error with the type that is usual for its condition.
    #[must_use]
    pub fn new(condition: Condition, text: impl Into<String>) -> Self {
        let text = Some(text.into()).filter(|text| !text.is_empty());
        Self {
            kind: condition.usual_kind(),
            condition,
            text,
        }
    }

    /// The error of a stanza of type `error`; what is missing or unknown becomes `undefined-condition`.
    #[must_use]
    pub fn of(stanza: &Element) -> Self {
        match stanza.children().find(|child| is_error_child(child)) {
            Some(error) => Self::parse(error),
            None => Self {
                kind: ErrorKind::Wait,
                condition: Condition::UndefinedCondition,
                text: None,
            },
        }
    }

    /// Reads an `error` element.
    #[must_use]
    pub fn parse(error: &Element) -> Self {
        let named = error
            .children()
            .filter(|child| child.has_ns(ns::STANZA_ERRORS))
            .find_map(|child| Condition::by_name(child.name()));
        // COMPAT(wiab): old servers send only the code.
        let condition = named
            .or_else(|| error.attr("code").and_then(Condition::by_legacy_code))
            .unwrap_or(Condition::UndefinedCondition);
        let kind = ErrorKind::ALL.iter().find(|(_, name)| error.attr("type") == Some(name));
        let text = error
            .get_child("text", ns::STANZA_ERRORS)
            .map(Element::text)
            .filter(|text| !text.is_empty());
        Self {
            kind: kind.map_or_else(|| condition.usual_kind(), |(kind, _)| *kind),
            condition,
            text,
        }
    }

    /// The `error` element.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let text = self
            .text
            .as_ref()
            .map(|text| element("text", ns::STANZA_ERRORS).text(text));
        element("error", ns::CLIENT)
            .attr("code", self.condition.legacy_code())
            .attr("type", self.kind.name())
            .child(Element::bare(self.condition.name(), ns::STANZA_ERRORS))
            .children(text)
            .done()
    }
}

#[cfg(test)]
mod tests;
