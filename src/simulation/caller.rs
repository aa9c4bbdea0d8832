//! Simulated callers: an environment with its event loop, which may be blocked, and what its program asks of the core.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::server::data::Time;
use super::story::{Action, EnvironmentPlan};
use super::world::{self, Occurrence, World, now};
use crate::addon::mailbox::Mailbox;
use crate::dispatcher::request::Request;
use crate::model::answer::{Caller, Ticket};
use crate::model::reservation::Reservation;
use crate::model::settings::Settings;

/// An environment: its mailbox, its calls, and what it holds.
pub struct Environment {
    pub process: usize,
    pub caller: Arc<Caller>,
    pub mailbox: Arc<Mailbox>,
    pub settings: Arc<Settings>,
    /// Of all that it has asked for.
    pub shortest_ttl: Time,
    /// Its event loop is blocked until then.
    pub blocked_until: Time,
    pub is_open: bool,
    pub calls: BTreeMap<u64, Call>,
    pub held: Vec<Arc<Reservation>>,
    last_call: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Lock,
    Wait { timeout: Option<Time>, is_cancelled: bool },
    Release,
    Renew,
}

/// A call without an answer.
pub struct Call {
    pub kind: Kind,
    pub key: String,
    pub asked: Time,
    /// How long its process had run.
    pub asked_ran: Time,
    /// What a release is to release.
    pub releases: Vec<Arc<Reservation>>,
}

/// How much later than promised an answer may come: timers fire late, and a watchdog that was late itself waits.
pub const TOLERANCE: Time = 300;

/// How long a call tries where connections are refused, as documented.
const REFUSED: Time = 500;

impl Call {
    /// True for a call that may have set this key, or is to release it.
    pub fn is_about(&self, key: &str) -> bool {
        self.key == key || self.key == "all"
    }
}

impl Environment {
    pub fn new(number: usize, plan: &EnvironmentPlan, settings: Settings) -> Self {
        let wake = move || {
            world::try_with(|world| world.schedule(now(), Occurrence::Letters(number)));
        };
        let mailbox = Arc::new(Mailbox::new(Box::new(wake)));
        let sink: Arc<Mailbox> = Arc::clone(&mailbox);
        Self {
            process: plan.process,
            caller: Arc::new(Caller { sink, environment: number as u64 }),
            mailbox,
            settings: Arc::new(settings),
            shortest_ttl: plan.ttl,
            blocked_until: 0,
            is_open: true,
            calls: BTreeMap::new(),
            held: Vec::new(),
            last_call: 0,
        }
    }

    pub fn begin(&mut self, kind: Kind, key: &str, asked_ran: Time) -> Ticket {
        self.last_call += 1;
        let call = Call { kind, key: key.to_owned(), asked: now(), asked_ran, releases: Vec::new() };
        self.calls.insert(self.last_call, call);
        Ticket::new(self.last_call, Arc::clone(&self.caller))
    }

    fn limit(&self, call: &Call) -> Option<Time> {
        let milliseconds = |duration: Duration| Time::try_from(duration.as_millis()).unwrap_or(Time::MAX);
        let command = milliseconds(self.settings.command_timeout);
        let connect = milliseconds(self.settings.connect_timeout);
        match call.kind {
            Kind::Wait { timeout, .. } => Some(timeout? + command + TOLERANCE),
            _ => Some(command + connect + REFUSED + TOLERANCE),
        }
    }

    /// How many calls wait for a resource.
    pub fn waits_for(&self, resource: &str) -> usize {
        let key = self.settings.key_of(resource);
        let waits =
            |call: &&Call| call.key == key && matches!(call.kind, Kind::Wait { is_cancelled: false, .. });
        self.calls.values().filter(waits).count()
    }

    /// When the first of the calls that wait for a resource was made.
    pub fn asked_at(&self, resource: &str) -> Option<Time> {
        let key = self.settings.key_of(resource);
        let waits =
            |call: &&Call| call.key == key && matches!(call.kind, Kind::Wait { is_cancelled: false, .. });
        self.calls.values().filter(waits).map(|call| call.asked).min()
    }

    /// The first call that should have been answered by now, in words.
    pub fn late_call(&self, ran: Time) -> Option<String> {
        let (number, call) = self.calls.iter().find(|(_, call)| {
            self.limit(call).is_some_and(|limit| ran.saturating_sub(call.asked_ran) > limit)
        })?;
        Some(format!(
            "{:?} of {} (call {number}, asked at {} ms) has no answer",
            call.kind, call.key, call.asked
        ))
    }
}

impl World {
    /// What a program asks for now. The request is submitted by the caller of this, once the world is free.
    pub fn ask(&mut self, number: usize, action: &Action) -> Option<Request> {
        let ran = self.processes[self.environments[number].process].ran();
        let one = &mut self.environments[number];
        if !one.is_open {
            return None;
        }
        let settings = Arc::clone(&one.settings);
        Some(match action {
            Action::Lock { key, .. } => {
                let ticket = one.begin(Kind::Lock, &settings.key_of(key), ran);
                Request::Lock { ticket, settings, resource: key.clone() }
            }
            Action::Wait { key, timeout, .. } => {
                let kind = Kind::Wait { timeout: *timeout, is_cancelled: false };
                let ticket = one.begin(kind, &settings.key_of(key), ran);
                let timeout = timeout.map(Duration::from_millis);
                Request::Wait { ticket, instance: 1, settings, resource: key.clone(), timeout }
            }
            Action::Cancel { key, .. } => {
                let wanted = settings.key_of(key);
                let (call, one_call) = one.calls.iter_mut().rev().find(|(_, call)| {
                    call.key == wanted && matches!(call.kind, Kind::Wait { is_cancelled: false, .. })
                })?;
                if let Kind::Wait { is_cancelled, .. } = &mut one_call.kind {
                    *is_cancelled = true;
                }
                let (call, environment) = (*call, one.caller.environment);
                Request::CancelWait { settings, resource: key.clone(), environment, call }
            }
            Action::Release { key, .. } => {
                let wanted = key.as_ref().map(|key| settings.key_of(key));
                let fits = |one: &&Arc<Reservation>| wanted.as_ref().is_none_or(|wanted| wanted == one.key());
                let asked: Vec<_> = one.held.iter().filter(fits).cloned().collect();
                if asked.is_empty() {
                    return None;
                }
                let ticket = one.begin(Kind::Release, wanted.as_deref().unwrap_or("all"), ran);
                let call = ticket.call;
                let request = Request::release(ticket, asked);
                if let Request::Release { reservations, .. } = &request {
                    one.calls.get_mut(&call)?.releases.clone_from(reservations);
                }
                request
            }
            Action::Renew { ttl, .. } => {
                let reservations = one.held.clone();
                if reservations.is_empty() {
                    return None;
                }
                let mut changed = (*settings).clone();
                changed.terms.ttl = Duration::from_millis(*ttl);
                one.settings = Arc::new(changed);
                one.shortest_ttl = one.shortest_ttl.min(*ttl);
                let is_alone = !one.calls.values().any(|call| call.kind == Kind::Renew);
                let ticket = one.begin(Kind::Renew, "all", ran);
                self.asked_for(&reservations, *ttl, is_alone);
                Request::Renew { ticket, reservations, ttl: Duration::from_millis(*ttl) }
            }
            Action::Leave { .. } => {
                one.is_open = false;
                one.mailbox.close();
                one.calls.clear();
                one.held.clear();
                let environment = one.caller.environment;
                self.watched.retain(|watched| watched.environment != number);
                Request::Leave { environment }
            }
            _ => return None,
        })
    }
}
