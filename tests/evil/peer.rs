//! A server that says what it is told to say: the streams, stanzas and keys are real, the manners are the script's.
//!
//! By itself it answers what makes others talk to it (disco), takes in and receipts what it is told of others' wavelets,
//! and gives the histories and chains that it was given to whoever asks. Everything else a test says with
//! [`Peer::ask`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use billow_federation::inbound::{self, Inbound};
use billow_federation::stanza::{history, signer, submit, update};
use billow_federation::{FederationError, ns};
use billow_model::{Delta, Domain, HashedVersion, WaveletName, WaveletOp};
use billow_net::{LocalDomain, Net, NetConfig, NetEvent, NetHandle, NetLimits, ResolverChoice, TlsRoots};
use billow_signing::Signer;
use billow_wire::exchange::{HistoryRequest, HistoryResponse, SignerRequest, SubmitResponse};
use billow_wire::{AppliedDelta, Encoded, Signature, SignedDelta, SignerId, SignerInfo};
use billow_xmpp::{Element, Iq, IqKind, Jid, StanzaError, element};
use bytes::Bytes;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use tokio::sync::mpsc;

use super::chain::{Chain, sign_at};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server under the test's control.
pub(crate) struct Peer {
    pub(crate) domain: Domain,
    pub(crate) signer: Signer,
    key: PKey<Private>,
    pub(crate) jid: Jid,
    pub(crate) net: NetHandle,
    host: billow_xmpp::Domain,
    victim: Jid,
    ids: AtomicU64,
    seen: Arc<Mutex<Seen>>,
}

/// What others have said to it, and what it says to them.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    answers: HashMap<String, Answer>,
    /// Wavelets of others, as their hosts tell them.
    copies: HashMap<WaveletName, Chain>,
    /// What it gives to those who ask for history.
    pub(crate) histories: HashMap<WaveletName, Vec<Encoded<AppliedDelta>>>,
    /// What it gives to those who ask for a chain.
    pub(crate) signers: HashMap<SignerId, SignerInfo>,
    /// The wavelets whose history it was asked for.
    pub(crate) asked_history: Vec<WaveletName>,
    /// Why its streams to the victim broke.
    pub(crate) broken: Vec<String>,
    /// Reads nothing that is sent to it, as long as this is so.
    pub(crate) deaf: bool,
    /// The signers whose chain it was asked for.
    pub(crate) asked_signers: Vec<SignerId>,
}

/// What was said to a stanza.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// A result.
    Result(Option<Element>),
    /// A receipt.
    Receipt,
    /// An error.
    Refused(StanzaError),
}

/// How a peer gets into the world.
pub(crate) struct Start<'a> {
    pub(crate) name: &'a str,
    pub(crate) chain_pem: Vec<u8>,
    pub(crate) key_pem: Vec<u8>,
    pub(crate) roots_pem: Vec<u8>,
    pub(crate) nameserver: std::net::SocketAddr,
    pub(crate) victim: &'a str,
}

impl Seen {
    /// A wavelet of others as it was told.
    pub(crate) fn copy_of(&self, name: &WaveletName) -> Chain {
        self.copies.get(name).unwrap().clone()
    }
}

