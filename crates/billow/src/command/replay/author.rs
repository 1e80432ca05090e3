//! One person of a trace: signed in, typing what the trace says once they have seen what the trace says.
//!
//! What others typed arrives as soon as the server sends it and waits, hidden, until the trace shows it to this person.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use billow_model::doc::compose::compose;
use billow_model::{DocOp, DocumentId, Version, WaveletOp};
use billow_server::web::messages::{ClientMessage, DeltaMessage, KnownWavelet, OwnSubmission, ServerMessage};
use tokio::sync::Notify;

use super::text::Text;
use super::trace::Trace;
use crate::client::{Channel, Socket};
use crate::command::wave::{OpenWave, operation_to_message, operations_from_messages};

/// Which edit made which version, told by its author when the server has answered; the others look it up.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Mutex<HashMap<u64, (usize, Instant)>>,
    news: Notify,
}

impl Ledger {
    fn enter(&self, resulting: u64, agent: usize, typed: Instant) {
        self.entries
            .lock()
            .expect("no author panics with the ledger open")
            .insert(resulting, (agent, typed));
        self.news.notify_waiters();
    }

    fn who(&self, resulting: u64) -> Option<(usize, Instant)> {
        self.entries
            .lock()
            .expect("no author panics with the ledger open")
            .get(&resulting)
            .copied()
    }
}

/// What an author has to say in the end.
#[derive(Debug)]
pub(super) struct Report {
    /// The blip that was written.
    pub(super) blip: String,
    /// The text as this person sees it.
    pub(super) text: String,
    /// Own deltas that the server applied.
    pub(super) deltas: usize,
    /// From others' keystrokes to this person's connection.
    pub(super) latencies_us: Vec<u64>,
    /// How often the connection had to be made anew.
    pub(super) reconnects: usize,
}

/// A person at work.
pub(super) struct Author {
    agent: usize,
    trace: Arc<Trace>,
    ledger: Arc<Ledger>,
    socket: Socket,
    wave: String,
    wavelet: String,
    blip: DocumentId,
    session: String,
    channel: Channel,
    text: Text,
    /// Per person: how many of their edits this one has been shown.
    shown: Vec<usize>,
    /// Resulting version and arrival of what is hidden, in step with the channel's hidden operations.
    arrived: VecDeque<(u64, Instant)>,
    typed: Instant,
    patience: Duration,
    report: Report,
}

impl Author {
    /// A person with the wave open before them.
    pub(super) fn new(
        agent: usize,
        opened: OpenWave,
        trace: Arc<Trace>,
        ledger: Arc<Ledger>,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let blip = opened.first_blip()?;
        let state = opened.conversation()?;
        Ok(Self {
            agent,
            ledger,
            wave: opened.wave.clone(),
            wavelet: state.wavelet.clone(),
            session: crate::command::wave::random_token()?,
            channel: Channel::new(Version::new(state.version)),
            text: Text::new(&opened.text(blip.as_str())?),
            shown: vec![0; trace.agents()],
            arrived: VecDeque::new(),
            typed: Instant::now(),
            patience,
            report: Report {
                blip: blip.to_string(),
                text: String::new(),
                deltas: 0,
                latencies_us: Vec::new(),
                reconnects: 0,
            },
            trace,
            blip,
            socket: opened.socket,
        })
    }

    /// Types everything, then waits until everybody's edits are shown here too.
    pub(super) async fn run(mut self, speed: Option<f64>, started: Instant) -> anyhow::Result<Report> {
        let trace = Arc::clone(&self.trace);
        for edit in trace.edits_of(self.agent) {
            self.see(&edit.seen).await?;
            if let Some(speed) = speed {
                self.wait_until(started + Duration::from_secs_f64(edit.at / speed))
                    .await?;
            }
            let ops = self.text.edit(&edit.patches)?;
            let op = ops
                .into_iter()
                .map(Ok)
                .reduce(|a, b| compose(&a?, &b?))
                .context("an edit without patches")??;
            self.typed = Instant::now();
            self.channel.edit(op)?;
            self.submit().await?;
        }
        let everything: Vec<usize> = (0..trace.agents()).map(|agent| trace.edits_of(agent).len()).collect();
        self.see(&everything).await?;
        self.report.text = self.text.to_text();
        Ok(self.report)
    }

    /// Waits until so many edits of each person are shown and nothing of one's own is unanswered.
    async fn see(&mut self, wanted: &[usize]) -> anyhow::Result<()> {
        loop {
            // Registered before looking, so that news between the look and the wait is not missed.
            let ledger = Arc::clone(&self.ledger);
            let news = ledger.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            self.show_up_to(wanted)?;
            if self.channel.in_flight().is_none() && self.shown == wanted {
                return Ok(());
            }
            tokio::select! {
                message = self.socket.next() => self.handle(message).await?,
                () = news => {}
                () = tokio::time::sleep(self.patience) => bail!(
                    "person {} waited {} s in vain: shown {:?}, wanted {wanted:?}, unanswered: {}",
                    self.agent, self.patience.as_secs(), self.shown, self.channel.in_flight().is_some()
                ),
            }
        }
    }

