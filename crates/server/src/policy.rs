//! With which other domains this server talks: what the configuration says, what the administrator has decided since, and
//! how much each domain may do.
//!
//! The order, the first that says something about a domain counts:
//!
//! 1. what the administrator has decided at run time (`billow policy allow|block|ask`), the most exact pattern first;
//! 2. the lists `allow` and `deny` of `[federation.policy]`, the most exact pattern first, `deny` where both are equal;
//! 3. its `mode`.
//!
//! There is one door in each direction: [`Policy::inbound`], asked for every stanza, and [`Policy::outbound`], asked when
//! somebody is invited and when something is to be sent. What is refused is refused in words: those for the other side name
//! this server, those for our users name the domain.

mod limits;
mod pattern;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use billow_model::{Domain, ParticipantId, Timestamp, WaveletName};
use billow_store::{Store, StoreError, StoredDecision, Undecided};
use serde::Serialize;
use tokio::sync::watch;

pub use limits::PeerLimits;
pub use pattern::Pattern;

use crate::clock;
use crate::config::{Mode, PolicyConfig};
use limits::Hours;

/// Domains that may wait for a decision; more are refused and not noted.
const UNDECIDED_MAX: usize = 1_000;

/// What is done with a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// We talk.
    Allow,
    /// We do not.
    Block,
    /// We do not until the administrator has decided.
    Ask,
}

impl Verdict {
    /// As it is stored and typed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Ask => "ask",
        }
    }

    /// From what was stored or typed.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Allow, Self::Block, Self::Ask]
            .into_iter()
            .find(|verdict| verdict.word() == word)
    }
}

/// Everything that was decided, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyList {
    /// The mode of the configuration.
    pub mode: &'static str,
    /// Its lists.
    pub allow: Vec<String>,
    /// Its lists.
    pub deny: Vec<String>,
    /// What was decided at run time.
    pub decisions: Vec<DecisionRow>,
    /// The domains that wait.
    pub waiting: Vec<WaitingRow>,
}

/// A decision, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecisionRow {
    /// Which domains.
    pub pattern: String,
    /// What was decided.
    pub verdict: Verdict,
    /// When, in ms since 1970.
    pub since: i64,
}

/// A domain that waits for a decision, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitingRow {
    /// The domain.
    pub domain: String,
    /// Whether somebody here wants to reach it; otherwise it has spoken to us.
    pub wanted: bool,
    /// Since when, in ms since 1970.
    pub since: i64,
}

/// The policy of one of our domains. Cheap to clone.
#[derive(Clone)]
pub struct Policy {
    inner: Arc<Inner>,
}

struct Inner {
    local: Domain,
    config: PolicyConfig,
    store: Store,
    decisions: RwLock<BTreeMap<Pattern, (Verdict, Timestamp)>>,
    undecided: Mutex<BTreeMap<Domain, Undecided>>,
    hours: Mutex<Hours>,
    changed: watch::Sender<u64>,
}

impl Policy {
    /// The configuration's policy and what was decided since.
    pub async fn load(local: Domain, config: PolicyConfig, store: Store) -> Result<Self, StoreError> {
        let mut decisions = BTreeMap::new();
        for stored in store.decisions().await? {
            let read = (stored.pattern.parse().ok()).zip(Verdict::from_word(&stored.verdict));
            let Some((pattern, verdict)) = read else {
                let StoredDecision { pattern, verdict, .. } = stored;
                return Err(StoreError::Damaged(format!(
                    "nothing can be made of the decision {verdict:?} about {pattern:?}"
                )));
            };
            decisions.insert(pattern, (verdict, stored.since));
        }
        let undecided = store.undecided().await?;
        Ok(Self {
            inner: Arc::new(Inner {
                local,
                config,
                decisions: RwLock::new(decisions),
                undecided: Mutex::new(undecided.into_iter().map(|one| (one.domain.clone(), one)).collect()),
                store,
                hours: Mutex::default(),
                changed: watch::Sender::default(),
            }),
        })
    }

    /// What is done with a domain.
    #[must_use]
    pub fn verdict(&self, domain: &Domain) -> Verdict {
        self.said_of(domain).unwrap_or(self.otherwise())
    }

    /// What was said about a domain, whether at run time or in the lists.
    fn said_of(&self, domain: &Domain) -> Option<Verdict> {
        let decisions = self.inner.decisions.read().unwrap_or_else(PoisonError::into_inner);
        let decided = decisions.iter().filter(|(pattern, _)| pattern.matches(domain));
        if let Some((_, (verdict, _))) = decided.max_by_key(|(pattern, _)| pattern.rank()) {
            return Some(*verdict);
        }
        let rank = |list: &[Pattern]| {
            let matching = list.iter().filter(|pattern| pattern.matches(domain));
            matching.map(Pattern::rank).max()
        };
        match (rank(&self.inner.config.deny), rank(&self.inner.config.allow)) {
            (None, None) => None,
            (denied, allowed) if denied >= allowed => Some(Verdict::Block),
            _ => Some(Verdict::Allow),
        }
    }

