//! From a domain to the address of its wave service, and what that service runs (protocol.md §5.6, §5.7).
//!
//! A domain's own answers decide for that domain and for nothing else: an address speaks for a domain only if it is the
//! domain itself or our own discovery of the domain found it (T-08, B-085, B-086).
//!
//! Where a domain names no service, the last that is tried is the usual name, `wave.` before the domain. Below a suffix that
//! many share that name is anybody's, so it is only tried where the driver can have it prove that it is the domain's server
//! too ([`Output::Guess`], T-09), and never below a public suffix (B-087).

use std::collections::{BTreeMap, HashMap, VecDeque};

use billow_model::{Domain, Timestamp, planted};
use billow_xmpp::disco::{self, Identity, Info};
use billow_xmpp::{Element, Iq, IqKind, Jid};

use crate::ids::Ids;
use crate::ns;

/// How long an answer to disco#items is waited for before its answer about itself must do.
pub const ITEMS_TIMEOUT_MS: i64 = 10_000;
/// How long an answer to disco#info is waited for.
pub const INFO_TIMEOUT_MS: i64 = 20_000;
/// How long a found service is taken for granted.
pub const FOUND_MS: i64 = 2 * 3_600_000;
/// How long a domain without a service is left alone, unless it speaks.
pub const FAILED_MS: i64 = 5 * 60_000;
/// The same after silence, the first time: questions get lost when a peer restarts, and it need not speak afterwards.
/// Each further time it is twice as long.
pub const SILENT_MS: i64 = 30_000;
/// The reason of a failure if nobody answered.
const SILENCE: &str = "no answer";
/// How long a failure counts when a component of the domain speaks.
const CLAIM_AGAIN_MS: i64 = 10_000;
/// Most addresses that are asked what they are.
const MAX_CANDIDATES: usize = 10;
/// Most domains that one peer may have us look for in vain by speaking for them.
const CLAIMS_OF_PEER: usize = 10;
/// Most such domains of all peers.
const CLAIMS: usize = 200;
/// Most domains that one peer has truly spoken for before we asked for them.
const TRUE_CLAIMS_OF_PEER: usize = 1_000;
/// Most services of a domain that are kept in its record.
const RECORDED_ITEMS: usize = 20;
/// Suffixes below which anybody gets a name, besides the top-level domains and `co.uk` and its kin. No list of them is
/// whole; the certificate is what decides.
const SHARED_SUFFIXES: [&str; 16] = [
    "amazonaws.com",
    "azurewebsites.net",
    "blogspot.com",
    "dyndns.org",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "netlify.app",
    "ngrok.io",
    "no-ip.org",
    "pages.dev",
    "vercel.app",
    "web.app",
    "workers.dev",
    "duckdns.org",
];
/// Most questions whose late answers are still recognised.
const MAX_ASKED: usize = 1_000;

/// Where and what a domain's wave service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where stanzas go.
    pub jid: Jid,
    /// What it runs.
    pub software: Software,
}

/// What a wave service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    /// A Billow server: it takes several stanzas in flight and text beyond U+FFFF.
    Billow {
        /// It takes carets.
        presence: bool,
        /// It takes digests in commit notices.
        digest: bool,
    },
    /// Anything else is treated with the care that the reference needs.
    Legacy,
}

impl Software {
    /// Whether it is a Billow server.
    #[must_use]
    pub fn is_billow(self) -> bool {
        matches!(self, Self::Billow { .. })
    }
}

/// How the last search for a domain went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it began.
    pub began: Timestamp,
    /// The services that the domain named, after so many milliseconds; or why it named none.
    pub items: Option<(u32, Result<Vec<Jid>, String>)>,
    /// Who was asked what it is.
    pub candidates: Vec<Examined>,
    /// The usual name, if it was tried.
    pub guess: Option<Jid>,
    /// How it ended, if it has.
    pub outcome: Option<Outcome>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// Somebody who was asked what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Who.
    pub jid: Jid,
    /// What came of it, in words, after so many milliseconds.
    pub answer: Option<(u32, String)>,
    /// Whether it is a wave service.
    pub is_service: bool,
}

/// How a search ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With a service.
    Found(Service),
    /// Without; why.
    Failed(String),
}

