//! `billow policy`: with which domains the running server talks.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::peers::Running;

/// With which other domains a running server talks
///
/// What is decided here counts at once, over restarts, and before the configuration ([federation.policy]). A domain by name
/// counts before *.domain, which stands for those below it, and that before * for all.
#[derive(Debug, Args)]
pub(crate) struct Policy {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    at: Running,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What the configuration says, what was decided since, and which domains wait for you
    List,
    /// Talk with a domain
    Allow(About),
    /// Do not talk with a domain: it is told so, and so is who here wants to reach it
    Block(About),
    /// Do not talk with a domain until it is allowed or blocked
    Ask(About),
    /// Take back what was decided about a domain: the configuration counts again
    Forget(About),
}

#[derive(Debug, Args)]
pub(crate) struct About {
    /// A domain like acme.example, or *.acme.example, or *
    #[arg(value_name = "DOMAIN")]
    pattern: String,
}

impl Policy {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::List => {
                let list = self.at.client().await?.get("/policy").await?;
                if self.json {
                    println!("{list}");
                } else {
                    for line in lines(&list) {
                        println!("{line}");
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
            Action::Allow(about) => decide(&self.at, &about, "allow", self.json).await,
            Action::Block(about) => decide(&self.at, &about, "block", self.json).await,
            Action::Ask(about) => decide(&self.at, &about, "ask", self.json).await,
            Action::Forget(About { pattern }) => {
                let answer = self.at.client().await?.delete(&format!("/policy/{pattern}")).await?;
                if self.json {
                    println!("{answer}");
                } else {
                    println!("what was decided about {pattern} counts no longer");
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Has the server decide about a domain.
pub(super) async fn decide(at: &Running, about: &About, verdict: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let pattern = &about.pattern;
    let body = json!({ "verdict": verdict });
    let answer = at.client().await?.post(&format!("/policy/{pattern}"), &body).await?;
    let words = match verdict {
        "allow" => "is allowed",
        "block" => "is blocked",
        _ => "waits until you allow or block it",
    };
    if as_json {
        println!("{answer}");
    } else {
        println!("{pattern} {words}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The list, for people.
fn lines(list: &Value) -> Vec<String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("-").to_owned();
    let rows = |key: &str| list[key].as_array().cloned().unwrap_or_default();
    let mode = match list["mode"].as_str() {
        Some("allow") => "only domains that are allowed are talked with",
        Some("deny") => "all domains are talked with but those that are denied",
        Some("ask") => "you are asked about each domain that is not allowed or denied",
        _ => "all domains are talked with",
    };
    let mut out = vec![format!("mode {}: {mode}", text(list, "mode"))];
    for (key, what) in [("allow", "allowed"), ("deny", "denied")] {
        for pattern in rows(key) {
            out.push(format!(
                "{what:<8} {}  (configuration)",
                pattern.as_str().unwrap_or("-")
            ));
        }
    }
    for row in rows("decisions") {
        let what = match row["verdict"].as_str() {
            Some("allow") => "allowed",
            Some("block") => "blocked",
            _ => "asked",
        };
        out.push(format!("{what:<8} {}", text(&row, "pattern")));
    }
    for row in rows("waiting") {
        let why = match row["wanted"].as_bool() {
            Some(true) => "somebody here wants to reach it",
            _ => "it has spoken to us",
        };
        out.push(format!("waits    {}  ({why})", text(&row, "domain")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_where_each_line_comes_from() {
        let list = json!({
            "mode": "ask", "allow": ["acme.lab"], "deny": ["*.evil.lab"],
            "decisions": [{"pattern": "hooli.lab", "verdict": "block", "since": 1}],
            "waiting": [{"domain": "new.lab", "wanted": true, "since": 1}, {"domain": "old.lab", "wanted": false, "since": 1}],
        });
        assert_eq!(
            lines(&list),
            [
                "mode ask: you are asked about each domain that is not allowed or denied",
                "allowed  acme.lab  (configuration)",
                "denied   *.evil.lab  (configuration)",
                "blocked  hooli.lab",
                "waits    new.lab  (somebody here wants to reach it)",
                "waits    old.lab  (it has spoken to us)",
            ]
        );
    }
}
