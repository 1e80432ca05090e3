//! Pings and traces: one domain is tried for the operator, by the very machines that deliver.
//!
//! A ping goes the way that all stanzas go, over the stream that is up if there is one; its steps are those of the time when
//! that way was found. A trace looks, connects and asks anew: it opens a stream beside the one that is up, which it leaves
//! alone.

use std::collections::BTreeMap;

use anyhow::Context as _;
use billow_federation::pings::{self, Pong};
use billow_federation::{discovery, steps};
use billow_model::Domain;
use billow_net::Contact;
use billow_store::Store;
use billow_xmpp::Jid;
use serde::Serialize;
use tokio::sync::oneshot;

use super::Running;
use super::driver::{Done, Driver};
use crate::clock;
use crate::config::Config;
use crate::metrics::Metrics;

/// Most domains that are being pinged or traced at once.
const MOST: usize = 100;

/// How a domain was found and reached, and whether it answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Which.
    pub domain: String,
    /// The steps of the last search for it.
    pub steps: Vec<Step>,
    /// Its answer.
    pub pong: Option<Reply>,
    /// Why there is none.
    pub error: Option<String>,
}

/// One of the thirteen steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its number.
    pub step: u8,
    /// Whether it went well.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub ms: u32,
    /// What came of it.
    pub words: String,
}

/// The answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// From whom.
    pub from: String,
    /// After how many milliseconds the first answer came.
    pub ms: u32,
    /// The receipt for the message of wave servers.
    pub message_ms: Option<u32>,
    /// The answer to XEP-0199.
    pub iq_ms: Option<u32>,
    /// Over what stream: `SRV wave1.acme.lab:5269, TLS 1.3, cert ok`.
    pub via: Option<String>,
}

impl Probe {
    /// `pong from wave.acme.lab in 31 ms (SRV wave1.acme.lab:5269, TLS 1.3, cert ok)`, or why not.
    #[must_use]
    pub fn in_words(&self) -> String {
        match (&self.pong, &self.error) {
            (Some(Reply { from, ms, via, .. }), _) => {
                let via = via.as_ref().map(|via| format!(" ({via})")).unwrap_or_default();
                format!("pong from {from} in {ms} ms{via}")
            }
            (None, error) => format!(
                "no pong from {}: {}",
                self.domain,
                error.as_deref().unwrap_or("no answer")
            ),
        }
    }

    /// Pings or traces a domain as the server of a configuration, which must not run: for as long as it takes, this is it.
    pub async fn alone(config: &Config, domain: &Domain, trace: bool) -> anyhow::Result<Self> {
        anyhow::ensure!(
            config.federation.is_some(),
            "this server does not talk to others: [federation] is not enabled"
        );
        let store = Store::open(&config.data_dir)?;
        crate::check_domain(config, &store).await?;
        let running = Running::start(config, &store, &Metrics::new()).await?;
        let federation = running.wavelets().shared().federation.clone();
        let probed = match trace {
            true => federation.trace(domain).await,
            false => federation.ping(domain).await,
        };
        drop(federation);
        running.stop().await;
        probed.context("the federation has ended")
    }
}

/// Those that are under way.
#[derive(Debug, Default)]
pub(super) struct Probes {
    under_way: BTreeMap<u64, UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    domain: Domain,
    reply: oneshot::Sender<Probe>,
    stage: Stage,
    /// It is a trace: all was tried anew.
    traces: bool,
}

#[derive(Debug)]
enum Stage {
    /// A trace looks how the domain itself can be reached.
    First,
    /// The ping is out.
    Pinging,
    /// A trace looks how the domain's service can be reached.
    Last(Result<Pong, String>),
}

impl Probes {
    /// Whether a trace has had a domain tried anew.
    fn was_just_tried(&self, domain: &Domain) -> bool {
        let mut under_way = self.under_way.values();
        under_way.any(|probe| probe.traces && probe.domain == *domain)
    }
}

impl Driver {
    /// Pings a domain; whoever asked may be gone when it is answered.
    pub(super) fn ping(&mut self, domain: Domain, reply: oneshot::Sender<Probe>) {
        if let Some(ticket) = self.begin(&domain, reply, Stage::Pinging) {
            self.pings.handle(clock::steady(), pings::Input::Ask { ticket, domain });
        }
    }

    /// Looks, connects and asks anew.
    pub(super) fn trace(&mut self, domain: Domain, reply: oneshot::Sender<Probe>) {
        if self.begin(&domain, reply, Stage::First).is_some() {
            self.try_now(&domain);
            self.look_at(domain.as_str().to_owned(), domain);
        }
    }