/// What discovery is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// Somebody wants the service of a domain. Answered by [`Output::Found`] or [`Output::Failed`], at once if it is known.
    Find(Domain),
    /// An authenticated peer spoke for a domain, and it is not known that it may. It is looked for like any other, but a
    /// peer has only so many names looked for that lead nowhere.
    Claimed {
        /// Spoken for.
        domain: Domain,
        /// The XMPP domain that spoke.
        by: String,
    },
    /// An iq of type result or error. Those that are no answer to discovery are ignored (see [`Discovery::asked`]).
    Answer(Iq),
    /// No stanza gets to this XMPP domain now, so no answer will come from it.
    Unreachable {
        /// The XMPP domain; for a native peer the domain itself.
        host: String,
        /// For people.
        reason: String,
    },
    /// An operator wants the domain looked for now, whatever was found or not found before.
    Again(Domain),
    /// The domain has spoken to us: a failure to find it is forgotten and looked into again.
    Heard(Domain),
    /// The time that [`Discovery::deadline`] named has come.
    Tick,
}

/// What discovery wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this stanza.
    Send(Element),
    /// `host` is only guessed to serve `base`: from now on stanzas may go to it only if its certificate is good for both.
    Guess {
        /// The guess.
        host: Jid,
        /// Whose server it must prove to be too.
        base: Domain,
    },
    /// The guess was wrong: it need prove no more than its name.
    NoGuess {
        /// The guess.
        host: Jid,
    },
    /// The service of the domain.
    Found {
        /// Whose.
        domain: Domain,
        /// Which.
        service: Service,
    },
    /// The domain has none, or does not answer.
    Failed {
        /// Whose.
        domain: Domain,
        /// For people.
        reason: String,
        /// When it will be looked for again if somebody asks.
        retry_at: Timestamp,
    },
}

/// The machine. One for each of our domains, because the answers may differ by who asks.
#[derive(Debug)]
pub struct Discovery {
    own: Jid,
    ids: Ids,
    /// Whether the usual name is tried.
    guesses: bool,
    found_ms: i64,
    failed_ms: i64,
    entries: BTreeMap<Domain, Entry>,
    asked: HashMap<String, Asked>,
    asked_order: VecDeque<String>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Entry {
    /// The peer that spoke for it, if nobody of ours has wanted it.
    claimed_by: Option<String>,
    /// The last success; still used while it is looked for again.
    service: Option<(Service, Timestamp)>,
    search: Search,
    /// Searches in a row that nobody answered.
    silences: u32,
    record: Record,
    /// The usual name, if it was tried and is bound to this domain.
    guess: Option<Jid>,
}

#[derive(Debug)]
enum Search {
    /// Not under way.
    Idle,
    /// Under way.
    Running(Running),
    /// Ended without success.
    Failed {
        reason: String,
        retry_at: Timestamp,
        since: Timestamp,
    },
}

#[derive(Debug)]
struct Running {
    /// Until when a silent domain is waited for; `None`: that time is over.
    patience: Option<Timestamp>,
    /// Whether the items have come or were given up.
    items_done: bool,
    candidates: Vec<Candidate>,
    reason: String,
    /// Why there is no service but perhaps the guess.
    without_guess: Option<String>,
}

#[derive(Debug)]
struct Candidate {
    jid: Jid,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Waiting { by: Timestamp },
    Yes(Software),
    No,
}

#[derive(Debug, Clone)]
struct Asked {
    domain: Domain,
    to: Jid,
    items: bool,
}

impl Discovery {
    /// A discovery that knows nobody. `own` is the address that our stanzas come from.
    #[must_use]
    pub fn new(own: Jid, ids: Ids) -> Self {
        Self {
            own,
            ids,
            guesses: false,
            found_ms: FOUND_MS,
            failed_ms: FAILED_MS,
            entries: BTreeMap::new(),
            asked: HashMap::new(),
            asked_order: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The same, which tries the usual name last. The driver does what [`Output::Guess`] says.
    #[must_use]
    pub fn guessing(mut self) -> Self {
        self.guesses = true;
        self
    }

    /// The same with other lives of what was found and of what was not, in milliseconds.
    #[must_use]
    pub fn with_lives(mut self, found_ms: i64, failed_ms: i64) -> Self {
        (self.found_ms, self.failed_ms) = (found_ms, failed_ms);
        self
    }

    /// How the last search for a domain went.
    #[must_use]
    pub fn record(&self, domain: &Domain) -> Option<&Record> {
        self.entries.get(domain).map(|entry| &entry.record)
    }

    /// Tells the machine something.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Find(domain) => {
                if let Some(entry) = self.entries.get_mut(&domain) {
                    entry.claimed_by = None;
                }
                self.find(now, domain);
            }
            Input::Claimed { domain, by } => self.claimed(now, domain, by),
            Input::Answer(iq) => self.answered(now, &iq),
            Input::Heard(domain) => {
                if let Some(entry) = self.entries.get(&domain)
                    && matches!(entry.search, Search::Failed { .. })
                {
                    self.start(now, domain);
                }
            }
            Input::Again(domain) => {
                let running = self
                    .entries
                    .get(&domain)
                    .is_some_and(|entry| matches!(entry.search, Search::Running(_)));
                if !running {
                    self.start(now, domain);
                }
            }
            Input::Unreachable { host, reason } => self.give_up(now, |jid| jid.domain().as_str() == host, &reason),
            Input::Tick => self.tick(now),
        }
    }

