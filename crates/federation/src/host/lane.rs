//! One wavelet's way to a peer: the cursor, the messages without receipt, and what holds it up.

use std::collections::VecDeque;

use billow_model::{HashedVersion, Timestamp, Version, planted};

use super::{Delivery, Hindrance, LEGACY_RECEIPT_MS, MAX_BYTES, RECEIPT_MS};

/// Messages whose late receipts are still recognised.
const MAX_REMEMBERED: usize = 64;
/// How often a reference server gets the same again without a receipt. It acknowledges nothing that it has already, so after
/// that it is taken to have it; if it has not, the next delta shows it the gap (protocol.md T2).
const LEGACY_TRIES: u32 = 3;

#[derive(Debug)]
pub(super) struct Lane {
    /// The peer has everything before this version.
    pub(super) acknowledged: Version,
    /// Nothing from this version on is for the peer.
    pub(super) until: Option<Version>,
    /// What may be sent reaches to this version.
    pub(super) sealed: Version,
    /// Where the newest delta for the peer was applied, if there was one since the start.
    pub(super) newest: Option<Version>,
    /// The digest of the documents at some version.
    pub(super) digest: Option<(Version, [u8; 32])>,
    /// From where deltas were asked of the driver.
    pub(super) asked: Option<Version>,
    /// What holds it up.
    pub(super) trouble: Option<Trouble>,
    /// Most bytes of deltas in a message.
    pub(super) max_bytes: usize,
    /// For a reference server: acknowledged, but not yet told to be committed.
    pub(super) committed: Option<HashedVersion>,
    /// For a reference server: what it was told to be committed and has not acknowledged.
    pub(super) notice: Option<Notice>,
    /// For a reference server: up to where it needs no notice.
    noticed: Version,
    /// What people were told last.
    pub(super) told: Option<Delivery>,
    /// The first version that has not been sent in this round.
    next: Version,
    window: VecDeque<Sent>,
}

#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) hindrance: Hindrance,
    attempts: u32,
    /// Nothing is sent before the next try; else only what has been sent waits.
    gates: bool,
    pub(super) refused: bool,
}

#[derive(Debug)]
pub(super) struct Notice {
    pub(super) version: HashedVersion,
    pub(super) id: String,
    pub(super) by: Timestamp,
    pub(super) tries: u32,
}

#[derive(Debug)]
struct Sent {
    id: String,
    message: Message,
    by: Timestamp,
    acknowledged: bool,
    /// Not waited for any more; a late receipt still counts.
    expired: bool,
}

/// What is in a message.
#[derive(Debug)]
pub(super) struct Message {
    /// The version before the first delta.
    pub(super) from: Version,
    /// The version after the last.
    pub(super) to: HashedVersion,
    /// How many deltas.
    pub(super) deltas: usize,
    /// How many bytes of deltas.
    pub(super) bytes: usize,
}

impl Lane {
    pub(super) fn new(acknowledged: Version, until: Option<Version>, sealed: Version) -> Self {
        Self {
            acknowledged,
            until,
            sealed,
            newest: None,
            digest: None,
            asked: None,
            trouble: None,
            max_bytes: MAX_BYTES,
            committed: None,
            notice: None,
            noticed: acknowledged,
            told: None,
            next: acknowledged,
            window: VecDeque::new(),
        }
    }

    /// How far the peer should be.
    fn end(&self) -> Version {
        self.until.map_or(self.sealed, |until| until.min(self.sealed))
    }

    /// How many operations the peer lacks.
    pub(super) fn pending(&self) -> u64 {
        self.end().number().saturating_sub(self.acknowledged.number())
    }

    /// Messages waited for, and deltas asked for.
    pub(super) fn busy(&self) -> usize {
        self.window.iter().filter(|sent| sent.waited_for()).count() + usize::from(self.asked.is_some())
    }

