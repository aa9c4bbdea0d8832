//! What must be true at every moment of a simulation, and at its end.

use std::sync::Arc;
use std::time::Duration;

use super::process::{self, enter};
use super::server::data::Time;
use super::story::Story;
use super::world::{World, now};
use crate::model::lease::Terms;
use crate::model::reservation::{Phase, Reservation};
use crate::time::clock::Moment;

/// A reservation that a caller has been given.
pub struct Watched {
    pub environment: usize,
    pub process: usize,
    pub reservation: Arc<Reservation>,
    /// When its call was made.
    pub asked: Time,
    pub key: String,
    pub value: String,
    /// When its caller got it.
    pub since: Time,
    /// Its key was deleted, changed or forgotten by others. docs/guarantees.md excepts that.
    is_excused: bool,
    /// Its release had failed, and its lease has ended or its caller has got the key again since.
    has_lapsed: bool,
    /// The longest that its lease may last from now on, by what its caller has asked for.
    longest: Duration,
    /// When it has been held for long enough, as its caller wants it.
    last: Moment,
    /// When its key was to end, as it was when last seen; `None` once it was deleted while a release was under way.
    key_end: Option<Time>,
    /// Its lease was over by its own clock when it was lost; `None`: it was not lost so far.
    ran_out: Option<bool>,
    /// Since when its caller could have been told that it is over, in time for which its process ran.
    overdue_since: Option<Time>,
}

impl Watched {
    pub fn new(environment: usize, process: usize, asked: Time, reservation: Arc<Reservation>) -> Self {
        let (key, value) = (reservation.key().to_owned(), reservation.value());
        let Terms { ttl: longest, max_hold, .. } = reservation.settings().terms;
        // Of what was lost before its caller could read that it has it, nobody knows how.
        let ran_out = (reservation.phase() != Phase::Held).then_some(true);
        Self {
            environment,
            process,
            reservation,
            asked,
            key,
            value,
            since: now(),
            is_excused: false,
            has_lapsed: false,
            longest,
            last: max_hold.map_or(Moment::NEVER, |longest| Moment::now().after(longest)),
            key_end: Some(0),
            ran_out,
            overdue_since: None,
        }
    }
}

impl Watched {
    pub fn has(&self, value: &str) -> bool {
        self.value == value
    }

    pub fn is_excused(&self) -> bool {
        self.is_excused
    }
}

/// How long after the end of a lease its caller is told, at the most.
const TOLD_WITHIN: Time = 100;

/// The most commands of a process in a second, in whatever outage. These stories have a handful of callers.
pub const MAX_COMMANDS_A_SECOND: u64 = 1_500;

/// The most connections that a process begins to make in a second: pauses grow to 250 ms, and each try may be one to
/// each sentinel and one to the master.
const MAX_CONNECTS_A_SECOND: u64 = 100;

impl Story {
    /// The same, to each address of a name and to each node of a cluster.
    pub fn most_connects_a_second(&self) -> u64 {
        let nodes = self.cluster.map_or(1, |_| self.nodes as u64);
        MAX_CONNECTS_A_SECOND * nodes * (1 + self.addresses.len() as u64)
    }
}

impl World {
    /// A caller has got a lock.
    pub fn watch(&mut self, mut watched: Watched) {
        // What a master that is none any more has granted is excepted as the failover is.
        watched.is_excused = self.excused.contains(&(watched.key.clone(), watched.value.clone()))
            || self.nodes.iter().any(|node| {
                node.is_stale_master && node.text_at(&watched.key).is_some_and(|text| text == watched.value)
            });
        self.watched.push(watched);
    }

    /// Somebody else has changed a key, or is about to.
    pub fn excuse(&mut self, node: usize, key: &str) {
        self.is_changed_by_others(key);
        let Some(value) = self.nodes[node].text_at(key) else { return };
        for watched in &mut self.watched {
            watched.is_excused |= watched.key == key && watched.value == value;
        }
        self.excused.insert((key.to_owned(), value));
    }

    /// The same for all keys of a server.
    pub fn excuse_all_at(&mut self, node: usize) {
        for key in self.story.keys() {
            self.excuse(node, &key);
        }
    }