impl Peer {
    pub(crate) async fn start(start: Start<'_>) -> Self {
        let host: billow_xmpp::Domain = start.name.parse().unwrap();
        let domain: Domain = start.name.parse().unwrap();
        let signer = Signer::from_pem(domain.clone(), &start.key_pem, &start.chain_pem).unwrap();
        let key = PKey::private_key_from_pem(&start.key_pem).unwrap();
        let config = NetConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            domains: vec![LocalDomain {
                domain: host.clone(),
                chain_pem: start.chain_pem,
                key_pem: start.key_pem,
            }],
            roots: TlsRoots {
                system: false,
                extra_pem: start.roots_pem,
                ..TlsRoots::default()
            },
            resolver: ResolverChoice::Servers(vec![start.nameserver]),
            allow_private_addresses: true,
            limits: NetLimits {
                backoff_cap: Duration::from_millis(300),
                ..NetLimits::default()
            },
            ..NetConfig::default()
        };
        let (net, events) = Net::start(config).await.unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        lock(&seen).signers.insert(signer.id().clone(), signer.info().clone());
        let jid = Jid::new(start.name).unwrap();
        tokio::spawn(listen(
            events,
            net.clone(),
            Manners {
                jid: jid.clone(),
                host: host.clone(),
            },
            seen.clone(),
        ));
        Self {
            domain,
            signer,
            key,
            jid,
            net,
            host,
            victim: Jid::new(start.victim).unwrap(),
            ids: AtomicU64::new(1),
            seen,
        }
    }

    /// What it has heard, and what it says.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// An id that no other stanza of it has.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}", self.domain, self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Its signature under anything, which its [`Signer`] would not give: the author may be anybody's.
    pub(crate) fn forge(&self, delta: Encoded<Delta>) -> Encoded<SignedDelta> {
        let mut hand = openssl::sign::Signer::new(MessageDigest::sha1(), &self.key).unwrap();
        let signature = Signature {
            bytes: hand.sign_oneshot_to_vec(delta.bytes()).unwrap().into(),
            signer: self.signer.id().clone(),
        };
        Encoded::new(SignedDelta {
            delta,
            signatures: vec![signature],
        })
    }

    /// Sends a stanza as it is.
    pub(crate) fn send(&self, stanza: Element) {
        let victim = billow_xmpp::Domain::of(&self.victim).unwrap();
        self.net.send(&self.host, &victim, stanza).unwrap();
    }

    /// Sends a stanza as soon as there is room for it on the way.
    pub(crate) async fn send_when_room(&self, stanza: &Element) {
        let victim = billow_xmpp::Domain::of(&self.victim).unwrap();
        while self.net.send(&self.host, &victim, stanza.clone()).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Sends many stanzas as fast as they are taken, and gives the answers. Who asks faster than it reads does not get all
    /// of them: most must come.
    pub(crate) async fn flood(&self, stanzas: Vec<Element>) -> Vec<Answer> {
        let victim = billow_xmpp::Domain::of(&self.victim).unwrap();
        let mut waiting: Vec<String> = Vec::new();
        for mut stanza in stanzas {
            waiting.push(stanza.attr("id").unwrap().to_owned());
            while let Err(full) = self.net.send(&self.host, &victim, stanza) {
                stanza = *full.stanza;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let (asked, mut answers, mut last) = (waiting.len(), Vec::new(), Instant::now());
        while !waiting.is_empty() && last.elapsed() < Duration::from_secs(5) {
            let before = answers.len();
            waiting.retain(|id| match self.seen().answers.remove(id) {
                Some(answer) => {
                    answers.push(answer);
                    false
                }
                None => true,
            });
            if answers.len() > before {
                last = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(answers.len() * 2 > asked, "{} answers to {asked}", answers.len());
        answers
    }

    /// Sends a stanza and waits for the answer to its id.
    pub(crate) async fn ask(&self, stanza: Element) -> Answer {
        let id = stanza.attr("id").unwrap().to_owned();
        self.send(stanza);
        self.until("an answer", |seen| seen.answers.remove(&id)).await
    }

    /// The answer to a stanza that was sent before.
    pub(crate) async fn answer_to(&self, id: &str) -> Answer {
        self.until("an answer", |seen| seen.answers.remove(id)).await
    }

    /// Waits until something was seen.
    pub(crate) async fn until<T>(&self, what: &str, mut wanted: impl FnMut(&mut Seen) -> Option<T>) -> T {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = wanted(&mut self.seen()) {
                return found;
            }
            assert!(Instant::now() < give_up, "{} waits in vain for {what}", self.domain);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether a stanza of that id was answered so far.
    pub(crate) fn has_answer(&self, id: &str) -> bool {
        self.seen().answers.contains_key(id)
    }

    /// Whether a message of that id got its receipt.
    pub(crate) fn was_receipted(&self, id: &str) -> bool {
        self.seen().answers.get(id) == Some(&Answer::Receipt)
    }

    /// A question to the victim.
    pub(crate) fn get(&self, payload: Element) -> Element {
        Iq::get(self.jid.clone(), self.victim.clone(), self.id(), payload).to_element()
    }

    /// An order to the victim.
    pub(crate) fn set(&self, payload: Element) -> Element {
        Iq::set(self.jid.clone(), self.victim.clone(), self.id(), payload).to_element()
    }

    /// Posts a chain.
    pub(crate) async fn post_signer(&self, info: &SignerInfo) -> Answer {
        self.ask(self.set(signer::post(info))).await
    }

    /// Asks for a chain.
    pub(crate) async fn get_signer(&self, request: &SignerRequest) -> Answer {
        self.ask(self.get(signer::get(request))).await
    }

    /// Asks for history.
    pub(crate) async fn history(&self, name: &WaveletName, from: &HashedVersion, to: &HashedVersion) -> Answer {
        let request = HistoryRequest {
            name: name.clone(),
            from: from.clone(),
            to: to.clone(),
            limit: None,
        };
        self.ask(self.get(history::request(&request))).await
    }

    /// Submits bytes, whatever they are.
    pub(crate) async fn submit(&self, name: &WaveletName, signed: &[u8]) -> Answer {
        self.ask(self.set(submission(name, signed))).await
    }

    /// Sends an update of applied deltas, whatever their bytes are.
    pub(crate) async fn update(&self, name: &WaveletName, deltas: &[Bytes], commit: Option<&HashedVersion>) -> Answer {
        self.ask(self.update_stanza(name, deltas, commit)).await
    }

    /// The message of an update.
    pub(crate) fn update_stanza(
        &self,
        name: &WaveletName,
        deltas: &[Bytes],
        commit: Option<&HashedVersion>,
    ) -> Element {
        let outgoing = update::Outgoing {
            name,
            deltas,
            commit,
            digest: None,
        };
        update::message(self.jid.clone(), self.victim.clone(), self.id(), &outgoing).to_element()
    }

    /// The message of a commit notice with a digest.
    pub(crate) fn digest_stanza(&self, name: &WaveletName, at: &HashedVersion, digest: [u8; 32]) -> Element {
        let outgoing = update::Outgoing {
            name,
            deltas: &[],
            commit: Some(at),
            digest: Some(digest),
        };
        update::message(self.jid.clone(), self.victim.clone(), self.id(), &outgoing).to_element()
    }

    /// What it was told of a wavelet, once that reaches a version.
    pub(crate) async fn copy(&self, name: &WaveletName, version: u64) -> Chain {
        self.until("an update", |seen| {
            let copy = seen.copies.get(name)?;
            (copy.head.version.number() >= version).then(|| copy.clone())
        })
        .await
    }

    /// Submits a good delta of a user of its own to a wavelet of the victim's; the version after it.
    pub(crate) async fn writes(&self, name: &WaveletName, author: &str, ops: Vec<WaveletOp>) -> SubmitResponse {
        let head = self.seen().copies.get(name).unwrap().head.clone();
        let signed = sign_at(&self.signer, &head, author, ops);
        let response = self.submit(name, signed.bytes()).await.submitted();
        self.copy(name, response.resulting.version.number()).await;
        response
    }
}

impl Answer {
    /// It is a refusal of that condition with those words in its text.
    #[track_caller]
    pub(crate) fn refused(&self, condition: &str, words: &str) {
        let Self::Refused(error) = self else {
            panic!("expected a refusal, got {self:?}");
        };
        let text = error.text.clone().unwrap_or_default();
        assert!(
            error.condition.name() == condition && text.contains(words),
            "expected {condition} with {words:?}, got {error}"
        );
    }

    /// It is a refusal with some reason.
    #[track_caller]
    pub(crate) fn refused_somehow(&self) -> String {
        match self {
            Self::Refused(error) if error.text.as_ref().is_some_and(|text| !text.is_empty()) => error.to_string(),
            other => panic!("expected a refusal with a reason, got {other:?}"),
        }
    }

    /// It is the answer to a submission that was applied.
    #[track_caller]
    pub(crate) fn submitted(&self) -> SubmitResponse {
        match self {
            Self::Result(Some(payload)) => submit::parse_response(payload).unwrap(),
            other => panic!("expected the delta to be applied, got {other:?}"),
        }
    }

    /// It is the answer to a request for history.
    #[track_caller]
    pub(crate) fn history(&self) -> HistoryResponse {
        match self {
            Self::Result(Some(payload)) => history::parse_response(payload).unwrap(),
            other => panic!("expected history, got {other:?}"),
        }
    }
}

/// The payload of a submission.
pub(crate) fn submission(name: &WaveletName, signed: &[u8]) -> Element {
    let delta = element("delta", ns::WAVE)
        .attr("wavelet-name", name.to_uri())
        .text(base64(signed));
    let request = element("submit-request", ns::WAVE).child(delta);
    let publish = element("publish", ns::PUBSUB)
        .attr("node", "wavelet")
        .child(element("item", ns::PUBSUB).child(request));
    element("pubsub", ns::PUBSUB).child(publish).done()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes of a signed delta with one letter of its text changed.
pub(crate) fn with_another_letter(signed: &Encoded<SignedDelta>, text: &str) -> Vec<u8> {
    let mut bytes = signed.bytes().to_vec();
    let at = bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes())
        .unwrap();
    bytes[at] ^= 1;
    bytes
}

/// How a peer answers by itself.
struct Manners {
    jid: Jid,
    host: billow_xmpp::Domain,
}

impl inbound::Surroundings for Manners {
    fn is_ours(&self, jid: &Jid) -> bool {
        *jid == self.jid
    }

    fn speaks_for(&self, jid: &Jid, domain: &Domain) -> bool {
        jid.as_str() == domain.as_str()
    }

    fn takes_part(&self, _domain: &Domain) -> bool {
        true
    }

    fn description(&self) -> &str {
        "a peer in a test"
    }
}

async fn listen(mut events: mpsc::Receiver<NetEvent>, net: NetHandle, manners: Manners, seen: Arc<Mutex<Seen>>) {
    while let Some(event) = events.recv().await {
        while lock(&seen).deaf {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (peer, element) = match event {
            NetEvent::Stanza { peer, element, .. } => (peer, element),
            NetEvent::Unreachable { reason, .. } => {
                lock(&seen).broken.push(reason);
                continue;
            }
            _ => continue,
        };
        if let Some(reply) = hear(&mut lock(&seen), inbound::read(&peer, &element, &manners)) {
            // The world may be ending.
            let _ = net.send(&manners.host, &peer, reply);
        }
    }
}

/// Takes note of a stanza; the answer to it, if there is one.
fn hear(seen: &mut Seen, said: Inbound) -> Option<Element> {
    match said {
        Inbound::Updates(updates) => {
            for update in &updates.updates {
                let update = update.get();
                let copy = seen.copies.entry(update.name.clone());
                let copy = copy.or_insert_with(|| Chain::new(update.name.clone()));
                update.deltas.iter().for_each(|applied| copy.push(applied.clone()));
            }
            updates.receipt()
        }
        Inbound::History(ask, request) => {
            seen.asked_history.push(request.name.clone());
            let deltas = seen.histories.get(&request.name).cloned().unwrap_or_default();
            let deltas = deltas
                .into_iter()
                .filter(|delta| delta.applied_at().version >= request.from.version);
            Some(ask.history(&HistoryResponse {
                deltas: deltas.collect(),
                committed: None,
                truncated: None,
            }))
        }
        Inbound::GetSigner(ask, request) => {
            seen.asked_signers.push(request.signer.clone());
            Some(match seen.signers.get(&request.signer) {
                Some(info) => ask.signer(info),
                None => ask.refuse(&FederationError::bad_request("Unknown signer info")),
            })
        }
        Inbound::PostSigner(ask, _) => Some(ask.signer_stored()),
        Inbound::Submit(ask, _) => Some(ask.refuse(&FederationError::bad_request("not today"))),
        Inbound::Answer(Iq { id, kind, .. }) => {
            let answer = match kind {
                IqKind::Error(error) => Answer::Refused(error),
                IqKind::Result(payload) => Answer::Result(payload),
                IqKind::Get(_) | IqKind::Set(_) => return None,
            };
            seen.answers.insert(id, answer);
            None
        }
        Inbound::Receipt(_, id) => {
            seen.answers.insert(id, Answer::Receipt);
            None
        }
        Inbound::Bounced(_, id, error) => {
            seen.answers.insert(id, Answer::Refused(error));
            None
        }
        Inbound::Reply(reply) => Some(reply),
        Inbound::Presence(..) | Inbound::Reach(_) | Inbound::Clock(_) | Inbound::Ignored(_) => None,
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
