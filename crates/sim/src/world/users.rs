//! The users: what they edit, against what they have seen, and how they insist until they have an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use billow_model::conversation::{self, Place};
use billow_model::doc::edit;
use billow_model::{DocOp, Document, DocumentId, ParticipantId, Version, Wavelet, WaveletName, WaveletOp};
use billow_wavelet::hosted::Applied;
use billow_wavelet::{Refusal, Submission};

use super::{Happening, World};
use crate::Event;
use crate::dice::Dice;
use crate::generators::{self, Random};
use crate::keys;

/// States of a wavelet that users still edit against.
const SEEN: usize = 4;
const TEXTS: [&str; 6] = ["a", "word ", "😀", "日本", "\u{fb00}x", "longer text "];

/// All users and what they have seen.
pub(super) struct Users {
    pub(super) all: Vec<User>,
    pub(super) waves: BTreeSet<WaveletName>,
    /// The latest states that were shown, by server.
    seen: BTreeMap<(usize, WaveletName), VecDeque<Wavelet>>,
    tickets: BTreeMap<u64, (usize, WaveletName)>,
    next: u64,
    /// Submissions that are still to be made.
    left: usize,
    /// Waves that may be made.
    waves_max: usize,
    /// The pause between two edits, at most, ms.
    pace: i64,
    /// Whether some text is long.
    bulky: bool,
}

/// Somebody at an editor.
pub(super) struct User {
    pub(super) server: usize,
    pub(super) author: ParticipantId,
    session: Arc<str>,
    sequences: BTreeMap<WaveletName, u64>,
    under_way: BTreeMap<WaveletName, UnderWay>,
}

/// A submission without an answer.
struct UnderWay {
    /// Under which it was submitted; `None`: it is to be submitted again.
    ticket: Option<u64>,
    submission: Submission,
    version: Version,
    ops: Vec<WaveletOp>,
}

impl Users {
    pub(super) fn draw(dice: &mut Dice, servers: &[usize]) -> Self {
        let mut all = Vec::new();
        for (server, index) in servers.iter().enumerate() {
            let least = usize::from(server == 0);
            for number in 0..least + dice.below(5) {
                // The last one is the first one's other device.
                let name = if number == 3 { 0 } else { number };
                let author = format!("user{name}@{}", keys::DOMAINS[*index]);
                all.push(User {
                    server,
                    author: author.parse().expect("it is an address"),
                    session: format!("s{server}.{number}").into(),
                    sequences: BTreeMap::new(),
                    under_way: BTreeMap::new(),
                });
            }
        }
        Self {
            all,
            waves: BTreeSet::new(),
            seen: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next: 0,
            left: 20 + dice.below(*dice.clone().pick(&[30, 100, 300]).unwrap_or(&100)),
            waves_max: 1 + dice.below(4),
            pace: *dice.pick(&[60, 400, 3_000]).unwrap_or(&400),
            bulky: dice.percent(6),
        }
    }

    /// A state was shown at a server.
    pub(super) fn see(&mut self, server: usize, wavelet: &Wavelet, dice: &mut Dice) {
        let seen = self.seen.entry((server, wavelet.name().clone())).or_default();
        if seen.back().is_some_and(|last| last.version() >= wavelet.version()) {
            return;
        }
        if dice.percent(40) {
            seen.pop_back();
        }
        seen.push_back(wavelet.clone());
        if seen.len() > SEEN {
            seen.pop_front();
        }
        self.waves.insert(wavelet.name().clone());
    }

    pub(super) fn dropped(&mut self, ticket: u64) {
        if let Some((user, name)) = self.tickets.remove(&ticket)
            && let Some(under_way) = self.all[user].under_way.get_mut(&name)
        {
            under_way.ticket = None;
        }
    }

    /// Nobody there will answer: everything is submitted again.
    pub(super) fn server_crashed(&mut self, server: usize) {
        for user in self.all.iter_mut().filter(|user| user.server == server) {
            user.under_way
                .values_mut()
                .for_each(|under_way| under_way.ticket = None);
        }
        let all = &self.all;
        self.tickets.retain(|_, (user, _)| all[*user].server != server);
    }

    /// Somebody who waits for an answer; what the hostile server is asked may never have one.
    pub(super) fn waiting(&self, evil: Option<usize>) -> Option<String> {
        let honest = self.all.iter().filter(|user| Some(user.server) != evil);
        for user in honest {
            let hostile = |name: &WaveletName| evil.is_some() && name.host().as_str() == keys::DOMAINS[keys::EVIL];
            if let Some((name, waits)) = user.under_way.iter().find(|(name, _)| !hostile(name)) {
                return Some(format!("{} waits for {:?} on {name}", user.author, waits.submission));
            }
        }
        None
    }
}

