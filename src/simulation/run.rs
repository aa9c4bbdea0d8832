//! Lives through a story: real cores on a clock that stands still until nobody has anything to do.

use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{Instant, Sleep, sleep_until};

use super::begin::begin;
use super::chance;
use super::process::{self, enter};
use super::replicas::HEAL_STALE;
use super::server::data::Time;
use super::story::{Action, Story};
use super::stream;
use super::world::{self, Counts, Occurrence, World, now};
use crate::connection::{resolve, socket};
use crate::dispatcher::Core;
use crate::dispatcher::request::Request;
use crate::model::claim;
use crate::runtime::fail_point;
use crate::runtime::owner::{self, Processes};
use crate::time::clock;

/// What came of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub offences: Vec<String>,
    pub counts: Counts,
    /// What happened; empty if it was not asked for.
    pub trace: String,
}

/// How often the world may turn within one millisecond.
const MOST_TURNS: u32 = 20_000;

/// How long after the last release everything must be over: idle connections are closed after a minute.
const AFTERWARDS: Time = 75_000;

/// The first story of a cluster makes maps that the process has once, so it is lived through twice.
static FIRST: Once = Once::new();

/// Lives through a story. One of a cluster has a thread of its own: the first maps and the first random numbers of a
/// thread decide of all others, and these come from the seed.
pub fn run(story: &Story, traced: bool) -> Outcome {
    if story.cluster.is_none() {
        return live(story, traced);
    }
    let alone = || {
        chance::simulate(Some(story.seed));
        live(story, traced)
    };
    let run_alone =
        || std::thread::scope(|scope| scope.spawn(alone).join()).unwrap_or_else(|panic| resume_unwind(panic));
    FIRST.call_once(|| drop(run_alone()));
    run_alone()
}

fn live(story: &Story, traced: bool) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    fastrand::seed(story.seed);
    claim::simulate(true);
    fail_point::ignore(true);
    clock::simulate(Some(process::read_clock));
    resolve::simulate(Some(|host| world::with(|world| world.look_up(host))));
    socket::simulate(Some(stream::connect));
    owner::simulate(Some(Processes { current: process::current, enter: process::try_enter }));
    let outcome = runtime.block_on(async {
        world::begin(World::new(story.clone(), traced));
        let mut life = pin!(Life::default());
        std::future::poll_fn(|context| life.as_mut().get_mut().poll(context)).await;
        let mut world = world::end().unwrap();
        world.check_end();
        world.counts.stories = 1;
        let trace = world.take_trace();
        Outcome { offences: std::mem::take(&mut world.offences), counts: world.counts, trace }
    });
    claim::simulate(false);
    fail_point::ignore(false);
    clock::simulate(None);
    resolve::simulate(None);
    socket::simulate(None);
    owner::simulate(None);
    outcome
}

#[derive(Default)]
struct Life {
    cores: Vec<LocalSet>,
    timer: Option<Pin<Box<Sleep>>>,
    /// In this millisecond.
    turns: (Time, u32),
}

impl Life {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.timer.is_none() {
            self.timer = Some(Box::pin(sleep_until(Instant::now())));
            self.cores = begin(context.waker());
        }
        loop {
            let mut has_turned = false;
            while let Some(occurrence) = world::with(|world| world.take_due(now())) {
                has_turned = true;
                Self::occur(occurrence);
            }
            for (number, core) in self.cores.iter_mut().enumerate() {
                let (waker, clock) = world::with(|world| {
                    let process = &world.processes[number];
                    (process.runs() && process.alarm.take())
                        .then(|| (Waker::from(Arc::clone(&process.alarm)), process.clock))
                })
                .unzip();
                if let (Some(waker), Some(clock)) = (waker, clock) {
                    has_turned = true;
                    enter(number, clock);
                    let _ = Pin::new(core).poll(&mut Context::from_waker(&waker));
                }
            }
            if !has_turned {
                break;
            }
            world::with(World::check);
            if self.is_stuck() {
                world::with(|world| {
                    world.offence("time stands still: something goes round in circles".into());
                });
                return Poll::Ready(());
            }
        }
        let (end, next) = world::with(|world| {
            let end = world.story.served_by() + AFTERWARDS;
            (end, world.next().unwrap_or(end).min(end))
        });
        if now() >= end {
            return Poll::Ready(());
        }
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(Instant::now() + Duration::from_millis(next.saturating_sub(now())));
            if timer.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn is_stuck(&mut self) -> bool {
        let (at, turns) = self.turns;
        self.turns = if at == now() { (at, turns + 1) } else { (now(), 0) };
        self.turns.1 > MOST_TURNS
    }

    fn occur(occurrence: Occurrence) {
        if let Occurrence::Act(index) = occurrence {
            return Self::act(index);
        }
        world::with(|world| match occurrence {
            Occurrence::Connect(id) => world.connected(id),
            Occurrence::Arrival(id, side) => world.arrive(id, side),
            Occurrence::Tick(node) => world.tick(node),
            Occurrence::Replicate(node) => world.replicate(node),
            Occurrence::Restart(node) => world.restart(node),
            Occurrence::Gossip(node) => world.learn_topology(node),
            Occurrence::Elect(node) => world.elect(node),
            Occurrence::Move(slot, is_last) => world.move_slot(slot, is_last),
            Occurrence::Heal(index) if index >= HEAL_STALE => world.learn(index - HEAL_STALE),
            Occurrence::Heal(index) => world.heal(index),
            Occurrence::Letters(number) => world.read_letters(number),
            Occurrence::Resume(process) => world.resume(process),
            Occurrence::Look => world.look_for_leftovers(),
            Occurrence::Served => world.check_served(),
            Occurrence::Act(_) => {}
        });
    }

    /// A step of the story, or its end.
    fn act(index: usize) {
        let actions = world::with(|world| match world.story.steps.get(index) {
            // Of a program that was stopped.
            Some(_) if now() >= world.story.end => Vec::new(),
            Some((_, action)) => vec![action.clone()],
            None if index == world.story.steps.len() => world.end_of_story(),
            None => world.let_go(),
        });
        for action in actions {
            let asked = world::with(|world| {
                world.trace(|_| format!("{action:?}"));
                world.is_troubled(&action);
                let Some(number) = action.caller() else {
                    world.befall(index, &action);
                    return None;
                };
                // The program goes on once it can.
                let one = &world.environments[number];
                let process = &world.processes[one.process];
                let until = one.blocked_until.max(process.stopped_until);
                if !process.is_alive {
                    return None;
                }
                if until > now() {
                    world.schedule(until, Occurrence::Act(index));
                    return None;
                }
                if let Action::Block { time, .. } = action {
                    world.environments[number].blocked_until = now() + time;
                    return None;
                }
                let (core, number, clock) = (process.core.clone(), one.process, process.clock);
                enter(number, clock);
                Some((core, world.ask(action.caller()?, &action)?))
            });
            if let Some((core, request)) = asked {
                submit(&core, request);
            }
        }
    }
}

fn submit(core: &Core, request: Request) {
    core.submit(request);
}

impl Drop for Life {
    fn drop(&mut self) {
        // What the cores drop has nowhere to go any more.
        world::end();
    }
}

impl Action {
    fn caller(&self) -> Option<usize> {
        match self {
            Self::Lock { caller, .. }
            | Self::Wait { caller, .. }
            | Self::Cancel { caller, .. }
            | Self::Release { caller, .. }
            | Self::Renew { caller, .. }
            | Self::Block { caller, .. }
            | Self::Leave { caller } => Some(*caller),
            _ => None,
        }
    }
}
