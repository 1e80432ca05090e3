//! A world of servers and their users, from one seed, in virtual time: no sockets, no threads, no clock.
//!
//! What happens is a queue of [`Happening`]s. The network is streams with the rules of TCP (`network.rs`), the users edit
//! against what they have seen (`users.rs`), faults come and go (`faults.rs`), one server may be hostile (`evil.rs`), and
//! after everything that a server does the [`crate::oracle`] looks at what it did. In the end the faults stop, and
//! everybody must come to agree.

mod evil;
mod faults;
mod network;
mod users;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use billow_model::Timestamp;
use billow_wire::{Encoded, SignedDelta};
use billow_xmpp::Element;

use crate::dice::Dice;
use crate::keys::{self, EVIL};
use crate::oracle::Oracle;
use crate::{Action, Config, Disk, Event, Node, Now};
use evil::Evil;
use faults::Mix;
use network::Network;
use users::Users;

/// When every world begins.
const START: i64 = 2_000_000_000_000;
/// When the faults stop at the latest, ms.
const LONGEST_MS: i64 = 1_800_000;
/// How long servers may take to agree when the faults are over, ms.
pub const SETTLE_MS: i64 = 120_000;

/// What came of a seed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What is wrong, if something is.
    pub violation: Option<Violation>,
    /// How often what happened: events, faults, moves, kinds of edits.
    pub counts: BTreeMap<&'static str, u64>,
    /// A digest of everything that happened, in order.
    pub trace: u64,
    /// Simulated time, ms.
    pub simulated_ms: i64,
    /// How long it took to agree after the faults, ms.
    pub settled_ms: i64,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which: a name of hardening.md §4.2(d) or of a column of the figure.
    pub promise: &'static str,
    /// For people.
    pub what: String,
}

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    /// The node's deadline.
    Tick { server: usize, life: u32 },
    /// The disk has taken what was written up to there.
    Sync { server: usize, life: u32, upto: u64 },
    /// A signature is made.
    Signed {
        server: usize,
        life: u32,
        job: u64,
        delta: Encoded<SignedDelta>,
    },
    /// The first stanza in flight on a stream may have arrived.
    Deliver { from: usize, to: usize, stream: u64 },
    /// A stanza of a stream that broke arrives after all.
    Late { from: usize, to: usize, stanza: Element },
    /// An attempt to connect ends.
    Dialled { from: usize, to: usize },
    /// A pause between attempts is over.
    Redial { from: usize, to: usize, attempt: u64 },
    /// Stanzas may have waited too long for a stream.
    Expire { from: usize, to: usize },
    /// A stream that does not get through is given up.
    Silence { from: usize, to: usize, stream: u64 },
    /// A stream breaks that carries what is to be lost.
    Break { from: usize, to: usize, stream: u64 },
    /// A stanza comes back from a server's own net.
    Bounce {
        server: usize,
        life: u32,
        to: usize,
        stanza: Element,
    },
    /// A user does something.
    User(usize),
    /// A server starts again.
    Restart { server: usize },
    /// Time for a fault.
    Fault,
    /// A server whose disk has failed is started again.
    Reboot { server: usize, life: u32 },
    /// A disk has room again.
    Room { server: usize },
    /// Time for a move of the hostile server.
    Move,
    /// The hostile server sends something that it has made.
    Tampered { to: usize, stanza: Element },
    /// The faults are over.
    Heal,
    /// Do all agree?
    Look,
}

/// A server, running or not.
struct Server {
    node: Option<Node>,
    /// While it is not running.
    disk: Option<Disk>,
    config: Config,
    life: u32,
    /// How far its clock is off, ms.
    skew: i64,
    tick_at: Option<Timestamp>,
    /// Ticks in a row at one time: a node that is never satisfied spins.
    ticks: (i64, u32),
    full: bool,
    slow_disk: bool,
    synced_at: i64,
}

/// See the module.
pub struct World {
    seed: u64,
    dice: Dice,
    now: i64,
    servers: Vec<Server>,
    network: Network,
    users: Users,
    mix: Mix,
    evil: Option<Evil>,
    queue: BinaryHeap<Reverse<(i64, u64, Slot)>>,
    happenings: BTreeMap<u64, Happening>,
    order: u64,
    oracle: Oracle,
    counts: BTreeMap<&'static str, u64>,
    trace: u64,
    violation: Option<Violation>,
    /// The end of the faults is set.
    ending: bool,
    /// When the faults stopped.
    healed_at: Option<i64>,
    settled_at: Option<i64>,
    verbose: bool,
}

