//! `billow wave write`.

use std::io::Read as _;

use anyhow::Context as _;
use billow_model::conversation::{self, Place};
use billow_model::{Attributes, Component, DocOp, Document, DocumentId, WaveletOp};
use serde_json::json;

use super::OpenWave;
use crate::client::Profile;

/// Write: a new blip at the end, into a blip, or a reply.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --blip or --reply-to the text becomes a new blip at the end of the wave.\n\n\
    Examples:\n  billow wave write example.org/w+abc \"Friday is fine\"\n  date | billow wave write example.org/w+abc --blip b+xyz -\n\n\
    Text for a blip goes on in its last line; to begin a new one: --blip b+xyz $'\\nA new line'"
)]
pub struct Write {
    /// The wave, like example.org/w+abc
    wave: String,
    /// Append to the text of this blip
    #[arg(long, value_name = "ID", conflicts_with = "reply_to")]
    blip: Option<String>,
    /// Answer this blip in a thread of its own
    #[arg(long, value_name = "ID")]
    reply_to: Option<String>,
    /// What to write; `-` reads it from standard input
    text: String,
}

impl Write {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        let text = if self.text == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text.trim_end_matches('\n').to_owned()
        } else {
            self.text
        };
        let text = super::without_tabs(&text);
        let mut opened = OpenWave::open(profile, &self.wave).await?;
        let wavelet = opened.wavelet()?;
        let is_new = self.blip.is_none();
        let (blip, ops) = if let Some(blip) = self.blip {
            let id = DocumentId::new(&blip)?;
            let op = append(&opened.document(&blip)?, &text)?;
            (id.clone(), vec![WaveletOp::MutateDocument { id, op }])
        } else {
            let id = DocumentId::new(&format!("b+{}", super::random_token()?))?;
            let content = conversation::blip_of_text(&text)?;
            let ops = match &self.reply_to {
                Some(parent) => conversation::reply(&wavelet, &DocumentId::new(parent)?, &id, content)?,
                None => conversation::append_blip(&wavelet, Place::Root, &id, content)?,
            };
            (id, ops)
        };
        let version = opened.submit(&ops).await?;
        if is_new {
            opened.mark_read(&blip, version).await?;
        }
        if as_json {
            println!(
                "{}",
                json!({"wave": self.wave, "blip": blip.as_str(), "version": version})
            );
        } else {
            println!("{blip}");
        }
        Ok(())
    }
}

/// Text at the end of a blip: its first line goes on where the blip's last one ended.
fn append(blip: &Document, text: &str) -> anyhow::Result<DocOp> {
    let end = u32::try_from(blip.len())?
        .checked_sub(1)
        .context("the blip has no body")?;
    let mut components = vec![Component::Retain(end)];
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            components.extend([
                Component::ElementStart {
                    kind: "line".into(),
                    attributes: Attributes::default(),
                },
                Component::ElementEnd,
            ]);
        }
        if !line.is_empty() {
            components.push(Component::Characters(line.to_owned()));
        }
    }
    components.push(Component::Retain(1));
    DocOp::new(components).context("this text cannot be in a blip")
}
