//! Questions to another server and its answers: through our server if it runs, else through a net of our own that takes
//! its place for a moment. Answers come over the connection that the other server opens, so each of them also shows
//! that it reaches us.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use billow_federation::inbound::{self, Inbound, Surroundings};
use billow_net::{Net, NetConfig, NetEvent, NetHandle, StartError};
use billow_xmpp::{Domain, Element, Iq, IqKind, Jid};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::control;
use crate::federation::DESCRIPTION;

/// How long an answer is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a question.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// It was answered; `None`: with nothing, which is an answer.
    Given(Option<Element>),
    /// It was refused, in these words.
    Refused(String),
    /// Nothing came.
    Silence(String),
}

/// Somebody who can ask.
pub(super) enum Voice {
    /// Our server, which runs on this folder.
    Server(PathBuf),
    /// A net of our own.
    Own(Stand),
}

impl Voice {
    /// Asks a question (an `iq` of type `get`) and waits for the answer.
    pub(super) async fn ask(&self, to: &Jid, payload: Element) -> Answer {
        match self {
            Self::Server(folder) => through_server(folder, to, &payload).await,
            Self::Own(stand) => stand.ask(to, payload).await,
        }
    }
}

async fn through_server(folder: &std::path::Path, to: &Jid, payload: &Element) -> Answer {
    let body = json!({ "to": to.as_str(), "payload": String::from(payload) });
    let asked = async { control::Client::connect(folder).await?.post("/ask", &body).await };
    let answer = match asked.await {
        Ok(answer) => answer,
        Err(error) => return Answer::Silence(format!("{error:#}")),
    };
    let words = |key: &str| answer[key].as_str().map(str::to_owned);
    if let Some(reason) = words("refused") {
        return Answer::Refused(reason);
    }
    if let Some(reason) = words("silence") {
        return Answer::Silence(reason);
    }
    Answer::Given(words("answer").and_then(|xml| xml.parse().ok()))
}

/// A net that stands in for the server, answers what it is asked about itself, and takes in nothing.
pub(super) struct Stand {
    net: NetHandle,
    local: Domain,
    open: Arc<Open>,
    task: tokio::task::JoinHandle<()>,
}

/// The questions that are open, by their ids, and what is known of peers that are not reached.
#[derive(Default)]
struct Open {
    waiting: Mutex<HashMap<String, (Jid, oneshot::Sender<Answer>)>>,
    down: Mutex<HashMap<Domain, String>>,
}

impl Stand {
    /// Listens where the server would.
    pub(super) async fn start(config: NetConfig, local: Domain) -> Result<Self, StartError> {
        let (net, events) = Net::start(config).await?;
        let open = Arc::new(Open::default());
        let task = tokio::spawn(serve(net.clone(), local.clone(), events, open.clone()));
        Ok(Self { net, local, open, task })
    }

    async fn ask(&self, to: &Jid, payload: Element) -> Answer {
        let Ok(peer) = Domain::of(to) else {
            return Answer::Refused(format!("{to} is not the address of a server"));
        };
        let mut random = [0; 16];
        if let Err(error) = getrandom::fill(&mut random) {
            return Answer::Silence(format!("the system gives no random numbers: {error}"));
        }
        let id = hex::encode(random);
        let iq = Iq::get(self.local.to_jid(), to.clone(), id.clone(), payload);
        let (tell, told) = oneshot::channel();
        lock(&self.open.waiting).insert(id.clone(), (to.clone(), tell));
        if let Err(error) = self.net.send(&self.local, &peer, iq.to_element()) {
            return Answer::Silence(error.reason.to_string());
        }
        let answer = tokio::time::timeout(PATIENCE, told).await;
        lock(&self.open.waiting).remove(&id);
        match answer {
            Ok(Ok(answer)) => answer,
            _ => {
                let down = lock(&self.open.down).get(&peer).cloned();
                Answer::Silence(down.unwrap_or_else(|| format!("no answer within {} s", PATIENCE.as_secs())))
            }
        }
    }

    /// Takes leave.
    pub(super) async fn stop(self) {
        self.net.stop().await;
        self.task.abort();
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(net: NetHandle, local: Domain, mut events: mpsc::Receiver<NetEvent>, open: Arc<Open>) {
    let around = Around { own: local.to_jid() };
    while let Some(event) = events.recv().await {
        match event {
            NetEvent::Stanza { peer, element, .. } => {
                lock(&open.down).remove(&peer);
                match inbound::read(&peer, &element, &around) {
                    // Who gets no answer asks again, and then the server may be there.
                    Inbound::Reply(reply) => drop(net.send(&local, &peer, reply)),
                    Inbound::Clock(ask) => drop(net.send(&local, &peer, ask.clock(clock::now()))),
                    Inbound::Answer(iq) => open.answered(iq),
                    _ => {}
                }
            }
            NetEvent::Unreachable { peer, reason, .. } => {
                lock(&open.down).insert(peer.clone(), reason.clone());
                open.give_up(&peer, &reason);
            }
            NetEvent::Contact { .. }
            | NetEvent::Connected { .. }
            | NetEvent::Heard { .. }
            | NetEvent::KeyShown { .. } => {}
            NetEvent::Bounced { peer, reason, .. } => open.give_up(&peer, &reason.to_string()),
        }
    }
}

impl Open {
    fn answered(&self, iq: Iq) {
        let mut waiting = lock(&self.waiting);
        if waiting.get(&iq.id).is_none_or(|(to, _)| *to != iq.from) {
            return;
        }
        if let Some((_, tell)) = waiting.remove(&iq.id) {
            // Who asked may have given up.
            let _ = tell.send(Answer::of(iq));
        }
    }

    fn give_up(&self, peer: &Domain, reason: &str) {
        let mut waiting = lock(&self.waiting);
        let at_peer = |to: &Jid| Domain::of(to).is_ok_and(|domain| domain == *peer);
        for (_, (_, tell)) in waiting.extract_if(|_, (to, _)| at_peer(to)) {
            let _ = tell.send(Answer::Silence(reason.to_owned()));
        }
    }
}

impl Answer {
    fn of(iq: Iq) -> Self {
        match iq.kind {
            IqKind::Error(error) => Self::Refused(error.to_string()),
            IqKind::Result(payload) => Self::Given(payload),
            IqKind::Get(_) | IqKind::Set(_) => Self::Silence("a question came back".to_owned()),
        }
    }
}

/// What is known here while nothing but questions is taken in.
struct Around {
    own: Jid,
}

impl Surroundings for Around {
    fn is_ours(&self, jid: &Jid) -> bool {
        *jid == self.own
    }

    fn speaks_for(&self, jid: &Jid, domain: &billow_model::Domain) -> bool {
        jid.as_str() == domain.as_str()
    }

    fn takes_part(&self, _: &billow_model::Domain) -> bool {
        false
    }

    fn description(&self) -> &str {
        DESCRIPTION
    }
}
