//! Takes a key: one SET, and what to do if its reply is a refusal, is lost, or comes too late.

mod look;

use std::future::pending;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, timeout};

use crate::connection::pipeline::Pipeline;
use crate::connection::reply::NoReply;
use crate::connection::send_queue::Lane;
use crate::connection::supervisor::Patience;
use crate::lock::attempts::Attempts;
use crate::lock::endpoint_state::EndpointState;
use crate::lock::renew;
use crate::lock::replicas::{self, Replication};
use crate::lock::sent::Sent;
use crate::lock::undo;
use crate::model::answer::{Answer, Ticket};
use crate::model::error::Error;
use crate::model::lease::Lease;
use crate::model::refusal::{Class, is_wrong_type};
use crate::model::settings::{LogLevel, Settings};
use crate::protocol::command::{self, Comparison, EXTEND, ScriptCall};
use crate::runtime::task::spawn;
use crate::time::budget::Budget;
use crate::time::clock::Moment;

pub use look::KeyState;
use look::Look;

/// What the key is wanted for. Decides what is retried and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A `lock`: it is answered within the command limit.
    Lock,
    /// A wait: it outlasts outages. With `look` it also reads the key and asks the server to report a change.
    Wait {
        /// Whether to read the key too.
        look: bool,
    },
}

/// The result of an attempt.
pub enum Attempt {
    /// The key holds our value, and the lease is certain.
    Acquired(Sent),
    /// Somebody holds the key.
    Held(KeyState),
    /// Redis set the key, but the reply came after the end of the lease. The key is released.
    TooLate,
    /// The caller has left before redis answered.
    Unwanted,
}

/// A try that has a reply.
struct Tried {
    pipeline: Rc<Pipeline>,
    sent: Sent,
    look: Option<Look>,
    replication: Option<Replication>,
    /// When the call sent its first command.
    began: Instant,
    reply: Result<Value, NoReply>,
}

/// Serves a `lock`. Nearly always one reply settles it, right where it is read. Only the rest needs a task.
pub fn lock(state: &Rc<EndpointState>, ticket: Ticket, settings: Arc<Settings>, resource: &str) {
    let key = settings.key_of(resource);
    let Some(pipeline) = state.supervisor.current().filter(|_| settings.min_replicas == 0) else {
        let state = Rc::clone(state);
        spawn(finish(state, ticket, settings, key, None));
        return;
    };
    let sent = match Sent::now(key, settings) {
        Ok(sent) => sent,
        Err(error) => return ticket.answer(Err(error.into())),
    };
    let (command, limit) = (sent.take(), sent.settings().command_timeout);
    let (state, began) = (Rc::clone(state), pipeline.turn());
    Rc::clone(&pipeline).send_then(Lane::Regular, command, limit, move |reply| match reply {
        Ok(ref reply) if command::was_taken(reply) == Some(true) => match in_time(&state, sent) {
            Attempt::Acquired(sent) => renew::keep(&state, sent, ticket),
            _ => ticket.answer(Ok(Answer::Taken { holder: None })),
        },
        Err(NoReply::TimedOut) => ticket.answer(Err(timed_out(&state, &pipeline, sent).into())),
        Err(no_reply @ NoReply::Overdue) => {
            ticket.answer(Err(no_reply.to_error(sent.settings(), "SET", sent.claim.key()).into()));
        }
        reply => {
            let (settings, key) = (Arc::clone(&sent.claim.settings), sent.claim.key().to_owned());
            let tried = Box::new(Tried { pipeline, sent, look: None, replication: None, began, reply });
            spawn(finish(state, ticket, settings, key, Some(tried)));
        }
    });
}