    fn begin(&mut self, domain: &Domain, reply: oneshot::Sender<Probe>, stage: Stage) -> Option<u64> {
        if self.probes.under_way.len() >= MOST {
            let busy = Err("too many domains are being tried just now".to_owned());
            let _ = reply.send(self.probe(domain, busy));
            return None;
        }
        self.tickets += 1;
        let under_way = UnderWay {
            domain: domain.clone(),
            reply,
            traces: matches!(stage, Stage::First),
            stage,
        };
        self.probes.under_way.insert(self.tickets, under_way);
        Some(self.tickets)
    }

    /// Tries to reach an XMPP domain for the traces of a domain.
    fn look_at(&self, host: String, domain: Domain) {
        let (net, local, done) = (self.net.clone(), self.local.clone(), self.done.clone());
        tokio::spawn(async move {
            let Ok(peer) = host.parse() else { return };
            let contact = net.contact(&local, &peer).await.map(Box::new);
            // The driver may have ended.
            let _ = done.send(Done::Contacted { domain, contact });
        });
    }

    pub(super) fn contacted(&mut self, contact: Option<Box<Contact>>, domain: &Domain) {
        if let Some(contact) = contact {
            self.book.contact(*contact);
        }
        let mut ended = Vec::new();
        for (ticket, under_way) in &mut self.probes.under_way {
            if under_way.domain != *domain {
                continue;
            }
            match std::mem::replace(&mut under_way.stage, Stage::Pinging) {
                Stage::First => {
                    let (ticket, domain) = (*ticket, domain.clone());
                    self.pings.handle(clock::steady(), pings::Input::Ask { ticket, domain });
                }
                Stage::Pinging => {}
                Stage::Last(outcome) => ended.push((*ticket, outcome)),
            }
        }
        for (ticket, outcome) in ended {
            self.end_probe(ticket, outcome);
        }
    }

    pub(super) fn do_ping(&mut self, output: pings::Output) -> anyhow::Result<()> {
        match output {
            // What is being looked for will be told.
            pings::Output::Find(domain) if self.discovery.is_looking_for(&domain) => {}
            pings::Output::Find(domain) if self.discovery.service(&domain).is_some() => {
                self.discovery.handle(clock::steady(), discovery::Input::Find(domain));
            }
            pings::Output::Find(domain) => match self.probes.was_just_tried(&domain) {
                true => self.discovery.handle(clock::steady(), discovery::Input::Find(domain)),
                false => self.try_now(&domain),
            },
            pings::Output::Send(stanza) => self.send(stanza)?,
            pings::Output::Done { ticket, outcome } => self.pinged(ticket, outcome),
        }
        Ok(())
    }

    fn pinged(&mut self, ticket: u64, outcome: Result<Pong, String>) {
        let Some(under_way) = self.probes.under_way.get_mut(&ticket) else {
            return;
        };
        let domain = under_way.domain.clone();
        let elsewhere = self
            .discovery
            .service(&domain)
            .map(|service| service.jid.domain().as_str().to_owned())
            .filter(|host| *host != domain.as_str());
        match elsewhere {
            Some(host) if under_way.traces => {
                under_way.stage = Stage::Last(outcome);
                self.look_at(host, domain);
            }
            _ => self.end_probe(ticket, outcome),
        }
    }

    fn end_probe(&mut self, ticket: u64, outcome: Result<Pong, String>) {
        if let Some(UnderWay { domain, reply, .. }) = self.probes.under_way.remove(&ticket) {
            // Whoever asked may be gone.
            let _ = reply.send(self.probe(&domain, outcome));
        }
    }

    fn probe(&self, domain: &Domain, outcome: Result<Pong, String>) -> Probe {
        let record = self.discovery.record(domain);
        let steps = record.map(|record| steps::of(domain, record, |host| self.book.contact_with(host)));
        let steps = steps.unwrap_or_default().into_iter().map(|step| Step {
            step: step.number,
            ok: step.ok,
            ms: step.ms,
            words: step.words,
        });
        let (pong, error) = match outcome {
            Ok(pong) => (Some(self.reply(pong)), None),
            Err(reason) => (None, Some(reason)),
        };
        Probe {
            domain: domain.to_string(),
            steps: steps.collect(),
            pong,
            error,
        }
    }

    fn reply(&self, pong: Pong) -> Reply {
        let contact = self.book.contact_with(pong.from.domain().as_str());
        let secured = contact.and_then(|contact| contact.outcome.as_ref().ok());
        Reply {
            from: pong.from.to_string(),
            ms: pong.message_ms.into_iter().chain(pong.iq_ms).min().unwrap_or(0),
            message_ms: pong.message_ms,
            iq_ms: pong.iq_ms,
            via: secured.map(|secured| secured.in_words()),
        }
    }

    pub(super) fn ping_answered(&mut self, from: Jid, id: String, error: Option<String>) {
        self.pings
            .handle(clock::steady(), pings::Input::Receipt { from, id, error });
    }
}