    /// Bytes of deltas in messages waited for, and those asked for as if they were as many as they may be.
    pub(super) fn bytes(&self) -> usize {
        let sent = self.window.iter().filter(|sent| sent.waited_for());
        let asked = if self.asked.is_some() { self.max_bytes } else { 0 };
        asked + sent.map(|sent| sent.message.bytes).sum::<usize>()
    }

    /// The range to send next, if something may be sent.
    pub(super) fn ask(&mut self, window: usize) -> Option<(Version, Version)> {
        let gated = self.trouble.as_ref().is_some_and(|trouble| trouble.gates);
        if gated || self.asked.is_some() || self.busy() >= window || self.next >= self.end() {
            return None;
        }
        self.asked = Some(self.next);
        Some((self.next, self.end()))
    }

    /// Whether everything before this version, and nothing after it, has been sent.
    pub(super) fn has_sent(&self, version: Version) -> bool {
        self.next == version && self.until.is_none_or(|until| version <= until)
    }

    /// How often it was held up without a receipt in between.
    pub(super) fn attempts(&self) -> u32 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.attempts)
    }

    /// Takes note of an answer without deltas; whether it was the answer to the last question.
    pub(super) fn answered(&mut self, from: Version) -> bool {
        let expected = self.asked == Some(from);
        if expected {
            self.asked = None;
        }
        expected
    }

    /// Takes note of a message. Gives the ids that are forgotten for it.
    pub(super) fn sent(&mut self, id: String, message: Message, by: Timestamp) -> Vec<String> {
        self.next = message.to.version;
        self.window.push_back(Sent {
            id,
            message,
            by,
            acknowledged: false,
            expired: false,
        });
        let surplus = self.window.len().saturating_sub(MAX_REMEMBERED);
        self.window.drain(..surplus).map(|sent| sent.id).collect()
    }

    /// Where a message begins that is waited for, and how many deltas are in it.
    pub(super) fn live(&self, id: &str) -> Option<(Version, usize)> {
        self.window
            .iter()
            .find(|sent| sent.id == id && sent.waited_for())
            .map(|sent| (sent.message.from, sent.message.deltas))
    }

    /// A receipt came. Gives whether the cursor moved, and the ids that are done with.
    ///
    /// A Billow server acknowledges what it has stored, and it stores nothing before what precedes it: its receipt covers all before.
    /// A reference server's covers its own message, and those before that had their time.
    pub(super) fn acknowledge(&mut self, id: &str, covers_before: bool) -> (bool, Vec<String>) {
        let Some(sent) = self.window.iter_mut().find(|sent| sent.id == id) else {
            return (false, Vec::new());
        };
        sent.acknowledged = true;
        let (end, before) = (sent.message.to.clone(), self.acknowledged);
        if covers_before {
            self.acknowledged = self.acknowledged.max(end.version);
        } else {
            while let Some(next) = self.passable() {
                self.acknowledged = next;
            }
        }
        let moved = self.acknowledged > before;
        if moved {
            self.trouble = None;
            self.committed = Some(end);
            self.next = self.next.max(self.acknowledged);
        }
        let done = self.acknowledged;
        let (kept, gone): (VecDeque<Sent>, VecDeque<Sent>) = std::mem::take(&mut self.window)
            .into_iter()
            .partition(|sent| sent.message.to.version > done);
        self.window = kept;
        (moved, gone.into_iter().map(|sent| sent.id).collect())
    }

    /// Where the cursor may move from where it is: past an acknowledged message, or past a lost one that an acknowledged one follows.
    fn passable(&self) -> Option<Version> {
        let later = |end: Version| {
            self.window
                .iter()
                .any(|sent| sent.acknowledged && sent.message.from >= end)
        };
        self.window
            .iter()
            .filter(|sent| sent.message.from <= self.acknowledged && sent.message.to.version > self.acknowledged)
            .find(|sent| sent.acknowledged || (sent.expired && later(sent.message.to.version)))
            .map(|sent| sent.message.to.version)
    }

    /// The cursor that is kept on disk: for a reference server not beyond what it knows to be committed.
    pub(super) fn kept(&self) -> Version {
        match &self.notice {
            Some(_) => self.noticed.min(self.acknowledged),
            None => self.acknowledged,
        }
    }

    /// A receipt came; whether it is that of the notice.
    pub(super) fn notice_acknowledged(&mut self, id: &str) -> bool {
        let Some(notice) = self.notice.take_if(|notice| notice.id == id) else {
            return false;
        };
        self.noticed = notice.version.version;
        true
    }

    /// Gives the notice if its receipt is late. One to a peer that is away waits on.
    pub(super) fn late_notice(&mut self, now: Timestamp, away: bool) -> Option<Notice> {
        let notice = self.notice.as_mut().filter(|notice| notice.by <= now)?;
        if away {
            notice.by = now.later(RECEIPT_MS);
            return None;
        }
        self.notice.take()
    }

    /// Stops waiting for receipts that are late; whether there were any.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        for sent in self
            .window
            .iter_mut()
            .filter(|sent| sent.waited_for() && sent.by <= now)
        {
            sent.expired = true;
            any = true;
        }
        any
    }

    /// Notes what holds the wavelet up. If it `gates`, nothing is sent before the next try.
    pub(super) fn hold(&mut self, now: Timestamp, next_try: Timestamp, reason: &str, gates: bool, refused: bool) {
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.hindrance.since);
        let hindrance = Hindrance {
            since,
            next_try,
            reason: reason.to_owned(),
        };
        self.trouble = Some(Trouble {
            hindrance,
            attempts: self.attempts() + 1,
            gates,
            refused,
        });
    }

    /// Begins again at the cursor if its time has come. Gives whether the cursor moved, because nothing more is to be expected.
    pub(super) fn retry(&mut self, now: Timestamp, legacy: bool) -> bool {
        if self.asked.is_some() || self.window.iter().any(Sent::waited_for) {
            return false;
        }
        if self.pending() == 0 {
            self.trouble = None;
        }
        if planted::is("what is lost is not sent again") {
            return false;
        }
        let Some(trouble) = self
            .trouble
            .as_mut()
            .filter(|trouble| trouble.hindrance.next_try <= now)
        else {
            return false;
        };
        if legacy && !trouble.gates && trouble.attempts >= LEGACY_TRIES && self.next > self.acknowledged {
            self.committed = self.window.back().map(|sent| sent.message.to.clone());
            self.acknowledged = self.next;
            self.trouble = None;
            return true;
        }
        trouble.gates = false;
        let patience = if legacy { LEGACY_RECEIPT_MS } else { RECEIPT_MS };
        trouble.hindrance.next_try = now.later(patience);
        self.restart();
        false
    }

    /// Everything after the cursor is to be sent again.
    pub(super) fn restart(&mut self) {
        self.next = self.acknowledged;
        self.asked = None;
        self.window.iter_mut().for_each(|sent| sent.expired = true);
    }

    /// The peer is there: what it lost is sent again now. What it has asked not to get now still waits.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        if let Some(trouble) = self.trouble.as_mut().filter(|trouble| !trouble.gates) {
            trouble.hindrance.next_try = trouble.hindrance.next_try.min(now);
        }
    }

    /// When something is to be done.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let receipts = self.window.iter().filter(|sent| sent.waited_for()).map(|sent| sent.by);
        let trouble = self.trouble.as_ref().map(|trouble| trouble.hindrance.next_try);
        // Behind a message or an answer that is waited for, the next try comes when that is settled.
        let next = receipts.min().or(trouble.filter(|_| self.asked.is_none()));
        let notice = self.notice.as_ref().map(|notice| notice.by);
        next.into_iter().chain(notice).min()
    }
}

impl Sent {
    fn waited_for(&self) -> bool {
        !self.acknowledged && !self.expired
    }
}