/// The rest of a `lock` that one reply did not settle.
async fn finish(
    state: Rc<EndpointState>,
    ticket: Ticket,
    settings: Arc<Settings>,
    key: String,
    tried: Option<Box<Tried>>,
) {
    let mut acquisition = Acquisition::new(&state, &settings, &key, Purpose::Lock, tried.as_deref());
    let result = match acquisition.run(pin!(pending()), tried).await {
        Ok(Attempt::Acquired(sent)) => return renew::keep(&state, sent, ticket),
        Ok(Attempt::Held(_)) => {
            let left = acquisition.attempts.remaining();
            let holder = Box::pin(holder_for_log(&state, settings.log_level, &key, left)).await;
            Ok(Answer::Taken { holder })
        }
        Ok(Attempt::TooLate | Attempt::Unwanted) => Ok(Answer::Taken { holder: None }),
        Err(error) => Err(error.into()),
    };
    ticket.answer(result);
}

/// Reads who holds the key, if a log line will show it, within the rest of the call's time: the answer must not be late
/// for a line. An uncontended lock stays one command.
async fn holder_for_log(state: &EndpointState, level: LogLevel, key: &str, left: Duration) -> Option<String> {
    if level < LogLevel::Info {
        return None;
    }
    let reply = state.supervisor.current()?.ask(command::read(key), left).await;
    reply.ok().as_ref().and_then(command::holder_of)
}

/// Tries to take a key for a waiter, until redis has answered, or until `left` ends (between two tries). It also
/// retries without a connection, possibly for ever.
///
/// # Errors
/// A failure that no retry can mend, or that lasted beyond the limit.
pub async fn acquire(
    state: &Rc<EndpointState>,
    settings: &Arc<Settings>,
    key: &str,
    purpose: Purpose,
    left: impl Future<Output = ()>,
) -> Result<Attempt, Error> {
    Acquisition::new(state, settings, key, purpose, None).run(pin!(left), None).await
}

/// Ends when the waiter has left.
type Left<'call> = Pin<&'call mut dyn Future<Output = ()>>;

/// The tries of one acquisition.
struct Acquisition<'call> {
    state: &'call Rc<EndpointState>,
    settings: &'call Arc<Settings>,
    key: &'call str,
    purpose: Purpose,
    attempts: Attempts<'call>,
    /// A value whose SET has no reply. Whether the key holds it must be found out before the next try.
    unknown: Option<Sent>,
}

impl<'call> Acquisition<'call> {
    /// `tried` is the first try, if it was made already.
    fn new(
        state: &'call Rc<EndpointState>,
        settings: &'call Arc<Settings>,
        key: &'call str,
        purpose: Purpose,
        tried: Option<&Tried>,
    ) -> Self {
        let budget = match (purpose, tried) {
            (Purpose::Lock, None) => Budget::new(settings.command_timeout),
            (Purpose::Lock, Some(tried)) => Budget::since(tried.began, settings.command_timeout),
            (Purpose::Wait { .. }, _) => Budget::endless(settings.command_timeout),
        };
        let attempts = Attempts::new(state, settings, budget);
        let attempts = if purpose == Purpose::Lock { attempts } else { attempts.outlasting_memory() };
        Self { state, settings, key, purpose, attempts, unknown: None }
    }

    async fn run(&mut self, left: Left<'_>, tried: Option<Box<Tried>>) -> Result<Attempt, Error> {
        let result = self.repeat(left, tried).await;
        if let Some(sent) = self.unknown.take() {
            undo::discard(self.state, sent);
        }
        result
    }

    async fn repeat(&mut self, mut left: Left<'_>, tried: Option<Box<Tried>>) -> Result<Attempt, Error> {
        // Large futures are boxed: a hundred thousand calls may wait here for a connection at once.
        if let Some(tried) = tried
            && let Some(attempt) = Box::pin(self.judge(*tried)).await?
        {
            return Ok(attempt);
        }
        loop {
            let patience = self.patience();
            let pipeline = tokio::select! {
                biased;
                () = &mut left => return Ok(Attempt::Unwanted),
                pipeline = self.attempts.connection(patience) => pipeline?,
            };
            if let Some(sent) = self.unknown.take() {
                match Box::pin(self.find_out(&pipeline, sent)).await? {
                    Some(attempt) => return Ok(self.note_answer(attempt)),
                    None => continue,
                }
            }
            if let Some(attempt) = Box::pin(self.attempt(pipeline)).await? {
                return Ok(self.note_answer(attempt));
            }
        }
    }

