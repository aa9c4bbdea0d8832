//! Where batches meet the redis crate: the connection to one server, or to the nodes of a cluster.

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;

use crate::connection::cluster;
use crate::connection::reply::NoReply;
use crate::protocol::command::key_of;

/// A connection of the redis crate.
pub enum Transport {
    /// One server.
    Server(MultiplexedConnection),
    /// The nodes of a cluster, and a channel that closes with the connection.
    Cluster(cluster::Connection, watch::Receiver<()>),
}

impl Transport {
    /// True if commands may go to different servers. Then only commands that must stay together may share a batch.
    #[must_use]
    pub fn has_many_servers(&self) -> bool {
        matches!(self, Self::Cluster(..))
    }

    /// Writes a batch with the first poll, and waits for its replies: one for each command.
    ///
    /// # Errors
    /// Why there are no replies.
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
                // Commands without a key are about their connection, and a cluster has several.
                let key = commands.cmd_iter().find_map(key_of).map(<[u8]>::to_vec).unwrap_or_default();
                tokio::select! {
                    biased;
                    replies = connection.clone().send(&key, commands) => replies,
                    // Always an error: the sender is gone.
                    _ = closed.changed() => Err(NoReply::Dropped),
                }
            }
        }
    }
}