    /// Asks for the next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the machine wants an [`Input::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let running = self.entries.values().filter_map(|entry| match &entry.search {
            Search::Running(running) => Some(running),
            _ => None,
        });
        running
            .flat_map(|running| {
                let candidates = running
                    .candidates
                    .iter()
                    .filter_map(|candidate| match candidate.answer {
                        Answer::Waiting { by } => Some(by),
                        _ => None,
                    });
                candidates.chain(running.patience)
            })
            .min()
    }

    /// Whether this answer is one to a question of discovery.
    #[must_use]
    pub fn asked(&self, iq: &Iq) -> bool {
        self.asked.get(&iq.id).is_some_and(|asked| asked.to == iq.from)
    }

    /// The service of a domain, if it was found.
    #[must_use]
    pub fn service(&self, domain: &Domain) -> Option<&Service> {
        self.entries
            .get(domain)
            .and_then(|entry| entry.service.as_ref())
            .map(|(service, _)| service)
    }

    /// Whether an authenticated address may speak for a domain.
    #[must_use]
    pub fn speaks_for(&self, jid: &Jid, domain: &Domain) -> bool {
        (jid.node().is_none() && jid.domain().as_str() == domain.as_str())
            || self.service(domain).is_some_and(|service| service.jid == *jid)
    }

    /// Whether the domain's service is being looked for, so that soon more will be known.
    #[must_use]
    pub fn is_looking_for(&self, domain: &Domain) -> bool {
        self.entries
            .get(domain)
            .is_some_and(|entry| matches!(entry.search, Search::Running(_)))
    }

    /// The domains for which an address speaks, as far as our own discovery knows.
    pub fn domains_of<'a>(&'a self, jid: &'a Jid) -> impl Iterator<Item = &'a Domain> {
        self.entries.keys().filter(move |domain| self.speaks_for(jid, domain))
    }

    fn find(&mut self, now: Timestamp, domain: Domain) {
        let known = self
            .entries
            .get(&domain)
            .map(|entry| (entry.service.clone(), &entry.search));
        match known {
            Some((Some((service, until)), search)) => {
                let again = now > until && matches!(search, Search::Idle);
                self.outputs.push_back(Output::Found {
                    domain: domain.clone(),
                    service,
                });
                if again {
                    self.start(now, domain);
                }
            }
            Some((None, Search::Running(_))) => {}
            Some((None, Search::Failed { reason, retry_at, .. })) if now < *retry_at => {
                let (reason, retry_at) = (reason.clone(), *retry_at);
                self.outputs.push_back(Output::Failed {
                    domain,
                    reason,
                    retry_at,
                });
            }
            _ => self.start(now, domain),
        }
    }

    /// Looks for a domain that a peer has spoken for, within bounds.
    fn claimed(&mut self, now: Timestamp, domain: Domain, by: String) {
        if let Some(entry) = self.entries.get(&domain) {
            // A component that speaks shows that its domain is there again, whatever was found a moment ago.
            let below = by
                .strip_suffix(domain.as_str())
                .is_some_and(|label| label.ends_with('.'));
            if below && matches!(entry.search, Search::Failed { since, .. } if now.0 >= since.0 + CLAIM_AGAIN_MS) {
                return self.start(now, domain);
            }
            return self.find(now, domain);
        }
        self.entries.retain(|_, entry| !entry.is_vain(now));
        let (mut right, mut open, mut open_of_all) = (0, 0, 0);
        for entry in self.entries.values() {
            let Some(peer) = &entry.claimed_by else { continue };
            let proved = entry.is_proved();
            open_of_all += usize::from(!proved);
            if *peer == by {
                *(if proved { &mut right } else { &mut open }) += 1;
            }
        }
        if right >= TRUE_CLAIMS_OF_PEER || open >= CLAIMS_OF_PEER || open_of_all >= CLAIMS {
            return;
        }
        self.start(now, domain.clone());
        if let Some(entry) = self.entries.get_mut(&domain) {
            entry.claimed_by = Some(by);
        }
    }

    /// Asks the domain for its items and, at the same time, what it is itself.
    fn start(&mut self, now: Timestamp, domain: Domain) {
        let Some(jid) = jid_of(&domain) else {
            return self.failed(now, &domain, format!("{domain} is no name that a server can have"));
        };
        self.ask(&domain, jid.clone(), true);
        let running = Running {
            patience: Some(now.later(ITEMS_TIMEOUT_MS)),
            items_done: false,
            candidates: Vec::new(),
            reason: SILENCE.into(),
            without_guess: None,
        };
        let entry = self.entries.entry(domain.clone()).or_insert_with(|| Entry {
            claimed_by: None,
            service: None,
            search: Search::Idle,
            silences: 0,
            record: Record::new(now),
            guess: None,
        });
        entry.search = Search::Running(running);
        entry.record = Record::new(now);
        self.candidate(now, &domain, jid);
    }

    fn ask(&mut self, domain: &Domain, to: Jid, items: bool) {
        let id = self.ids.fresh();
        let payload = if items {
            disco::items_request()
        } else {
            disco::info_request()
        };
        let iq = Iq::get(self.own.clone(), to.clone(), id.clone(), payload);
        self.outputs.push_back(Output::Send(iq.to_element()));
        self.asked.insert(
            id.clone(),
            Asked {
                domain: domain.clone(),
                to,
                items,
            },
        );
        self.asked_order.push_back(id);
        if self.asked_order.len() > MAX_ASKED
            && let Some(oldest) = self.asked_order.pop_front()
        {
            self.asked.remove(&oldest);
        }
    }

    /// Asks an address what it is, unless it is our own, was asked already, or too many were.
    fn candidate(&mut self, now: Timestamp, domain: &Domain, jid: Jid) {
        let Some(entry) = self.entries.get_mut(domain) else {
            return;
        };
        let Search::Running(running) = &mut entry.search else {
            return;
        };
        let known = running.candidates.iter().any(|candidate| candidate.jid == jid);
        if known || jid == self.own || running.candidates.len() >= MAX_CANDIDATES {
            return;
        }
        running.candidates.push(Candidate {
            jid: jid.clone(),
            answer: Answer::Waiting {
                by: now.later(INFO_TIMEOUT_MS),
            },
        });
        entry.record.candidates.push(Examined {
            jid: jid.clone(),
            answer: None,
            is_service: false,
        });
        self.ask(domain, jid, false);
    }

    fn answered(&mut self, now: Timestamp, iq: &Iq) {
        if !self.asked(iq) {
            return;
        }
        let Some(asked) = self.asked.remove(&iq.id) else { return };
        if asked.items {
            self.items_answered(now, &asked, iq);
        } else {
            self.info_answered(now, &asked, iq);
        }
        self.settle(now, &asked.domain);
    }

    fn items_answered(&mut self, now: Timestamp, asked: &Asked, iq: &Iq) {
        let Some(entry) = self.entries.get_mut(&asked.domain) else {
            return;
        };
        let Search::Running(running) = &mut entry.search else {
            return;
        };
        if std::mem::replace(&mut running.items_done, true) {
            return;
        }
        match &iq.kind {
            IqKind::Error(error) => {
                running.reason = error.to_string();
                entry.record.items(now, Err(running.reason.clone()));
            }
            IqKind::Result(Some(payload)) => {
                let mut items = disco::parse_items(payload).unwrap_or_default();
                items.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                entry
                    .record
                    .items(now, Ok(items.iter().take(RECORDED_ITEMS).cloned().collect()));
                for item in items {
                    self.candidate(now, &asked.domain, item);
                }
            }
            _ => {}
        }
    }

    fn info_answered(&mut self, now: Timestamp, asked: &Asked, iq: &Iq) {
        let software = match &iq.kind {
            IqKind::Result(Some(payload)) => Info::parse(payload).and_then(|info| software(&info)),
            _ => None,
        };
        let Some(entry) = self.entries.get_mut(&asked.domain) else {
            return;
        };
        entry
            .record
            .examined(now, &asked.to, software.is_some(), &info_in_words(iq));
        match &mut entry.search {
            Search::Running(running) => {
                if let IqKind::Error(error) = &iq.kind {
                    running.reason = error.to_string();
                } else if software.is_none() {
                    running.reason = format!("{} is no wave service", asked.to);
                }
                if let Some(candidate) = running
                    .candidates
                    .iter_mut()
                    .find(|candidate| candidate.jid == asked.to)
                {
                    candidate.answer = software.map_or(Answer::No, Answer::Yes);
                }
            }
            // Too late, but asked for. What was only a guess need prove nothing any longer, so its word counts no longer.
            Search::Failed { .. } => {
                let is_guess = entry.record.guess.as_ref() == Some(&asked.to);
                if let Some(software) = software.filter(|_| !is_guess) {
                    self.found(
                        now,
                        &asked.domain,
                        Service {
                            jid: asked.to.clone(),
                            software,
                        },
                    );
                }
            }
            Search::Idle => {}
        }
    }

    fn tick(&mut self, now: Timestamp) {
        for domain in self.entries.keys().cloned().collect::<Vec<_>>() {
            let Some(running) = self.entries.get_mut(&domain).and_then(Entry::running) else {
                continue;
            };
            running.patience = running.patience.filter(|until| now < *until);
            running.items_done |= running.patience.is_none();
            let mut silent = Vec::new();
            for candidate in &mut running.candidates {
                if matches!(candidate.answer, Answer::Waiting { by } if by <= now) {
                    candidate.answer = Answer::No;
                    silent.push(candidate.jid.clone());
                }
            }
            let items_silent = running.items_done;
            if let Some(entry) = self.entries.get_mut(&domain) {
                if items_silent && entry.record.items.is_none() {
                    entry.record.items(now, Err(SILENCE.to_owned()));
                }
                for jid in silent {
                    entry.record.examined(now, &jid, false, SILENCE);
                }
            }
            self.settle(now, &domain);
        }
    }

    /// Waits no longer for these addresses.
    fn give_up(&mut self, now: Timestamp, unreachable: impl Fn(&Jid) -> bool, reason: &str) {
        for domain in self.entries.keys().cloned().collect::<Vec<_>>() {
            let Some(entry) = self.entries.get_mut(&domain) else {
                continue;
            };
            let Search::Running(running) = &mut entry.search else {
                continue;
            };
            if jid_of(&domain).is_some_and(|jid| unreachable(&jid)) {
                running.items_done = true;
            }
            for candidate in &mut running.candidates {
                if matches!(candidate.answer, Answer::Waiting { .. }) && unreachable(&candidate.jid) {
                    candidate.answer = Answer::No;
                    running.reason = reason.to_owned();
                    entry.record.examined(now, &candidate.jid, false, reason);
                }
            }
            self.settle(now, &domain);
        }
    }

    /// Ends a search if it can be ended: the first candidate in order that is a service, once those before it are not.
    fn settle(&mut self, now: Timestamp, domain: &Domain) {
        let Some(running) = self.entries.get_mut(domain).and_then(Entry::running) else {
            return;
        };
        for candidate in &running.candidates {
            match candidate.answer {
                Answer::Yes(software) => {
                    let service = Service {
                        jid: candidate.jid.clone(),
                        software,
                    };
                    return self.found(now, domain, service);
                }
                // A silent domain does not hold up for ever the service that it has named.
                Answer::Waiting { .. }
                    if running.patience.is_some() || Some(&candidate.jid) != jid_of(domain).as_ref() =>
                {
                    return;
                }
                _ => {}
            }
        }
        if !running.items_done {
            return;
        }
        // A domain that stays silent is still listened to, but the guess does not wait for it.
        let itself = jid_of(domain);
        let waiting = |candidate: &Candidate| matches!(candidate.answer, Answer::Waiting { .. });
        let others = |candidate: &Candidate| waiting(candidate) && Some(&candidate.jid) != itself.as_ref();
        let may_guess = running.without_guess.is_none() && self.guesses;
        let guess = guess_for(domain).filter(|_| may_guess && !running.candidates.iter().any(others));
        match guess {
            Some(guess) if !running.candidates.iter().any(|candidate| candidate.jid == guess) && guess != self.own => {
                running.without_guess = Some(running.reason.clone());
                self.guess(now, domain, guess);
            }
            _ if running.candidates.iter().any(waiting) => {}
            _ => {
                let reason = std::mem::take(&mut running.reason);
                let reason = running.without_guess.take().unwrap_or(reason);
                self.failed(now, domain, reason);
            }
        }
    }

    /// Tries the usual name, which must prove that it is the domain's server.
    fn guess(&mut self, now: Timestamp, domain: &Domain, guess: Jid) {
        if let Some(entry) = self.entries.get_mut(domain) {
            entry.record.guess = Some(guess.clone());
            entry.guess = Some(guess.clone());
        }
        self.outputs.push_back(Output::Guess {
            host: guess.clone(),
            base: domain.clone(),
        });
        self.candidate(now, domain, guess);
    }

    /// The usual name is not the service of the domain, or no longer only by guess.
    fn drop_guess(&mut self, domain: &Domain, service: Option<&Jid>, is_guess: bool) {
        let Some(entry) = self.entries.get_mut(domain) else {
            return;
        };
        if is_guess && entry.guess.as_ref() == service {
            return;
        }
        if let Some(host) = entry.guess.take() {
            self.outputs.push_back(Output::NoGuess { host });
        }
    }

    fn found(&mut self, now: Timestamp, domain: &Domain, service: Service) {
        let mut by_guess = false;
        if let Some(entry) = self.entries.get_mut(domain) {
            entry.service = Some((service.clone(), now.later(self.found_ms)));
            entry.silences = 0;
            entry.search = Search::Idle;
            entry.record.end(now, Outcome::Found(service.clone()));
            by_guess = entry.record.guess.as_ref() == Some(&service.jid);
        }
        self.drop_guess(domain, Some(&service.jid), by_guess);
        self.outputs.push_back(Output::Found {
            domain: domain.clone(),
            service,
        });
    }

    fn failed(&mut self, now: Timestamp, domain: &Domain, reason: String) {
        self.drop_guess(domain, None, false);
        let mut retry_at = now.later(self.failed_ms);
        if let Some(entry) = self.entries.get_mut(domain) {
            if reason == SILENCE && !planted::is("a lost question leaves a peer alone") {
                let pause = SILENT_MS << entry.silences.min(4);
                entry.silences = entry.silences.saturating_add(1);
                retry_at = now.later(pause.min(self.failed_ms));
            }
            entry.record.end(now, Outcome::Failed(reason.clone()));
            entry.service = None;
            entry.search = Search::Failed {
                reason: reason.clone(),
                retry_at,
                since: now,
            };
        }
        self.outputs.push_back(Output::Failed {
            domain: domain.clone(),
            reason,
            retry_at,
        });
    }
}

