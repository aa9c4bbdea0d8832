//! One connection that is up: commands of one turn leave as one pipeline, every command has a limit, and a
//! connection that has gone silent is given up.

mod in_flight;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use redis::{Cmd, Value};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, OnceCell, oneshot};
use tokio::task::{AbortHandle, unconstrained};
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::reply::{AwaitedReply, NoReply, Pending, Taker, is_unknown_script};
use crate::connection::send_queue::{Batch, LARGEST_BATCH, Lane, MOST_UNDER_WAY, SendQueue};
use crate::connection::transport::Transport;
use crate::model::refusal::is_wrong_type;
use crate::protocol::command::{Comparison, Identity, Script, ScriptCall};
use crate::runtime::guard::keep_running;
use crate::time::pace::Pace;
use in_flight::InFlight;

/// A timer that rings this much after its time was kept from it.
pub const LATE: Duration = Duration::from_millis(20);

/// How long an answer that may already be there is then waited for.
const GRACE: Duration = Duration::from_millis(100);

/// Who waits for the replies of one pipeline, in its order; none in the place of one that was answered before its reply
/// came.
type Places = RefCell<Vec<Option<AwaitedReply>>>;

/// A connection that is up, shared by all calls to its endpoint.
pub struct Pipeline {
    /// Counts the connections of an endpoint, so that a reply's owner knows whether it is still the same one.
    pub generation: u64,
    /// What the server knows it by.
    pub identity: Option<Identity>,
    /// When it came up.
    pub since: Instant,
    /// Which connections of before are certainly closed, by their generation; see [`crate::lock::sent`].
    pub closed: RefCell<FxHashMap<u64, Rc<OnceCell<bool>>>>,
    /// How often all renewals that wait for their next try have it at once.
    pub retries: Rc<Pace>,
    /// The server tells when a watched key changes. Turned off where it turns out to refuse.
    pub tells_changes: Cell<bool>,
    transport: Transport,
    /// What was handed in and is not written yet.
    send_queue: RefCell<SendQueue<AwaitedReply>>,
    flush_is_due: Cell<bool>,
    /// When this turn began to hand in: the clock is read once for all of its commands.
    turn: Cell<Instant>,
    /// How many commands are written and not answered.
    under_way: Cell<usize>,
    /// Who waits for them, by the address of a pipeline's.
    batches: RefCell<FxHashMap<*const Places, Rc<Places>>>,
    /// When it is looked for commands whose time is up: not after the earliest such time. `None` while there are none.
    alarm: Cell<Option<Instant>>,
    /// Rung when the alarm is set to an earlier time.
    earlier: Rc<Notify>,
    has_watchdog: Cell<bool>,
    /// When the last reply came: a command that timed out since then was not the only one to wait.
    heard: Cell<Instant>,
    /// Aborting the task that moves the bytes closes the socket.
    driver: AbortHandle,
    /// It was closed from here; what was not sent will not be.
    is_over: Cell<bool>,
}

impl Pipeline {
    /// Wraps a connection whose driver is running.
    #[must_use]
    pub fn new(
        generation: u64,
        identity: Option<Identity>,
        tells_changes: bool,
        transport: Transport,
        driver: AbortHandle,
    ) -> Self {
        Self {
            generation,
            identity,
            since: Instant::now(),
            closed: RefCell::default(),
            retries: Rc::default(),
            tells_changes: Cell::new(tells_changes),
            transport,
            send_queue: RefCell::default(),
            flush_is_due: Cell::new(false),
            turn: Cell::new(Instant::now()),
            under_way: Cell::new(0),
            batches: RefCell::default(),
            alarm: Cell::new(None),
            earlier: Rc::default(),
            has_watchdog: Cell::new(false),
            heard: Cell::new(Instant::now()),
            driver,
            is_over: Cell::new(false),
        }
    }

    /// Hands in a command. It is written before this turn of the runtime ends, with all others of the turn, unless so
    /// much is under way that it waits for its lane's turn. Its reply is there within `limit`, or is that there is none.
    pub fn send(self: &Rc<Self>, lane: Lane, command: Cmd, limit: Duration) -> Pending {
        let (sender, reply) = oneshot::channel();
        self.put(lane, command, limit, Taker::Task(sender));
        Pending(reply)
    }

