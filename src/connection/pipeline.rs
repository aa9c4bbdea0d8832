//! One connection that is up. Sends the commands of one turn as one pipeline, times out commands without a reply, and
//! gives up a connection that has gone silent.

mod in_flight;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use redis::{Cmd, Value};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, OnceCell, oneshot};
use tokio::task::{AbortHandle, unconstrained};
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::reply::{AwaitedReply, NoReply, Pending, ReplyTo, is_unknown_script};
use crate::connection::send_queue::{Batch, Lane, MAX_BATCH, MAX_IN_FLIGHT, SendQueue};
use crate::connection::transport::Transport;
use crate::model::refusal::is_wrong_type;
use crate::protocol::command::{Comparison, Identity, Script, ScriptCall};
use crate::runtime::guard::keep_running;
use crate::runtime::task::spawn_boxed;
use crate::time::pace::Pace;
use in_flight::InFlight;

/// A timer that fires this much too late shows that the process was stopped or starved.
pub const TIMER_TOLERANCE: Duration = Duration::from_millis(20);

/// How long replies that may have arrived by then are waited for.
const READ_GRACE: Duration = Duration::from_millis(100);

/// Who waits for the replies of one batch, in the order of its commands; `None` for a command that was answered before
/// its reply came.
type ReplySlots = RefCell<Vec<Option<AwaitedReply>>>;

