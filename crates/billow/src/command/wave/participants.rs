//! `billow wave add` and `billow wave remove`.

use billow_model::WaveletOp;
use serde_json::json;

use super::OpenWave;
use crate::client::Profile;

/// Add somebody, from this server or any other.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The wave, like example.org/w+abc
    wave: String,
    /// Whom, like bob@acme.example
    address: String,
}

/// Remove somebody.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// The wave, like example.org/w+abc
    wave: String,
    /// Whom, like bob@acme.example
    address: String,
}

impl Add {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        change(
            profile,
            &self.wave,
            WaveletOp::AddParticipant(self.address.parse()?),
            as_json,
        )
        .await
    }
}

impl Remove {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        change(
            profile,
            &self.wave,
            WaveletOp::RemoveParticipant(self.address.parse()?),
            as_json,
        )
        .await
    }
}

async fn change(profile: &Profile, wave: &str, op: WaveletOp, as_json: bool) -> anyhow::Result<()> {
    let version = OpenWave::open(profile, wave).await?.submit(&[op]).await?;
    if as_json {
        println!("{}", json!({"wave": wave, "version": version}));
    }
    Ok(())
}
