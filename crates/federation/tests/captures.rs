//! Every stanza that the recorded Java servers wrote and read: ours reads it, and writes the same for the same values.
//! `BILLOW_CAPTURES` names another directory.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use billow_federation::stanza::{history, signer, submit, update};
use billow_federation::{FederationError, ns};
use billow_xmpp::{Element, Iq, IqKind, Message, MessageKind, Stanza, receipts};
use bytes::Bytes;
use serde_json::Value;

fn captures() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures");
    std::env::var_os("BILLOW_CAPTURES").map_or_else(default, PathBuf::from)
}

/// The stanzas of a file in their order.
fn stanzas(path: &PathBuf) -> Vec<(String, Element)> {
    let text = std::fs::read_to_string(path).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let stanza = |event: Value| {
        let xml = event["xml"].as_str().filter(|_| event["kind"] == "stanza")?.to_owned();
        // The streams' default namespace is that of components; here it is that of stanzas.
        let name = xml.find([' ', '>', '/'])?;
        let scoped = format!("{} xmlns='jabber:client'{}", &xml[..name], &xml[name..]);
        scoped.parse().ok().map(|element| (xml, element))
    };
    events.filter_map(stanza).collect()
}

fn files() -> Vec<PathBuf> {
    let list = |directory: PathBuf| {
        std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect::<Vec<_>>()
    };
    let mut files = [list(captures()), list(captures().join("stock"))].concat();
    let other = [".deltas.jsonl", ".driver.jsonl", ".answers.jsonl"];
    files.retain(|path| {
        let name = path.to_string_lossy().into_owned();
        name.ends_with(".jsonl") && !other.iter().any(|other| name.ends_with(other))
    });
    files.sort();
    files
}

/// An element as what it means: attributes in any order, text in any pieces, nothing that has a default.
fn meaning(element: &Element) -> String {
    let mut attributes: Vec<String> = (element.attrs().iter())
        .filter(|((_, name), value)| {
            let name: &str = name.as_ref();
            name != "lang" && !(name == "type" && value.as_str() == "normal")
        })
        .map(|((_, name), value)| format!("{}={value:?}", AsRef::<str>::as_ref(name)))
        .collect();
    attributes.sort();
    let children: Vec<String> = element.children().map(meaning).collect();
    let text: String = element.texts().collect();
    format!(
        "<{{{}}}{} {}>{}{}</>",
        element.ns(),
        element.name(),
        attributes.join(" "),
        text.trim(),
        children.join("")
    )
}

/// Whether an error has the wave servers' form; XMPP servers have forms of their own.
fn by_a_wave_server(stanza: &Element) -> bool {
    stanza
        .get_child("error", "jabber:client")
        .is_some_and(|error| error.attr("code").is_some())
}

#[derive(Default)]
struct Count {
    counts: BTreeMap<&'static str, u32>,
    requests: HashMap<(String, String), &'static str>,
}

impl Count {
    fn same(&mut self, kind: &'static str, ours: &Element, theirs: &Element) {
        assert_eq!(meaning(ours), meaning(theirs), "{kind}");
        *self.counts.entry(kind).or_default() += 1;
    }

    fn malformed(&mut self, path: &str, error: &FederationError) {
        assert!(path.contains("08-raw"), "{path}: {error}");
        *self.counts.entry("malformed, of 08-raw").or_default() += 1;
    }

