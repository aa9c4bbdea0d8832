//! Support: a private redis-server, a caller that keeps its answers and events, and raw commands beside the core.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::dispatcher::Core;
use crate::dispatcher::request::Request;
use crate::model::answer::{Answer, CallFailure, Caller, Event, EventSink, Ticket};
use crate::model::claim::Claim;
use crate::model::endpoint::{Endpoint, Host, Login, Place};
use crate::model::lease::{Interval, Terms};
use crate::model::reservation::Reservation;
use crate::model::settings::{DEFAULT_CONNECT_TIMEOUT, DEFAULT_KEY_PREFIX, LogLevel, Settings};

/// The longest that a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A redis-server of its own on a free port. Ends with the test, also if that fails.
pub struct Server {
    pub port: u16,
    process: Child,
    folder: PathBuf,
}

impl Server {
    pub fn start() -> Self {
        let port = free_port();
        let folder =
            std::env::temp_dir().join(format!("redis-reservation-core-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
        let process = Command::new(program)
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"])
            .arg(&folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed for these tests; `npm test` installs it");
        let server = Self { port, process, folder };
        until("the server answers", || {
            redis::Client::open(("127.0.0.1", port))
                .and_then(|state| state.get_connection())
                .and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection))
                .is_ok()
        });
        server
    }

    /// Runs a command on a connection of its own.
    pub fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = redis::Client::open(("127.0.0.1", self.port)).unwrap().get_connection().unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection).unwrap()
    }

    pub fn value_of(&self, key: &str) -> Option<String> {
        self.run(&["GET", key])
    }

    /// Stops the process, so that it answers nothing and closes nothing, until [`Server::resume`].
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    pub fn settings(&self, ttl_ms: u64) -> Settings {
        settings_for(self.port, Duration::from_millis(ttl_ms))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A reservation of a server that is never connected to.
pub fn reservation(key: &str) -> Arc<Reservation> {
    let ttl = Duration::from_secs(1);
    let claim = Claim::new(key, Arc::new(settings_for(1, ttl))).unwrap();
    Arc::new(Reservation::new(1, claim, crate::time::clock::Moment::ZERO))
}

/// The endpoint of a plain server on this machine.
pub fn endpoint_at(port: u16) -> Arc<Endpoint> {
    let place = Place::Server(Host { name: "127.0.0.1".into(), port });
    Endpoint { place, login: Login::default(), tls: None, waits_for_replicas: None }.shared()
}

/// The settings of calls to such a server.
pub fn settings_for(port: u16, ttl: Duration) -> Settings {
    Settings {
        endpoint: endpoint_at(port),
        key_prefix: DEFAULT_KEY_PREFIX.into(),
        min_replicas: 0,
        owner: "worker-1".into(),
        terms: Terms { ttl, interval: Interval::Third, max_hold: None },
        connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        command_timeout: Settings::default_command_timeout(ttl),
        log_level: LogLevel::Info,
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

type Told = (u64, Result<Answer, Box<CallFailure>>);

struct Channel {
    answers: Sender<Told>,
    events: Sender<Event>,
}

impl EventSink for Channel {
    fn answer(&self, call: u64, answer: Result<Answer, Box<CallFailure>>) {
        let _ = self.answers.send((call, answer));
    }

    fn report(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// One environment with one instance. Submits requests, and keeps the answers and events.
pub struct Asker {
    pub core: Core,
    pub caller: Arc<Caller>,
    answers: Receiver<Told>,
    events: Receiver<Event>,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Asker {
    pub fn new(core: &Core) -> Self {
        let (answers, told_answers) = channel();
        let (events, told_events) = channel();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            core: core.clone(),
            caller: Arc::new(Caller { sink: Arc::new(Channel { answers, events }), environment: id }),
            answers: told_answers,
            events: told_events,
        }
    }

    pub fn ticket(&self) -> Ticket {
        Ticket::new(NEXT.fetch_add(1, Ordering::Relaxed), Arc::clone(&self.caller))
    }

    /// The next answer, to whichever call.
    pub fn answer(&self) -> Result<Answer, Box<CallFailure>> {
        self.answers.recv_timeout(PATIENCE).expect("an answer").1
    }

    /// The next event that `fits`. Drops those before it.
    pub fn event(&self, fits: impl Fn(&Event) -> bool) -> Event {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).expect("an event");
            if fits(&event) {
                return event;
            }
        }
    }

    /// The events so far.
    pub fn events_so_far(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }

    pub fn start_lock(&self, settings: &Settings, resource: &str) {
        let settings = Arc::new(settings.clone());
        self.core.submit(Request::Lock { ticket: self.ticket(), settings, resource: resource.into() });
    }

    /// Returns the call's number.
    pub fn start_wait(&self, settings: &Settings, resource: &str, timeout: Option<Duration>) -> u64 {
        let ticket = self.ticket();
        let call = ticket.call;
        let settings = Arc::new(settings.clone());
        self.core.submit(Request::Wait { ticket, instance: 1, settings, resource: resource.into(), timeout });
        call
    }

    pub fn lock(&self, settings: &Settings, resource: &str) -> Option<Arc<Reservation>> {
        self.start_lock(settings, resource);
        match self.answer().unwrap() {
            Answer::Acquired(reservation) => Some(reservation),
            Answer::Taken { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    pub fn start_release(&self, reservations: &[&Arc<Reservation>]) {
        let reservations = reservations.iter().map(|&reservation| Arc::clone(reservation)).collect();
        self.core.submit(Request::release(self.ticket(), reservations));
    }

    pub fn release(&self, reservations: &[&Arc<Reservation>]) -> Result<usize, Box<CallFailure>> {
        self.start_release(reservations);
        match self.answer()? {
            Answer::Released(released) => Ok(released),
            other => panic!("{other:?}"),
        }
    }

    pub fn renew(&self, reservations: &[&Arc<Reservation>], ttl: Duration) -> Result<(), Box<CallFailure>> {
        let reservations = reservations.iter().map(|&reservation| Arc::clone(reservation)).collect();
        self.core.submit(Request::Renew { ticket: self.ticket(), reservations, ttl });
        self.answer().map(drop)
    }
}
