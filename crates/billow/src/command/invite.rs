//! `billow invite`: a code with which somebody may make an account here.

use serde_json::json;

use crate::client::Profile;
use crate::client::http;

/// Invite somebody to your server: prints a code to register with.
#[derive(Debug, clap::Args)]
pub struct Invite {
    /// How many accounts may be made with it
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// How many days it is good for
    #[arg(long, value_name = "N", default_value_t = 14)]
    days: u32,
}

impl Invite {
    /// Asks the server of a profile for an invitation.
    pub async fn run(self, profile: &str, as_json: bool) -> anyhow::Result<()> {
        let profile = Profile::load(profile)?;
        let body = json!({"uses": self.uses, "days": self.days});
        let answer = http::post(&profile.url.parse()?, "/api/invitations", Some(&profile.token), &body).await?;
        if as_json {
            println!("{answer}");
        } else {
            println!("{}", answer["code"].as_str().unwrap_or_default());
        }
        Ok(())
    }
}