impl Record {
    fn new(now: Timestamp) -> Self {
        Self {
            began: now,
            items: None,
            candidates: Vec::new(),
            guess: None,
            outcome: None,
            ended: None,
        }
    }

    fn since(&self, now: Timestamp) -> u32 {
        u32::try_from(now.0.saturating_sub(self.began.0)).unwrap_or(0)
    }

    fn items(&mut self, now: Timestamp, items: Result<Vec<Jid>, String>) {
        self.items = Some((self.since(now), items));
    }

    fn examined(&mut self, now: Timestamp, jid: &Jid, is_service: bool, words: &str) {
        let ms = self.since(now);
        if let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.jid == *jid) {
            candidate.is_service = is_service;
            candidate.answer = Some((ms, words.to_owned()));
        }
    }

    fn end(&mut self, now: Timestamp, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.ended = Some(now);
    }
}

impl Entry {
    /// Whether the peer that spoke for the domain is its service.
    fn is_proved(&self) -> bool {
        let service = self.service.as_ref().map(|(service, _)| service.jid.domain().as_str());
        self.claimed_by.is_some() && service == self.claimed_by.as_deref()
    }

    /// Whether only a peer's claim is the reason of it, which was not right and may be made anew.
    fn is_vain(&self, now: Timestamp) -> bool {
        let over = match (&self.search, &self.service) {
            (Search::Running(_), _) => false,
            (Search::Failed { retry_at, .. }, _) => *retry_at <= now,
            (Search::Idle, service) => service.as_ref().is_none_or(|(_, until)| *until < now),
        };
        over && self.claimed_by.is_some() && !self.is_proved()
    }

