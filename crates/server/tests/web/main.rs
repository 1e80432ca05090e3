//! A server on loopback, driven as browsers and scripts do.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod accounts;
// The lab belongs to the binary, which is built on this crate; its files are read here directly.
#[allow(dead_code, unreachable_pub)]
#[path = "../../../billow/src/lab/ca.rs"]
mod ca;
mod client;
mod control;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../billow/src/lab/dns.rs"]
mod dns;
mod http;
mod inbox;
mod legacy;
mod strangers;
mod waves;

use std::net::SocketAddr;
use std::path::Path;

use billow_server::Server;
use billow_server::config::Config;
use serde_json::{Value, json};

/// A server with its data in a folder.
pub(crate) async fn start(dir: &Path) -> (Server, SocketAddr) {
    let text = "domain = \"example.org\"\n[http]\nlisten = \"127.0.0.1:0\"\n[accounts]\nregistration = \"open\"\n";
    start_with(dir, text).await
}

/// A server configured by the text of a file in a folder.
pub(crate) async fn start_with(dir: &Path, text: &str) -> (Server, SocketAddr) {
    let text = format!("data_dir = \"data\"\n{text}");
    let config = Config::parse(&dir.join("billow.toml"), &text).unwrap();
    let server = Server::start(config).await.unwrap();
    let at = server.addresses().http;
    (server, at)
}

pub(crate) const WAVE: &str = "example.org/w+test";
pub(crate) const ROOT: &str = "example.org/w+test/~/conv+root";

/// The submission that makes the wave, with one blip of text and these people.
pub(crate) fn new_wave(text: &str, creator: &str, others: &[&str]) -> Value {
    let mut operations = vec![
        json!({ "addParticipant": creator }),
        json!({ "mutateDocument": { "documentId": "conversation", "operation": [
            { "elementStart": { "type": "conversation", "attributes": [] } },
            { "elementStart": { "type": "blip", "attributes": [["id", "b+1"]] } }, { "elementEnd": true },
            { "elementEnd": true } ] } }),
        json!({ "mutateDocument": { "documentId": "b+1", "operation": [
            { "elementStart": { "type": "body", "attributes": [] } },
            { "elementStart": { "type": "line", "attributes": [] } }, { "elementEnd": true },
            { "characters": text }, { "elementEnd": true } ] } }),
    ];
    operations.extend(others.iter().map(|other| json!({ "addParticipant": other })));
    submit("first", 1, 0, operations)
}

/// A submission to the test wave.
pub(crate) fn submit(session: &str, sequence: u64, version: u64, operations: Vec<Value>) -> Value {
    json!({
        "type": "submit", "wavelet": ROOT, "session": session, "sequence": sequence, "version": version,
        "operations": operations,
    })
}

/// Text inserted into the blip of the test wave, which has so many characters, at a character.
pub(crate) fn insert(length: u64, at: u64, text: &str) -> Value {
    let mut operation = vec![json!({ "retain": 3 + at }), json!({ "characters": text })];
    operation.push(json!({ "retain": length - at + 1 }));
    json!({ "mutateDocument": { "documentId": "b+1", "operation": operation } })
}

/// The text of the test wave's blip in a snapshot.
pub(crate) fn text_of(snapshot: &Value) -> String {
    let documents = snapshot["wavelet"]["documents"].as_array().expect("documents");
    let blip = documents
        .iter()
        .find(|document| document["id"] == "b+1")
        .expect("the blip");
    let content = blip["content"].as_array().expect("content");
    content
        .iter()
        .filter_map(|component| component["characters"].as_str())
        .collect()
}
