//! What peers send: an authenticated stanza becomes a typed request, or the answer to give at once.
//!
//! The reader knows nothing of wavelets. It gives every request an [`Ask`], from which the answer is made; whoever handles
//! the request answers it exactly once, whatever happens (a peer that gets no answer waits 30 seconds).

use billow_model::{Domain, Timestamp, planted};
use billow_wire::exchange::{
    HistoryRequest, HistoryResponse, SignerRequest, SubmitRequest, SubmitResponse, WaveletUpdate,
};
use billow_wire::{FromHost, SignerInfo};
use billow_xmpp::{Element, Iq, IqKind, Jid, Message, MessageKind, Stanza, StanzaError, about, disco, ping, receipts};

use crate::discovery;
use crate::error::{Code, FederationError};
use crate::ns;
use crate::stanza::presence::Presence;
use crate::stanza::{history, presence, reach, signer, submit, update};

/// What the reader needs to know about its server.
pub trait Surroundings {
    /// Whether this address is one of ours, so that its stanzas are for us.
    fn is_ours(&self, jid: &Jid) -> bool;
    /// Whether an authenticated address may speak for a domain (`Discovery::speaks_for`).
    fn speaks_for(&self, jid: &Jid, domain: &Domain) -> bool;
    /// Whether somebody of this domain takes or took part in a wavelet of ours.
    fn takes_part(&self, domain: &Domain) -> bool;
    /// The description that we give of ourselves.
    fn description(&self) -> &str;
}

/// What a stanza means.
#[derive(Debug)]
pub enum Inbound {
    /// A host says what was applied. Apply all, then answer once with [`Updates::receipt`] or [`Updates::refuse`].
    Updates(Updates),
    /// A remote wants a delta applied. Answer with [`Ask::submitted`] or [`Ask::refuse`].
    Submit(Ask, SubmitRequest),
    /// A remote wants history. Answer with [`Ask::history`] or [`Ask::refuse`].
    History(Ask, HistoryRequest),
    /// A remote wants a chain. Answer with [`Ask::signer`] or [`Ask::refuse`].
    GetSigner(Ask, SignerRequest),
    /// A remote tells its chain. Answer with [`Ask::signer_stored`] or [`Ask::refuse`].
    PostSigner(Ask, SignerInfo),
    /// A peer wants to know whether we reach it. Answer with [`Ask::reached`] or [`Ask::refuse`].
    Reach(Ask),
    /// A peer wants to know what time it is here. Answer with [`Ask::clock`].
    Clock(Ask),
    /// Somebody's caret; no answer. Whether the address may say so is for the driver to check.
    Presence(Jid, Presence),
    /// An answer to a request of ours: for discovery or one of the remotes.
    Answer(Iq),
    /// A receipt for the message of this id, from this address: for one of the hosts.
    Receipt(Jid, String),
    /// The message of this id came back with an error, from this address: for one of the hosts.
    Bounced(Jid, String, StanzaError),
    /// Nothing but this answer.
    Reply(Element),
    /// Nothing at all; the reason is for the log.
    Ignored(&'static str),
}

/// Where an answer to an iq goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask(Iq);

/// The updates of one message. Only [`read`] makes one, from a stanza of a stream whose domain was authenticated.
///
/// ```compile_fail,E0451
/// use billow_federation::inbound::Updates;
///
/// fn invent(message: billow_xmpp::Message) -> Updates {
///     Updates { updates: Vec::new(), refused: None, undiscovered: None, message } // a private field
/// }
/// ```
#[derive(Debug)]
pub struct Updates {
    /// The good ones, in order.
    pub updates: Vec<FromHost<WaveletUpdate>>,
    /// Why others were not taken, if there were others: then there is no receipt, but an error.
    pub refused: Option<FederationError>,
    /// A domain whose wavelet the sender spoke for without our knowing that it may: find its service, so that the next time is different.
    pub undiscovered: Option<Domain>,
    message: Message,
}

impl Inbound {
    /// The domain for which the sender must speak if this is to be taken, where it is not known that it does. If discovery of
    /// that domain is under way, the answer is worth waiting for (see [`crate::held`]).
    #[must_use]
    pub fn unproved(&self, around: &impl Surroundings) -> Option<Domain> {
        let open = |ask: &Ask, domain: Domain| (!around.speaks_for(ask.from(), &domain)).then_some(domain);
        let domain = match self {
            Self::Updates(updates) => updates.undiscovered.clone(),
            Self::Submit(ask, request) => open(ask, request.delta.delta.author.domain()),
            Self::PostSigner(ask, info) => open(ask, info.domain.clone()),
            // These name no domain. A component is likely to ask for the domain above it, which is proved like any other.
            Self::History(ask, _) | Self::GetSigner(ask, _) => {
                let (_, above) = ask.from().domain().as_str().split_once('.')?;
                let above: Domain = above.parse().ok()?;
                open(ask, above).filter(|domain| around.takes_part(domain))
            }
            _ => None,
        };
        // Nobody else will turn out to speak for us.
        domain.filter(|domain| Jid::new(domain.as_str()).is_ok_and(|jid| !around.is_ours(&jid)))
    }
}

impl Ask {
    /// Who asks.
    #[must_use]
    pub fn from(&self) -> &Jid {
        &self.0.from
    }

