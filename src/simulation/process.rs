//! A simulated process: a whole core on its own clock, that can be stopped, and can end at any moment.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use super::server::data::Time;
use super::world::{self, Occurrence, World, now};
use crate::dispatcher::Core;

/// The way to the servers.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Link {
    pub delay: Time,
    pub jitter: Time,
    pub slow_until: Time,
    pub slow_by: Time,
    /// Nobody answers attempts to connect before.
    pub unreachable_until: Time,
}

/// What the world knows of a process.
pub struct Process {
    pub core: Core,
    pub link: Link,
    pub clock: Clock,
    /// Stopped until then.
    pub stopped_until: Time,
    pub is_alive: bool,
    /// For how long it was stopped in all.
    pub stopped_for: Time,
    pub alarm: Arc<Alarm>,
    /// How many commands it has sent in this second.
    pub sent: (Time, u64),
    /// How many connections it has begun to make in this second.
    pub connects: (Time, u64),
    /// True while the core has no task for anybody.
    pub at_rest: std::rc::Rc<dyn Fn() -> bool>,
}

/// A clock that runs a little fast or slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    pub offset: u64,
    pub parts_per_million: i64,
}

impl Clock {
    /// Later with each reading, as a real one.
    fn read(self) -> u64 {
        let elapsed = world::elapsed().as_nanos();
        let (last, readings) = READINGS.get();
        READINGS.set(if last == elapsed { (last, readings + 1) } else { (elapsed, 0) });
        let elapsed = i128::try_from(elapsed).unwrap_or_default() + i128::from(READINGS.get().1);
        let drift = elapsed * i128::from(self.parts_per_million) / 1_000_000;
        self.offset + u64::try_from(elapsed + drift).unwrap_or_default()
    }
}

thread_local! {
    /// How often a clock was read in this moment.
    static READINGS: Cell<(u128, u32)> = const { Cell::new((0, 0)) };
    static CURRENT: Cell<(usize, Clock)> = Cell::new((0, Clock::default()));
}

/// The process whose code runs.
pub fn current() -> usize {
    CURRENT.get().0
}

/// The clock of the process whose code runs: what `Moment::now` reads.
pub fn read_clock() -> u64 {
    CURRENT.get().1.read()
}

pub fn enter(process: usize, clock: Clock) {
    CURRENT.set((process, clock));
}

/// Has the code of a process run from here on; false while it is stopped.
pub fn try_enter(process: usize, context: &mut Context<'_>) -> bool {
    // At the end of a story nobody runs any more.
    let clock = world::try_with(|world| {
        let one = &world.processes[process];
        if !one.runs() {
            world.stopped.push((process, context.waker().clone()));
            return None;
        }
        Some(one.clock)
    });
    let Some(clock) = clock.flatten() else { return false };
    enter(process, clock);
    true
}

/// Remembers that a process has something to do.
pub struct Alarm {
    is_set: AtomicBool,
    main: Waker,
}

impl Alarm {
    pub fn new(main: Waker) -> Arc<Self> {
        Arc::new(Self { is_set: AtomicBool::new(true), main })
    }

    pub fn take(&self) -> bool {
        self.is_set.swap(false, Ordering::Relaxed)
    }

    pub fn set(&self) {
        self.is_set.store(true, Ordering::Relaxed);
        self.main.wake_by_ref();
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
    }
}

impl Process {
    pub fn runs(&self) -> bool {
        self.is_alive && self.stopped_until <= now()
    }

    /// Notes commands that it sends; returns how many there were in this second.
    pub fn send(&mut self, commands: u64) -> u64 {
        in_this_second(&mut self.sent, commands)
    }

    /// Notes that it begins to connect; returns how often it has in this second.
    pub fn connect(&mut self) -> u64 {
        in_this_second(&mut self.connects, 1)
    }

    /// For how long its code could run so far.
    pub fn ran(&self) -> Time {
        now() - self.stopped_for.min(now())
    }
}

fn in_this_second(count: &mut (Time, u64), more: u64) -> u64 {
    let second = now() / 1_000;
    *count = if count.0 == second { (second, count.1 + more) } else { (second, more) };
    count.1
}

impl World {
    /// SIGSTOP, or a machine that sleeps.
    pub fn stop(&mut self, process: usize, until: Time) {
        let one = &mut self.processes[process];
        if !one.is_alive || one.stopped_until > now() {
            return;
        }
        one.stopped_until = until;
        one.stopped_for += until - now();
        self.schedule(until, Occurrence::Resume(process));
    }

    /// A process goes on.
    pub fn resume(&mut self, process: usize) {
        self.processes[process].alarm.set();
        for (_, waker) in self.stopped.extract_if(.., |(of, _)| *of == process) {
            waker.wake();
        }
    }

    /// The process ends at once: its system closes its connections.
    pub fn kill(&mut self, process: usize) {
        self.processes[process].is_alive = false;
        for id in self.connections_of(process) {
            self.hang_up(id, super::network::Side::Server);
        }
        for number in 0..self.environments.len() {
            if self.environments[number].process == process {
                self.environments[number].is_open = false;
            }
        }
        self.watched.retain(|watched| watched.process != process);
    }
}
