//! `billow wave watch`.

use billow_model::{Component, DocOp, WaveletOp};
use billow_server::web::messages::ServerMessage;

use super::{OpenWave, operations_from_messages, show::delivery_words};
use crate::client::Profile;

/// Print what happens in a wave until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "With --json each line is one message of the client protocol.")]
pub struct Watch {
    /// The wave, like example.org/w+abc
    wave: String,
    /// End after this many changes
    #[arg(long, value_name = "N")]
    count: Option<usize>,
}

impl Watch {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        let mut opened = OpenWave::open(profile, &self.wave).await?;
        let mut left = self.count;
        while left != Some(0) {
            let message = tokio::select! {
                message = opened.socket.next() => message?,
                interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
            };
            if as_json {
                println!("{}", serde_json::to_string(&message)?);
            } else if let Some(line) = describe(&message)? {
                println!("{line}");
            }
            if matches!(message, ServerMessage::Delta { .. }) {
                left = left.map(|left| left - 1);
            }
        }
        Ok(())
    }
}

fn describe(message: &ServerMessage) -> anyhow::Result<Option<String>> {
    Ok(match message {
        ServerMessage::Delta { delta } => {
            let what: Vec<String> = operations_from_messages(delta)?
                .iter()
                .filter_map(describe_op)
                .collect();
            (!what.is_empty()).then(|| format!("{} {} {}", delta.version, delta.author, what.join(", ")))
        }
        ServerMessage::Delivery { peers, .. } => {
            let peers: Vec<String> = peers
                .iter()
                .map(|peer| format!("{}: {}", peer.domain, delivery_words(peer)))
                .collect();
            (!peers.is_empty()).then(|| peers.join("; "))
        }
        ServerMessage::Caret {
            address,
            document: Some(document),
            typing: true,
            ..
        } => Some(format!("{address} is writing in {document}")),
        _ => None,
    })
}

/// What was done, as one would say it; `None` for what only the layout needs.
fn describe_op(op: &WaveletOp) -> Option<String> {
    match op {
        WaveletOp::AddParticipant(who) => Some(format!("adds {who}")),
        WaveletOp::RemoveParticipant(who) => Some(format!("removes {who}")),
        WaveletOp::NoOp => None,
        WaveletOp::MutateDocument { id, op } if id.as_str() == "conversation" => describe_manifest(op),
        WaveletOp::MutateDocument { id, op } => describe_text(op).map(|what| format!("{what} in {id}")),
    }
}

fn describe_manifest(op: &DocOp) -> Option<String> {
    let blips = op.components().iter().filter_map(|component| match component {
        Component::ElementStart { kind, attributes } if &**kind == "blip" => {
            Some(format!("adds the blip {}", attributes.value("id")?))
        }
        Component::DeleteElementStart { kind, attributes } if &**kind == "blip" => {
            Some(format!("deletes the blip {}", attributes.value("id")?))
        }
        _ => None,
    });
    let blips: Vec<String> = blips.collect();
    (!blips.is_empty()).then(|| blips.join(", "))
}

fn describe_text(op: &DocOp) -> Option<String> {
    let (mut written, mut deleted) = (String::new(), String::new());
    let mut is_format = false;
    for component in op.components() {
        match component {
            Component::Characters(text) => written.push_str(text),
            Component::DeleteCharacters(text) => deleted.push_str(text),
            Component::ElementStart { kind, .. } if &**kind == "line" && !written.is_empty() => written.push('\n'),
            Component::ElementStart { .. } | Component::DeleteElementStart { .. } => is_format = true,
            Component::AnnotationBoundary(_)
            | Component::UpdateAttributes { .. }
            | Component::ReplaceAttributes { .. } => {
                is_format = true;
            }
            _ => {}
        }
    }
    match (written.is_empty(), deleted.is_empty()) {
        (false, false) => Some(format!("replaces {deleted:?} by {written:?}")),
        (false, true) => Some(format!("writes {written:?}")),
        (true, false) => Some(format!("deletes {deleted:?}")),
        (true, true) => is_format.then(|| "changes the form".to_owned()),
    }
}
