//! Streams between servers, with the rules of TCP: in order within a stream; loss is a stall, or the end of the stream;
//! what is out of order or comes twice does so only across two streams. A pair's stream is opened when it is wanted and
//! opened again with growing pauses, as `billow-net` does it.

use std::collections::VecDeque;

use billow_model::Timestamp;
use billow_xmpp::{Element, Jid, ns};

use super::{Happening, START, World};
use crate::Event;
use crate::dice::Dice;

/// How long a stanza waits for a stream before it comes back, ms.
const QUEUE_AGE: i64 = 60_000;
/// Stanzas that wait for a stream.
const QUEUE_MAX: usize = 256;
/// How long a stream may not get through before it is given up, ms.
const SILENCE: i64 = 75_000;

/// All streams.
pub(super) struct Network {
    streams: Vec<Vec<Stream>>,
    /// The cap of the pause between attempts, ms.
    cap: i64,
    next: u64,
}

/// The way from one server to another.
#[derive(Default)]
struct Stream {
    /// The number of the open one.
    up: Option<u64>,
    dialling: bool,
    /// A pause before the next attempt is running, this one.
    pause: Option<u64>,
    failures: u32,
    waiting: VecDeque<(i64, Element)>,
    flight: VecDeque<(i64, Element)>,
    latency: (i64, i64),
    blocked_until: i64,
    slow_until: i64,
    /// Until when the stream breaks as soon as it carries an answer to a question of discovery: who asked hears nothing,
    /// neither the answer nor that there is none.
    loses_answers_until: i64,
}

impl Network {
    pub(super) fn draw(dice: &mut Dice, count: usize) -> Self {
        let base = *dice.pick(&[1, 10, 50, 300]).unwrap_or(&10);
        let cap = *dice.pick(&[5_000, 15_000, 30_000]).unwrap_or(&15_000);
        let mut stream = |_| Stream {
            latency: (base, base * *dice.pick(&[1, 2, 5]).unwrap_or(&1) + 3),
            ..Stream::default()
        };
        let streams = (0..count).map(|_| (0..count).map(&mut stream).collect()).collect();
        Self { streams, cap, next: 0 }
    }

    pub(super) fn heal(&mut self) {
        for stream in self.streams.iter_mut().flatten() {
            stream.blocked_until = 0;
            stream.slow_until = 0;
            stream.loses_answers_until = 0;
        }
    }

    pub(super) fn block(&mut self, from: usize, to: usize, until: i64) {
        let stream = &mut self.streams[from][to];
        stream.blocked_until = stream.blocked_until.max(until);
    }

    pub(super) fn slow(&mut self, from: usize, to: usize, until: i64) {
        self.streams[from][to].slow_until = until;
    }

    pub(super) fn lose_answers(&mut self, from: usize, to: usize, until: i64) {
        self.streams[from][to].loses_answers_until = until;
    }

    pub(super) fn open_streams(&self) -> Vec<(usize, usize)> {
        let all = self.streams.iter().enumerate().flat_map(|(from, row)| {
            let open = row.iter().enumerate().filter(|(_, stream)| stream.up.is_some());
            open.map(move |(to, _)| (from, to))
        });
        all.collect()
    }
}

impl World {
    /// A node sends something. The hostile one's stanzas pass through its hands first.
    pub(super) fn send(&mut self, from: usize, peer: &billow_xmpp::Domain, stanza: Element) {
        let Some(to) = self.index_of(peer.as_str()).filter(|to| *to != from) else {
            return self.say(|| format!("{from} sends to {peer}: there is no such server"));
        };
        if self.is_evil(from) {
            return self.tamper(to, stanza);
        }
        let verdict = self.oracle.sends(
            from,
            to,
            &stanza,
            self.servers[from].node.as_ref().map(crate::Node::disk),
        );
        self.judge(verdict);
        self.transmit(from, to, stanza);
    }

