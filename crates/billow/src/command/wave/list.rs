//! `billow wave list`.

use billow_server::web::messages::RequestRow;
use serde_json::Value;

use super::requests::watch;
use crate::client::Profile;

/// The waves you are in, newest first, and who asks to share one with you.
#[derive(Debug, clap::Args)]
pub struct List {}

impl List {
    pub(super) async fn run(self, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
        let (_, requests, rows) = watch(profile).await?;
        if as_json {
            let mut all: Vec<Value> = rows.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
            for request in &requests {
                let mut value = serde_json::to_value(request)?;
                value["request"] = Value::Bool(true);
                all.push(value);
            }
            println!("{}", Value::Array(all));
            return Ok(());
        }
        for RequestRow { wave, from, host, .. } in &requests {
            let host = host
                .as_ref()
                .map(|host| format!(", hosted at {host}"))
                .unwrap_or_default();
            println!("{wave}  request from {from}{host}  (billow wave accept, or decline)");
        }
        if !requests.is_empty() && rows.is_empty() {
            return Ok(());
        }
        if rows.is_empty() {
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