impl World {
    /// A user insists, or does something new.
    pub(super) fn user(&mut self, index: usize) {
        let server = self.users.all[index].server;
        if self.servers[server].node.is_some() {
            let again = self.users.all[index]
                .under_way
                .iter()
                .find(|(_, under_way)| under_way.ticket.is_none());
            if let Some(name) = again.map(|(name, _)| name.clone()) {
                self.count("resent");
                self.submit(index, &name);
            } else if self.users.left > 0 && self.healed_at.is_none() {
                self.edit(index);
            }
        }
        if self.users.left == 0 && !self.ending {
            self.ending = true;
            let delay = self.dice.between(0, 20_000);
            self.after(delay, Happening::Heal);
        }
        let busy = !self.users.all[index].under_way.is_empty();
        if self.healed_at.is_none() || busy {
            let pause = if self.users.left > 0 { self.users.pace } else { 2_000 };
            let pause = self.dice.between(pause / 10 + 1, pause);
            self.after(pause, Happening::User(index));
        }
    }

    fn edit(&mut self, index: usize) {
        let server = self.users.all[index].server;
        let few = self.users.waves.len() < self.users.waves_max;
        let known: Vec<WaveletName> = {
            let mine = self.users.seen.keys().filter(|(one, _)| *one == server);
            mine.map(|(_, name)| name.clone()).collect()
        };
        let made = self.users.next;
        let (name, version, ops) = if known.is_empty() || (few && self.dice.percent(8)) {
            if !few {
                return;
            }
            let domain = self.servers[server].config.domain.clone();
            let text = format!("{domain}/w+{made}/~/conv+root");
            let name: WaveletName = text.parse().expect("it is a name");
            (name, Version::ZERO, self.beginning(index))
        } else {
            let name = self.dice.pick(&known).cloned().expect("there is one");
            let seen = &self.users.seen[&(server, name.clone())];
            let base = seen[seen.len() - 1 - self.dice.below(seen.len()).min(self.dice.below(seen.len()))].clone();
            let Some(ops) = self.change(index, &name, &base) else {
                return;
            };
            (name, base.version(), ops)
        };
        let user = &mut self.users.all[index];
        if user.under_way.contains_key(&name) {
            return;
        }
        let sequence = user.sequences.entry(name.clone()).or_default();
        *sequence += 1;
        let submission = Submission {
            session: user.session.clone(),
            sequence: *sequence,
        };
        let under_way = UnderWay {
            ticket: None,
            submission,
            version,
            ops,
        };
        user.under_way.insert(name.clone(), under_way);
        self.users.left -= 1;
        self.count("submissions");
        self.submit(index, &name);
    }

    /// Submits what is under way, for the first time or again.
    fn submit(&mut self, index: usize, name: &WaveletName) {
        self.users.next += 1;
        let ticket = self.users.next;
        let user = &mut self.users.all[index];
        let (server, author) = (user.server, user.author.clone());
        let Some(under_way) = user.under_way.get_mut(name) else {
            return;
        };
        under_way.ticket = Some(ticket);
        let event = Event::Submit {
            ticket,
            wavelet: name.clone(),
            author: author.clone(),
            submission: under_way.submission.clone(),
            version: under_way.version,
            ops: under_way.ops.clone(),
        };
        self.users.tickets.insert(ticket, (index, name.clone()));
        self.oracle.submits(name, &author);
        self.say(|| format!("{author} submits {event:?}"));
        self.tell(server, event);
    }

    pub(super) fn answered(&mut self, server: usize, ticket: u64, outcome: Result<Applied, Refusal>) {
        let Some((index, name)) = self.users.tickets.remove(&ticket) else {
            return;
        };
        let user = &mut self.users.all[index];
        let author = user.author.clone();
        let Some(under_way) = user.under_way.get_mut(&name) else {
            return;
        };
        if outcome == Err(Refusal::Unavailable) {
            under_way.ticket = None;
            return self.count("unavailable");
        }
        let submission = under_way.submission.clone();
        user.under_way.remove(&name);
        self.say(|| format!("{author} is answered on {name}: {submission:?}: {outcome:?}"));
        let node = self.servers[server].node.as_ref().expect("it has just answered");
        let verdict = match outcome {
            Ok(applied) => {
                let at = match applied {
                    Applied::Record(record) => record.applied_at(),
                    Applied::Before { applied_at } => applied_at,
                };
                self.counts.entry("acked").and_modify(|count| *count += 1).or_insert(1);
                self.oracle
                    .accepted(server, node.disk(), &name, &author, submission, at)
            }
            Err(refusal) => {
                self.counts
                    .entry("refused")
                    .and_modify(|count| *count += 1)
                    .or_insert(1);
                self.oracle.refused(&name, &author, submission, &refusal)
            }
        };
        self.judge(verdict);
    }

