//! The breaker of a cluster's nodes, with servers that accept connections and say nothing: what the engine gets, how
//! often the servers are connected to, and until when.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

use super::support::Server;
use crate::connection::cluster::breaker::{NODE_BACK, Nodes};
use crate::connection::cluster::node::{Node, Unanswered};
use crate::model::endpoint::{Endpoint, Host, Login, Place};
use crate::model::error::Error;

const LONG: Duration = Duration::from_secs(10);

/// A server that accepts connections (the system does that) and says nothing.
struct Mute(TcpListener);

impl Mute {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn host(&self) -> Host {
        host(self.0.local_addr().unwrap().port())
    }

    /// How many connections there were since the last call.
    fn connects(&self) -> usize {
        std::iter::from_fn(|| self.0.accept().ok()).count()
    }
}

fn host(port: u16) -> Host {
    Host { name: "127.0.0.1".to_owned(), port }
}

fn nodes() -> (Arc<Nodes>, UnboundedReceiver<PushInfo>) {
    let (place, login) = (Place::Cluster(Vec::new()), Login::default());
    let endpoint = Arc::new(Endpoint { place, login, tls: None, waits_for_replicas: None });
    let (sender, pushes) = unbounded_channel();
    (Nodes::new(&endpoint, sender), pushes)
}

async fn connect(nodes: &Arc<Nodes>, host: Host) -> (Result<Node, Error>, Duration) {
    let start = Instant::now();
    let outcome = timeout(LONG, nodes.connect(host, AsyncConnectionConfig::new())).await.unwrap();
    (outcome, start.elapsed())
}