    pub(super) fn transmit(&mut self, from: usize, to: usize, stanza: Element) {
        self.say(|| format!("{from} → {to}: {}", brief(&stanza)));
        self.note(&(from, to, stanza.name(), stanza.attr("id"), stanza.attr("type")));
        self.count("stanzas");
        if self.network.streams[from][to].up.is_some() {
            return self.fly(from, to, stanza);
        }
        let stream = &mut self.network.streams[from][to];
        if stream.waiting.len() >= QUEUE_MAX {
            let (server, life) = (from, self.servers[from].life);
            self.count("queue_full");
            return self.after(
                0,
                Happening::Bounce {
                    server,
                    life,
                    to,
                    stanza,
                },
            );
        }
        stream.waiting.push_back((self.now, stanza));
        let idle = !stream.dialling && stream.pause.is_none();
        self.after(QUEUE_AGE, Happening::Expire { from, to });
        if idle {
            self.dial(from, to);
        }
    }

    fn fly(&mut self, from: usize, to: usize, stanza: Element) {
        let stream = &mut self.network.streams[from][to];
        let (least, most) = stream.latency;
        let mut latency = self.dice.between(least, most);
        if stream.slow_until > self.now {
            latency += self.dice.between(1_000, 10_000);
        }
        let lost = stream.loses_answers_until > self.now && is_answer_of_discovery(&stanza);
        let before = stream.flight.back().map_or(0, |(at, _)| *at);
        let at = before.max(self.now + latency);
        stream.flight.push_back((at, stanza));
        let (stream, delay) = (stream.up.unwrap_or(0), at - self.now);
        self.after(delay, Happening::Deliver { from, to, stream });
        if lost {
            self.after(0, Happening::Break { from, to, stream });
        }
    }

    pub(super) fn break_off(&mut self, from: usize, to: usize, number: u64) {
        if self.network.streams[from][to].up == Some(number) {
            self.count("lost_answer");
            self.reset(from, to, false);
        }
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, number: u64) {
        let now = self.now;
        let stream = &mut self.network.streams[from][to];
        if stream.up != Some(number) || stream.flight.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        if stream.blocked_until > now {
            let wait = stream.blocked_until - now;
            self.count("stalled");
            let stream = number;
            return if wait > SILENCE {
                self.after(SILENCE, Happening::Silence { from, to, stream });
            } else {
                self.after(wait, Happening::Deliver { from, to, stream });
            };
        }
        if self.servers[to].node.is_none() {
            // Nobody is there any more: noticed after a while.
            let wait = self.dice.between(1_000, SILENCE);
            self.count("half_open");
            let stream = number;
            return self.after(wait, Happening::Silence { from, to, stream });
        }
        let Some((_, stanza)) = stream.flight.pop_front() else {
            return;
        };
        self.arrive(from, to, stanza);
    }

    pub(super) fn arrive(&mut self, from: usize, to: usize, stanza: Element) {
        self.note(&(to, stanza.attr("id")));
        let Some(stanza) = self.swallow(from, to, stanza) else {
            return;
        };
        let peer = self.xmpp(from);
        self.tell(to, Event::Stanza { peer, element: stanza });
    }

    /// The links are whole: what was held up on them arrives now.
    pub(super) fn unstall(&mut self) {
        for (from, to) in self.network.open_streams() {
            let stream = self.network.streams[from][to].up.unwrap_or(0);
            self.after(1, Happening::Silence { from, to, stream });
        }
    }

    pub(super) fn silence(&mut self, from: usize, to: usize, number: u64) {
        let now = self.now;
        let stream = &self.network.streams[from][to];
        if stream.up != Some(number) {
            return;
        }
        if stream.blocked_until > now || self.servers[to].node.is_none() {
            return self.reset(from, to, false);
        }
        let ready: Vec<i64> = stream.flight.iter().map(|(at, _)| (*at - now).max(0)).collect();
        for delay in ready {
            let stream = number;
            self.after(delay, Happening::Deliver { from, to, stream });
        }
    }

    fn dial(&mut self, from: usize, to: usize) {
        let now = self.now;
        let stream = &mut self.network.streams[from][to];
        if stream.dialling || stream.up.is_some() {
            return;
        }
        stream.dialling = true;
        stream.pause = None;
        let blocked = stream.blocked_until > now;
        let delay = if blocked { 10_000 } else { 3 * stream.latency.1 + 1 };
        self.after(delay, Happening::Dialled { from, to });
    }

