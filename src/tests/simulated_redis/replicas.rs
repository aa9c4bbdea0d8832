//! Simulated masters and replicas: lag, WAIT, failover, restarts; and that the same calls have the same answers.

use super::both::encode;
use super::generate::{Step, list, words};
use crate::simulation::server::client::ClientId;
use crate::simulation::server::replication::Role;
use crate::simulation::server::version::Version;
use crate::simulation::server::{Config, Server};

/// The replica's number at its master.
const REPLICA: u64 = 1;

fn server() -> Server {
    Server::new(Config::new(Version::Redis70), 7, 1_000)
}

fn ask(server: &mut Server, client: ClientId, command: &str, now: u64) -> String {
    server.receive(client, &encode(&words(command)), now);
    String::from_utf8(server.take_output(client)).unwrap()
}

#[test]
fn a_replica_has_what_it_was_brought_up_to_and_no_more() {
    let (mut master, mut replica) = (server(), server());
    replica.demote();
    let client = master.connect("a:1", 1_000);
    let reader = replica.connect("a:2", 1_000);
    let start = replica.replicate(&master, 0, 1_000);
    ask(&mut master, client, "SET k one PX 5000", 1_000);
    ask(&mut master, client, "SET k two PX 5000", 1_000);
    assert_eq!(ask(&mut replica, reader, "GET k", 1_001), "$-1\r\n");
    replica.replicate(&master, start + 1, 1_002);
    assert_eq!(ask(&mut replica, reader, "GET k", 1_002), "$3\r\none\r\n");
    assert!(ask(&mut replica, reader, "DEL k", 1_002).starts_with("-READONLY "));
    // What is over is not seen, nor deleted before the master says so.
    assert_eq!(ask(&mut replica, reader, "GET k", 9_000), "$-1\r\n");
    assert_eq!(ask(&mut replica, reader, "DBSIZE", 9_000), ":1\r\n");

    replica.promote();
    assert_eq!((replica.role(), master.role()), (Role::Master, Role::Master));
    assert_eq!(ask(&mut replica, reader, "SET k three NX", 9_000), "+OK\r\n");
    // The old master learns the other history whole: what only it had is gone.
    ask(&mut master, client, "SET lost x", 9_000);
    master.demote();
    master.replicate(&replica, replica.offset(), 9_001);
    assert_eq!(ask(&mut master, client, "GET k", 9_001), "$5\r\nthree\r\n");
    assert_eq!(ask(&mut master, client, "GET lost", 9_001), "$-1\r\n");
}

#[test]
fn a_wait_ends_with_the_replica_or_its_time_and_what_is_behind_it_waits_too() {
    let mut master = server();
    let client = master.connect("a:1", 1_000);
    master.acknowledge(REPLICA, 0, 1_000);
    assert_eq!(ask(&mut master, client, "WAIT 1 100", 1_000), ":1\r\n", "nothing is written yet");
    assert_eq!(ask(&mut master, client, "SET k v", 1_000), "+OK\r\n");
    assert_eq!(ask(&mut master, client, "WAIT 1 100", 1_000), "");
    assert_eq!(ask(&mut master, client, "GET k", 1_010), "");
    assert_eq!(master.next_event(), Some(1_100));
    master.acknowledge(REPLICA, master.offset(), 1_020);
    assert_eq!(String::from_utf8(master.take_output(client)).unwrap(), ":1\r\n$1\r\nv\r\n");
    ask(&mut master, client, "SET k w", 1_030);
    assert_eq!(ask(&mut master, client, "WAIT 1 100", 1_030), "");
    master.advance(1_129);
    assert_eq!(master.take_output(client), b"");
    master.advance(1_130);
    assert_eq!(master.take_output(client), b":0\r\n");
    assert_eq!(ask(&mut master, client, "WAIT 1 0", 1_200), "");
    master.demote();
    assert!(String::from_utf8(master.take_output(client)).unwrap().starts_with("-UNBLOCKED "));
    assert!(master.is_closed_by_server(client));
}

#[test]
fn a_restart_ends_clients_and_scripts_and_counts_anew() {
    for keeps_data in [true, false] {
        let mut server = server();
        let client = server.connect("a:1", 1_000);
        let run_id = server.run_id().to_owned();
        ask(&mut server, client, "SET k v", 1_000);
        let hash = ask(&mut server, client, "SCRIPT LOAD return", 1_000);
        let hash = hash.lines().nth(1).unwrap().to_owned();
        server.restart(keeps_data, 2_000);
        assert!(server.is_closed_by_server(client) && server.run_id() != run_id);
        let client = server.connect("a:2", 2_000);
        assert_eq!(client, 1, "numbers begin again");
        assert!(ask(&mut server, client, &format!("EVALSHA {hash} 0"), 2_000).starts_with("-NOSCRIPT "));
        let expected = if keeps_data { "$1\r\nv\r\n" } else { "$-1\r\n" };
        assert_eq!(ask(&mut server, client, "GET k", 2_000), expected);
    }
}

#[test]
fn a_refusal_that_was_asked_for_counts_in_scripts_too_and_one_too_many_is_sent_away() {
    let config = Config { max_clients: 1, ..Config::new(Version::Redis70) };
    let mut server = Server::new(config, 1, 1_000);
    let client = server.connect("a:1", 1_000);
    let other = server.connect("a:2", 1_000);
    assert_eq!(server.take_output(other), b"-ERR max number of clients reached\r\n");
    assert!(server.is_closed_by_server(other));
    assert_eq!(server.clients_with_news().collect::<Vec<_>>(), [other]);
    server.faults.refuse_with("del", "NOPERM no");
    assert_eq!(ask(&mut server, client, "DEL k", 1_000), "-NOPERM no\r\n");
    let script =
        encode(&["EVAL", "return redis.pcall('del', 'k')", "0"].map(|word| word.as_bytes().to_vec()));
    server.receive(client, &script, 1_000);
    assert_eq!(server.take_output(client), b"-NOPERM no\r\n");
    server.faults.accept("del");
    assert_eq!(ask(&mut server, client, "DEL k", 1_000), ":0\r\n");
}

#[test]
fn the_same_calls_have_the_same_answers() {
    let lives = [0, 1].map(|_| {
        let mut server = server();
        let clients = [1, 2, 3].map(|number| server.connect(&format!("a:{number}"), 1_000));
        let mut said = Vec::new();
        for (now, step) in (1_000..).zip((1..20).flat_map(list)) {
            if let Step::Send(client, commands) = step {
                for command in &commands {
                    server.receive(clients[client], &encode(command), now);
                }
                said.extend(clients.iter().flat_map(|&client| server.take_output(client)));
            }
        }
        said
    });
    assert!(lives[0].len() > 1_000 && lives[0] == lives[1]);
}