    fn note_answer(&self, attempt: Attempt) -> Attempt {
        if self.purpose != Purpose::Lock {
            self.attempts.answered();
        }
        attempt
    }

    fn patience(&self) -> Patience {
        match self.purpose {
            Purpose::Wait { .. } if self.state.supervisor.has_stood() => Patience::Outage,
            _ => Patience::Call,
        }
    }

    /// Sends one SET and handles its reply; `None` if it must be retried.
    async fn attempt(&mut self, pipeline: Rc<Pipeline>) -> Result<Option<Attempt>, Error> {
        let mut turn = None;
        if self.settings.min_replicas > 0 {
            let limit = (self.purpose == Purpose::Lock).then(|| self.attempts.remaining());
            turn = replicas::take_turn(self.state, limit).await;
            if turn.is_none() {
                let error = NoReply::TimedOut.to_error(self.settings, "SET", self.key);
                return Err(self.attempts.last().cloned().unwrap_or(error));
            }
        }
        let sent = Sent::now(self.key, Arc::clone(self.settings))?;
        let looks = matches!(self.purpose, Purpose::Wait { look: true })
            && !self.attempts.last().is_some_and(Error::is_redirection);
        let mut tried = attempt(pipeline, sent, looks, self.attempts.remaining()).await;
        if let Some(replication) = tried.replication.take()
            && was_taken(&tried.reply)
        {
            return match replication.end(self.settings, self.key).await {
                Ok(()) => Ok(Some(in_time(self.state, tried.sent))),
                Err(error) => {
                    // Before the next one has its turn: its WAIT would hold up the undo.
                    undo::discard(self.state, tried.sent);
                    drop(turn);
                    self.too_few_replicas(error).await
                }
            };
        }
        drop(turn);
        self.judge(tried).await
    }

    /// Handles the reply to a SET; `None` if it must be retried.
    async fn judge(&mut self, tried: Tried) -> Result<Option<Attempt>, Error> {
        let Tried { pipeline, sent, look, reply, .. } = tried;
        let no_reply = match reply {
            Ok(reply) => match command::was_taken(&reply) {
                Some(true) => return Ok(Some(in_time(self.state, sent))),
                Some(false) => return Ok(Some(self.held(&pipeline, look).await)),
                None => pipeline.is_garbled(),
            },
            Err(NoReply::Refused(error)) if is_wrong_type(&error) => {
                return Ok(Some(self.held(&pipeline, look).await));
            }
            Err(no_reply) => no_reply,
        };
        let mut error = no_reply.to_error(self.settings, "SET", self.key);
        match no_reply {
            NoReply::Refused(_) | NoReply::Unsent(_) | NoReply::Overdue => {}
            NoReply::Dropped if sent.can_be_asked_about() => {
                self.unknown = Some(sent.unanswered_on(&pipeline));
            }
            // Asking about this value would break the next connection as well.
            NoReply::Dropped => return Err(error),
            NoReply::TimedOut => error = timed_out(self.state, &pipeline, sent),
        }
        self.attempts.failed(&pipeline, &no_reply, error).await?;
        Ok(None)
    }

    async fn held(&self, pipeline: &Rc<Pipeline>, look: Option<Look>) -> Attempt {
        Attempt::Held(match look {
            Some(look) => Box::pin(look.finish(self.state, pipeline)).await,
            None => KeyState::default(),
        })
    }

