//! What goes wrong: which kinds, drawn anew for each seed, and when.

use super::{Happening, World};
use crate::Event;
use crate::dice::Dice;

/// All kinds of faults.
pub(super) const KINDS: [&str; 21] = [
    "crashes",
    "crash_within",
    "lost_writes",
    "unsynced_survived",
    "partitions",
    "one_way",
    "clogs",
    "stalled",
    "slow_links",
    "resets",
    "late_stanza",
    "half_open",
    "expired",
    "loses_answers",
    "lost_answer",
    "clock_steps",
    "clock_hours",
    "clock_years",
    "disk_full",
    "disk_failed",
    "slow_disk",
];

/// Those that are begun by a decision; the others follow from them.
const BEGUN: [&str; 13] = [
    "crashes",
    "partitions",
    "one_way",
    "clogs",
    "slow_links",
    "resets",
    "loses_answers",
    "clock_steps",
    "clock_hours",
    "clock_years",
    "disk_full",
    "disk_failed",
    "slow_disk",
];

/// The faults of a seed.
pub(super) struct Mix {
    pub(super) faults: Vec<&'static str>,
    /// The moves of the hostile server.
    pub(super) moves: Vec<&'static str>,
    /// The pause between two faults, at most, ms.
    pause: i64,
    /// In ten thousand: a server dies in the middle of what it does.
    pub(super) crash_within: usize,
}

impl Mix {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let quiet = dice.percent(8);
        let some = |dice: &mut Dice, kinds: &[&'static str]| {
            let drawn = kinds.iter().copied().filter(|_| dice.percent(50));
            drawn.collect::<Vec<_>>()
        };
        Self {
            faults: if quiet { Vec::new() } else { some(dice, &BEGUN) },
            moves: some(dice, &super::evil::KINDS),
            pause: *dice.pick(&[1_500, 5_000, 20_000]).unwrap_or(&5_000),
            crash_within: if quiet {
                0
            } else {
                *dice.pick(&[0, 0, 5, 20]).unwrap_or(&0)
            },
        }
    }
}

impl World {
    pub(super) fn fault(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        if let Some(kind) = self.dice.pick(&self.mix.faults).copied() {
            self.count(kind);
            self.begin(kind);
        }
        let pause = self.dice.between(self.mix.pause / 5, self.mix.pause);
        self.after(pause, Happening::Fault);
    }

    fn begin(&mut self, kind: &'static str) {
        let count = self.servers.len();
        let server = self.dice.below(count);
        let other = (server + 1 + self.dice.below(count - 1)) % count;
        let short = self.dice.percent(60);
        let length = if short {
            self.dice.between(500, 20_000)
        } else {
            self.dice.between(20_000, 200_000)
        };
        self.say(|| format!("fault: {kind} at {server} ({other}) for {length}"));
        match kind {
            "crashes" => self.crash(server),
            "partitions" => {
                for peer in 0..count {
                    if peer == other || self.dice.percent(50) {
                        self.cut(server, peer, length);
                        self.cut(peer, server, length);
                    }
                }
            }
            "one_way" => self.cut(server, other, length),
            "clogs" => {
                // Links go together and come back one by one, in any order.
                for peer in 0..count {
                    let length = self.dice.between(500, length);
                    self.cut(server, peer, length);
                }
            }
            "slow_links" => self.network.slow(server, other, self.now + length),
            "resets" => {
                let open = self.network.open_streams();
                if let Some((from, to)) = self.dice.pick(&open).copied() {
                    let late = self.dice.percent(60);
                    self.reset(from, to, late);
                }
            }
            "loses_answers" => self.network.lose_answers(server, other, self.now + length),
            "clock_steps" => self.servers[server].skew += self.dice.between(-5_000, 5_000),
            "clock_hours" => self.servers[server].skew += if short { 3_600_000 } else { -3_600_000 },
            "clock_years" => self.servers[server].skew = if short { 365 * 86_400_000 } else { -365 * 86_400_000 },
            "disk_full" => {
                self.servers[server].full = true;
                self.after(length, Happening::Room { server });
            }
            "disk_failed" => {
                self.tell(server, Event::DiskFailed);
                // Somebody sees it and starts the server again.
                let (life, delay) = (self.servers[server].life, self.dice.between(500, 20_000));
                self.after(delay, Happening::Reboot { server, life });
            }
            _ => self.servers[server].slow_disk = !self.servers[server].slow_disk,
        }
    }

    fn cut(&mut self, from: usize, to: usize, length: i64) {
        if from != to {
            self.network.block(from, to, self.now + length);
        }
    }
}
