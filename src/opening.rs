//! Opening the connection of an endpoint, whatever kind it is of.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, PushInfo};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::cluster;
use crate::command::Identity;
use crate::connection::{Connected, Door, connect};
use crate::endpoint::{Endpoint, Place};
use crate::error::Error;
use crate::sentinel::master_of;
use crate::wire::Wire;

/// A connection that is ready for commands.
pub struct Opened {
    /// Takes commands.
    pub wire: Wire,
    /// Moves the bytes. Ends when the connection does; dropping it closes the socket.
    pub driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What the server knows this connection by, so that it can be killed later.
    pub identity: Option<Identity>,
    /// What the server says without being asked, where it tells of changed keys; else the reason why it does not.
    pub pushes: Result<UnboundedReceiver<PushInfo>, String>,
}

/// Connects and logs in within `limit`.
///
/// # Errors
/// [`Error::Connection`] where there is nobody to talk to, or nobody talks in time; [`Error::Denied`] where the
/// credentials are refused; [`Error::Reply`] for any other refusal.
pub async fn open(endpoint: &Arc<Endpoint>, limit: Duration) -> Result<Opened, Error> {
    let Ok(opened) = tokio::time::timeout(limit, open_unlimited(endpoint)).await else {
        return Err(Error::Connection {
            endpoint: Arc::clone(endpoint),
            detail: format!("no connection within {} ms (connect_timeout)", limit.as_millis()),
            reason: "ETIMEDOUT",
        });
    };
    opened
}

async fn open_unlimited(endpoint: &Arc<Endpoint>) -> Result<Opened, Error> {
    match &endpoint.place {
        Place::Server(host) => open_one(endpoint, Door::Host(host)).await,
        Place::Socket(path) => open_one(endpoint, Door::Socket(path)).await,
        Place::Sentinels { sentinels, name, password } => {
            let master = master_of(endpoint, sentinels, name, password).await?;
            open_one(endpoint, Door::Host(&master)).await
        }
        Place::Cluster(nodes) => {
            let (connection, pushes) = cluster::open(endpoint, nodes).await?;
            // Its engine moves its bytes, and lives as long as the connection.
            let wire = Wire::Cluster(connection);
            Ok(Opened { wire, driver: Box::pin(pending()), identity: None, pushes: Ok(pushes) })
        }
    }
}

async fn open_one(endpoint: &Arc<Endpoint>, door: Door<'_>) -> Result<Opened, Error> {
    let (sender, pushes) = unbounded_channel();
    let config = AsyncConnectionConfig::new().set_push_sender(sender);
    let Connected { connection, driver, identity, why_no_pushes } = connect(endpoint, door, config).await?;
    let pushes = why_no_pushes.map_or(Ok(pushes), Err);
    Ok(Opened { wire: Wire::Server(connection), driver, identity, pushes })
}