    /// What is done with domains about which nothing was said.
    fn otherwise(&self) -> Verdict {
        match self.inner.config.mode {
            Mode::Open | Mode::Deny => Verdict::Allow,
            Mode::Allow => Verdict::Block,
            Mode::Ask => Verdict::Ask,
        }
    }

    /// The door in: whether a peer that speaks for these domains (its own name among them) is listened to, or what it is
    /// told. A name about which nothing was said is as good as the one above it, so that `wave.example.org` goes with
    /// `example.org`; for all that it says it must still be known to speak for that one.
    pub(crate) fn inbound(&self, domains: &BTreeSet<Domain>) -> Result<(), String> {
        // Behind another XMPP server, that server has our name.
        if domains.contains(&self.inner.local) {
            return Ok(());
        }
        let said = |domain: &Domain| self.said_of(domain).or_else(|| self.said_of(&above(domain)?));
        let verdicts: Vec<Verdict> = domains
            .iter()
            .map(|domain| said(domain).unwrap_or(self.otherwise()))
            .collect();
        if verdicts.contains(&Verdict::Allow) {
            return Ok(());
        }
        let Some((domain, verdict)) = domains.iter().zip(&verdicts).next() else {
            return Ok(());
        };
        let domain = match above(domain).filter(|_| domain.as_str().starts_with("wave.")) {
            Some(above) => above,
            None => domain.clone(),
        };
        if *verdict == Verdict::Ask {
            self.note_undecided(&domain, false);
        }
        Err(self.words_for_peer(&domain, *verdict))
    }

    /// Whether what an authenticated peer says for a domain, which it does speak for, is heard.
    pub(crate) fn hears(&self, domain: &Domain) -> bool {
        let verdict = self.verdict(domain);
        if verdict == Verdict::Ask {
            self.note_undecided(domain, false);
        }
        verdict == Verdict::Allow
    }

    /// The door out: whether a domain is spoken to, or what our users are told.
    pub(crate) fn outbound(&self, domain: &Domain) -> Result<(), String> {
        let Some(words) = self.refusal(domain) else {
            return Ok(());
        };
        if self.verdict(domain) == Verdict::Ask {
            self.note_undecided(domain, true);
        }
        Err(words)
    }

    /// Why our users cannot reach a domain, if that is so for our own reasons.
    pub(crate) fn refusal(&self, domain: &Domain) -> Option<String> {
        match self.verdict(domain) {
            _ if *domain == self.inner.local => None,
            Verdict::Allow => None,
            Verdict::Ask => Some(format!(
                "{domain} has to be allowed by your administrator first, who has been asked"
            )),
            Verdict::Block => Some(format!("{domain} is not allowed here by your administrator")),
        }
    }

    /// Whether nobody is refused, so that nobody need be looked at.
    pub(crate) fn is_open(&self) -> bool {
        let decisions = self.inner.decisions.read().unwrap_or_else(PoisonError::into_inner);
        let PolicyConfig { mode, deny, .. } = &self.inner.config;
        decisions.is_empty() && deny.is_empty() && matches!(mode, Mode::Open | Mode::Deny)
    }

    /// What a peer is told that may not speak, or whose user names a domain that may not.
    pub(crate) fn words_for_peer(&self, domain: &Domain, verdict: Verdict) -> String {
        let local = &self.inner.local;
        match verdict {
            Verdict::Ask => {
                format!("{domain} has to be allowed by the administrator of {local} first, who has been asked")
            }
            Verdict::Allow | Verdict::Block => format!("{domain} is not allowed by the administrator of {local}"),
        }
    }

    /// Whether a user may invite somebody of these domains, which are new here; if not, why.
    pub(crate) fn contacts(&self, user: &ParticipantId, domains: &BTreeSet<Domain>) -> Result<(), String> {
        let most = self.inner.config.limits.new_domains;
        self.hours()
            .contacts(user, domains, most, clock::tick())
            .map_err(|wait| too_many_domains(most, wait))
    }

    /// Whether a domain may begin another wavelet here; if not, why.
    pub(crate) fn new_wavelet(&self, name: &WaveletName) -> Result<(), String> {
        let (most, host) = (self.inner.config.limits.new_wavelets, name.host());
        match self.hours().new_wavelet(host, name, most, clock::tick()) {
            true => Ok(()),
            false => Err(format!(
                "{} takes {most} new wavelets of {host} an hour and no more",
                self.inner.local
            )),
        }
    }

    /// Whether so many more bytes of a domain are taken; if not, why.
    pub(crate) fn bytes(&self, domain: &Domain, bytes: usize) -> Result<(), String> {
        let most = self.inner.config.limits.bytes;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        match self.hours().bytes(domain, bytes, most, clock::tick()) {
            true => Ok(()),
            false => Err(format!(
                "{} takes {} megabytes of {domain} an hour and no more",
                self.inner.local,
                most >> 20
            )),
        }
    }