    /// The same, for code that is run with the reply.
    pub fn send_then(
        self: &Rc<Self>,
        lane: Lane,
        command: Cmd,
        limit: Duration,
        then: impl FnOnce(Result<Value, NoReply>) + 'static,
    ) {
        self.put(lane, command, limit, Taker::Code(Box::new(then)));
    }

    fn put(self: &Rc<Self>, lane: Lane, command: Cmd, limit: Duration, taker: Taker) {
        let end = self.turn() + limit;
        self.send_queue.borrow_mut().push(lane, command, AwaitedReply { taker, end, limit });
        self.see_to_alarm(end);
    }

    /// When this turn began to hand in commands: now, for the first of them, and sees to it that they are written.
    pub fn turn(self: &Rc<Self>) -> Instant {
        self.see_to_flush();
        self.turn.get()
    }

    fn see_to_flush(self: &Rc<Self>) {
        if !self.flush_is_due.replace(true) {
            self.turn.set(Instant::now());
            let pipeline = Rc::clone(self);
            // Unconstrained: a turn that has done much would be told to come back later, and out of order.
            tokio::task::spawn_local(unconstrained(async move { pipeline.flush() }));
        }
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// The refusal, or why there is no reply.
    pub async fn ask(self: &Rc<Self>, command: Cmd, limit: Duration) -> Result<Value, NoReply> {
        self.send(Lane::Regular, command, limit).reply().await
    }

    /// Runs a script and says what it found.
    ///
    /// # Errors
    /// The refusal, or why there is no reply.
    pub async fn compare(
        self: &Rc<Self>,
        lane: Lane,
        script: &Script,
        call: &ScriptCall<'_>,
        limit: Duration,
    ) -> Result<Comparison, NoReply> {
        let reply = self.send(lane, script.by_hash(call), limit).reply().await;
        self.compared(reply, script, call, limit).await
    }

    /// What a script found that was sent by its hash, by its reply. One that the server has forgotten is sent again
    /// whole.
    ///
    /// # Errors
    /// The refusal, or why there is no reply.
    pub async fn compared(
        self: &Rc<Self>,
        reply: Result<Value, NoReply>,
        script: &Script,
        call: &ScriptCall<'_>,
        limit: Duration,
    ) -> Result<Comparison, NoReply> {
        let reply = if is_unknown_script(&reply) {
            Box::pin(self.ask(script.by_source(call), limit)).await
        } else {
            reply
        };
        match reply {
            Ok(value) => call.comparison_of(&value).ok_or_else(|| self.is_garbled()),
            // A key that is no string is somebody else's.
            Err(NoReply::Refused(error)) if is_wrong_type(&error) => Ok(Comparison::Other(None)),
            Err(no_reply) => Err(no_reply),
        }
    }

    /// A reply came that nobody sends: bytes were lost or changed on the way, and whose reply any of the next ones is, is
    /// unknown. The connection is given up; what was asked is as open as where no reply came.
    pub fn is_garbled(&self) -> NoReply {
        self.close();
        NoReply::Dropped
    }

    /// When something was last handed in.
    #[must_use]
    pub fn last_used(&self) -> Instant {
        self.turn.get()
    }

    /// True while no command is written or waits to be.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.under_way.get() == 0 && self.send_queue.borrow().is_empty()
    }

    /// True where all commands go to one server, which answers them in order. Nothing that was sent before can run after
    /// what is sent now.
    #[must_use]
    pub fn keeps_order(&self) -> bool {
        !self.transport.has_many_servers()
    }

    /// Ends the connection. Commands that are under way are answered with [`NoReply::Dropped`].
    pub fn close(&self) {
        self.is_over.set(true);
        self.driver.abort();
    }

    /// A command has timed out at `end`, after `limit`. If nothing was heard for the second half of that time, the server
    /// hangs, or the link is dead without having been closed, or a reply was lost and each one is taken for that of
    /// another: every command is better off on another connection. A cluster's nodes are watched one by one (node.rs).
    fn suspect(&self, end: Instant, limit: Duration) {
        if self.keeps_order() && self.heard.get() + limit / 2 < end {
            self.close();
        }
    }

