//! Taking a key: one SET, what its failures mean, and what becomes of a reply that was lost or came too late.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use crate::client::Client;
use crate::clock::Moment;
use crate::command;
use crate::error::{Class, Error, is_wrong_type, words_of};
use crate::heartbeat;
use crate::lease::Lease;
use crate::limit::Limit;
use crate::link::Patience;
use crate::live::Live;
use crate::outbox::Lane;
use crate::outlet::{Answer, Ticket};
use crate::replication::{self, Replication};
use crate::reply::{Pending, Trouble};
use crate::settings::{LogLevel, Settings};
use crate::settlement::{self, Origin, Sent};

/// Who wants the key, which decides what is retried and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A `lock` that answers within the command's limit.
    Lock,
    /// A waiter, that outlasts what passes. With `look` it also reads the key, and asks to be told when it changes.
    Wait {
        /// Look at the key.
        look: bool,
    },
}

/// The result of an attempt.
pub enum Attempt {
    /// The key holds our value, and its lease is certain.
    Acquired(Sent),
    /// Somebody holds it.
    Held(Sight),
    /// Redis gave it, but the answer came after its lease: it is given back.
    TooLate,
    /// Whoever wanted it has gone before redis had said yes or no.
    Unwanted,
}

/// What a waiter saw of a key that is held.
#[derive(Debug, Default)]
pub struct Sight {
    /// The holder's value, if it was read.
    pub holder: Option<String>,
    /// How long the key has still to live, if that was read and it has an end.
    pub time_left: Option<Duration>,
    /// The server will tell when the key changes.
    pub is_watched: bool,
}

/// An attempt whose reply is there.
struct Tried {
    live: Rc<Live>,
    sent: Sent,
    look: Option<Look>,
    replication: Option<Replication>,
    /// When the call began to ask.
    began: Instant,
    reply: Result<Value, Trouble>,
}

/// Serves a `lock`. What goes well, as nearly all does, is dealt with right where the reply comes in; a task is made only
/// for what takes more than one command.
pub fn lock(client: &Rc<Client>, ticket: Ticket, settings: Arc<Settings>, resource: &str) {
    let key = settings.key_of(resource);
    let Some(live) = client.link.current().filter(|_| settings.min_replicas == 0) else {
        let client = Rc::clone(client);
        tokio::task::spawn_local(go_on(client, ticket, settings, key, None));
        return;
    };
    let sent = match Sent::now(key, settings) {
        Ok(sent) => sent,
        Err(error) => return ticket.answer(Err(error.into())),
    };
    let (command, limit) = (sent.take(), sent.settings().command_timeout);
    let (client, began) = (Rc::clone(client), live.turn());
    Rc::clone(&live).send_then(Lane::Regular, command, limit, move |reply| match reply {
        Ok(ref reply) if command::was_taken(reply) == Some(true) => match in_time(&client, sent) {
            Attempt::Acquired(sent) => heartbeat::keep(&client, sent, ticket),
            _ => ticket.answer(Ok(Answer::Taken { holder: None })),
        },
        Err(Trouble::TimedOut) => ticket.answer(Err(timed_out(&client, &live, sent).into())),
        reply => {
            let (settings, key) = (Arc::clone(&sent.claim.settings), sent.claim.key().to_owned());
            let tried = Tried { live, sent, look: None, replication: None, began, reply };
            tokio::task::spawn_local(go_on(client, ticket, settings, key, Some(tried)));
        }
    });
}

/// The rest of a `lock` that one reply did not settle.
async fn go_on(
    client: Rc<Client>,
    ticket: Ticket,
    settings: Arc<Settings>,
    key: String,
    tried: Option<Tried>,
) {
    let result = match acquire_after(&client, &settings, &key, Purpose::Lock, &|| true, tried).await {
        Ok(Attempt::Acquired(sent)) => return heartbeat::keep(&client, sent, ticket),
        Ok(Attempt::Held(_)) => {
            let holder = Box::pin(holder_for_log(&client, &settings, &key)).await;
            Ok(Answer::Taken { holder })
        }
        Ok(Attempt::TooLate | Attempt::Unwanted) => Ok(Answer::Taken { holder: None }),
        Err(error) => Err(error.into()),
    };
    ticket.answer(result);
}