    fn iq(&mut self, path: &str, iq: Iq, element: &Element) {
        let rebuilt = |kind: IqKind| Iq { kind, ..iq.clone() }.to_element();
        let pubsub = |payload: &Element| payload.is("pubsub", ns::PUBSUB);
        match &iq.kind {
            IqKind::Get(payload) | IqKind::Set(payload) if pubsub(payload) => {
                let node = payload.children().next().and_then(|child| child.attr("node"));
                let (kind, ours) = match (&iq.kind, node) {
                    (IqKind::Get(_), Some("wavelet")) => (
                        "history",
                        history::parse_request(payload).map(|r| IqKind::Get(history::request(&r))),
                    ),
                    (IqKind::Get(_), Some("signer")) => (
                        "signer",
                        signer::parse_get(payload).map(|r| IqKind::Get(signer::get(&r))),
                    ),
                    (_, Some("wavelet")) => (
                        "submit",
                        submit::parse_request(payload).map(|r| IqKind::Set(submit::request(&r))),
                    ),
                    (_, Some("signer")) => (
                        "post",
                        signer::parse_post(payload).map(|r| IqKind::Set(signer::post(&r))),
                    ),
                    _ => return,
                };
                self.requests.insert((iq.id.clone(), iq.to.to_string()), kind);
                match ours {
                    Ok(ours) => self.same(kind, &rebuilt(ours), element),
                    Err(error) => self.malformed(path, &error),
                }
            }
            IqKind::Result(Some(payload)) if pubsub(payload) => {
                let (kind, ours) = match self.requests.get(&(iq.id.clone(), iq.from.to_string())) {
                    Some(&"history") => (
                        "history answer",
                        history::parse_response(payload).map(|r| history::response(&r)),
                    ),
                    Some(&"signer") => (
                        "signer answer",
                        signer::parse_get_response(payload).map(|r| signer::get_response(&r)),
                    ),
                    Some(&"submit") => (
                        "submit answer",
                        submit::parse_response(payload).map(|r| submit::response(&r)),
                    ),
                    Some(&"post") => (
                        "post answer",
                        signer::parse_post_response(payload).map(|()| signer::post_response()),
                    ),
                    other => panic!("{path}: an answer to {other:?}: {payload:?}"),
                };
                self.same(kind, &rebuilt(IqKind::Result(Some(ours.unwrap()))), element);
            }
            IqKind::Error(error) if by_a_wave_server(element) => {
                let ours = rebuilt(IqKind::Error(FederationError::from_stanza(error).to_stanza()));
                self.same("error", &ours, element);
            }
            _ => *self.counts.entry("other iq").or_default() += 1,
        }
    }

    fn message(&mut self, path: &str, message: &Message, element: &Element) {
        let id = message.id.clone().unwrap();
        if let Some(event) = update::event(message) {
            let updates = match update::parse(event) {
                Ok(updates) => updates,
                Err(error) => return self.malformed(path, &error),
            };
            for update in updates {
                let update = match update {
                    Ok(update) => update,
                    Err(error) => return self.malformed(path, &error),
                };
                let deltas: Vec<Bytes> = update.deltas.iter().map(|delta| delta.bytes().clone()).collect();
                let commit = update.commit.map(|commit| billow_model::HashedVersion {
                    version: commit.version,
                    hash: commit.hash.unwrap(),
                });
                let ours = update::Outgoing {
                    name: &update.name,
                    deltas: &deltas,
                    commit: commit.as_ref(),
                    digest: None,
                };
                let ours = update::message(message.from.clone(), message.to.clone(), id.clone(), &ours);
                // One update of 08-raw does not ask for a receipt.
                if receipts::is_requested(message) {
                    self.same("update", &ours.to_element(), element);
                }
            }
        } else if receipts::acknowledged(message).is_some() {
            let asked = Message::new(message.to.clone(), message.from.clone(), id);
            self.same("receipt", &receipts::receipt_for(&asked).unwrap().to_element(), element);
        } else if let MessageKind::Error(error) = &message.kind
            && by_a_wave_server(element)
        {
            let error = FederationError::from_stanza(error).to_stanza();
            self.same(
                "message error",
                &Message {
                    kind: MessageKind::Error(error),
                    ..message.clone()
                }
                .to_element(),
                element,
            );
        } else {
            *self.counts.entry("other message").or_default() += 1;
        }
    }
}

#[test]
fn every_recorded_stanza_reads_and_writes_the_same() {
    let mut count = Count::default();
    for path in files() {
        let name = path.to_string_lossy().into_owned();
        count.requests.clear();
        for (xml, element) in stanzas(&path) {
            match Stanza::parse(&element) {
                Ok(Stanza::Iq(iq)) => count.iq(&name, iq, &element),
                Ok(Stanza::Message(message)) => count.message(&name, &message, &element),
                Ok(Stanza::Presence(_)) => {}
                Err(bad) => assert!(
                    xml.starts_with("<handshake") || name.contains("08-raw"),
                    "{name}: {bad}: {xml}"
                ),
            }
        }
    }
    println!("{:#?}", count.counts);
    for kind in [
        "update",
        "receipt",
        "history",
        "history answer",
        "signer",
        "signer answer",
        "submit",
        "submit answer",
        "post",
        "post answer",
        "error",
    ] {
        assert!(
            count.counts.get(kind).is_some_and(|count| *count >= 2),
            "{kind} was not among the captures"
        );
    }
}
