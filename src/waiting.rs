//! Serves the waiters of one key: the head of the local queue asks redis, the others wait for their turn.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::acquire::{Attempt, Purpose, acquire, poll_interval};
use crate::client::Client;
use crate::error::{Class, Error};
use crate::heartbeat;
use crate::outlet::{Event, Ticket};
use crate::queue::{Head, Queue, Waiter};
use crate::settings::Settings;
use crate::settlement;

/// Joins the queue for a resource. It is left when the lock is had, when `timeout` is over, or by [`cancel`].
pub fn wait(
    client: &Rc<Client>,
    ticket: Ticket,
    settings: Arc<Settings>,
    resource: String,
    timeout: Option<Duration>,
) {
    let key: Arc<str> = Settings::key_of(&resource).into();
    let (environment, call) = (ticket.caller.environment, ticket.call);
    let existing = client.queues.borrow().get(&key).cloned();
    let queue = existing.unwrap_or_else(|| {
        let queue = Rc::new(Queue::new(Arc::clone(&key)));
        client
            .queues
            .borrow_mut()
            .insert(Arc::clone(&key), Rc::clone(&queue));
        tokio::task::spawn_local(serve(Rc::clone(client), Rc::clone(&queue)));
        queue
    });
    queue.join(Waiter {
        ticket,
        settings,
        resource,
    });
    if let Some(timeout) = timeout {
        tokio::task::spawn_local(async move {
            sleep(timeout).await;
            if let Some(waiter) = queue.leave(environment, call) {
                let error = Error::WaitTimeout {
                    key: key.to_string(),
                    after_ms: timeout.as_millis(),
                };
                waiter.ticket.answer(Err(error.into()));
            }
        });
    }
}

/// A waiter leaves. One that was answered before has nothing to leave.
pub fn cancel(client: &Client, environment: u64, call: u64) {
    let queues: Vec<_> = client.queues.borrow().values().cloned().collect();
    for queue in queues {
        if let Some(waiter) = queue.leave(environment, call) {
            waiter.ticket.answer(Err(Error::Aborted {
                key: queue.key.to_string(),
            }
            .into()));
            return;
        }
    }
}

/// All waiters of an environment that has ended leave.
pub fn forget_environment(client: &Client, environment: u64) {
    let queues: Vec<_> = client.queues.borrow().values().cloned().collect();
    for queue in queues {
        drop(queue.leave_all(|waiter| waiter.ticket.caller.environment == environment));
    }
}

/// Lives as long as the queue has waiters.
async fn serve(client: Rc<Client>, queue: Rc<Queue>) {
    // Whatever ends this task, a panic included: the next waiter must find no queue that nobody serves.
    let _guard = Closing {
        client: Rc::clone(&client),
        key: Arc::clone(&queue.key),
    };
    while let Some(head) = queue.head() {
        match acquire(&client, &head.settings, &queue.key, Purpose::Wait).await {
            Ok(Attempt::Acquired(sent)) => match queue.leave(head.caller.environment, head.call) {
                Some(waiter) => heartbeat::keep(&client, sent, waiter.ticket),
                // It was cancelled while redis said yes.
                None => settlement::discard(&client, sent),
            },
            Ok(Attempt::Held) => {
                tell_attempt(&head, &queue);
                tokio::select! {
                    () = queue.woken() => {}
                    () = sleep(poll_interval()) => {}
                }
            }
            Ok(Attempt::TooLate) => {}
            Err(error) => fail(&queue, &head, &error),
        }
    }
}

fn tell_attempt(head: &Head, queue: &Queue) {
    let event = Event::Attempted {
        resource: head.resource.clone(),
        key: Arc::clone(&queue.key),
    };
    head.caller.report(head.settings.log_level, event);
}

/// A failure that waiting does not mend. What is wrong with the connection is wrong for every waiter; what redis said
/// of one command is the head's alone.
fn fail(queue: &Queue, head: &Head, error: &Error) {
    let concerns_all = matches!(error.class(), Class::Reconnect | Class::Denied);
    let gone = queue.leave_all(|waiter| {
        concerns_all
            || (waiter.ticket.call == head.call
                && waiter.ticket.caller.environment == head.caller.environment)
    });
    for waiter in gone {
        waiter.ticket.answer(Err(error.clone().into()));
    }
}

struct Closing {
    client: Rc<Client>,
    key: Arc<str>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.client.queues.borrow_mut().remove(&self.key);
    }
}