/// Who holds the key, asked only where a log line will say it: an uncontended lock stays one command.
async fn holder_for_log(client: &Rc<Client>, settings: &Settings, key: &str) -> Option<String> {
    if settings.log_level < LogLevel::Info {
        return None;
    }
    let live = client.link.current()?;
    live.ask(command::read(key), settings.command_timeout).await.ok().as_ref().and_then(command::holder_of)
}

/// Tries to take a key. A waiter's attempt lasts until redis has said yes or no, or `is_wanted` has become false between
/// two tries; a lock's has a limit.
///
/// # Errors
/// What cannot be mended by waiting, or could not be within the limit.
pub async fn acquire(
    client: &Rc<Client>,
    settings: &Arc<Settings>,
    key: &str,
    purpose: Purpose,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Attempt, Error> {
    acquire_after(client, settings, key, purpose, is_wanted, None).await
}

async fn acquire_after(
    client: &Rc<Client>,
    settings: &Arc<Settings>,
    key: &str,
    purpose: Purpose,
    is_wanted: &dyn Fn() -> bool,
    mut tried: Option<Tried>,
) -> Result<Attempt, Error> {
    let mut limit = match (purpose, &tried) {
        (Purpose::Lock, None) => Limit::new(settings.command_timeout),
        (Purpose::Lock, Some(tried)) => Limit::since(tried.began, settings.command_timeout),
        (Purpose::Wait { .. }, _) => Limit::endless(settings.command_timeout),
    };
    let mut refusal: Option<Error> = None;
    loop {
        let mut turn = None;
        let Tried { live, sent, look, replication, reply, .. } = if let Some(tried) = tried.take() {
            tried
        } else {
            let live = client.link.live(patience_of(client, purpose), settings.connect_timeout).await?;
            // The connection that the last refusal cost may have taken the time that was left.
            if !limit.has_time()
                && let Some(refusal) = refusal.take()
            {
                return Err(refusal);
            }
            if !is_wanted() {
                return Ok(Attempt::Unwanted);
            }
            if settings.min_replicas > 0 {
                let limit = (purpose == Purpose::Lock).then(|| limit.remaining());
                let Some(mine) = Box::pin(replication::take_turn(client, limit)).await else {
                    return Err(refusal.unwrap_or_else(|| Trouble::TimedOut.to_error(settings, "SET", key)));
                };
                turn = Some(mine);
            }
            let sent = Sent::now(key, Arc::clone(settings))?;
            // In boxes of their own, as all that follows: a hundred thousand calls may be here at once.
            let looks = matches!(purpose, Purpose::Wait { look: true })
                && !refusal.as_ref().is_some_and(Error::is_redirection);
            Box::pin(attempt(live, sent, looks, limit.remaining())).await
        };
        let trouble = match reply {
            Ok(reply) if command::was_taken(&reply) == Some(true) => {
                let error = match replication {
                    None => return Ok(in_time(client, sent)),
                    Some(replication) => match Box::pin(replication.end(settings, key)).await {
                        Ok(()) => return Ok(in_time(client, sent)),
                        Err(error) => error,
                    },
                };
                settlement::discard(client, sent);
                drop(turn);
                if !is_worth_a_retry(&error, purpose) || !limit.pause().await {
                    return Err(error);
                }
                refusal = Some(error);
                continue;
            }
            Ok(reply) if command::was_taken(&reply).is_none() => live.is_garbled(),
            Ok(_) => return Ok(Attempt::Held(Box::pin(see(client, &live, look)).await)),
            Err(Trouble::Refused(error)) if is_wrong_type(&error) => {
                return Ok(Attempt::Held(Box::pin(see(client, &live, look)).await));
            }
            Err(trouble) => trouble,
        };
        drop(turn);
        let error = trouble.to_error(settings, "SET", key);
        client.link.leave_if_useless(&live, &error);
        match trouble {
            Trouble::Refused(_) | Trouble::Unsent(_)
                if is_worth_a_retry(&error, purpose) && limit.pause().await =>
            {
                refusal = Some(error);
            }
            Trouble::Refused(_) | Trouble::Unsent(_) => return Err(error),
            Trouble::Dropped => match Box::pin(settle(client, &live, sent, purpose)).await? {
                Some(attempt) => return Ok(attempt),
                None if limit.is_over() => return Err(error),
                // What is discarded goes first.
                None if settings.min_replicas > 0 => drop(limit.pause().await),
                None => {}
            },
            Trouble::TimedOut => {
                let error = timed_out(client, &live, sent);
                if purpose == Purpose::Lock {
                    // What the last try met says more than that this one had not enough time.
                    return Err(refusal.unwrap_or(error));
                }
            }
        }
    }
}

/// Sends one attempt and waits for its reply.
async fn attempt(live: Rc<Live>, sent: Sent, looks: bool, limit: Duration) -> Tried {
    let began = Instant::now();
    // Handed in without a pause between them, so nothing else is written between them: the watch is on what the SET
    // finds.
    let looks = looks && live.tells_changes.get();
    let look = looks.then(|| Look::start(&live, sent.claim.key(), limit));
    let lane = if look.is_some() { Lane::Joined } else { Lane::Regular };
    let taking = live.send(lane, sent.take(), limit);
    let replicates = sent.settings().min_replicas > 0;
    let replication = replicates.then(|| Replication::start(&live, sent.settings(), limit));
    let reply = taking.reply().await;
    Tried { live, sent, look, replication, began, reply }
}

/// The commands of a waiter that come before its SET.
struct Look {
    watch: Pending,
    read: Pending,
    time_left: Pending,
}

impl Look {
    fn start(live: &Rc<Live>, key: &str, limit: Duration) -> Self {
        Self {
            watch: live.send(Lane::Regular, command::watch_next(), limit),
            read: live.send(Lane::Joined, command::read(key), limit),
            time_left: live.send(Lane::Joined, command::time_left(key), limit),
        }
    }
}

/// Takes in what a waiter looked at. The answers came before that to its SET; what is missing was not seen.
async fn see(client: &Rc<Client>, live: &Rc<Live>, look: Option<Look>) -> Sight {
    let Some(look) = look else { return Sight::default() };
    let watch = look.watch.reply().await;
    let read = look.read.reply().await;
    let time_left = look.time_left.reply().await;
    if let Err(Trouble::Refused(error)) = &watch {
        client.link.set_why_no_pushes(live, words_of(error));
    }
    Sight {
        holder: read.as_ref().ok().and_then(command::holder_of),
        time_left: time_left.ok().as_ref().and_then(command::duration_of),
        // A key of another type was read, but its watch counts all the same.
        is_watched: watch.is_ok() && !matches!(read, Err(Trouble::Dropped | Trouble::TimedOut)),
    }
}

fn patience_of(client: &Client, purpose: Purpose) -> Patience {
    match purpose {
        Purpose::Wait { .. } if client.link.has_stood() => Patience::Outage,
        _ => Patience::Call,
    }
}

fn is_worth_a_retry(error: &Error, purpose: Purpose) -> bool {
    match error.class() {
        Class::Later | Class::Reconnect => true,
        Class::OutOfMemory => purpose != Purpose::Lock,
        _ => false,
    }
}

/// A lease is counted from before its command was sent, so a slow reply may bring one that is over.
fn in_time(client: &Rc<Client>, sent: Sent) -> Attempt {
    if Moment::now() < Lease::begin(sent.settings().terms, sent.when).certain_until() {
        return Attempt::Acquired(sent);
    }
    settlement::discard(client, sent);
    Attempt::TooLate
}

/// The reply of a SET was lost with its connection: asks redis what became of it. `None`: it never ran and never will.
async fn settle(
    client: &Rc<Client>,
    live: &Rc<Live>,
    sent: Sent,
    purpose: Purpose,
) -> Result<Option<Attempt>, Error> {
    let sent = Sent { origin: Some(Origin::of(live)), ..sent };
    match settlement::find_out(client, &sent, patience_of(client, purpose)).await {
        // It is ours, but whether replicas have it was not answered.
        Ok(true) if sent.settings().min_replicas > 0 => {
            settlement::discard(client, Sent { origin: None, ..sent });
            Ok(None)
        }
        Ok(true) => Ok(Some(in_time(client, Sent { origin: None, ..sent }))),
        Ok(false) => Ok(None),
        Err(error) => {
            settlement::discard(client, sent);
            // A waiter tries again; what is final will come back as the answer to that.
            if purpose != Purpose::Lock && error.class() != Class::Denied { Ok(None) } else { Err(error) }
        }
    }
}

/// No answer came in time. The SET may still run, so it is undone.
fn timed_out(client: &Rc<Client>, live: &Live, sent: Sent) -> Error {
    let error = Trouble::TimedOut.to_error(sent.settings(), "SET", sent.claim.key());
    settlement::discard(client, Sent { origin: Some(Origin::of(live)), ..sent });
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