    /// The reply to a SET was lost with its connection: asks redis whether the key holds the value. `None` means retry:
    /// this question if the value is in `unknown` again, else the SET.
    async fn find_out(&mut self, pipeline: &Rc<Pipeline>, sent: Sent) -> Result<Option<Attempt>, Error> {
        // Within the call's time, though others that were sent on that connection may wait for longer.
        let closing = sent.has_run_or_never_will(pipeline);
        let is_closed = timeout(self.attempts.remaining(), closing).await.unwrap_or(false);
        if let Err(last) = self.attempts.check_time() {
            self.unknown = Some(sent);
            return Err(last);
        }
        // An extend, because only a master accepts it: a demoted server's copy is outdated. It also restarts the lease.
        let (when, ttl) = (Moment::now(), Some(self.settings.terms.ttl));
        let call = ScriptCall { claim: &sent.claim, ttl, next: None };
        let is_ours = match pipeline.compare(Lane::Regular, &EXTEND, &call, self.attempts.remaining()).await {
            Ok(found) => found == Comparison::Ours,
            Err(no_reply) => {
                let error = no_reply.to_error(self.settings, EXTEND.name, self.key);
                self.unknown = Some(sent);
                // A waiter retries with a new SET. If the failure is final, the reply to that will say so.
                let is_given_up = self.purpose != Purpose::Lock && error.class() == Class::Final;
                if !is_given_up {
                    self.attempts.failed(pipeline, &no_reply, error).await?;
                } else if let Some(sent) = self.unknown.take() {
                    undo::discard(self.state, sent);
                }
                return Ok(None);
            }
        };
        if !is_ours {
            if !is_closed {
                undo::discard(self.state, sent);
            }
            return Ok(None);
        }
        let sent = Sent { when, ..sent.answered() };
        if self.settings.min_replicas == 0 {
            return Ok(Some(in_time(self.state, sent)));
        }
        // The key is ours, but the reply to WAIT was lost too, so nobody knows how many replicas have it.
        undo::discard(self.state, sent);
        let error = NoReply::Dropped.to_error(self.settings, "WAIT", self.key);
        self.too_few_replicas(error).await
    }

    /// The value has been discarded; the undo is sent before the next try.
    async fn too_few_replicas(&mut self, error: Error) -> Result<Option<Attempt>, Error> {
        if !matches!(error.class(), Class::Later | Class::Reconnect | Class::Unknown) {
            return Err(error);
        }
        self.attempts.unsuitable(error).await?;
        Ok(None)
    }
}

/// Sends one try and waits for its reply.
async fn attempt(pipeline: Rc<Pipeline>, sent: Sent, looks: bool, limit: Duration) -> Tried {
    let began = Instant::now();
    // Queued back to back, so nothing is written in between: the watch is on the state that the SET finds.
    let looks = looks && pipeline.tells_changes.get();
    let look = looks.then(|| Look::start(&pipeline, sent.claim.key(), limit));
    let lane = if look.is_some() { Lane::Joined } else { Lane::Regular };
    let taking = pipeline.send(lane, sent.take(), limit);
    let replicates = sent.settings().min_replicas > 0;
    let replication = replicates.then(|| Replication::start(&pipeline, sent.settings(), limit));
    let reply = taking.reply().await;
    Tried { pipeline, sent, look, replication, began, reply }
}

fn was_taken(reply: &Result<Value, NoReply>) -> bool {
    reply.as_ref().ok().and_then(command::was_taken) == Some(true)
}

/// A lease starts before its SET is sent, so after a slow reply it may be over.
fn in_time(state: &Rc<EndpointState>, sent: Sent) -> Attempt {
    if Moment::now() < Lease::begin(sent.settings().terms, sent.when).certain_until() {
        return Attempt::Acquired(sent);
    }
    undo::discard(state, sent);
    Attempt::TooLate
}

/// The reply did not come in time. The SET may still run, so it is undone.
fn timed_out(state: &Rc<EndpointState>, pipeline: &Pipeline, sent: Sent) -> Error {
    let error = NoReply::TimedOut.to_error(sent.settings(), "SET", sent.claim.key());
    undo::discard(state, sent.unanswered_on(pipeline));
    with_consequence(error)
}

fn with_consequence(error: Error) -> Error {
    match error {
        Error::Timeout { endpoint, command, key, after_ms, .. } => Error::Timeout {
            endpoint,
            command,
            key,
            after_ms,
            consequence: "; if redis still runs it, the key is deleted again as soon as redis can be reached, \
                          and lapses by its ttl at the latest",
        },
        other => other,
    }
}
