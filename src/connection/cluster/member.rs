//! A node as the engine uses it: answers the engine's own questions, sends our commands, and returns errors that make
//! the engine do the right thing.

use std::io;
use std::sync::Arc;

use redis::aio::ConnectionLike;
use redis::cluster_async::Connect;
use redis::{
    Arg, AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline, RedisError,
    RedisFuture, ServerError, ServerErrorKind, Value,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{ClusterId, GIVE_UP, LOST, TRY_AGAIN, unsent};
use crate::connection::cluster::breaker::{FIRST_CONNECT_WAIT, Nodes};
use crate::connection::cluster::node::{Node, Unanswered};
use crate::model::endpoint::Host;
use crate::model::error::Error;

/// A node, as the engine uses it.
#[derive(Clone)]
pub struct Member {
    node: Node,
    nodes: Arc<Nodes>,
    /// The next command is to follow an ASKING.
    asks: bool,
}

impl Member {
    fn error(&self, failed: Unanswered) -> RedisError {
        match failed {
            Unanswered::Closed => io::Error::from(io::ErrorKind::BrokenPipe).into(),
            Unanswered::Lost => (LOST, "the reply was lost with the connection").into(),
            Unanswered::Full => {
                let failure = Error::Connection {
                    endpoint: Arc::clone(self.nodes.endpoint()),
                    detail: "too many commands wait for this node already".to_owned(),
                    reason: "EAGAIN",
                };
                unsent(GIVE_UP, failure)
            }
        }
    }

    /// Answers CLUSTER SLOTS; with the last known answer if this node is open and no node can say now. Without an
    /// answer the engine asks again and again and sends nothing meanwhile, not even to healthy nodes. Changes since
    /// then are found by redirections.
    async fn who_serves_what(&self, question: &Cmd) -> Result<Value, Unanswered> {
        let answer = self.ask_any(question).await;
        match &answer {
            Ok(map) if is_map(map) => {
                self.nodes.set_map(map.clone());
                answer
            }
            _ if self.node.is_open() => self.nodes.map().map_or(answer, Ok),
            _ => answer,
        }
    }

    /// Asks a question that any node can answer: this node first; all others too if it has no usable answer or takes too
    /// long, since the engine does nothing else meanwhile.
    async fn ask_any(&self, question: &Cmd) -> Result<Value, Unanswered> {
        let ask = |node: Node| {
            let question = question.clone();
            self.nodes.owner.owns(async move { node.ask(&question).await })
        };
        let mut answers = JoinSet::new();
        let head_start = FIRST_CONNECT_WAIT.saturating_sub(self.node.owed_for());
        answers.spawn(ask(self.node.clone()));
        let mut said = Err(Unanswered::Lost);
        if let Ok(answer) = timeout(head_start, answers.join_next()).await {
            said = answer.and_then(Result::ok).unwrap_or(said);
            if said.is_err() || said.as_ref().is_ok_and(is_map) {
                return said;
            }
        }
        for node in self.nodes.others(&self.node) {
            answers.spawn(ask(node));
        }
        while let Some(answer) = answers.join_next().await {
            if let Ok(Ok(value)) = answer {
                let is_it = is_map(&value);
                said = Ok(value);
                if is_it {
                    break;
                }
            }
        }
        // Not cancelled: a question that stays unanswered reveals a node that hangs.
        answers.detach_all();
        said
    }

    /// The error for a redirection that must not be followed, because it leads to a barred address: the engine would
    /// ask all nodes for the slots again, for every such command.
    fn why_not_followed(&self, values: &[Value]) -> Option<Error> {
        let to = values.iter().find_map(|value| match value {
            Value::ServerError(error) => redirection(error),
            _ => None,
        });
        self.nodes.why_barred(&to?)
    }
}

/// False for a refusal, and for an empty map. A node that was reset, or has not met the others yet, answers with an empty
/// map; the engine would drop all nodes for it.
fn is_map(answer: &Value) -> bool {
    matches!(answer, Value::Array(slots) if !slots.is_empty())
}

/// Where `MOVED slot host:port` or `ASK slot host:port` leads.
fn redirection(error: &ServerError) -> Option<Host> {
    if !matches!(error.kind(), Some(ServerErrorKind::Moved | ServerErrorKind::Ask)) {
        return None;
    }
    let (_slot, address) = error.details()?.split_once(' ')?;
    let (name, port) = address.rsplit_once(':')?;
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Host { name, port: port.parse().ok()? })
}

