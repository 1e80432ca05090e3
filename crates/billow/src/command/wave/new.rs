//! `billow wave new`.

use serde_json::json;

use crate::client::Profile;

/// Start a wave.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  billow wave new \"Lunch on Friday\" --with bob@acme.example")]
pub struct New {
    /// The first line of the first blip
    title: String,
    /// Add somebody at once; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    with: Vec<String>,
}

impl New {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        let created = super::create(profile, &self.title, &self.with).await?;
        if as_json {
            println!(
                "{}",
                json!({"wave": created.wave, "blip": created.blip.as_str(), "version": created.version})
            );
        } else {
            println!("{}", created.wave);
        }
        Ok(())
    }
}
