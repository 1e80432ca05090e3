//! `billow login`: signs in and remembers it as a profile.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::json;

use crate::client::http::{self, ServerUrl};
use crate::client::profile::Profile;

/// Sign in at a server and remember it under a profile name.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The password is asked for; scripts give it as BILLOW_PASSWORD or with --password-file.\n\n\
    Example:\n  billow login http://localhost:9898 alice@localhost"
)]
pub struct Login {
    /// The server's address, like http://localhost:9898
    url: String,
    /// Whom to sign in, like alice@example.org
    address: String,
    /// Read the password from the first line of this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Make the account first (where the server allows it)
    #[arg(long)]
    register: bool,
    /// Invitation code for --register
    #[arg(long, value_name = "CODE", requires = "register")]
    invitation: Option<String>,
}

impl Login {
    /// Signs in and saves the profile.
    pub async fn run(self, profile_name: &str, as_json: bool) -> anyhow::Result<()> {
        let url: ServerUrl = self.url.parse()?;
        let password = self.password()?;
        if self.register {
            let body = json!({"address": self.address, "password": password, "invitation": self.invitation});
            http::post(&url, "/api/register", None, &body).await?;
        }
        let profile = sign_in(&url, &self.address, &password).await?;
        let path = profile.save(profile_name)?;
        if as_json {
            println!(
                "{}",
                json!({"profile": profile_name, "address": profile.address, "url": profile.url})
            );
        } else {
            println!(
                "Signed in as {} (profile {profile_name:?}, kept in {}).",
                profile.address,
                path.display()
            );
        }
        Ok(())
    }

    fn password(&self) -> anyhow::Result<String> {
        if let Some(file) = &self.password_file {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            return Ok(text.lines().next().unwrap_or_default().to_owned());
        }
        if let Ok(password) = std::env::var("BILLOW_PASSWORD") {
            return Ok(password);
        }
        if !std::io::stdin().is_terminal() {
            bail!("no password: set BILLOW_PASSWORD, give --password-file FILE, or run at a terminal");
        }
        ask_quietly(&format!("Password of {}: ", self.address))
    }
}

/// Signs in; the profile is not saved.
pub async fn sign_in(url: &ServerUrl, address: &str, password: &str) -> anyhow::Result<Profile> {
    let answer = http::post(
        url,
        "/api/signin",
        None,
        &json!({"address": address, "password": password}),
    )
    .await?;
    let field = |name: &str| {
        answer[name]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("{url} answered without {name:?}: is it a Billow server?"))
    };
    Ok(Profile {
        url: url.to_string(),
        address: field("address")?,
        token: field("token")?,
    })
}

/// Asks at the terminal with echo off.
fn ask_quietly(prompt: &str) -> anyhow::Result<String> {
    let echo = |on: bool| {
        std::process::Command::new("stty")
            .arg(if on { "echo" } else { "-echo" })
            .status()
    };
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let hidden = echo(false).is_ok_and(|status| status.success());
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if hidden {
        // If this fails too, the person sees it: their typing stays invisible and `stty echo` helps.
        let _ = echo(true);
        eprintln!();
    }
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