    fn running(&mut self) -> Option<&mut Running> {
        match &mut self.search {
            Search::Running(running) => Some(running),
            _ => None,
        }
    }
}

/// The address that is just the domain. Not every domain that can stand in a wave's name is one: labels may be too long
/// for the DNS, or look like the encoding of something that they do not decode to.
fn jid_of(domain: &Domain) -> Option<Jid> {
    Jid::new(domain.as_str()).ok()
}

/// The usual name of the wave service of a domain, where that is no more anybody's than the domain is.
fn guess_for(domain: &Domain) -> Option<Jid> {
    let labels: Vec<&str> = domain.as_str().split('.').collect();
    let registry = [
        "ac", "co", "com", "edu", "go", "gob", "gov", "mil", "ne", "net", "or", "org",
    ];
    let is_shared = match labels[..] {
        [] | [_] => true,
        [second, top] => top.len() == 2 && registry.contains(&second),
        _ => false,
    };
    if is_shared || SHARED_SUFFIXES.contains(&domain.as_str()) {
        return None;
    }
    Jid::new(&format!("wave.{domain}")).ok()
}

/// What somebody says that it is, for people.
fn info_in_words(iq: &Iq) -> String {
    match &iq.kind {
        IqKind::Error(error) => error.to_string(),
        IqKind::Result(Some(payload)) => match Info::parse(payload) {
            Some(info) => {
                let identities = info.identities.iter().take(3);
                let names: Vec<String> = identities
                    .map(|identity| format!("{}/{}", identity.category, identity.kind))
                    .collect();
                let what = if software(&info).is_some() {
                    "a wave service"
                } else {
                    "no wave service"
                };
                let text = format!("{what} ({})", names.join(", "));
                text.chars().filter(|c| !c.is_control()).take(200).collect()
            }
            None => "no answer to the question".to_owned(),
        },
        _ => "an empty answer".to_owned(),
    }
}