    /// The operations of a new wave.
    fn beginning(&mut self, index: usize) -> Vec<WaveletOp> {
        let author = self.users.all[index].author.clone();
        let blip = DocumentId::new(&format!("b+{}", self.users.next)).expect("it is a name");
        let text = self.dice.pick(&TEXTS).copied().unwrap_or("a");
        let content = conversation::blip_of_text(text).expect("it is text");
        let others: Vec<ParticipantId> = self
            .users
            .all
            .iter()
            .filter(|_| self.dice.percent(50))
            .map(|user| user.author.clone())
            .collect();
        let mut others = others;
        others.sort();
        others.dedup();
        conversation::create_wave(&author, &blip, content, &others).expect("it is well-formed")
    }

    /// A change to what somebody sees.
    fn change(&mut self, index: usize, name: &WaveletName, base: &Wavelet) -> Option<Vec<WaveletOp>> {
        let notes = DocumentId::new("notes").expect("it is a name");
        let empty = Document::new();
        let on_notes = |op: DocOp| WaveletOp::MutateDocument { id: notes.clone(), op };
        let mut random = Random::new(self.dice.roll());
        let document = base.document(&notes).map_or(&empty, |(document, _)| document);
        match self.dice.below(100) {
            0..=34 => self.text(base),
            35..=59 if document.len() < 400 => Some(vec![on_notes(generators::op(&mut random, document))]),
            60..=66 => {
                self.count("several_operations");
                let len = 2 + self.dice.below(2);
                let chain = generators::chain(&mut random, document, len);
                Some(chain.into_iter().map(on_notes).collect())
            }
            67..=74 => self.blip(base),
            75..=83 => {
                self.count("add_participant");
                let who = &self.users.all[self.dice.below(self.users.all.len())].author;
                Some(vec![WaveletOp::AddParticipant(who.clone())])
            }
            84..=89 => {
                self.count("remove_participant");
                let who = self.dice.pick(base.participants())?.clone();
                Some(vec![WaveletOp::RemoveParticipant(who)])
            }
            90..=92 => Some(vec![WaveletOp::NoOp]),
            93..=97 => {
                // The other device of the same user does the same thing at the same time.
                let me = &self.users.all[index];
                let other = self
                    .users
                    .all
                    .iter()
                    .find(|other| other.author == me.author && other.session != me.session)?;
                let same = other
                    .under_way
                    .get(name)
                    .filter(|same| same.version <= base.version())?;
                let ops = (same.version == base.version()).then(|| same.ops.clone())?;
                self.count("same_edit_twice");
                Some(ops)
            }
            _ => {
                self.count("text_and_people");
                let who = self.users.all[self.dice.below(self.users.all.len())].author.clone();
                let mut ops = self.text(base)?;
                ops.push(WaveletOp::AddParticipant(who));
                Some(ops)
            }
        }
    }

    /// Typing, deleting and styling in a blip.
    fn text(&mut self, base: &Wavelet) -> Option<Vec<WaveletOp>> {
        let blips: Vec<_> = base
            .documents()
            .filter(|(id, document, _)| id.is_blip() && document.len() >= 4)
            .collect();
        let (id, document, _) = self.dice.pick(&blips)?;
        let at = 3 + self.dice.below(document.len() - 3);
        let op = match self.dice.below(10) {
            0..=5 => {
                let mut text = self.dice.pick(&TEXTS).copied().unwrap_or("a").to_owned();
                if self.users.bulky {
                    text = text.repeat(200 + self.dice.below(2_000));
                }
                self.count("text_inserted");
                edit::insert(document, at, vec![billow_model::Component::Characters(text)])
            }
            6 => {
                self.count("text_deleted");
                edit::delete(document, at, (at + 1 + self.dice.below(3)).min(document.len() - 1))
            }
            7 | 8 => {
                self.count("text_styled");
                let to = (at + 1 + self.dice.below(5)).min(document.len());
                let value = self.dice.percent(70).then_some("bold");
                edit::annotate(document, at, to, "style/fontWeight", value)
            }
            _ => {
                self.count("line_styled");
                edit::set_attribute(document, 1, "t", Some("h1"))
            }
        };
        let (id, op) = ((*id).clone(), op.ok()?);
        Some(vec![WaveletOp::MutateDocument { id, op }])
    }

    /// A reply, or one more blip.
    fn blip(&mut self, base: &Wavelet) -> Option<Vec<WaveletOp>> {
        self.count("blips");
        let id = DocumentId::new(&format!("b+{}", self.users.next)).expect("it is a name");
        let content = conversation::empty_blip();
        let blips: Vec<&DocumentId> = base.documents().map(|(id, ..)| id).filter(|id| id.is_blip()).collect();
        let parent = (*self.dice.pick(&blips)?).clone();
        let built = if self.dice.percent(50) {
            conversation::reply(base, &parent, &id, content)
        } else {
            conversation::append_blip(base, Place::Root, &id, content)
        };
        built.ok()
    }
}
