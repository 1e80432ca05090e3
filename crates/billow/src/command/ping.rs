//! `billow ping` and `billow trace`: one other domain is tried, step by step.

use std::process::ExitCode;

use billow_model::Domain;
use billow_server::control::Client;
use billow_server::federation::Probe;
use clap::Args;
use serde_json::{Value, json};

use super::peers::Running;

/// Ping another domain: how it was found and reached, and how long its answer takes
///
/// The ping goes the way of everything else, over the stream that is up if there is one. It is sent by the server that runs
/// on the data folder of the configuration; if none runs, this command is that server for the moment.
/// Exit codes: 0 it has answered, 1 it has not; the last line says why.
#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// The other server's domain
    domain: Domain,
    #[command(flatten)]
    at: Running,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Go through all the steps to another domain anew, and print what each found
///
/// A stream that is up is left alone. It is done by the server that runs on the data folder of the configuration; if none
/// runs, this command is that server for the moment. The numbers of the steps are those of docs/admin/federation.md.
/// Exit codes: 0 the domain was reached and has answered, 1 it was not; the last line says why.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// The other server's domain
    domain: Domain,
    #[command(flatten)]
    at: Running,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

impl Ping {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        probe(&self.at, &self.domain, false, self.json).await
    }
}

impl Trace {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        probe(&self.at, &self.domain, true, self.json).await
    }
}

async fn probe(at: &Running, domain: &Domain, trace: bool, json: bool) -> anyhow::Result<ExitCode> {
    let config = at.config()?;
    let answer = match Client::find(&config.data_dir).await? {
        Some(client) => {
            let what = if trace { "trace" } else { "ping" };
            client.post(&format!("/peers/{domain}/{what}"), &json!({})).await?
        }
        None => serde_json::to_value(Probe::alone(&config, domain, trace).await?)?,
    };
    if json {
        println!("{answer}");
    } else {
        for line in lines(&answer) {
            println!("{line}");
        }
    }
    Ok(match answer["pong"].is_null() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// The steps, and how it ended.
fn lines(answer: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = answer["steps"].as_array().into_iter().flatten();
    let mut lines: Vec<String> = steps
        .map(|step| {
            let mark = if step["ok"] == true { "ok" } else { "no" };
            let ms = match step["ms"].as_u64() {
                None | Some(0) => String::new(),
                Some(ms) => format!("{ms} ms"),
            };
            let number = step["step"].as_u64().unwrap_or(0);
            format!("{number:>2}  {mark}  {ms:>8}  {}", text(&step["words"]))
        })
        .collect();
    let pong = &answer["pong"];
    lines.push(if pong.is_null() {
        format!("no pong from {}: {}", text(&answer["domain"]), text(&answer["error"]))
    } else {
        let via = match pong["via"].as_str() {
            Some(via) => format!(" ({via})"),
            None => String::new(),
        };
        format!("pong from {} in {} ms{via}", text(&pong["from"]), pong["ms"])
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_their_end_are_printed() {
        let step = json!({ "step": 5, "ok": true, "ms": 12, "words": "connected to wave1.acme.lab:5269" });
        let pong = json!({ "from": "wave.acme.lab", "ms": 31, "via": "SRV wave1.acme.lab:5269, TLS 1.3, cert ok" });
        assert_eq!(
            lines(&json!({ "domain": "acme.lab", "steps": [step], "pong": pong })),
            [
                " 5  ok     12 ms  connected to wave1.acme.lab:5269",
                "pong from wave.acme.lab in 31 ms (SRV wave1.acme.lab:5269, TLS 1.3, cert ok)",
            ]
        );
        let failed = json!({ "domain": "acme.lab", "steps": [], "pong": null, "error": "no address" });
        assert_eq!(lines(&failed), ["no pong from acme.lab: no address"]);
    }
}