/// What a service announces; `None` if it is no wave service. Either sign counts: the feature or the identity (B-084).
fn software(info: &Info) -> Option<Software> {
    let identity = |identity: &Identity| {
        identity.category == "collaboration" && matches!(identity.kind.as_str(), "google-wave" | "apache-wave")
    };
    if !info.has(ns::WAVE) && !info.identities.iter().any(identity) {
        return None;
    }
    let (presence, digest) = (info.has(ns::PRESENCE), info.has(ns::DIGEST));
    Some(if presence || digest {
        Software::Billow { presence, digest }
    } else {
        Software::Legacy
    })
}

/// What we say we are.
#[must_use]
pub fn own_info(description: &str) -> Info {
    let identity = |kind: &str| Identity {
        category: "collaboration".into(),
        kind: kind.into(),
        name: Some(description.to_owned()),
    };
    Info {
        identities: vec![identity("apache-wave"), identity("google-wave")],
        features: [
            ns::WAVE,
            ns::PRESENCE,
            ns::DIGEST,
            billow_xmpp::ns::DISCO_INFO,
            billow_xmpp::ns::DISCO_ITEMS,
            billow_xmpp::ns::PING,
            billow_xmpp::ns::VERSION,
            billow_xmpp::ns::TIME,
            ns::REACH,
        ]
        .map(ToOwned::to_owned)
        .to_vec(),
    }
}

#[cfg(test)]
mod tests;
