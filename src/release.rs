//! Giving back what is held: one compare-and-delete each, and what each of its answers means.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::{Instant, sleep};

use crate::acquire::leave_if_useless;
use crate::backoff::Backoff;
use crate::client::Client;
use crate::command::{Comparison, RELEASE, ScriptCall};
use crate::error::{Class, Error};
use crate::holding::{Holding, Phase};
use crate::link::Patience;
use crate::live::Trouble;
use crate::outlet::Loss;

/// What became of one reservation that was to be released.
pub enum Outcome {
    /// Freed.
    Released,
    /// It was not ours any more, and nobody has told so yet.
    Lost(Loss),
    /// Redis could not be asked, or refused; it may be released again.
    Failed(Arc<str>, Error),
    /// Nothing to do: it is over, or somebody else is releasing it.
    Nothing,
}

/// Releases one reservation.
pub async fn release(client: Rc<Client>, holding: Arc<Holding>) -> Outcome {
    let is_mine = client.with(holding.id, |reservation| {
        !std::mem::replace(&mut reservation.releasing, true)
    });
    match is_mine {
        Some(true) => {}
        Some(false) => return Outcome::Nothing,
        None => return tell_what_lapsed(&holding),
    }
    holding.give_up();
    client.plan(holding.id, None);
    let mut unknown = holding.phase() == Phase::ReleaseUnknown;
    match compare_and_delete(&client, &holding, &mut unknown).await {
        Ok(found) => {
            client.take(holding.id);
            holding.enter(Phase::Over);
            client.wake(&holding.key);
            match found {
                Comparison::Ours => Outcome::Released,
                // An earlier release of it, whose answer was lost, has done it.
                _ if unknown => Outcome::Released,
                Comparison::Gone => Outcome::Lost(loss_of(&holding, None)),
                Comparison::Other(holder) => Outcome::Lost(loss_of(&holding, holder)),
            }
        }
        Err(error) => {
            if unknown {
                holding.enter(Phase::ReleaseUnknown);
            }
            let end = client.with(holding.id, |reservation| {
                reservation.releasing = false;
                reservation.lease.postpone(None);
                reservation.lease.certain_until()
            });
            // It is not renewed again: its caller is done with it.
            client.plan(holding.id, end);
            crate::heartbeat::watch(&client);
            Outcome::Failed(Arc::clone(&holding.key), error)
        }
    }
}

/// It is no longer kept. If its time ran out and nobody was told, this release is what tells.
fn tell_what_lapsed(holding: &Holding) -> Outcome {
    let phase = holding.phase();
    holding.enter(Phase::Over);
    match phase {
        Phase::Lapsed => Outcome::Lost(loss_of(holding, None)),
        Phase::LapsedAfterRelease => Outcome::Released,
        _ => Outcome::Nothing,
    }
}

fn loss_of(holding: &Holding, holder: Option<String>) -> Loss {
    Loss {
        key: Arc::clone(&holding.key),
        value: Arc::clone(&holding.value),
        holder,
    }
}

async fn compare_and_delete(
    client: &Rc<Client>,
    holding: &Holding,
    unknown: &mut bool,
) -> Result<Comparison, Error> {
    let settings = &holding.settings;
    let call = ScriptCall {
        key: Arc::clone(&holding.key),
        value: Arc::clone(&holding.value),
        ttl: None,
    };
    let mut backoff = Backoff::default();
    let mut limit = None;
    loop {
        let live = client.link.live(Patience::Call, settings.connect_timeout).await?;
        let deadline = *limit.get_or_insert_with(|| Instant::now() + settings.command_timeout);
        let remaining = deadline.saturating_duration_since(Instant::now());
        let trouble = match live.compare(&RELEASE, &call, remaining).await {
            Ok(found) => return Ok(found),
            Err(trouble) => trouble,
        };
        let error = trouble.to_error(&settings.endpoint, "RELEASE", &holding.key);
        let is_over = Instant::now() >= deadline;
        match trouble {
            Trouble::Refused(_) if matches!(error.class(), Class::Later | Class::Reconnect) && !is_over => {
                leave_if_useless(client, &live, &error);
                let left = deadline.saturating_duration_since(Instant::now());
                sleep(backoff.next_delay().min(left)).await;
            }
            Trouble::Refused(_) => return Err(error),
            Trouble::Dropped => {
                *unknown = true;
                if is_over {
                    return Err(error);
                }
            }
            Trouble::TimedOut(_) => {
                *unknown = true;
                return Err(error);
            }
        }
    }
}

/// Ends, without a word, what an environment that is gone has held: its keys lapse.
pub fn forget_environment(client: &Client, environment: u64) {
    for id in client.find(|one| one.caller.environment == environment) {
        if let Some(reservation) = client.take(id) {
            reservation.holding.enter(Phase::Over);
        }
    }
}