    /// Whom of us they ask.
    #[must_use]
    pub fn to(&self) -> &Jid {
        &self.0.to
    }

    /// The answer that refuses.
    #[must_use]
    pub fn refuse(&self, error: &FederationError) -> Element {
        self.0.error(error.to_stanza()).to_element()
    }

    /// The answer to a submission.
    #[must_use]
    pub fn submitted(&self, response: &SubmitResponse) -> Element {
        self.result(submit::response(response))
    }

    /// The answer to a request for history. One without deltas would make the reference ask again for ever (protocol.md T3), so it becomes an error.
    #[must_use]
    pub fn history(&self, response: &HistoryResponse) -> Element {
        if response.deltas.is_empty() {
            return self.refuse(&FederationError::bad_request(
                "Server error while retrieving wavelet history.",
            ));
        }
        self.result(history::response(response))
    }

    /// The answer to a request for a chain.
    #[must_use]
    pub fn signer(&self, info: &SignerInfo) -> Element {
        self.result(signer::get_response(info))
    }

    /// The answer to a posted chain.
    #[must_use]
    pub fn signer_stored(&self) -> Element {
        self.result(signer::post_response())
    }

    /// The answer of a server that has tried to reach the asker.
    #[must_use]
    pub fn reached(&self, tried: &Result<Vec<reach::Tried>, String>) -> Element {
        self.result(reach::response(tried))
    }

    /// The answer with the time, in milliseconds since 1970.
    #[must_use]
    pub fn clock(&self, now: Timestamp) -> Element {
        self.result(about::time_answer(now.0))
    }

    fn result(&self, payload: Element) -> Element {
        self.0.result(Some(payload)).to_element()
    }
}

impl Updates {
    /// Who sent them.
    #[must_use]
    pub fn from(&self) -> &Jid {
        &self.message.from
    }

    /// What to answer once all of [`Self::updates`] are durable: the receipt if it was asked for, or why some were not taken.
    #[must_use]
    pub fn receipt(&self) -> Option<Element> {
        if let Some(error) = &self.refused {
            return self.refuse(error);
        }
        if !receipts::is_requested(&self.message) {
            return None;
        }
        receipts::receipt_for(&self.message).map(|receipt| receipt.to_element())
    }

    /// What to answer if they could not be taken. Without an id nobody could make anything of it.
    #[must_use]
    pub fn refuse(&self, error: &FederationError) -> Option<Element> {
        self.message.id.as_ref()?;
        self.message
            .error(error.to_stanza())
            .map(|message| message.to_element())
    }
}

/// Reads a stanza from the stream that `peer` has proved to be.
#[must_use]
pub fn read(peer: &billow_xmpp::Domain, element: &Element, around: &impl Surroundings) -> Inbound {
    let stanza = match Stanza::parse(element) {
        Ok(stanza) => stanza,
        Err(bad) => {
            return bad
                .reply
                .map_or(Inbound::Ignored(bad.reason), |reply| Inbound::Reply(*reply));
        }
    };
    let (from, to) = match &stanza {
        Stanza::Iq(iq) => (&iq.from, &iq.to),
        Stanza::Message(message) => (&message.from, &message.to),
        Stanza::Presence(_) => return Inbound::Ignored("presence"),
    };
    // The stream has refused other senders already (T-07); who comes here otherwise is not answered.
    if billow_xmpp::Domain::of(from).ok().as_ref() != Some(peer) {
        return Inbound::Ignored("from another domain than the stream's");
    }
    if !around.is_ours(to) {
        let error = FederationError::new(Code::ItemNotFound, "nobody here of this address");
        return billow_xmpp::stanza::error_reply(element, &error.to_stanza())
            .map_or(Inbound::Ignored("to somebody else"), Inbound::Reply);
    }
    match stanza {
        Stanza::Iq(iq) => read_iq(iq, around),
        Stanza::Message(message) => read_message(message, around),
        Stanza::Presence(_) => Inbound::Ignored("presence"),
    }
}

fn read_iq(iq: Iq, around: &impl Surroundings) -> Inbound {
    let ask = Ask(iq);
    match &ask.0.kind {
        IqKind::Result(_) | IqKind::Error(_) => Inbound::Answer(ask.0),
        IqKind::Get(payload) if payload.is("pubsub", ns::PUBSUB) => match node(payload, "items") {
            Some("wavelet") => typed(&ask, history::parse_request(payload), Inbound::History),
            Some("signer") => typed(&ask, signer::parse_get(payload), Inbound::GetSigner),
            _ => refuse(&ask, "Unhandled pubsub request"),
        },
        IqKind::Set(payload) if payload.is("pubsub", ns::PUBSUB) => match node(payload, "publish") {
            Some("wavelet") => typed(&ask, submit::parse_request(payload), Inbound::Submit),
            Some("signer") => typed(&ask, signer::parse_post(payload), Inbound::PostSigner),
            _ => refuse(&ask, "Unhandled pubsub request"),
        },
        IqKind::Get(payload) if disco::is_info(payload) => {
            Inbound::Reply(ask.result(discovery::own_info(around.description()).to_element()))
        }
        IqKind::Get(payload) if disco::is_items(payload) => Inbound::Reply(ask.result(disco::items_element(&[]))),
        IqKind::Get(payload) if ping::is_request(payload) => Inbound::Reply(ask.0.result(None).to_element()),
        IqKind::Get(payload) if about::is_software_request(payload) => {
            Inbound::Reply(ask.result(software(around.description()).to_element()))
        }
        IqKind::Get(payload) if about::is_time_request(payload) => Inbound::Clock(ask),
        IqKind::Get(payload) if reach::is_request(payload) => Inbound::Reach(ask),
        IqKind::Get(_) => refuse(&ask, "Unhandled IQ get"),
        IqKind::Set(_) => refuse(&ask, "Unhandled IQ set"),
    }
}

/// What we run, from the description of ourselves: a name and a version.
fn software(description: &str) -> about::Software {
    let (name, version) = description.split_once(' ').unwrap_or((description, ""));
    about::Software {
        name: name.to_owned(),
        version: version.to_owned(),
    }
}

/// The `node` of the first child of that name.
fn node<'a>(pubsub: &'a Element, name: &str) -> Option<&'a str> {
    pubsub.children().find(|child| child.name() == name)?.attr("node")
}