/// Asks a node that does not answer, until it is given up.
async fn ask_in_vain(node: &Node) -> Unanswered {
    let mut commands = redis::pipe();
    commands.cmd("GET").arg("k");
    timeout(LONG, node.send(&commands, 1)).await.unwrap().unwrap_err()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_mute_node_is_refused_at_once_while_others_can_be_used() {
    let (server, mute) = (Server::start(), Mute::start());
    let (nodes, _pushes) = nodes();
    let (node, _) = connect(&nodes, host(server.port)).await;
    let node = node.unwrap();
    let (refusal, first) = connect(&nodes, mute.host()).await;
    assert!(matches!(refusal, Err(Error::Connection { reason: "ETIMEDOUT", .. })));
    assert!(first < Duration::from_millis(500), "{first:?}");
    assert!(nodes.why_barred(&mute.host()).is_some());
    let start = Instant::now();
    for _ in 0..100 {
        assert!(connect(&nodes, mute.host()).await.0.is_err());
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let most = usize::try_from(start.elapsed().as_secs()).unwrap() + 3;
    let connects = mute.connects();
    assert!(connects >= 1 && connects <= most, "{connects} connects");
    assert!(nodes.why_barred(&host(server.port)).is_none());
    assert!(node.is_open());
}

#[tokio::test]
async fn many_callers_at_once_share_one_connection() {
    let server = Server::start();
    let (nodes, _pushes) = nodes();
    let asked = (0..50).map(|_| {
        let nodes = Arc::clone(&nodes);
        tokio::spawn(async move { connect(&nodes, host(server.port)).await.0.unwrap() })
    });
    let asked: Vec<_> = asked.collect();
    let mut all = Vec::new();
    for task in asked {
        all.push(task.await.unwrap());
    }
    assert!(all.iter().all(|node| node.is_same(&all[0])));
    assert!(nodes.others(&all[0]).is_empty());
}

#[tokio::test]
async fn without_another_node_the_engine_waits_for_the_end_of_the_attempt() {
    let mute = Mute::start();
    let (nodes, _pushes) = nodes();
    for _ in 0..3 {
        let (refusal, took) = connect(&nodes, mute.host()).await;
        assert!(refusal.is_err());
        assert!(took > Duration::from_millis(500), "nor is it asked again without a pause: {took:?}");
    }
}

#[tokio::test]
async fn a_node_that_goes_silent_is_given_up_probed_and_back_at_once() {
    let (server, other) = (Server::start(), Server::start());
    let (nodes, mut pushes) = nodes();
    let _other = connect(&nodes, host(other.port)).await.0.unwrap();
    let node = connect(&nodes, host(server.port)).await.0.unwrap();
    server.pause();
    let start = Instant::now();
    assert_eq!(ask_in_vain(&node).await, Unanswered::Lost);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(!node.is_open());
    assert_eq!(ask_in_vain(&node).await, Unanswered::Closed);
    let push = timeout(LONG, pushes.recv()).await.unwrap().unwrap();
    assert_eq!(push.kind, PushKind::Disconnection);
    let (refusal, took) = connect(&nodes, host(server.port)).await;
    assert!(refusal.is_err() && took < Duration::from_millis(500), "{took:?}");
    server.resume();
    until("it is back", || nodes.why_barred(&host(server.port)).is_none()).await;
    let push = timeout(LONG, pushes.recv()).await.unwrap().unwrap();
    assert_eq!(push.kind, PushKind::Other(NODE_BACK.to_owned()));
    let again = connect(&nodes, host(server.port)).await.0.unwrap();
    assert!(!again.is_same(&node) && again.is_open());
    let mut ping = redis::pipe();
    ping.cmd("PING");
    assert_eq!(again.send(&ping, 1).await.unwrap(), [Value::SimpleString("PONG".to_owned())]);
}

#[tokio::test]
async fn one_node_takes_a_quarter_of_all_commands_in_flight() {
    let server = Server::start();
    let (nodes, _pushes) = nodes();
    let node = connect(&nodes, host(server.port)).await.0.unwrap();
    server.pause();
    let send = |_| {
        let node = node.clone();
        tokio::spawn(async move { ask_in_vain(&node).await })
    };
    let tasks: Vec<_> = (0..1_500).map(send).collect();
    let mut full = 0;
    for task in tasks {
        match task.await.unwrap() {
            Unanswered::Full => full += 1,
            failed => assert_eq!(failed, Unanswered::Lost),
        }
    }
    assert_eq!(full, 500);
}

#[tokio::test]
async fn probes_end_with_the_cluster_connection() {
    let mute = Mute::start();
    let (nodes, _pushes) = nodes();
    assert!(connect(&nodes, mute.host()).await.0.is_err());
    assert!(mute.connects() >= 1);
    until("another probe", || mute.connects() > 0).await;
    drop(nodes);
    mute.connects();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(mute.connects(), 0);
}

#[tokio::test]
async fn probes_end_when_nobody_asks_for_the_node_any_more() {
    let mute = Mute::start();
    let (nodes, _pushes) = nodes();
    assert!(connect(&nodes, mute.host()).await.0.is_err());
    // Ten seconds, and the probe that is in flight then.
    sleep(Duration::from_secs(12)).await;
    let connects = mute.connects();
    assert!((2..=14).contains(&connects), "{connects} connects");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(mute.connects(), 0);
    assert!(nodes.why_barred(&mute.host()).is_none(), "it is forgotten");
}

#[tokio::test]
async fn a_connection_that_nobody_holds_is_closed() {
    let server = Server::start();
    let (nodes, _pushes) = nodes();
    let states = || server.run::<String>(&["CLIENT", "LIST"]).lines().count();
    let node = connect(&nodes, host(server.port)).await.0.unwrap();
    assert_eq!(states(), 2, "and the one that asks");
    drop(node);
    until("its end", || states() == 1).await;
    timeout(LONG, nodes.all_gone()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_closes_each_connection_is_not_called_back_each_time() {
    let (server, other) = (Server::start(), Server::start());
    let (nodes, mut pushes) = nodes();
    let _other = connect(&nodes, host(other.port)).await.0.unwrap();
    let (start, mut refusals) = (Instant::now(), 0);
    while refusals < 50 {
        match connect(&nodes, host(server.port)).await.0 {
            Ok(node) => {
                server.run::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]);
                until("its end", || !node.is_open()).await;
            }
            Err(_) => refusals += 1,
        }
        assert!(start.elapsed() < LONG, "{refusals} refusals");
    }
    until("another connection", || nodes.why_barred(&host(server.port)).is_none()).await;
    assert!(pushes.try_recv().is_err());
}