    /// Of two masters one may have this, and the other not.
    pub fn excuse_one(&mut self, reservation: &Arc<Reservation>) {
        for watched in &mut self.watched {
            watched.is_excused |= Arc::ptr_eq(&watched.reservation, reservation);
        }
        self.excused.insert((reservation.key().to_owned(), reservation.value()));
    }

    /// A caller asks for another ttl. If another such call is pending, either may come first.
    pub fn asked_for(&mut self, reservations: &[Arc<Reservation>], ttl: Time, is_alone: bool) {
        let ttl = Duration::from_millis(ttl);
        for watched in &mut self.watched {
            if reservations.iter().any(|one| Arc::ptr_eq(one, &watched.reservation)) {
                watched.longest = if is_alone { ttl } else { watched.longest.max(ttl) };
            }
        }
    }

    /// A caller is told of a loss.
    pub fn told(&mut self, environment: usize, reservation: &Arc<Reservation>) {
        self.counts.lost += 1;
        self.check_is_over(environment, reservation, true);
        self.ended(environment, reservation);
    }

    /// A lease has ended whose release had failed, or its caller has got the key again.
    pub fn lapsed(&mut self, reservation: &Arc<Reservation>) {
        for watched in &mut self.watched {
            watched.has_lapsed |= Arc::ptr_eq(&watched.reservation, reservation);
        }
    }

    /// A reservation is over, and its caller knows. That happens once.
    pub fn released(&mut self, environment: usize, reservation: &Arc<Reservation>) {
        self.check_is_over(environment, reservation, false);
        self.ended(environment, reservation);
    }

    fn ended(&mut self, environment: usize, reservation: &Arc<Reservation>) {
        self.environments[environment].held.retain(|one| one.value() != reservation.value());
        let before = self.watched.len();
        self.watched.retain(|watched| !Arc::ptr_eq(&watched.reservation, reservation));
        if self.watched.len() == before {
            self.offence(format!("caller {environment} is told twice that {:?} is over", reservation.claim));
        }
    }

    /// What a caller is told to be over is over: redis has the key no more, unless only our clock says so.
    fn check_is_over(&mut self, environment: usize, reservation: &Arc<Reservation>, is_lost: bool) {
        let is_it = |watched: &&Watched| Arc::ptr_eq(&watched.reservation, reservation);
        let Some(watched) = self.watched.iter().find(is_it) else { return };
        if watched.is_excused || watched.ran_out == Some(true) {
            return;
        }
        // What a second master has said may be read only now.
        if watched.asked <= self.demoted && self.quiet_since(watched.process) > now() {
            return;
        }
        let (key, value) = (&watched.key, &watched.value);
        let what = if self.nodes[self.home(key)].end_of(key, value).is_some() {
            format!("caller {environment} is told that its {key} by {value} is over, but redis has it")
        } else if is_lost && watched.key_end.is_none() {
            format!("caller {environment} is told that its {key} by {value} was lost, and has released it")
        } else {
            return;
        };
        self.offence(what);
    }

    /// Looks at a lease that is certain, beside others that are.
    fn check_certain(&self, watched: &Watched, others: &[usize], found: &mut Vec<String>) {
        let Watched { key, value, environment, .. } = watched;
        let mut finds =
            |what: String| found.push(format!("caller {environment} holds {key} by {value}{what}"));
        let lasts = Moment::now().until(watched.reservation.certain_until());
        if self.processes[watched.process].runs() && lasts > watched.longest {
            finds(format!(" for {lasts:?} more, and has asked for {:?}", watched.longest));
        }
        if Moment::now() > watched.last {
            finds(" beyond its max_hold".into());
        }
        if watched.is_excused {
            return;
        }
        if let Some(other) = others.iter().map(|other| &self.watched[*other]).find(|other| other.key == *key)
        {
            finds(format!(", and so does caller {} by {}", other.environment, other.value));
        }
        let there = self.nodes[self.home(key)].text_at(key);
        if there.as_deref() != Some(value) {
            finds(format!(", but redis has {there:?}"));
        }
    }

