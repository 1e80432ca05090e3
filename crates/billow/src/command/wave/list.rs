//! `billow wave list`.

use anyhow::bail;
use billow_server::web::messages::{ClientMessage, ServerMessage};

use super::PATIENCE;
use crate::client::{Profile, Socket};

/// The waves you are in, newest first.
#[derive(Debug, clap::Args)]
pub struct List {}

impl List {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        let mut socket = Socket::connect(profile).await?;
        socket.send(&ClientMessage::WatchInbox).await?;
        let rows = loop {
            match socket.next_within(PATIENCE).await? {
                ServerMessage::Inbox { rows } => break rows,
                ServerMessage::Error { text } => bail!("{text}"),
                _ => {}
            }
        };
        if as_json {
            println!("{}", serde_json::to_string(&rows)?);
        } else if rows.is_empty() {
            println!("No waves yet. Start one: billow wave new \"A title\" --with bob@example.org");
        } else {
            for row in rows {
                let unread = if row.unread > 0 {
                    format!("{} new, ", row.unread)
                } else {
                    String::new()
                };
                let waiting = if row.waiting_for.is_empty() {
                    String::new()
                } else {
                    format!(", waiting for {}", row.waiting_for.join(", "))
                };
                let title = if row.title.is_empty() {
                    "Untitled wave"
                } else {
                    &row.title
                };
                let blips = if row.blips == 1 { "blip" } else { "blips" };
                println!(
                    "{}  {title}  ({unread}{} {blips}, {}{waiting})",
                    row.wave,
                    row.blips,
                    row.people.join(" ")
                );
            }
        }
        Ok(())
    }
}