fn typed<T>(ask: &Ask, parsed: Result<T, FederationError>, make: impl Fn(Ask, T) -> Inbound) -> Inbound {
    match parsed {
        Ok(request) => make(ask.clone(), request),
        Err(error) => Inbound::Reply(ask.refuse(&error)),
    }
}

fn refuse(ask: &Ask, reason: &str) -> Inbound {
    Inbound::Reply(ask.refuse(&FederationError::bad_request(reason)))
}

fn read_message(message: Message, around: &impl Surroundings) -> Inbound {
    if let MessageKind::Error(error) = &message.kind {
        return match message.id {
            Some(id) => Inbound::Bounced(message.from, id, error.clone()),
            None => Inbound::Ignored("an error of a message without id"),
        };
    }
    if let Some(id) = receipts::acknowledged(&message) {
        return Inbound::Receipt(message.from.clone(), id.to_owned());
    }
    if message.payload("received", billow_xmpp::ns::RECEIPTS).is_some() {
        return Inbound::Ignored("a receipt without id");
    }
    if let Some(event) = update::event(&message) {
        return match update::parse(event) {
            Ok(parsed) => updates(parsed, message, around),
            Err(error) => reply(&message, &error),
        };
    }
    // The wave ping is answered with a receipt, asked for or not (protocol.md §5.8).
    if message.payload("ping", ns::WAVE).is_some() {
        return receipts::receipt_for(&message).map_or(Inbound::Ignored("a ping without id"), |receipt| {
            Inbound::Reply(receipt.to_element())
        });
    }
    if let Some(payload) = message.payload("presence", ns::PRESENCE) {
        return presence::parse(payload).map_or(Inbound::Ignored("a malformed presence"), |presence| {
            Inbound::Presence(message.from.clone(), presence)
        });
    }
    reply(&message, &FederationError::bad_request("Unhandled message type"))
}

fn reply(message: &Message, error: &FederationError) -> Inbound {
    match message.error(error.to_stanza()) {
        Some(answer) if message.id.is_some() => Inbound::Reply(answer.to_element()),
        _ => Inbound::Ignored("a bad message without id"),
    }
}

/// Takes from a message what its sender may say.
fn updates(
    parsed: Vec<Result<WaveletUpdate, FederationError>>,
    message: Message,
    around: &impl Surroundings,
) -> Inbound {
    let mut taken = Updates {
        updates: Vec::new(),
        refused: None,
        undiscovered: None,
        message,
    };
    for update in parsed {
        let checked = update.and_then(|update| {
            let host = update.name.host().clone();
            if !around.speaks_for(&taken.message.from, &host) && !planted::is("anybody speaks for any host") {
                let error = format!("{} is not known to speak for {host}", taken.message.from);
                taken.undiscovered.get_or_insert(host);
                return Err(FederationError::new(Code::NotAuthorized, error));
            }
            FromHost::check(&host, update).map_err(|error| FederationError::new(Code::NotAuthorized, error.to_string()))
        });
        match checked {
            Ok(update) => taken.updates.push(update),
            Err(error) => {
                taken.refused.get_or_insert(error);
            }
        }
    }
    Inbound::Updates(taken)
}

#[cfg(test)]
mod tests;