/// Where a happening lies.
type Slot = u64;

impl World {
    /// The world of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5851_F42D_4C95_7F2D);
        let count = 2 + dice.below(5).min(dice.below(6));
        let evil = dice.percent(45);
        let mut mix = Mix::draw(&mut dice);
        let mut indices: Vec<usize> = (0..count).collect();
        if evil {
            indices.push(EVIL);
        } else {
            mix.moves.clear();
        }
        let servers: Vec<Server> = indices
            .iter()
            .map(|index| Server::new(*index, seed, &mut dice))
            .collect();
        let users = Users::draw(&mut dice, &indices);
        let mut world = Self {
            seed,
            network: Network::draw(&mut dice, servers.len()),
            oracle: Oracle::new(indices.iter().map(|index| keys::domain(*index)).collect(), evil),
            evil: evil.then(|| Evil::new(servers.len() - 1)),
            dice,
            now: 0,
            servers,
            users,
            mix,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            order: 0,
            counts: BTreeMap::new(),
            trace: 0xCBF2_9CE4_8422_2325,
            violation: None,
            ending: false,
            healed_at: None,
            settled_at: None,
            verbose: false,
        };
        for server in 0..world.servers.len() {
            world.start(server);
        }
        for user in 0..world.users.all.len() {
            let delay = world.dice.between(0, 500);
            world.after(delay, Happening::User(user));
        }
        world.after(LONGEST_MS, Happening::Heal);
        if !world.mix.faults.is_empty() {
            world.after(500, Happening::Fault);
        }
        if world.evil.is_some() {
            world.after(2_000, Happening::Move);
        }
        world
    }

    /// Tells on standard error what happens.
    #[must_use]
    pub fn verbose(mut self) -> Self {
        self.verbose = true;
        self
    }

    /// Lets it run to its end.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        while self.violation.is_none() && self.settled_at.is_none() {
            let Some(Reverse((at, _, slot))) = self.queue.pop() else {
                break;
            };
            let Some(happening) = self.happenings.remove(&slot) else {
                continue;
            };
            self.now = at;
            self.count("events");
            self.note(&(at, kind_of(&happening)));
            self.happen(happening);
        }
        self.finish()
    }

    fn finish(mut self) -> Outcome {
        let deltas = self.oracle.deltas();
        self.counts.insert("deltas", deltas);
        Outcome {
            seed: self.seed,
            violation: self.violation,
            counts: self.counts,
            trace: self.trace,
            simulated_ms: self.now,
            settled_ms: self
                .settled_at
                .zip(self.healed_at)
                .map_or(0, |(end, begin)| end - begin),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { server, life } => self.tick(server, life),
            Happening::Sync { server, life, upto } => self.sync(server, life, upto),
            Happening::Signed {
                server,
                life,
                job,
                delta,
            } => {
                if self.servers[server].life == life {
                    self.tell(
                        server,
                        Event::Signed {
                            job,
                            delta: Some(delta),
                        },
                    );
                }
            }
            Happening::Deliver { from, to, stream } => self.deliver(from, to, stream),
            Happening::Late { from, to, stanza } => self.arrive(from, to, stanza),
            Happening::Dialled { from, to } => self.dialled(from, to),
            Happening::Redial { from, to, attempt } => self.redial(from, to, attempt),
            Happening::Expire { from, to } => self.expire(from, to),
            Happening::Silence { from, to, stream } => self.silence(from, to, stream),
            Happening::Break { from, to, stream } => self.break_off(from, to, stream),
            Happening::Bounce {
                server,
                life,
                to,
                stanza,
            } => {
                if self.servers[server].life == life {
                    let peer = self.xmpp(to);
                    let too_big = false;
                    self.tell(server, Event::Bounced { peer, stanza, too_big });
                }
            }
            Happening::User(user) => self.user(user),
            Happening::Restart { server } => self.start(server),
            Happening::Reboot { server, life } => {
                if self.servers[server].life == life {
                    self.crash(server);
                }
            }
            Happening::Fault => self.fault(),
            Happening::Room { server } => self.servers[server].full = false,
            Happening::Move => self.evil_move(),
            Happening::Tampered { to, stanza } => {
                if let Some(evil) = &self.evil {
                    let from = evil.server;
                    self.transmit(from, to, stanza);
                }
            }
            Happening::Heal => self.heal(),
            Happening::Look => self.look(),
        }
    }

    /// Starts a server, for the first time or again.
    fn start(&mut self, server: usize) {
        let seed = self.dice.roll();
        let now = self.clock(server);
        let one = &mut self.servers[server];
        if one.node.is_some() {
            return;
        }
        one.config.seed = seed;
        one.tick_at = None;
        let disk = one.disk.take().unwrap_or_default();
        let node = Node::start(now, one.config.clone(), disk);
        one.node = Some(node);
        let verdict = self.oracle.restarted(
            server,
            self.servers[server].node.as_ref().expect("it was just made").disk(),
        );
        self.judge(verdict);
        // People have open what they had open.
        for name in self.users.waves.clone() {
            if let Some(node) = &mut self.servers[server].node {
                node.open(now, &name);
            }
        }
        self.act(server);
    }

    /// Ends a server in the middle of what it does: of what is not synced some of the first writes survive.
    fn crash(&mut self, server: usize) {
        let one = &mut self.servers[server];
        let Some(node) = one.node.take() else { return };
        let disk = node.into_disk();
        let unsynced = disk.unsynced().count();
        let kept = self.dice.below(unsynced + 1);
        if kept < unsynced {
            self.count("lost_writes");
        }
        if kept > 0 {
            self.count("unsynced_survived");
        }
        let one = &mut self.servers[server];
        one.disk = Some(disk.crash(kept));
        one.life += 1;
        one.full = false;
        one.slow_disk = false;
        self.users.server_crashed(server);
        self.break_streams(server);
        let delay = if self.healed_at.is_some() || self.dice.percent(70) {
            self.dice.between(100, 5_000)
        } else {
            self.dice.between(5_000, 120_000)
        };
        self.after(delay, Happening::Restart { server });
    }

    fn tick(&mut self, server: usize, life: u32) {
        let one = &mut self.servers[server];
        if one.life != life || one.node.is_none() {
            return;
        }
        one.tick_at = None;
        one.ticks = if one.ticks.0 == self.now {
            (self.now, one.ticks.1 + 1)
        } else {
            (self.now, 0)
        };
        if one.ticks.1 > 1_000 {
            return self.violate("S7", format!("server {server} wants ticks without end at {}", self.now));
        }
        self.tell(server, Event::Tick);
    }

    fn sync(&mut self, server: usize, life: u32, upto: u64) {
        let one = &self.servers[server];
        if one.life != life {
            return;
        }
        let Some(node) = &one.node else { return };
        if !one.full {
            return self.tell(server, Event::Synced { upto });
        }
        let waiting = node.disk().unsynced().filter(|id| *id <= upto).count();
        for _ in 0..waiting {
            self.count("disk_full_write");
            self.tell(server, Event::DiskFull);
        }
    }

    /// Tells a node something, does what it wants, and looks at what it did.
    fn tell(&mut self, server: usize, event: Event) {
        let now = self.clock(server);
        let Some(node) = &mut self.servers[server].node else {
            return;
        };
        node.handle(now, event);
        self.act(server);
    }

    /// Does what a node wants. A crash in between leaves the rest undone.
    fn act(&mut self, server: usize) {
        let dies =
            self.healed_at.is_none() && self.mix.crash_within > 0 && self.dice.below(10_000) < self.mix.crash_within;
        if let Some(node) = &self.servers[server].node {
            self.oracle.follows(server, node.disk());
        }
        let mut left = if dies { self.dice.below(4) } else { usize::MAX };
        while let Some(action) = self.servers[server].node.as_mut().and_then(Node::poll) {
            if left == 0 {
                self.count("crash_within");
                self.count("crashes");
                return self.crash(server);
            }
            left -= 1;
            self.action(server, action);
            if self.violation.is_some() {
                return;
            }
        }
        self.watch(server);
    }

    fn action(&mut self, server: usize, action: Action) {
        match action {
            Action::Send { peer, stanza } => self.send(server, &peer, stanza),
            Action::Written(upto) => self.written(server, upto),
            Action::Sign { job, delta, wavelet } => {
                let verdict = self.oracle.signs(server, &wavelet, &delta);
                self.judge(verdict);
                let signed = self.servers[server].config.signer.sign(delta);
                let Ok(delta) = signed else {
                    return self.violate(
                        "S8",
                        format!("server {server} wanted a delta of another domain's signed"),
                    );
                };
                let (life, delay) = (self.servers[server].life, self.dice.between(0, 15));
                self.after(
                    delay,
                    Happening::Signed {
                        server,
                        life,
                        job,
                        delta,
                    },
                );
            }
            Action::Shown { wavelet, record } => {
                let node = self.servers[server].node.as_ref().expect("it has just acted");
                let verdict = self.oracle.shows(server, node, &wavelet, &record);
                if let Some(shown) = node.wavelet(&wavelet) {
                    self.users.see(server, shown, &mut self.dice);
                }
                self.judge(verdict);
            }
            Action::Answered { ticket, outcome } => self.answered(server, ticket, outcome),
            Action::Dropped { ticket } => self.users.dropped(ticket),
            Action::Quarantined { wavelet, evidence } => {
                self.count("quarantined");
                self.say(|| format!("server {server} puts {wavelet} in quarantine: {evidence:?}"));
                let verdict = self.oracle.quarantines(server, &wavelet, &evidence);
                self.judge(verdict);
            }
            Action::Damaged { wavelet, reason } => {
                self.violate("lost_acked", format!("server {server} cannot load {wavelet}: {reason}"));
            }
            Action::Hurry(peer) => self.hurry(server, &peer),
        }
    }

    fn written(&mut self, server: usize, upto: u64) {
        let slow = self.servers[server].slow_disk;
        let delay = if slow {
            self.dice.between(500, 8_000)
        } else {
            self.dice.between(1, 20)
        };
        // Writes are synced in order.
        let one = &mut self.servers[server];
        one.synced_at = one.synced_at.max(self.now + delay);
        let (life, delay) = (one.life, one.synced_at - self.now);
        self.after(delay, Happening::Sync { server, life, upto });
    }

    /// After each step: what a node has on its disk and in its tables, and when it wants to be told the time.
    fn watch(&mut self, server: usize) {
        let Some(node) = &self.servers[server].node else { return };
        let verdict = self.oracle.looks(server, node);
        self.judge(verdict);
        let Some(node) = &self.servers[server].node else { return };
        if let Some(deadline) = node.deadline() {
            let at = self.steady(deadline);
            let one = &mut self.servers[server];
            if one.tick_at.is_none_or(|set| at < set.0) {
                one.tick_at = Some(Timestamp(at));
                let life = one.life;
                self.after((at - self.now).max(0), Happening::Tick { server, life });
            }
        }
    }

    fn judge(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.violation.get_or_insert(violation);
        }
    }

    fn violate(&mut self, promise: &'static str, what: String) {
        self.violation.get_or_insert(Violation { promise, what });
    }

    /// The time at a server.
    fn clock(&self, server: usize) -> Now {
        Now {
            wall: Timestamp(START + self.now + self.servers[server].skew),
            steady: Timestamp(START + self.now),
        }
    }

    fn steady(&self, deadline: Timestamp) -> i64 {
        deadline.0.saturating_sub(START).max(self.now)
    }

    fn xmpp(&self, server: usize) -> billow_xmpp::Domain {
        self.servers[server]
            .config
            .domain
            .as_str()
            .parse()
            .expect("a server's domain is one of XMPP too")
    }

    fn index_of(&self, peer: &str) -> Option<usize> {
        self.servers
            .iter()
            .position(|server| server.config.domain.as_str() == peer)
    }

    fn is_evil(&self, server: usize) -> bool {
        self.evil.as_ref().is_some_and(|evil| evil.server == server)
    }

    fn after(&mut self, delay: i64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((self.now + delay, self.order, self.order)));
        self.happenings.insert(self.order, happening);
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Adds to the digest of all that happens.
    fn note(&mut self, what: &impl std::fmt::Debug) {
        use std::fmt::Write as _;
        struct Hash(u64);
        impl std::fmt::Write for Hash {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                for byte in text.bytes() {
                    self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
                }
                Ok(())
            }
        }
        let mut hash = Hash(self.trace);
        let _ = write!(hash, "{what:?}");
        self.trace = hash.0;
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{:>9} {}", self.now, what());
        }
    }

    /// The faults are over: links heal, disks have room, servers start, the hostile one is content with what it has done.
    fn heal(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        self.healed_at = Some(self.now);
        self.say(|| "the faults are over".to_owned());
        self.network.heal();
        self.unstall();
        for server in 0..self.servers.len() {
            self.servers[server].full = false;
            self.servers[server].slow_disk = false;
            self.start(server);
        }
        self.after(1_000, Happening::Look);
    }

    /// Whether all agree; if they take too long, that is a violation.
    fn look(&mut self) {
        let healed = self.healed_at.unwrap_or(self.now);
        match self.disagreement() {
            None => {
                self.settled_at = Some(self.now);
                let verdict = self.oracle.ends(
                    &self
                        .servers
                        .iter()
                        .map(|server| server.node.as_ref())
                        .collect::<Vec<_>>(),
                );
                self.judge(verdict);
            }
            Some(what) if self.now - healed >= SETTLE_MS => {
                for node in self.servers.iter().filter_map(|server| server.node.as_ref()) {
                    self.say(|| node.describe());
                }
                self.violate("L1", what);
            }
            Some(_) => self.after(1_000, Happening::Look),
        }
    }

    /// What is not yet as it should be in the end.
    fn disagreement(&mut self) -> Option<String> {
        if let Some(waiting) = self.users.waiting(self.evil.as_ref().map(|evil| evil.server)) {
            return Some(waiting);
        }
        let nodes: Vec<Option<&Node>> = self.servers.iter().map(|server| server.node.as_ref()).collect();
        self.oracle.disagreement(&nodes)
    }
}