    /// Whether another domain's user may write here; if not, why.
    pub(crate) fn user(&self, user: &ParticipantId) -> Result<(), String> {
        let most = self.inner.config.limits.users;
        match self.hours().user(user, most, clock::tick()) {
            true => Ok(()),
            false => Err(format!(
                "{} takes what {most} users of {} write in an hour and no more",
                self.inner.local,
                user.domain()
            )),
        }
    }

    /// Whether a domain counts as known by configuration.
    pub(crate) fn is_known(&self, domain: &Domain) -> bool {
        self.inner.config.known.iter().any(|pattern| pattern.matches(domain))
    }

    /// Whether first contacts of unknown domains become requests.
    pub(crate) fn asks_users(&self) -> bool {
        self.inner.config.first_contact
    }

    /// Decides about domains; what waited for that waits no longer.
    pub async fn decide(&self, pattern: Pattern, verdict: Verdict) -> Result<(), StoreError> {
        let since = clock::now();
        let decided: Vec<Domain> = match verdict {
            Verdict::Ask => Vec::new(),
            Verdict::Allow | Verdict::Block => {
                let undecided = self.undecided();
                undecided
                    .keys()
                    .filter(|domain| pattern.matches(domain))
                    .cloned()
                    .collect()
            }
        };
        let stored = StoredDecision {
            pattern: pattern.to_string(),
            verdict: verdict.word().to_owned(),
            since,
        };
        self.inner.store.keep_decision(stored, decided.clone()).await?;
        self.undecided().retain(|domain, _| !decided.contains(domain));
        let mut decisions = self.inner.decisions.write().unwrap_or_else(PoisonError::into_inner);
        decisions.insert(pattern, (verdict, since));
        drop(decisions);
        self.inner.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Takes a decision back, so that the configuration counts again; whether there was one.
    pub async fn forget(&self, pattern: &Pattern) -> Result<bool, StoreError> {
        let was = self.inner.store.forget_decision(&pattern.to_string()).await?;
        let mut decisions = self.inner.decisions.write().unwrap_or_else(PoisonError::into_inner);
        decisions.remove(pattern);
        drop(decisions);
        self.inner.changed.send_modify(|count| *count += 1);
        Ok(was)
    }

    /// Everything that was decided and that waits.
    #[must_use]
    pub fn list(&self) -> PolicyList {
        let texts = |list: &[Pattern]| list.iter().map(ToString::to_string).collect();
        let config = &self.inner.config;
        let decisions = self.inner.decisions.read().unwrap_or_else(PoisonError::into_inner);
        let row = |(pattern, (verdict, since)): (&Pattern, &(Verdict, Timestamp))| DecisionRow {
            pattern: pattern.to_string(),
            verdict: *verdict,
            since: since.0,
        };
        let waiting = |one: &Undecided| WaitingRow {
            domain: one.domain.to_string(),
            wanted: one.wanted,
            since: one.since.0,
        };
        PolicyList {
            mode: config.mode.word(),
            allow: texts(&config.allow),
            deny: texts(&config.deny),
            decisions: decisions.iter().map(row).collect(),
            waiting: self.undecided().values().map(waiting).collect(),
        }
    }

    /// Counts the decisions as they are made.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    fn note_undecided(&self, domain: &Domain, wanted: bool) {
        let mut undecided = self.undecided();
        let noted = undecided.get(domain).is_some_and(|one| one.wanted || !wanted);
        if noted || undecided.len() >= UNDECIDED_MAX {
            return;
        }
        tracing::warn!(
            "{domain} waits for your decision: billow policy allow {domain}, or billow policy block {domain}"
        );
        let one = Undecided {
            domain: domain.clone(),
            wanted,
            since: clock::now(),
        };
        undecided.insert(domain.clone(), one.clone());
        drop(undecided);
        let store = self.inner.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.keep_undecided(one).await {
                tracing::warn!("a domain that waits for a decision cannot be noted now: {error}");
            }
        });
    }

    fn undecided(&self) -> MutexGuard<'_, BTreeMap<Domain, Undecided>> {
        self.inner.undecided.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hours(&self) -> MutexGuard<'_, Hours> {
        self.inner.hours.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("local", &self.inner.local)
            .field("mode", &self.inner.config.mode)
            .finish_non_exhaustive()
    }
}

/// The domain that a domain is below.
fn above(domain: &Domain) -> Option<Domain> {
    let (_, above) = domain.as_str().split_once('.')?;
    above.contains('.').then(|| above.parse().ok()).flatten()
}

fn too_many_domains(most: u32, wait: Duration) -> String {
    let minutes = wait.as_secs().div_ceil(60).max(1);
    let unit = if minutes == 1 { "minute" } else { "minutes" };
    format!(
        "you have invited people of {most} domains that are new here within an hour, and more are not allowed; \
         try again in {minutes} {unit}"
    )
}

#[cfg(test)]
mod tests;