    /// Looks at everything that must be true now.
    pub fn check(&mut self) {
        self.counts.steps += 1;
        let (mut found, mut certain) = (Vec::new(), Vec::new());
        let has_two_masters = self.nodes.iter().any(|node| node.is_stale_master);
        let all = std::mem::take(&mut self.watched);
        found.extend(all.iter().filter_map(|watched| self.not_found(watched)));
        self.watched = all;
        for index in 0..self.watched.len() {
            let watched = &self.watched[index];
            let process = &self.processes[watched.process];
            enter(watched.process, process.clock);
            let is_certain = watched.reservation.is_certain();
            let phase = watched.reservation.phase();
            if is_certain {
                self.check_certain(watched, &certain, &mut found);
                if !watched.is_excused {
                    certain.push(index);
                }
            }
            let is_overdue = match phase {
                Phase::Held => !is_certain,
                Phase::Lost => true,
                // A call that is about others as well is answered when it knows of all.
                Phase::Over => self.environments[watched.environment].calls.is_empty(),
                Phase::Releasing | Phase::Unreleased => false,
            };
            let is_early = Moment::now() < watched.reservation.certain_until()
                && watched.key_end.is_some_and(|end| end > now());
            let key_end = match self.nodes[self.home(&watched.key)].end_of(&watched.key, &watched.value) {
                None if is_early && matches!(phase, Phase::Releasing | Phase::Unreleased) => None,
                seen => seen.or(watched.key_end),
            };
            // Of two masters either may be asked, and one of them does not have the key.
            let is_excused = watched.is_excused || (phase != Phase::Held && has_two_masters);
            if phase == Phase::Lost && watched.ran_out.is_none() {
                let ran_out = Moment::now() >= watched.reservation.certain_until();
                if ran_out && !is_excused && self.was_needless(watched) {
                    let (key, value, environment) = (&watched.key, &watched.value, watched.environment);
                    found.push(format!(
                        "caller {environment} loses {key} by {value} although nothing is wrong"
                    ));
                }
                self.watched[index].ran_out = Some(ran_out);
            }
            let process = &self.processes[self.watched[index].process];
            let (runs, ran) = (process.runs(), process.ran());
            let watched = &mut self.watched[index];
            (watched.is_excused, watched.key_end) = (is_excused, key_end);
            let can_be_told = runs && self.environments[watched.environment].blocked_until <= now();
            if !is_overdue || !can_be_told {
                watched.overdue_since = None;
                continue;
            }
            let since = *watched.overdue_since.get_or_insert(ran);
            if ran.saturating_sub(since) > TOLD_WITHIN {
                watched.overdue_since = Some(Time::MAX);
                let (key, value) = (&watched.key, &watched.value);
                found.push(format!(
                    "caller {} is not told that its {key} by {value} is over ({phase:?})",
                    watched.environment
                ));
            }
        }
        enter(process::current(), process::Clock::default());
        for number in 0..self.environments.len() {
            let one = &self.environments[number];
            let process = &self.processes[one.process];
            if one.is_open
                && process.runs()
                && one.blocked_until <= now()
                && let Some(late) = one.late_call(process.ran())
            {
                found.push(format!("caller {number}: {late}"));
                self.environments[number].is_open = false;
            }
        }
        for what in found {
            self.offence(what);
        }
    }

    /// Every call must have been answered by now.
    pub fn check_served(&mut self) {
        for number in 0..self.environments.len() {
            let one = &self.environments[number];
            if one.is_open && self.processes[one.process].is_alive && !one.calls.is_empty() {
                let count = one.calls.len();
                self.offence(format!("{count} calls of caller {number} are forgotten"));
            }
        }
        for process in 0..self.processes.len() {
            let Some(rest) =
                self.processes[process].is_alive.then(|| self.processes[process].at_rest.clone())
            else {
                continue;
            };
            if !rest() {
                self.offence(format!("process {process} has something left to do"));
            }
        }
    }

    /// Looks at what must be true once everything was released, and its time is over.
    pub fn check_end(&mut self) {
        for key in self.story.keys() {
            if let Some(value) = self.nodes[self.home(&key)].text_at(&key)
                && value.starts_with("caller-")
            {
                self.offence(format!("{key} is left behind, by {value}"));
            }
        }
        for watched in std::mem::take(&mut self.watched) {
            if self.environments[watched.environment].is_open && !watched.has_lapsed {
                let phase = watched.reservation.phase();
                self.offence(format!("{} by {} has no end ({phase:?})", watched.key, watched.value));
            }
        }
        for process in 0..self.processes.len() {
            let open = self.connections_of(process);
            if self.processes[process].is_alive && !open.is_empty() {
                self.offence(format!("process {process} keeps connections that nobody needs: {open:?}"));
            }
        }
    }
}
