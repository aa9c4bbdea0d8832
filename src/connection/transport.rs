//! Where a batch of commands meets the crate: the one connection to a server, or that to the nodes of a cluster.

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;

use crate::connection::cluster;
use crate::connection::reply::NoReply;
use crate::protocol::command::key_of;

/// A way to redis.
pub enum Transport {
    /// One server.
    Server(MultiplexedConnection),
    /// The nodes of a cluster; and what says that it was closed.
    Cluster(cluster::Connection, watch::Receiver<()>),
}

impl Transport {
    /// True where commands may go to different servers: only those that must not be parted may be handed in together then.
    #[must_use]
    pub fn has_many_servers(&self) -> bool {
        matches!(self, Self::Cluster(..))
    }

    /// Hands in a batch with its first poll, and waits for its replies: one for each command.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn send(&self, commands: redis::Pipeline) -> Result<Vec<Value>, NoReply> {
        match self {
            Self::Server(connection) => {
                let count = commands.len();
                connection
                    .clone()
                    .send_packed_commands(&commands, 0, count)
                    .await
                    .map_err(|_| NoReply::Dropped)
            }
            Self::Cluster(connection, closed) => {
                let mut closed = closed.clone();
                // A command without a key is about a connection, of which there is more than one.
                let key = commands.cmd_iter().find_map(key_of).map(<[u8]>::to_vec).unwrap_or_default();
                tokio::select! {
                    replies = connection.clone().send(&key, commands) => replies,
                    // Only ever an error: its other end is gone.
                    _ = closed.changed() => Err(NoReply::Dropped),
                }
            }
        }
    }
}
