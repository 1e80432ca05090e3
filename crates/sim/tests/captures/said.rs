//! What a stanza says, apart from the names that it has on its way: two servers say the same if these are equal.

use billow_federation::stanza::{history, signer, submit, update};
use billow_model::{HashedVersion, Version, WaveletName};
use billow_wire::SignerId;
use billow_xmpp::{Element, Iq, IqKind, Jid, Stanza, disco, receipts};
use bytes::Bytes;

/// One thing that a stanza says to `to`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Said {
    pub(crate) to: String,
    pub(crate) what: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Word {
    AsksItems,
    AsksInfo,
    /// An applied delta of a wavelet.
    Delta(WaveletName, Version, Bytes),
    /// What is committed.
    Commit(WaveletName, Version, Vec<u8>),
    /// The message of that id was taken.
    Receipt(String),
    AsksSigner(WaveletName, Version, Vec<u8>, SignerId),
    AsksHistory(WaveletName, Version, Vec<u8>, Version, Vec<u8>),
    Posts(SignerId),
    Submits(WaveletName, Bytes),
    /// The answer to the request of that id.
    Answers(String, Answer),
    /// The message of that id was not taken, for this reason.
    Refuses(String, String),
    /// Anything else.
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    IsAWaveService,
    /// The bytes of the deltas.
    History(Vec<Bytes>),
    Signer(SignerId),
    SignerStored,
    Submitted {
        operations: u32,
        version: Version,
        hash: Vec<u8>,
        time: i64,
    },
    /// The condition and the text.
    Error(String, String),
    Other(String),
}

impl Said {
    /// What is compared: the texts of errors are for people, their conditions are what they mean.
    pub(crate) fn meaning(&self) -> Self {
        let mut meaning = self.clone();
        if let Word::Answers(_, Answer::Error(_, text)) = &mut meaning.what {
            text.clear();
        }
        meaning
    }
}

impl Word {
    /// Of which kind it is, for counts and for the list of differences.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::AsksItems => "disco items",
            Self::AsksInfo => "disco info",
            Self::Delta(..) => "delta",
            Self::Commit(..) => "commit notice",
            Self::Receipt(_) => "receipt",
            Self::AsksSigner(..) => "get signer",
            Self::AsksHistory(..) => "history",
            Self::Posts(_) => "post signer",
            Self::Submits(..) => "submit",
            Self::Answers(_, answer) => match answer {
                Answer::IsAWaveService => "answer: disco info",
                Answer::History(_) => "answer: history",
                Answer::Signer(_) => "answer: signer",
                Answer::SignerStored => "answer: signer stored",
                Answer::Submitted { .. } => "answer: submitted",
                Answer::Error(..) => "answer: error",
                Answer::Other(_) => "answer: other",
            },
            Self::Refuses(..) => "refuses a message",
            Self::Other(_) => "other",
        }
    }
}

/// What a stanza says. An update says as many things as it has deltas and notices.
pub(crate) fn said(stanza: &Element) -> Vec<Said> {
    let words = match Stanza::parse(stanza) {
        Ok(Stanza::Iq(iq)) => vec![iq_word(&iq)],
        Ok(Stanza::Message(message)) => {
            if let Some(id) = receipts::acknowledged(&message) {
                vec![Word::Receipt(id.to_owned())]
            } else if let billow_xmpp::MessageKind::Error(error) = &message.kind {
                vec![Word::Refuses(message.id.clone().unwrap_or_default(), error.to_string())]
            } else if let Some(event) = update::event(&message) {
                update_words(event)
            } else {
                vec![Word::Other(String::from(stanza))]
            }
        }
        Ok(Stanza::Presence(_)) | Err(_) => vec![Word::Other(String::from(stanza))],
    };
    let to = stanza.attr("to").unwrap_or_default().to_owned();
    words.into_iter().map(|what| Said { to: to.clone(), what }).collect()
}

fn update_words(event: &Element) -> Vec<Word> {
    let mut words = Vec::new();
    for update in update::parse(event).unwrap() {
        let update = update.unwrap();
        for delta in &update.deltas {
            words.push(Word::Delta(
                update.name.clone(),
                delta.resulting(),
                delta.bytes().clone(),
            ));
        }
        words.extend(update.commit.map(|commit| {
            let hash = commit.hash.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default();
            Word::Commit(update.name, commit.version, hash)
        }));
    }
    words
}

fn hash(version: &HashedVersion) -> Vec<u8> {
    version.hash.as_bytes().to_vec()
}

fn iq_word(iq: &Iq) -> Word {
    let other = |payload: &Element| Word::Other(String::from(payload));
    match &iq.kind {
        IqKind::Get(payload) if disco::is_items(payload) => Word::AsksItems,
        IqKind::Get(payload) if disco::is_info(payload) => Word::AsksInfo,
        IqKind::Get(payload) => history::parse_request(payload)
            .map(|asked| {
                let (from, to) = (hash(&asked.from), hash(&asked.to));
                Word::AsksHistory(asked.name, asked.from.version, from, asked.to.version, to)
            })
            .or_else(|_| {
                signer::parse_get(payload).map(|asked| {
                    let hash = hash(&asked.at);
                    Word::AsksSigner(asked.name, asked.at.version, hash, asked.signer)
                })
            })
            .unwrap_or_else(|_| other(payload)),
        IqKind::Set(payload) => submit::parse_request(payload)
            .map(|submit| Word::Submits(submit.name, submit.delta.bytes().clone()))
            .or_else(|_| signer::parse_post(payload).map(|info| Word::Posts(info.id())))
            .unwrap_or_else(|_| other(payload)),
        IqKind::Result(payload) => Word::Answers(iq.id.clone(), answer(payload.as_ref())),
        IqKind::Error(error) => {
            let (condition, text) = (
                error.condition.name().to_owned(),
                error.text.clone().unwrap_or_default(),
            );
            Word::Answers(iq.id.clone(), Answer::Error(condition, text))
        }
    }
}

fn answer(payload: Option<&Element>) -> Answer {
    let Some(payload) = payload else {
        return Answer::Other(String::new());
    };
    if disco::is_info(payload) {
        let info = disco::Info::parse(payload);
        return if info.is_some_and(|info| info.has(billow_federation::ns::WAVE)) {
            Answer::IsAWaveService
        } else {
            Answer::Other(String::from(payload))
        };
    }
    if let Ok(submitted) = submit::parse_response(payload) {
        return Answer::Submitted {
            operations: submitted.operations_applied,
            version: submitted.resulting.version,
            hash: hash(&submitted.resulting),
            time: submitted.timestamp.0,
        };
    }
    if signer::parse_post_response(payload).is_ok() {
        return Answer::SignerStored;
    }
    if let Ok(info) = signer::parse_get_response(payload) {
        return Answer::Signer(info.id());
    }
    match history::parse_response(payload) {
        Ok(history) if !history.deltas.is_empty() => {
            Answer::History(history.deltas.iter().map(|delta| delta.bytes().clone()).collect())
        }
        _ => Answer::Other(String::from(payload)),
    }
}

/// Writes the addresses of a stanza anew.
pub(crate) fn readdress(stanza: &Element, address: impl Fn(&str) -> String) -> Element {
    let mut stanza = stanza.clone();
    for name in ["from", "to"] {
        if let Some(value) = stanza.attr(name).map(&address) {
            billow_xmpp::element::set_attr(&mut stanza, name, value);
        }
    }
    stanza
}

/// The XMPP domain of an address.
pub(crate) fn domain(jid: &str) -> billow_xmpp::Domain {
    billow_xmpp::Domain::of(&Jid::new(jid).unwrap()).unwrap()
}