impl Server {
    fn new(index: usize, seed: u64, dice: &mut Dice) -> Self {
        let mut config = Config::new(keys::domain(index), keys::signer(index), keys::roots(), seed);
        config.idle_ms = *dice.pick(&[5_000, 60_000]).unwrap_or(&60_000);
        config.snapshot_every = *dice.pick(&[5, 40, 1_000]).unwrap_or(&1_000);
        config.history_bytes = *dice.pick(&[1, 3_000, 300_000]).unwrap_or(&300_000);
        Self {
            node: None,
            disk: None,
            config,
            life: 0,
            skew: 0,
            tick_at: None,
            ticks: (0, 0),
            full: false,
            slow_disk: false,
            synced_at: 0,
        }
    }
}

fn kind_of(happening: &Happening) -> (u8, usize) {
    match happening {
        Happening::Tick { server, .. } => (0, *server),
        Happening::Sync { server, .. } => (1, *server),
        Happening::Signed { server, .. } => (2, *server),
        Happening::Deliver { from, to, .. } => (3, from * 8 + to),
        Happening::Late { from, to, .. } => (4, from * 8 + to),
        Happening::Dialled { from, to } => (5, from * 8 + to),
        Happening::Redial { from, to, .. } => (6, from * 8 + to),
        Happening::Expire { from, to } => (7, from * 8 + to),
        Happening::Silence { from, to, .. } => (8, from * 8 + to),
        Happening::Bounce { server, .. } => (9, *server),
        Happening::User(user) => (10, *user),
        Happening::Restart { server } => (11, *server),
        Happening::Fault => (12, 0),
        Happening::Room { server } => (13, *server),
        Happening::Move => (14, 0),
        Happening::Tampered { to, .. } => (15, *to),
        Happening::Look => (16, 0),
        Happening::Heal => (18, 0),
        Happening::Reboot { server, .. } => (17, *server),
        Happening::Break { from, to, .. } => (19, from * 8 + to),
    }
}

/// The names of all faults and moves that a run must have seen.
#[must_use]
pub fn kinds() -> Vec<&'static str> {
    faults::KINDS.iter().chain(&evil::KINDS).copied().collect()
}
/// Runs the world of a seed. A panic in it is a violation like others.
#[must_use]
pub fn run(seed: u64, verbose: bool) -> Outcome {
    let run = move || {
        let world = World::new(seed);
        if verbose { world.verbose() } else { world }.run()
    };
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome {
            seed,
            violation: Some(Violation {
                promise: "panic",
                what: text.unwrap_or_default(),
            }),
            ..Outcome::default()
        }
    })
}