impl ConnectionLike for Member {
    /// The engine's own questions.
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.nodes.owner.owns(async move {
            let answer = match command.args_iter().next() {
                // PING asks whether the connection is worth keeping. We know that; waiting for a reply would hold up
                // commands to other nodes.
                Some(Arg::Simple(b"PING")) if self.node.is_open() => Ok(Value::Okay),
                Some(Arg::Simple(b"PING")) => Err(Unanswered::Closed),
                // Goes with its command, in one write. By itself it would be for whatever command comes next, also for
                // one that the node must not run.
                Some(Arg::Simple(b"ASKING")) => {
                    self.asks = true;
                    Ok(Value::Okay)
                }
                Some(Arg::Simple(b"CLUSTER")) => self.who_serves_what(command).await,
                _ => self.node.ask(command).await,
            };
            // Questions change nothing, so it does not matter whether they ran.
            answer.map_err(|_| self.error(Unanswered::Closed))
        }))
    }

    /// Our own commands. `number` is that of the request in [`super::Once`].
    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        number: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(self.nodes.owner.owns(async move {
            let once = self.nodes.once();
            if !once.may_send(number) {
                return Err(self.error(Unanswered::Lost));
            }
            let sent = if std::mem::take(&mut self.asks) {
                let replies = self.node.send(&after_asking(commands), count + 1).await;
                replies.map(without_asking)
            } else {
                self.node.send(commands, count).await
            };
            let values = match sent {
                Ok(values) => keep_what_ran(values),
                Err(failed) => {
                    if failed != Unanswered::Lost {
                        once.has_not_run(number);
                    }
                    return Err(self.error(failed));
                }
            };
            if values.iter().any(|value| matches!(value, Value::ServerError(_))) {
                once.has_not_run(number);
            }
            match self.why_not_followed(&values) {
                Some(failure) => Err(unsent(GIVE_UP, failure)),
                None => Ok(values),
            }
        }))
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// The commands, and ASKING in front of them.
fn after_asking(commands: &Pipeline) -> Pipeline {
    let mut all = Pipeline::with_capacity(commands.len() + 1);
    all.cmd("ASKING");
    for command in commands.cmd_iter() {
        all.add_command(command.clone());
    }
    all
}

/// The replies behind that to ASKING. If it was refused, its refusal is the reason for the errors behind it: the node has
/// run only what it would have run without it.
fn without_asking(mut values: Vec<Value>) -> Vec<Value> {
    let mut rest = values.split_off(1.min(values.len()));
    if let Some(refusal @ Value::ServerError(_)) = values.pop() {
        rest.iter_mut()
            .filter(|value| matches!(value, Value::ServerError(_)))
            .for_each(|value| value.clone_from(&refusal));
    }
    rest
}

/// After a SET that ran, hides the errors of the commands before it: the engine would resend them all, the SET
/// included. It happens when a slot is moved away and back between the two.
fn keep_what_ran(mut values: Vec<Value>) -> Vec<Value> {
    let ran = values.iter().rposition(|value| matches!(value, Value::Okay)).unwrap_or_default();
    for value in values.iter_mut().take(ran).filter(|value| matches!(value, Value::ServerError(_))) {
        *value = Value::Nil;
    }
    values
}

impl Connect for Member {
    fn connect_with_config<'a, T>(info: T, config: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        Box::pin(async move {
            let info = info.into_connection_info()?;
            let id = info.redis_settings().username().and_then(ClusterId::from_user_name);
            let (Some(nodes), ConnectionAddr::Tcp(name, port)) = (id.and_then(ClusterId::nodes), info.addr())
            else {
                return Err((ErrorKind::InvalidClientConfig, "no cluster of ours").into());
            };
            let host = Host { name: name.clone(), port: *port };
            match nodes.owner.owns(nodes.connect(host, config)).await {
                Ok(node) => Ok(Self { node, nodes, asks: false }),
                Err(failure) => Err(unsent(TRY_AGAIN, failure)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_reply(text: &str) -> ServerError {
        match redis::parse_redis_value(format!("-{text}\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refused_asking_explains_the_errors_behind_it_and_hides_no_success() {
        let error = |text| Value::ServerError(error_reply(text));
        let (refused, moved) = (error("NOPERM no asking"), error("MOVED 3999 a:1"));
        let replies = vec![refused.clone(), moved.clone(), Value::Okay];
        assert_eq!(without_asking(replies), [refused, Value::Okay]);
        assert_eq!(without_asking(vec![Value::Okay, moved.clone()]), [moved]);
        assert_eq!(without_asking(Vec::new()), []);
    }

    #[test]
    fn where_a_redirection_leads_is_found() {
        for (text, name, port) in [
            ("MOVED 3999 127.0.0.1:6381", "127.0.0.1", 6381),
            ("ASK 3999 a.example:6381", "a.example", 6381),
            ("MOVED 3999 fe80::1:6381", "fe80::1", 6381),
            ("MOVED 3999 [fe80::1]:6381", "fe80::1", 6381),
        ] {
            let host = Host { name: name.to_owned(), port };
            assert_eq!(redirection(&error_reply(text)), Some(host), "{text}");
        }
        for text in ["CLUSTERDOWN 3999 a:1", "MOVED", "MOVED 3999 nowhere", "ASK 3999 a:b"] {
            assert_eq!(redirection(&error_reply(text)), None, "{text}");
        }
    }
}
