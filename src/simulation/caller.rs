//! Simulated callers: an environment with its event loop, which may be blocked, and what its program asks of the core.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::invariants::Watched;
use super::process::enter;
use super::server::data::Time;
use super::story::{Action, EnvironmentPlan};
use super::world::{self, Occurrence, World, now};
use crate::addon::mailbox::{Letter, Mailbox};
use crate::dispatcher::request::Request;
use crate::model::answer::{Answer, CallFailure, Caller, Event, Ticket};
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
enum Kind {
    Lock,
    Wait { timeout: Option<Time>, is_cancelled: bool },
    Release,
    Renew,
}

/// A call without an answer.
pub struct Call {
    kind: Kind,
    key: String,
    asked: Time,
    /// How long its process had run.
    asked_ran: Time,
    /// What a release is to release.
    releases: Vec<Arc<Reservation>>,
}

/// How much later than promised an answer may come: timers fire late, and a watchdog that was late itself waits.
const TOLERANCE: Time = 300;

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

    fn begin(&mut self, kind: Kind, key: &str, asked_ran: Time) -> Ticket {
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

    /// How long the oldest call may still take; 0: it is late.
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

    /// The event loop turns: it takes its letters, unless it is blocked or its process is stopped.
    pub fn read_letters(&mut self, number: usize) {
        let one = &self.environments[number];
        let process = &self.processes[one.process];
        if !process.is_alive || !one.is_open {
            return;
        }
        let until = one.blocked_until.max(process.stopped_until);
        if until > now() {
            return self.schedule(until, Occurrence::Letters(number));
        }
        loop {
            let (letters, more) = self.environments[number].mailbox.take(1_000);
            for letter in letters {
                self.read(number, letter);
            }
            if !more {
                return;
            }
        }
    }

    fn read(&mut self, number: usize, letter: Letter) {
        match letter {
            Letter::Answer { call, answer } => self.answered(number, call, answer),
            Letter::Event(Event::Lost { reservation, .. }) => {
                self.trace(|_| format!("caller {number}: told of the loss of {}", reservation.key()));
                // As the addon does: a release that was asked for since tells it.
                if reservation.tell_loss() {
                    self.told(number, &reservation);
                }
            }
            Letter::Event(Event::Lapsed { reservation }) => {
                self.trace(|_| format!("caller {number}: {} has lapsed", reservation.key()));
                // It may be released all the same.
                self.lapsed(&reservation);
            }
            Letter::Event(event) => self.trace(|_| format!("caller {number}: {}", line_of(&event))),
            Letter::LinesDropped(count) => self.trace(|_| format!("caller {number}: {count} lines dropped")),
        }
    }

    fn answered(&mut self, number: usize, call: u64, answer: Result<Answer, Box<CallFailure>>) {
        self.trace(|_| format!("caller {number}: call {call} is answered {}", words_of(&answer)));
        let Some(asked) = self.environments[number].calls.remove(&call) else {
            return self.offence(format!("call {call} of caller {number} is answered twice"));
        };
        match answer {
            Ok(Answer::Acquired(reservation)) => {
                self.counts.acquired += 1;
                self.check_order(number, call, &asked);
                // As the JavaScript side does: an older one of this key, whose release has failed, is forgotten.
                for older in self.environments[number]
                    .held
                    .extract_if(.., |one| one.key() == reservation.key())
                    .collect::<Vec<_>>()
                {
                    self.lapsed(&older);
                }
                self.environments[number].held.push(Arc::clone(&reservation));
                let process = self.environments[number].process;
                enter(process, self.processes[process].clock);
                self.watch(Watched::new(number, process, reservation));
            }
            Ok(Answer::Released(count)) => {
                if count != asked.releases.len() {
                    let wanted = asked.releases.len();
                    self.offence(format!("a release of {wanted} says that it freed {count}"));
                }
                self.counts.released += count as u64;
                for reservation in &asked.releases {
                    self.released(number, reservation);
                }
            }
            Ok(_) => {}
            Err(failure) => {
                self.counts.failed += 1;
                for loss in &failure.lost {
                    self.told(number, &loss.reservation);
                }
                let is_lost =
                    |one: &Reservation| failure.lost.iter().any(|loss| loss.reservation.id == one.id);
                let has_failed = |one: &Reservation| failure.failed.iter().any(|key| **key == *one.key());
                let freed: Vec<_> =
                    asked.releases.iter().filter(|one| !is_lost(one) && !has_failed(one)).cloned().collect();
                if asked.kind == Kind::Release && failure.released.unwrap_or(0) != freed.len() {
                    let (count, said) = (freed.len(), failure.released);
                    self.offence(format!("a release that failed in part freed {count} and says {said:?}"));
                }
                self.counts.released += freed.len() as u64;
                for reservation in freed {
                    self.released(number, &reservation);
                }
                if failure.error.code() == "ERR_INTERNAL" {
                    self.offence(format!("an internal error: {}", failure.error));
                }
            }
        }
    }

    /// Waiters of one process are served in the order in which they came.
    fn check_order(&mut self, number: usize, call: u64, asked: &Call) {
        if !matches!(asked.kind, Kind::Wait { .. }) {
            return;
        }
        let earlier = self.environments[number].calls.range(..call).find(|(_, other)| {
            other.key == asked.key
                && match other.kind {
                    Kind::Wait { timeout, is_cancelled } => {
                        !is_cancelled && timeout.is_none_or(|timeout| other.asked + timeout > now())
                    }
                    _ => false,
                }
        });
        if let Some((earlier, _)) = earlier {
            let what =
                format!("caller {number}: call {call} overtakes call {earlier}, both wait for {}", asked.key);
            self.offence(what);
        }
    }
}

fn line_of(event: &Event) -> String {
    match event {
        Event::Extended { reservation, ttl } => {
            format!("{} extended for {} ms", reservation.key(), ttl.as_millis())
        }
        Event::ExtendFailed { reservation, error } => {
            format!("{} could not be extended: {error}", reservation.key())
        }
        Event::Outage { error, .. } => format!("outage: {error}"),
        Event::Attempted { key, holder, .. } => format!("{key} is held by {holder:?}"),
        Event::PollingOnly { reason, .. } => format!("polls only: {reason}"),
        Event::Lost { .. } | Event::Lapsed { .. } => String::new(),
    }
}

fn words_of(answer: &Result<Answer, Box<CallFailure>>) -> String {
    match answer {
        Ok(Answer::Acquired(reservation)) => format!("acquired {:?}", reservation.claim),
        Ok(other) => format!("{other:?}"),
        Err(failure) => {
            format!("{}, released {:?}, lost {}", failure.error, failure.released, failure.lost.len())
        }
    }
}