    /// Sees to it that a command whose time is up at `end` is not forgotten. As a rule there is nothing to do: commands
    /// that come later end later, and one timer serves them all.
    fn see_to_alarm(self: &Rc<Self>, end: Instant) {
        if self.alarm.get().is_some_and(|alarm| alarm <= end) {
            return;
        }
        self.alarm.set(Some(end));
        self.earlier.notify_one();
        if !self.has_watchdog.replace(true) {
            let (pipeline, earlier) = (Rc::downgrade(self), Rc::clone(&self.earlier));
            keep_running(move || watch(pipeline.clone(), Rc::clone(&earlier)));
        }
    }

    /// Ends the wait for what is overdue at `now`, and sets the alarm for what is next.
    fn give_up_overdue(&self, now: Instant) {
        let unsent = self.send_queue.borrow_mut().drop_all(|waiting| waiting.end <= now);
        let mut overdue = Vec::new();
        for batch in self.batches.borrow().values() {
            overdue.extend(
                batch.borrow_mut().iter_mut().filter_map(|place| place.take_if(|waiting| waiting.end <= now)),
            );
        }
        self.alarm.set(self.next_end());
        fail_point!("overdue", limits_of(&overdue));
        for (waiting, no_reply) in overdue
            .into_iter()
            .map(|waiting| (waiting, NoReply::TimedOut))
            .chain(unsent.into_iter().map(|waiting| (waiting, NoReply::Overdue)))
        {
            self.suspect(waiting.end, waiting.limit);
            waiting.take(Err(no_reply));
        }
    }

    fn next_end(&self) -> Option<Instant> {
        let batches = self.batches.borrow();
        let written = batches
            .values()
            .filter_map(|batch| batch.borrow().iter().flatten().map(|waiting| waiting.end).min());
        self.send_queue.borrow().replies().map(|waiting| waiting.end).chain(written).min()
    }

    fn flush(self: &Rc<Self>) {
        self.flush_is_due.set(false);
        if self.is_over.get() || self.driver.is_finished() {
            let unsent = self.send_queue.borrow_mut().drop_all(|_| true);
            for waiting in unsent {
                waiting.take(Err(NoReply::Unsent(None)));
            }
            return;
        }
        let most = if self.transport.has_many_servers() { 1 } else { LARGEST_BATCH };
        while self.under_way.get() < MOST_UNDER_WAY {
            let batch = self.send_queue.borrow_mut().take(most, AwaitedReply::is_wanted);
            if batch.replies.is_empty() {
                return;
            }
            self.hand_in(batch);
        }
    }

    /// Hands in commands here and now, so that they leave in the order in which they came; their replies are waited for
    /// in a task of their own. There is always room (`HAND_IN_ROOM`), so the first poll hands in.
    fn hand_in(self: &Rc<Self>, batch: Batch<AwaitedReply>) {
        let places = Rc::new(RefCell::new(batch.replies.into_iter().map(Some).collect()));
        let under_way = InFlight::begin(self, places);
        let mut exchange = Box::pin(under_way.exchange(batch.commands));
        if exchange.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::task::spawn_local(exchange);
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.driver.abort();
        // The watchdog finds that it is gone.
        self.earlier.notify_one();
    }
}

/// Lives as long as its connection, and ends the waits whose time is up.
async fn watch(pipeline: Weak<Pipeline>, earlier: Rc<Notify>) {
    // Until when this slept for a reason of its own.
    let mut excused = Instant::now();
    while let Some(alarm) = pipeline.upgrade().map(|pipeline| pipeline.alarm.get()) {
        let Some(end) = alarm else {
            earlier.notified().await;
            continue;
        };
        tokio::select! {
            () = sleep_until(end) => {}
            () = earlier.notified() => continue,
        }
        let now = Instant::now();
        // A timer that rings late says that this process was stopped, or starved, and nothing about redis: its answer
        // may lie in the socket, where nobody had the time to read it.
        if now.duration_since(end.max(excused)) > LATE {
            sleep(GRACE).await;
            excused = Instant::now();
        }
        if let Some(pipeline) = pipeline.upgrade() {
            pipeline.give_up_overdue(now);
        }
    }
}

/// What a test knows commands by that nobody answers.
#[cfg(test)]
fn limits_of(overdue: &[AwaitedReply]) -> String {
    overdue.first().map_or_else(String::new, |waiting| waiting.limit.as_millis().to_string())
}
