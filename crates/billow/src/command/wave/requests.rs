//! `billow wave accept`, `decline` and `block`: invitations of domains that nobody at the server knows.

use anyhow::bail;
use billow_server::web::messages::{ClientMessage, RequestRow, ServerMessage};
use serde_json::json;

use super::PATIENCE;
use crate::client::{Profile, Socket};

/// Bring a wave into your inbox that somebody from an unknown domain has invited you to.
#[derive(Debug, clap::Args)]
pub struct Accept {
    /// The wave, as `billow wave list` names it
    wave: String,
}

/// Hide such a wave; who has invited you is told nothing.
#[derive(Debug, clap::Args)]
pub struct Decline {
    /// The wave, as `billow wave list` names it
    wave: String,
    /// Take no invitations of this domain from now on
    #[arg(long)]
    block: bool,
}

/// Take invitations of a domain again that you have blocked.
#[derive(Debug, clap::Args)]
pub struct Unblock {
    /// The domain, like acme.example
    domain: String,
}

impl Accept {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        let wave = self.wave.clone();
        say(profile, ClientMessage::AcceptRequest { wave: self.wave }).await?;
        done(as_json, &wave, "accepted", &format!("{wave} is in your inbox"));
        Ok(())
    }
}

impl Decline {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        let Self { wave, block } = self;
        let (mut socket, requests, _) = watch(profile).await?;
        let Some(domain) = requests
            .iter()
            .find(|row| row.wave == wave)
            .map(|row| row.domain.clone())
        else {
            bail!("nobody has invited you to {wave}, or it is no request: see `billow wave list`");
        };
        settle(&mut socket, ClientMessage::DeclineRequest { wave: wave.clone() }).await?;
        if block {
            settle(&mut socket, ClientMessage::BlockDomain { domain, blocked: true }).await?;
        }
        done(as_json, &wave, "declined", &format!("{wave} is hidden; nobody is told"));
        Ok(())
    }
}

impl Unblock {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        let domain = self.domain.clone();
        let message = ClientMessage::BlockDomain {
            domain: self.domain,
            blocked: false,
        };
        say(profile, message).await?;
        done(as_json, &domain, "unblocked", &format!("{domain} can invite you again"));
        Ok(())
    }
}

fn done(as_json: bool, what: &str, word: &str, sentence: &str) {
    if as_json {
        println!("{}", json!({ word: what }));
    } else {
        println!("{sentence}");
    }
}

/// The inbox and the requests as they are now.
pub(super) async fn watch(
    profile: &Profile,
) -> anyhow::Result<(Socket, Vec<RequestRow>, Vec<billow_server::web::messages::InboxRow>)> {
    let mut socket = Socket::connect(profile).await?;
    socket.send(&ClientMessage::WatchInbox).await?;
    let mut inbox = Vec::new();
    loop {
        match socket.next_within(PATIENCE).await? {
            ServerMessage::Inbox { rows } => inbox = rows,
            ServerMessage::Requests { rows, .. } => return Ok((socket, rows, inbox)),
            ServerMessage::Error { text } => bail!("{text}"),
            _ => {}
        }
    }
}

async fn say(profile: &Profile, message: ClientMessage) -> anyhow::Result<()> {
    settle(&mut Socket::connect(profile).await?, message).await
}

/// Says it and waits until it is done: a ping is answered after it.
async fn settle(socket: &mut Socket, message: ClientMessage) -> anyhow::Result<()> {
    socket.send(&message).await?;
    socket.send(&ClientMessage::Ping).await?;
    loop {
        match socket.next_within(PATIENCE).await? {
            ServerMessage::Pong => return Ok(()),
            ServerMessage::Error { text } => bail!("{text}"),
            _ => {}
        }
    }
}
