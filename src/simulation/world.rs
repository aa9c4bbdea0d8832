//! What is outside of the cores: time, what is to occur and when, the network and the servers. One world to a thread.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Write;
use std::task::Waker;

use tokio::time::Instant;

use super::caller::Environment;
use super::cluster::Topology;
use super::invariants::Watched;
use super::leftovers::Leftovers;
use super::network::{Connection, ConnectionId, Side};
use super::node::Node;
use super::process::Process;
use super::quiet::Quiet;
use super::reports::Reports;
use super::server::data::Time;
use super::story::Story;

/// What happens at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occurrence {
    /// A connection attempt reaches its end, one way or the other.
    Connect(ConnectionId),
    /// Something has come to this end of a connection.
    Arrival(ConnectionId, Side),
    /// A server looks at what it does on time alone.
    Tick(usize),
    /// A replica gets what its master has.
    Replicate(usize),
    /// A server is up again.
    Restart(usize),
    /// A node of a cluster hears from the others.
    Gossip(usize),
    /// The others decide what becomes of a node that they miss.
    Elect(usize),
    /// What is in a slot moves; true: and then the slot.
    Move(u16, bool),
    /// A fault of the story is over.
    Heal(usize),
    /// An event loop takes its letters.
    Letters(usize),
    /// A process that was stopped goes on.
    Resume(usize),
    /// The story goes on.
    Act(usize),
    /// Somebody looks at what is left in redis.
    Look,
    /// Every waiter has been served.
    Served,
}

pub struct World {
    pub story: Story,
    pub random: fastrand::Rng,
    pub connections: BTreeMap<ConnectionId, Connection>,
    pub last_connection: ConnectionId,
    pub nodes: Vec<Node>,
    /// The node that counts as the master.
    pub master: usize,
    /// The one before, and until when a name may still lead there.
    pub former_master: usize,
    pub name_settles: Time,
    /// No name is known before.
    pub nameless_until: Time,
    /// When an old master has last learned that it is none any more.
    pub demoted: Time,
    /// When a replica was last made the master, or lost its data.
    pub replicas_broken: Time,
    pub cluster: Option<Topology>,
    pub processes: Vec<Process>,
    /// Who waits for a process to go on.
    pub stopped: Vec<(usize, Waker)>,
    pub environments: Vec<Environment>,
    pub watched: Vec<Watched>,
    pub leftovers: Leftovers,
    pub quiet: Quiet,
    pub reports: Reports,
    /// Keys and values that others than the package have touched.
    pub excused: BTreeSet<(String, String)>,
    /// Everything that was wrong.
    pub offences: Vec<String>,
    pub counts: Counts,
    queue: BinaryHeap<Reverse<(Time, u64, Occurrence)>>,
    scheduled: u64,
    waker: Option<Waker>,
    start: Instant,
    trace: Option<String>,
}

/// What a run did, to see that it did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub stories: u64,
    pub acquired: u64,
    pub lost: u64,
    pub released: u64,
    pub failed: u64,
    pub connections: u64,
    pub deliveries: u64,
    pub steps: u64,
    /// The most commands that a process sent in a second.
    pub busiest: u64,
    /// The most connections that a process began to make in a second.
    pub most_connects: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.stories += other.stories;
        self.acquired += other.acquired;
        self.lost += other.lost;
        self.released += other.released;
        self.failed += other.failed;
        self.connections += other.connections;
        self.deliveries += other.deliveries;
        self.steps += other.steps;
        self.busiest = self.busiest.max(other.busiest);
        self.most_connects = self.most_connects.max(other.most_connects);
    }
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Uses this thread's world.
pub fn with<Result>(use_it: impl FnOnce(&mut World) -> Result) -> Result {
    try_with(use_it).expect("a simulation runs on this thread")
}

/// The same; `None` where no simulation runs any more.
pub fn try_with<Result>(use_it: impl FnOnce(&mut World) -> Result) -> Option<Result> {
    WORLD.with_borrow_mut(|world| world.as_mut().map(use_it))
}

/// Begins a world. The runtime's time must stand still.
pub fn begin(world: World) {
    START.set(Some(world.start));
    WORLD.set(Some(world));
}

pub fn end() -> Option<World> {
    WORLD.take()
}

/// The time since the world began.
pub fn elapsed() -> std::time::Duration {
    START.get().map_or(std::time::Duration::ZERO, |start| start.elapsed())
}

/// The same in whole milliseconds.
pub fn now() -> Time {
    Time::try_from(elapsed().as_millis()).unwrap_or(Time::MAX)
}

impl World {
    pub fn new(story: Story, traced: bool) -> Self {
        Self {
            random: fastrand::Rng::with_seed(story.seed ^ 0x5eed_0f0d_1ce5),
            connections: BTreeMap::new(),
            last_connection: 0,
            nodes: Vec::new(),
            master: 0,
            former_master: 0,
            name_settles: 0,
            nameless_until: 0,
            demoted: 0,
            replicas_broken: 0,
            cluster: None,
            processes: Vec::new(),
            stopped: Vec::new(),
            environments: Vec::new(),
            watched: Vec::new(),
            leftovers: Leftovers::default(),
            quiet: Quiet::default(),
            reports: Reports::default(),
            excused: BTreeSet::new(),
            offences: Vec::new(),
            counts: Counts::default(),
            queue: BinaryHeap::new(),
            scheduled: 0,
            waker: None,
            start: Instant::now(),
            trace: traced.then(String::new),
            story,
        }
    }

    /// Something is to occur. What is scheduled first occurs first, at one moment.
    pub fn schedule(&mut self, at: Time, occurrence: Occurrence) {
        self.scheduled += 1;
        let is_first = self.next().is_none_or(|next| at < next);
        self.queue.push(Reverse((at, self.scheduled, occurrence)));
        if is_first && let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Who is to be woken when something is scheduled that is sooner than the rest.
    pub fn set_waker(&mut self, waker: &Waker) {
        self.waker = Some(waker.clone());
    }

    /// When something occurs next.
    pub fn next(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// What occurs now, or should have.
    pub fn take_due(&mut self, now: Time) -> Option<Occurrence> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop().map(|Reverse((_, _, occurrence))| occurrence)
    }

    pub fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    /// Adds a line to the trace.
    pub fn trace(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let line = line(self);
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>9.3} {line}", elapsed().as_secs_f64());
        }
    }

    pub fn take_trace(&mut self) -> String {
        self.trace.take().unwrap_or_default()
    }

    /// Something is wrong.
    pub fn offence(&mut self, what: String) {
        self.trace(|_| format!("OFFENCE: {what}"));
        self.offences.push(format!("{:.3} s: {what}", elapsed().as_secs_f64()));
    }
}
