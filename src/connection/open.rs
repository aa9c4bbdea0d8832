//! Opens the connection of an endpoint, whatever its kind.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, PushInfo};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::connection::cluster;
use crate::connection::handshake::{Address, Connected, connect};
use crate::connection::sentinel::Sentinels;
use crate::connection::transport::Transport;
use crate::model::endpoint::{Endpoint, Place};
use crate::model::error::Error;
use crate::protocol::command::Identity;

/// A connection that is ready for commands.
pub struct Opened {
    /// Takes commands.
    pub transport: Transport,
    /// Moves the bytes. Ends with the connection; dropping it closes the socket.
    pub driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// How the server knows this connection, so that it can be killed later.
    pub identity: Option<Identity>,
    /// Ends when the server is no longer the master. `None` if the endpoint has no sentinels.
    pub moved: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// The server's reports of changed keys; or the reason why it sends none.
    pub pushes: Result<UnboundedReceiver<PushInfo>, String>,
}

/// Each step of connecting has to end by this long before the whole, so that the error names the step that hung.
const MARGIN: Duration = Duration::from_millis(100);

/// Connects and logs in within `limit`.
///
/// # Errors
/// [`Error::Connection`] if the server cannot be reached or does not answer in time; [`Error::Denied`] if it refuses
/// the credentials; [`Error::Reply`] for any other refusal.
pub async fn open(endpoint: &Arc<Endpoint>, limit: Duration) -> Result<Opened, Error> {
    let end = Instant::now() + limit;
    let deadline = end - MARGIN.min(limit / 10);
    match timeout_at(end, open_by(endpoint, deadline)).await {
        Err(_) => Err(not_within(endpoint, limit)),
        Ok(Err(Error::Connection { endpoint, detail, reason: "ETIMEDOUT" }))
            if Instant::now() >= deadline =>
        {
            let detail = format!("{}: {detail}", too_late(limit));
            Err(Error::Connection { endpoint, detail, reason: "ETIMEDOUT" })
        }
        Ok(done) => done,
    }
}

fn too_late(limit: Duration) -> String {
    format!("no connection within {} ms (connect_timeout)", limit.as_millis())
}

/// The error that there was no connection in time.
#[must_use]
pub fn not_within(endpoint: &Arc<Endpoint>, limit: Duration) -> Error {
    // A server without TLS waits for the rest of what it takes for a command.
    let hint = if endpoint.tls.is_some() { "; is this its TLS port?" } else { "" };
    Error::Connection {
        endpoint: Arc::clone(endpoint),
        detail: format!("{}{hint}", too_late(limit)),
        reason: "ETIMEDOUT",
    }
}

async fn open_by(endpoint: &Arc<Endpoint>, deadline: Instant) -> Result<Opened, Error> {
    match &endpoint.place {
        Place::Server(host) => open_one(endpoint, Address::Host(host), deadline).await,
        Place::Socket(path) => open_one(endpoint, Address::Socket(path), deadline).await,
        Place::Sentinels { sentinels, name, user, password } => {
            let sentinels = Sentinels::ask(endpoint, sentinels, name, user.as_deref(), password);
            open_master(endpoint, sentinels, deadline).await
        }
        Place::Cluster(nodes) => {
            let (connection, pushes) = cluster::open(endpoint, nodes).await?;
            // The engine's tasks move the bytes, for as long as anybody waits for a reply.
            let (open, closed) = watch::channel(());
            let all_gone = connection.all_gone();
            let driver = Box::pin(async move {
                let _open = open;
                all_gone.await;
            });
            let transport = Transport::Cluster(connection, closed);
            Ok(Opened { transport, driver, identity: None, moved: None, pushes })
        }
    }
}

async fn open_one(
    endpoint: &Arc<Endpoint>,
    address: Address<'_>,
    deadline: Instant,
) -> Result<Opened, Error> {
    let (sender, pushes) = unbounded_channel();
    let config = AsyncConnectionConfig::new().set_push_sender(sender);
    let Connected { connection, driver, identity, why_no_pushes } =
        connect(endpoint, address, config, deadline).await?;
    let pushes = why_no_pushes.map_or(Ok(pushes), Err);
    Ok(Opened { transport: Transport::Server(connection), driver, identity, moved: None, pushes })
}

/// Connects to the current master. If there is a new one before that is done, connects to the new one instead.
async fn open_master(
    endpoint: &Arc<Endpoint>,
    mut sentinels: Sentinels,
    deadline: Instant,
) -> Result<Opened, Error> {
    let mut master = sentinels.master().await?;
    loop {
        let newer = tokio::select! {
            biased;
            opened = open_one(endpoint, Address::Host(&master.host), deadline) => {
                let mut opened = opened?;
                opened.moved = Some(Box::pin(async move { drop(sentinels.newer_than(&master).await) }));
                return Ok(opened);
            }
            newer = sentinels.newer_than(&master) => newer,
        };
        master = newer;
    }
}