    /// Shows hidden edits as far as the trace lets this person see them, and as far as their author is known.
    fn show_up_to(&mut self, wanted: &[usize]) -> anyhow::Result<()> {
        while self.shown != wanted {
            let Some((resulting, arrived)) = self.arrived.front().copied() else {
                return Ok(());
            };
            let Some((agent, typed)) = self.ledger.who(resulting) else {
                return Ok(());
            };
            if self.shown[agent] == wanted[agent] {
                if (0..wanted.len()).any(|other| other != self.agent && self.shown[other] < wanted[other]) {
                    bail!(
                        "the trace shows edits of three or more people in an order that no single server order can give"
                    );
                }
                return Ok(());
            }
            self.arrived.pop_front();
            self.report
                .latencies_us
                .push(u64::try_from(arrived.saturating_duration_since(typed).as_micros()).unwrap_or(u64::MAX));
            let op = self.channel.show().expect("a hidden operation for each arrival");
            self.text.apply(&op)?;
            self.shown[agent] += 1;
        }
        Ok(())
    }

    /// Lets messages in until a moment comes.
    async fn wait_until(&mut self, moment: Instant) -> anyhow::Result<()> {
        while let Some(left) = moment
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            tokio::select! {
                message = self.socket.next() => self.handle(message).await?,
                () = tokio::time::sleep(left) => {}
            }
        }
        Ok(())
    }

    async fn submit(&mut self) -> anyhow::Result<()> {
        let in_flight = self.channel.in_flight().expect("just put there");
        let op = WaveletOp::MutateDocument {
            id: self.blip.clone(),
            op: in_flight.op.clone(),
        };
        let message = ClientMessage::Submit {
            wavelet: self.wavelet.clone(),
            session: self.session.clone(),
            sequence: self.sequence(),
            version: in_flight.version.number(),
            operations: vec![operation_to_message(&op)],
        };
        match self.socket.send(&message).await {
            Ok(()) => Ok(()),
            Err(_) => Box::pin(self.reconnect()).await,
        }
    }

    /// The number of the submission in flight.
    fn sequence(&self) -> u64 {
        self.report.deltas as u64 + 1
    }

    async fn handle(&mut self, message: anyhow::Result<ServerMessage>) -> anyhow::Result<()> {
        match message {
            Ok(ServerMessage::Delta { delta }) if delta.wavelet == self.wavelet => self.receive(delta),
            Ok(ServerMessage::Refused { text, reason, .. }) => {
                bail!("person {}: the server refused an edit ({reason:?}): {text}", self.agent)
            }
            Ok(ServerMessage::Error { text }) => bail!("person {}: {text}", self.agent),
            Ok(_) => Ok(()),
            Err(_) => self.reconnect().await,
        }
    }

    fn receive(&mut self, delta: DeltaMessage) -> anyhow::Result<()> {
        let ops = operations_from_messages(&delta)?;
        let resulting = delta.version + ops.len() as u64;
        if delta.version != self.channel.version().number() {
            bail!(
                "expected a delta at version {}, got one at {}",
                self.channel.version(),
                delta.version
            );
        }
        let mine = OwnSubmission {
            session: self.session.clone(),
            sequence: self.sequence(),
        };
        if delta.own == Some(mine) {
            self.channel.acknowledged(Version::new(resulting));
            self.ledger.enter(resulting, self.agent, self.typed);
            self.report.deltas += 1;
            self.shown[self.agent] += 1;
            return Ok(());
        }
        let arrived = Instant::now();
        let on_blip = blip_change(ops, &self.blip)?;
        if on_blip.is_some() {
            self.arrived.push_back((resulting, arrived));
        }
        Ok(self.channel.receive(on_blip, Version::new(resulting))?)
    }

    /// Takes the wave up again where it was left, and sends what is unanswered once more, unchanged.
    async fn reconnect(&mut self) -> anyhow::Result<()> {
        self.report.reconnects += 1;
        let give_up = Instant::now() + self.patience;
        loop {
            self.socket.reconnect(self.patience).await?;
            match self.reopen().await {
                Ok(()) => break,
                Err(error) if Instant::now() > give_up => return Err(error),
                // The server may have gone away again; that is what this command is for.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        if self.channel.in_flight().is_some() {
            Box::pin(self.submit()).await?;
        }
        Ok(())
    }

    async fn reopen(&mut self) -> anyhow::Result<()> {
        let known = vec![KnownWavelet {
            wavelet: self.wavelet.clone(),
            version: self.channel.version().number(),
        }];
        self.socket
            .send(&ClientMessage::Open {
                wave: self.wave.clone(),
                known,
            })
            .await?;
        loop {
            match self.socket.next_within(self.patience).await? {
                ServerMessage::Opened { .. } => return Ok(()),
                ServerMessage::Delta { delta } if delta.wavelet == self.wavelet => {
                    self.receive(delta)?;
                }
                ServerMessage::Snapshot { wavelet } if wavelet.wavelet == self.wavelet => {
                    bail!("the server no longer knows version {}", self.channel.version())
                }
                ServerMessage::NoWave { wave, .. } => bail!("the server no longer has {wave}"),
                _ => {}
            }
        }
    }
}

/// What a delta changes in one blip, as one operation.
fn blip_change(ops: Vec<WaveletOp>, blip: &DocumentId) -> anyhow::Result<Option<DocOp>> {
    let mut change: Option<DocOp> = None;
    for op in ops {
        if let WaveletOp::MutateDocument { id, op } = op
            && id == *blip
        {
            change = Some(match change {
                None => op,
                Some(before) => compose(&before, &op)?,
            });
        }
    }
    Ok(change)
}