    pub(super) fn dialled(&mut self, from: usize, to: usize) {
        let now = self.now;
        if !std::mem::take(&mut self.network.streams[from][to].dialling) || self.servers[from].node.is_none() {
            return;
        }
        let blocked = [(from, to), (to, from)]
            .iter()
            .any(|(a, b)| self.network.streams[*a][*b].blocked_until > now);
        if blocked || self.servers[to].node.is_none() {
            return self.unreachable(from, to);
        }
        self.network.next += 1;
        let number = self.network.next;
        let stream = &mut self.network.streams[from][to];
        stream.up = Some(number);
        stream.failures = 0;
        let waiting = std::mem::take(&mut stream.waiting);
        for (_, stanza) in waiting {
            self.fly(from, to, stanza);
        }
        let (caller, callee) = (self.xmpp(from), self.xmpp(to));
        self.tell(to, Event::Heard(caller));
        self.tell(from, Event::Connected(callee));
    }

    fn unreachable(&mut self, from: usize, to: usize) {
        let cap = self.network.cap;
        let stream = &mut self.network.streams[from][to];
        stream.failures += 1;
        let bound = (1_000_i64 << (stream.failures - 1).min(10)).min(cap);
        let wait = self.dice.between(bound / 10, bound);
        self.network.next += 1;
        let attempt = self.network.next;
        self.network.streams[from][to].pause = Some(attempt);
        self.after(wait, Happening::Redial { from, to, attempt });
        self.count("unreachable");
        let event = Event::Unreachable {
            peer: self.xmpp(to),
            reason: "not reached".to_owned(),
            retry_at: Timestamp(START + self.now + wait),
        };
        self.tell(from, event);
    }

    pub(super) fn redial(&mut self, from: usize, to: usize, attempt: u64) {
        if self.network.streams[from][to]
            .pause
            .take_if(|pause| *pause == attempt)
            .is_some()
            && self.servers[from].node.is_some()
        {
            self.dial(from, to);
        }
    }

    pub(super) fn hurry(&mut self, from: usize, peer: &billow_xmpp::Domain) {
        if let Some(to) = self.index_of(peer.as_str())
            && self.network.streams[from][to].pause.take().is_some()
        {
            self.dial(from, to);
        }
    }

    pub(super) fn expire(&mut self, from: usize, to: usize) {
        let (now, life, server) = (self.now, self.servers[from].life, from);
        let stream = &mut self.network.streams[from][to];
        let mut late = Vec::new();
        while stream
            .waiting
            .front()
            .is_some_and(|(since, _)| now - since >= QUEUE_AGE)
        {
            late.extend(stream.waiting.pop_front().map(|(_, stanza)| stanza));
        }
        for stanza in late {
            self.count("expired");
            self.after(
                0,
                Happening::Bounce {
                    server,
                    life,
                    to,
                    stanza,
                },
            );
        }
    }

    /// Breaks a stream. What was in flight is lost, or comes later, beside what a new stream brings.
    pub(super) fn reset(&mut self, from: usize, to: usize, late: bool) {
        let stream = &mut self.network.streams[from][to];
        if stream.up.take().is_none() {
            return;
        }
        let flight = std::mem::take(&mut stream.flight);
        let arrives = if late { self.dice.below(flight.len() + 1) } else { 0 };
        let mut delay = 0;
        for (_, stanza) in flight.into_iter().take(arrives) {
            delay += self.dice.between(1, 3_000);
            self.count("late_stanza");
            self.after(delay, Happening::Late { from, to, stanza });
        }
        if self.servers[from].node.is_some() {
            self.unreachable(from, to);
        }
    }

    /// A server has died: its own streams are gone, those of others to it are found out about later, or at once.
    pub(super) fn break_streams(&mut self, server: usize) {
        for other in 0..self.servers.len() {
            let stream = &mut self.network.streams[server][other];
            *stream = Stream {
                latency: stream.latency,
                blocked_until: stream.blocked_until,
                slow_until: stream.slow_until,
                loses_answers_until: stream.loses_answers_until,
                ..Stream::default()
            };
            if other != server && self.dice.percent(60) {
                self.reset(other, server, false);
            }
        }
    }

    pub(super) fn jid(&self, server: usize) -> Jid {
        self.xmpp(server).to_jid()
    }
}

fn is_answer_of_discovery(stanza: &Element) -> bool {
    let is_disco = |payload: &Element| [ns::DISCO_INFO, ns::DISCO_ITEMS].contains(&payload.ns().as_str());
    stanza.attr("type") == Some("result") && stanza.children().any(is_disco)
}

fn brief(stanza: &Element) -> String {
    String::from(stanza).chars().take(900).collect()
}
