//! What a simulated caller reads: the answers and events in the mailbox of its environment, and what it does about them.

use std::sync::Arc;

use super::caller::{Call, Kind};
use super::invariants::Watched;
use super::process::enter;
use super::world::{Occurrence, World, now};
use crate::addon::mailbox::Letter;
use crate::dispatcher::request::Request;
use crate::model::answer::{Answer, CallFailure, Event};
use crate::model::reservation::Reservation;

impl World {
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
                self.check_replicas(number, &asked, &reservation);
                self.taken(&asked.key);
                self.supersede(number, &reservation);
                self.environments[number].held.push(Arc::clone(&reservation));
                let process = self.environments[number].process;
                enter(process, self.processes[process].clock);
                self.watch(Watched::new(number, process, asked.asked, reservation));
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
                if failure.error.code() == "ERR_TOO_FEW_REPLICAS" {
                    self.check_too_few(number, &asked);
                }
                if failure.error.code() == "ERR_INTERNAL" {
                    self.offence(format!("an internal error: {}", failure.error));
                }
            }
        }
    }

    /// A caller gets a key of which it still has an older value. As the JavaScript side does, it tells the loss of that
    /// and forgets it.
    fn supersede(&mut self, number: usize, newer: &Reservation) {
        let held = &mut self.environments[number].held;
        for older in held.extract_if(.., |one| one.key() == newer.key()).collect::<Vec<_>>() {
            let Some((request, _)) = Request::supersede(&older, &newer.value()) else {
                self.lapsed(&older);
                continue;
            };
            if self.nodes.iter().any(|node| node.is_stale_master) {
                self.excuse_one(&older);
            }
            self.told(number, &older);
            self.processes[self.environments[number].process].core.submit(request);
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
