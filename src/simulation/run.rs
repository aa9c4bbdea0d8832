//! Lives through a story: real cores on a clock that stands still until nobody has anything to do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{Instant, Sleep, sleep_until};

use super::caller::Environment;
use super::node::{HEAL_STALE, NAME, Node};
use super::process::{self, Alarm, Clock, Process, enter};
use super::server::data::Time;
use super::server::sentinel::{Sentinel, Watched as Master};
use super::server::{Config, Server};
use super::story::{Action, Story, settings_of};
use super::stream;
use super::world::{self, Counts, Occurrence, World, now};
use crate::connection::{resolve, socket};
use crate::dispatcher::Core;
use crate::dispatcher::request::Request;
use crate::model::claim;
use crate::model::endpoint::{DEFAULT_CLIENT_NAME, Endpoint, Host, Login, Place, Protocol};
use crate::runtime::fail_point;
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

/// Lives through a story.
pub fn run(story: &Story, traced: bool) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    fastrand::seed(story.seed);
    claim::simulate(true);
    fail_point::ignore(true);
    clock::simulate(Some(process::read_clock));
    resolve::simulate(Some(|host| world::with(|world| world.look_up(host))));
    socket::simulate(Some(stream::connect));
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
            self.begin(context.waker());
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

    /// Makes servers, processes and callers.
    fn begin(&mut self, waker: &Waker) {
        self.timer = Some(Box::pin(sleep_until(Instant::now())));
        let story = world::with(|world| world.story.clone());
        let address = |number: usize| {
            let last = u8::try_from(number + 1).unwrap();
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 6379)
        };
        let host = |number: usize| Host { name: address(number).ip().to_string(), port: 6379 };
        let mut nodes = Vec::new();
        for number in 0..story.nodes + story.sentinels {
            let mut config = Config::new(story.version);
            config.active_expiry = story.active_expiry;
            config.address = address(number).to_string();
            let mut server = Server::new(config, story.seed ^ number as u64, 0);
            for command in &story.denied {
                let error = format!("NOPERM this user has no permissions to run the '{command}' command");
                server.faults.refuse_with(command, &error);
            }
            if number >= story.nodes {
                let master = Master { host: host(0).name, port: 6379, epoch: 1 };
                server.sentinel = Some(Sentinel { masters: [("mymaster".to_owned(), master)].into() });
            } else if number > 0 {
                server.demote();
            }
            nodes.push(Node::new(server, address(number), 1 + 7 * number as u64 + story.lag));
        }
        let place = if story.sentinels == 0 && story.nodes > 1 {
            Place::Server(Host { name: NAME.into(), port: 6379 })
        } else if story.sentinels == 0 {
            Place::Server(host(0))
        } else {
            Place::Sentinels {
                sentinels: (story.nodes..story.nodes + story.sentinels).map(host).collect(),
                name: "mymaster".into(),
                user: None,
                password: crate::model::secret::Secret::default(),
            }
        };
        let login = Login {
            client_name: DEFAULT_CLIENT_NAME.into(),
            protocol: story.speaks_resp2.then_some(Protocol::Resp2),
            ..Login::default()
        };
        let endpoint = Endpoint { place, login, tls: None, waits_for_replicas: None };
        let mut processes = Vec::new();
        for (number, plan) in story.processes.iter().enumerate() {
            let (core, serves, at_rest) = Core::on_this_thread();
            let local = LocalSet::new();
            let clock = Clock {
                offset: 1_000_000_000 * (number as u64 + 1),
                parts_per_million: plan.parts_per_million,
            };
            enter(number, clock);
            local.spawn_local(serves);
            self.cores.push(local);
            processes.push(Process {
                core,
                // Each process has its own: so no other run shares it.
                endpoint: Arc::new(endpoint.clone()),
                link: plan.link,
                clock,
                stopped_until: 0,
                is_alive: true,
                stopped_for: 0,
                alarm: Alarm::new(waker.clone()),
                sent: (0, 0),
                connects: (0, 0),
                at_rest: Rc::new(at_rest),
            });
        }
        let environments = story.environments.iter().enumerate().map(|(number, plan)| {
            let endpoint = Arc::clone(&processes[plan.process].endpoint);
            Environment::new(number, plan, settings_of(number, plan, endpoint))
        });
        let environments = environments.collect();
        world::with(|world| {
            world.set_waker(waker);
            world.nodes = nodes;
            world.environments = environments;
            world.processes = processes;
            for (index, (at, _)) in story.steps.iter().enumerate() {
                world.schedule(*at, Occurrence::Act(index));
            }
            world.schedule(0, Occurrence::Look);
            world.schedule(story.end, Occurrence::Act(story.steps.len()));
            for at in (story.end..story.served_by()).step_by(500) {
                world.schedule(at, Occurrence::Act(story.steps.len() + 1));
            }
            world.schedule(story.served_by() + 5_000, Occurrence::Served);
        });
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
            Occurrence::Heal(index) if index >= HEAL_STALE => world.learn(index - HEAL_STALE),
            Occurrence::Heal(index) => world.heal(index),
            Occurrence::Letters(number) => world.read_letters(number),
            Occurrence::Resume(process) => world.processes[process].alarm.set(),
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
