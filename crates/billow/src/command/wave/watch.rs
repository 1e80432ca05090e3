//! `billow wave watch`.

use billow_model::WaveletOp;
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
            let message = opened.socket.next().await?;
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
            let what: Vec<String> = operations_from_messages(delta)?.iter().map(describe_op).collect();
            Some(format!("{} {}: {}", delta.version, delta.author, what.join("; ")))
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

fn describe_op(op: &WaveletOp) -> String {
    use billow_model::Component as C;
    match op {
        WaveletOp::AddParticipant(who) => format!("adds {who}"),
        WaveletOp::RemoveParticipant(who) => format!("removes {who}"),
        WaveletOp::NoOp => "nothing".to_owned(),
        WaveletOp::MutateDocument { id, op } => {
            let changes = op.components().iter().filter_map(|component| match component {
                C::Characters(text) => Some(format!("+{text:?}")),
                C::DeleteCharacters(text) => Some(format!("-{text:?}")),
                C::ElementStart { kind, .. } => Some(format!("+<{kind}>")),
                C::DeleteElementStart { kind, .. } => Some(format!("-<{kind}>")),
                _ => None,
            });
            format!("{id} {}", changes.collect::<Vec<_>>().join(" "))
        }
    }
}