/// A connection that is up, shared by all calls to its endpoint.
pub struct Pipeline {
    /// Counts the connections of an endpoint, to tell whether it is still the same one.
    pub generation: u64,
    /// How the server knows it.
    pub identity: Option<Identity>,
    /// When it came up.
    pub since: Instant,
    /// Which earlier connections are certainly closed, by their generation; see [`crate::lock::sent`].
    pub closed: RefCell<FxHashMap<u64, Rc<OnceCell<bool>>>>,
    /// Limits how often all failed renewals are retried together.
    pub retries: Rc<Pace>,
    /// The server reports when a watched key changes. Set to false if it refuses to.
    pub tells_changes: Cell<bool>,
    transport: Transport,
    /// Commands that are not written yet.
    send_queue: RefCell<SendQueue<AwaitedReply>>,
    flush_is_due: Cell<bool>,
    /// When the first command of this turn was queued. The clock is read once for all commands of a turn.
    turn: Cell<Instant>,
    /// How many commands are in flight: written, and without a reply.
    in_flight: Cell<usize>,
    /// The batches in flight, the oldest first.
    batches: RefCell<BTreeMap<u64, Rc<ReplySlots>>>,
    /// How many batches were written.
    written: Cell<u64>,
    /// When commands are next checked for timeouts: no later than the first of them is due. `None` without commands.
    next_check: Cell<Option<Instant>>,
    /// Notified when `next_check` is set to an earlier time.
    earlier: Rc<Notify>,
    has_watchdog: Cell<bool>,
    /// When the last reply came. Tells a command that is slow by itself from a connection that has gone silent.
    last_reply: Cell<Instant>,
    /// Until when a WAIT may hold up all replies.
    held_up_until: Cell<Instant>,
    /// The task that moves the bytes. Aborting it closes the socket.
    driver: AbortHandle,
    /// It was closed from here: nothing more is sent.
    is_closed: Cell<bool>,
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
            in_flight: Cell::new(0),
            batches: RefCell::default(),
            written: Cell::new(0),
            next_check: Cell::new(None),
            earlier: Rc::default(),
            has_watchdog: Cell::new(false),
            last_reply: Cell::new(Instant::now()),
            held_up_until: Cell::new(Instant::now()),
            driver,
            is_closed: Cell::new(false),
        }
    }

    /// Queues a command. It is written at the end of this turn of the runtime, together with all others of the turn; or
    /// later, if so much is in flight that its lane has to wait. The reply, or that there is none, is there within
    /// `limit`.
    pub fn send(self: &Rc<Self>, lane: Lane, command: Cmd, limit: Duration) -> Pending {
        let (sender, reply) = oneshot::channel();
        self.put(lane, command, limit, ReplyTo::Task(sender));
        Pending(reply)
    }

    /// The same, with a callback for the reply.
    pub fn send_then(
        self: &Rc<Self>,
        lane: Lane,
        command: Cmd,
        limit: Duration,
        then: impl FnOnce(Result<Value, NoReply>) + 'static,
    ) {
        self.put(lane, command, limit, ReplyTo::Callback(Box::new(then)));
    }

    fn put(self: &Rc<Self>, lane: Lane, command: Cmd, limit: Duration, reply_to: ReplyTo) {
        let end = self.turn() + limit;
        self.send_queue.borrow_mut().push(lane, command, AwaitedReply { reply_to, end, limit });
        self.schedule_check(end);
    }

    /// The time of this turn: now for its first command. Schedules the write of the turn's commands.
    pub fn turn(self: &Rc<Self>) -> Instant {
        self.schedule_flush();
        self.turn.get()
    }

    fn schedule_flush(self: &Rc<Self>) {
        if !self.flush_is_due.replace(true) {
            self.turn.set(Instant::now());
            let pipeline = Rc::clone(self);
            // Unconstrained: tokio would make a turn that has done much yield here, and write out of order.
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

    /// Runs a script and returns what it found.
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

    /// What a script found, by the reply to its call by hash. If the server does not have the script, sends its source.
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
            // Somebody else has set the key to a value that is no string.
            Err(NoReply::Refused(error)) if is_wrong_type(&error) => Ok(Comparison::Other(None)),
            Err(no_reply) => Err(no_reply),
        }
    }

    /// The reply is one that redis never sends: bytes were lost or changed, and the next replies cannot be matched to
    /// their commands. Closes the connection. Whether the command ran is unknown.
    pub fn is_garbled(&self) -> NoReply {
        self.close();
        NoReply::Dropped
    }

    /// When a command was last queued.
    #[must_use]
    pub fn last_used(&self) -> Instant {
        self.turn.get()
    }

    /// True while no command is queued or in flight.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.in_flight.get() == 0 && self.send_queue.borrow().is_empty()
    }

    /// True if all commands go to one server, which runs them in order: nothing that was sent before can run after what
    /// is sent now.
    #[must_use]
    pub fn keeps_order(&self) -> bool {
        !self.transport.has_many_servers()
    }

    /// Closes the connection. Commands in flight are answered with [`NoReply::Dropped`].
    pub fn close(&self) {
        self.is_closed.set(true);
        self.driver.abort();
    }

    /// Redis answers nothing else on this connection while it runs a WAIT, which times out at `until`; now, once it is
    /// answered.
    pub fn hold_up(&self, until: Instant) {
        self.held_up_until.set(until);
    }

    /// A command has timed out at `end`, after `limit`. Closes the connection if nothing was heard for the second half
    /// of that time: the server hangs, the connection is dead, or a lost reply has shifted all others. In each case
    /// every command is better off on another connection. But a command with less time than the WAIT in front of it says
    /// nothing about the server. The nodes of a cluster are watched one by one (node.rs).
    fn suspect(&self, end: Instant, limit: Duration) {
        let is_held_up = end < self.held_up_until.get();
        if self.keeps_order() && !is_held_up && self.last_reply.get() + limit / 2 < end {
            self.close();
        }
    }

    /// Ensures that a command which times out at `end` is checked then. Usually there is nothing to do: commands that
    /// come later time out later, and one timer serves them all.
    fn schedule_check(self: &Rc<Self>, end: Instant) {
        if self.next_check.get().is_some_and(|next_check| next_check <= end) {
            return;
        }
        self.next_check.set(Some(end));
        self.earlier.notify_one();
        if !self.has_watchdog.replace(true) {
            let (pipeline, earlier) = (Rc::downgrade(self), Rc::clone(&self.earlier));
            keep_running(move || watch(pipeline.clone(), Rc::clone(&earlier)));
        }
    }

    /// Ends the wait for the commands that have timed out at `now`, and schedules the next check.
    fn give_up_overdue(&self, now: Instant) {
        let unsent = self.send_queue.borrow_mut().drop_all(|waiting| waiting.end <= now);
        let mut overdue = Vec::new();
        for batch in self.batches.borrow().values() {
            overdue.extend(
                batch.borrow_mut().iter_mut().filter_map(|slot| slot.take_if(|waiting| waiting.end <= now)),
            );
        }
        self.next_check.set(self.next_end());
        fail_point!("overdue", limits_of(&overdue));
        for (waiting, no_reply) in overdue
            .into_iter()
            .map(|waiting| (waiting, NoReply::TimedOut))
            .chain(unsent.into_iter().map(|waiting| (waiting, NoReply::Overdue)))
        {
            self.suspect(waiting.end, waiting.limit);
            waiting.deliver(Err(no_reply));
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
        if self.is_closed.get() || self.driver.is_finished() {
            let unsent = self.send_queue.borrow_mut().drop_all(|_| true);
            for waiting in unsent {
                waiting.deliver(Err(NoReply::Unsent(None)));
            }
            return;
        }
        let most = if self.transport.has_many_servers() { 1 } else { MAX_BATCH };
        while self.in_flight.get() < MAX_IN_FLIGHT {
            let batch = self.send_queue.borrow_mut().take(most, AwaitedReply::is_wanted);
            if batch.replies.is_empty() {
                return;
            }
            self.write(batch);
        }
    }

    /// Writes a batch at once, so that batches leave in order; a task waits for the replies. There is always room in
    /// the crate's buffer (`CRATE_BUFFER`), so the first poll writes.
    fn write(self: &Rc<Self>, batch: Batch<AwaitedReply>) {
        let slots = Rc::new(RefCell::new(batch.replies.into_iter().map(Some).collect()));
        let in_flight = InFlight::begin(self, slots);
        let mut exchange = Box::pin(in_flight.exchange(batch.commands));
        if exchange.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            spawn_boxed(exchange);
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.driver.abort();
        // The watchdog finds that the pipeline is gone.
        self.earlier.notify_one();
    }
}

/// The watchdog of one connection: times out its commands. Ends with the connection.
async fn watch(pipeline: Weak<Pipeline>, earlier: Rc<Notify>) {
    // Until when this task itself slept on purpose.
    let mut excused = Instant::now();
    while let Some(next_check) = pipeline.upgrade().map(|pipeline| pipeline.next_check.get()) {
        let Some(end) = next_check else {
            earlier.notified().await;
            continue;
        };
        tokio::select! {
            biased;
            () = sleep_until(end) => {}
            () = earlier.notified() => continue,
        }
        let now = Instant::now();
        // A timer that fires late says that this process was stopped or starved, and nothing about redis: the reply may
        // be in the socket, unread.
        if now.duration_since(end.max(excused)) > TIMER_TOLERANCE {
            sleep(READ_GRACE).await;
            excused = Instant::now();
        }
        if let Some(pipeline) = pipeline.upgrade() {
            pipeline.give_up_overdue(now);
        }
    }
}

/// The name of commands at a fail point: their limits.
#[cfg(test)]
fn limits_of(overdue: &[AwaitedReply]) -> String {
    overdue.first().map_or_else(String::new, |waiting| waiting.limit.as_millis().to_string())
}
