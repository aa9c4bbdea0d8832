//! Ends in a known state what a lost or late reply left open: a key of ours that nobody knows is found, or deleted.
//!
//! A SET can reach redis after everything that is sent later on another connection: it sits in the old socket until
//! redis reads it. So the old connection is killed first (`CLIENT KILL`), and only then is the key looked at. Where
//! that is refused, the compare-and-delete is repeated until the SET's own ttl has run out.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use tokio::time::sleep;

use crate::backoff::{Backoff, jittered};
use crate::claim::Claim;
use crate::client::Client;
use crate::clock::Moment;
use crate::command::{self, Comparison, Identity, RELEASE, ScriptCall};
use crate::error::{Error, is_wrong_type};
use crate::link::Patience;
use crate::live::Live;
use crate::outbox::Lane;
use crate::reply::Trouble;
use crate::settings::Settings;

/// Between two looks at a key that may still be set by a connection which could not be killed.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The connection that a command was sent on, for after it broke.
#[derive(Clone, Debug)]
pub struct Origin {
    generation: u64,
    identity: Option<Identity>,
}

impl Origin {
    /// Remembers a connection.
    #[must_use]
    pub fn of(live: &Live) -> Self {
        Self { generation: live.generation, identity: live.identity.clone() }
    }
}

/// A value whose SET was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The key, and the value with its token.
    pub claim: Claim,
    /// The moment before.
    pub when: Moment,
    /// How often in a row the key had gone from holder to holder inside this process when this was sent.
    pub hand_overs: u32,
    /// The connection whose reply is missing; `None` where redis did answer.
    pub origin: Option<Origin>,
}

impl Sent {
    /// A new value for a key, that is sent now.
    ///
    /// # Errors
    /// Where the operating system has no random numbers to give.
    pub fn now(key: impl Into<Box<str>>, settings: Arc<Settings>) -> Result<Self, Error> {
        let claim = Claim::new(key, settings)?;
        Ok(Self { claim, when: Moment::now(), hand_overs: 0, origin: None })
    }

    /// With what it was sent.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.claim.settings
    }

    /// The SET.
    #[must_use]
    pub fn take(&self) -> Cmd {
        command::take(self.claim.key(), &self.claim.value(), self.settings().terms.ttl)
    }
}

/// After a connection broke with a SET unanswered: true if the key holds its value; false if it does not, and will not.
///
/// # Errors
/// Why redis could not be asked. The value may be in redis; [`discard`] it.
pub async fn find_out(client: &Rc<Client>, sent: &Sent, patience: Patience) -> Result<bool, Error> {
    let settings = sent.settings();
    let live = client.link.live(patience, settings.connect_timeout).await?;
    let closed = make_sure_it_is_closed(&live, sent).await;
    match live.ask(command::read(sent.claim.key()), settings.command_timeout).await {
        Ok(ref reply) if command::text_of(reply).as_deref() == Some(&*sent.claim.value()) => return Ok(true),
        Err(Trouble::Refused(ref error)) if is_wrong_type(error) => {}
        Err(trouble) => return Err(trouble.to_error(settings, "GET", sent.claim.key())),
        Ok(_) => {}
    }
    if !closed {
        discard(client, sent.clone());
    }
    Ok(false)
}

/// Deletes the key if it holds this value, and does not give up before that is certain. Nobody waits for it.
pub fn discard(client: &Rc<Client>, sent: Sent) {
    let client = Rc::clone(client);
    tokio::task::spawn_local(async move {
        let settings = sent.settings();
        let call = ScriptCall { claim: &sent.claim, ttl: None, next: None };
        let end = sent.when.after(settings.terms.ttl);
        let mut backoff = Backoff::default();
        loop {
            // `Endless` never fails.
            let Ok(live) = client.link.live(Patience::Endless, settings.connect_timeout).await else {
                return;
            };
            let closed = make_sure_it_is_closed(&live, &sent).await;
            // Not urgent: it must not overtake the SET that it undoes.
            match live.compare(Lane::Regular, &RELEASE, &call, settings.command_timeout).await {
                Ok(found) => {
                    if found == Comparison::Ours {
                        client.changed(sent.claim.key());
                    }
                    if closed || Moment::now() >= end {
                        return;
                    }
                    sleep(jittered(LOOK_AGAIN)).await;
                }
                Err(_) => sleep(backoff.next_delay()).await,
            }
        }
    });
}

/// True once nothing that was sent on the connection of `sent` can run after what is sent now on `live`.
async fn make_sure_it_is_closed(live: &Rc<Live>, sent: &Sent) -> bool {
    let Some(origin) = &sent.origin else { return true };
    // Which of a cluster's connections it was, and what became of that, only its engine knows.
    if !live.keeps_order() {
        return false;
    }
    // The same connection answers in order.
    if origin.generation == live.generation {
        return true;
    }
    match (&origin.identity, &live.identity) {
        // Numbers only grow while a server lives, so it was started again, and what its sockets held is gone with it.
        (Some(old), Some(new)) if new.number <= old.number => true,
        // Whether there was such a connection does not matter: now there is none.
        (Some(old), _) => live.ask(command::kill(old), sent.settings().command_timeout).await.is_ok(),
        (None, _) => false,
    }
}
