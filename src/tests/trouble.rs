//! Broken connections, servers that are down, and replies that never come.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::support::{Asker, Server, until};
use crate::dispatcher::Core;
use crate::model::answer::{Answer, Event};
use crate::model::settings::Settings;

/// A proxy to a server. While `mute` is set, it drops the server's replies.
struct Proxy {
    port: u16,
    mute: Arc<AtomicBool>,
    /// How often all connections were cut. Newer connections stay open.
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy =
            Self { port: listener.local_addr().unwrap().port(), mute: Arc::default(), cuts: Arc::default() };
        let (to, mute, cuts) = (server.port, Arc::clone(&proxy.mute), Arc::clone(&proxy.cuts));
        thread::spawn(move || {
            for state in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                pump(
                    state.try_clone().unwrap(),
                    upstream.try_clone().unwrap(),
                    Arc::default(),
                    Arc::clone(&cuts),
                );
                pump(upstream, state, Arc::clone(&mute), Arc::clone(&cuts));
            }
        });
        proxy
    }

    fn settings(&self, server: &Server, ttl_ms: u64) -> Settings {
        let mut settings = server.settings(ttl_ms);
        settings.endpoint = super::support::endpoint_at(self.port);
        settings
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, mute: Arc<AtomicBool>, cuts: Arc<AtomicUsize>) {
    from.set_read_timeout(Some(std::time::Duration::from_millis(5))).unwrap();
    let born = cuts.load(Ordering::Relaxed);
    thread::spawn(move || {
        let mut buffer = [0; 16_384];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) if !mute.load(Ordering::Relaxed) => {
                    if to.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    if cuts.load(Ordering::Relaxed) > born {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        let _ = from.shutdown(std::net::Shutdown::Both);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn a_refused_connect_is_an_error_in_nodes_words_after_the_budget_of_0_4_0() {
    let server = Server::start();
    let settings = server.settings(10_000);
    let port = server.port;
    drop(server);
    let asker = Asker::new(&Core::start().unwrap());
    asker.start_lock(&settings, "a");
    let failure = asker.answer().unwrap_err();
    assert_eq!(failure.error.code(), "ERR_REDIS_CONNECTION");
    assert_eq!(
        failure.error.to_string(),
        format!("Redis connection to 127.0.0.1:{port} failed - connect ECONNREFUSED 127.0.0.1:{port}")
    );
}

#[test]
fn a_closed_connection_is_made_again_without_an_error() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(10_000);
    let reservation = asker.lock(&settings, "a").unwrap();
    for round in 0..20 {
        server.run::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]);
        let other = asker.lock(&settings, &format!("b-{round}")).expect("free");
        assert_eq!(asker.release(&[&other]).unwrap(), 1);
    }
    assert!(reservation.is_certain());
}

#[test]
fn a_server_that_hangs_is_a_timeout_and_leaves_no_lock_behind() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(900);
    let before = asker.lock(&settings, "before").unwrap();
    assert_eq!(asker.release(&[&before]).unwrap(), 1);
    server.pause();
    asker.start_lock(&settings, "a");
    assert_eq!(asker.answer().unwrap_err().error.code(), "ERR_REDIS_TIMEOUT");
    server.resume();
    // The SET is in the server's socket and runs before everything else; then it is undone.
    until("the late SET is settled", || {
        server.run::<String>(&["INFO", "commandstats"]).contains("cmdstat_set:calls=2")
            && server.value_of("reservation-a").is_none()
    });
    assert!(asker.lock(&settings, "a").is_some());
}

#[test]
fn a_set_whose_reply_was_lost_is_found_by_its_token() {
    let server = Server::start();
    let proxy = Proxy::start(&server);
    let asker = Asker::new(&Core::start().unwrap());
    let mut settings = proxy.settings(&server, 10_000);
    settings.command_timeout = std::time::Duration::from_secs(5);
    let before = asker.lock(&settings, "before").unwrap();
    assert_eq!(asker.release(&[&before]).unwrap(), 1);

    proxy.mute.store(true, Ordering::Relaxed);
    asker.start_lock(&settings, "a");
    until("the SET has run", || server.value_of("reservation-a").is_some());
    proxy.mute.store(false, Ordering::Relaxed);
    proxy.cuts.fetch_add(1, Ordering::Relaxed);

    let Answer::Acquired(reservation) = asker.answer().unwrap() else { panic!("not acquired") };
    assert_eq!(
        server.value_of("reservation-a"),
        Some(reservation.value()),
        "the one that was set, not another"
    );
    assert_eq!(asker.release(&[&reservation]).unwrap(), 1);
}

#[test]
fn a_release_whose_reply_was_lost_counts_as_done_when_the_key_is_gone() {
    let server = Server::start();
    let proxy = Proxy::start(&server);
    let asker = Asker::new(&Core::start().unwrap());
    let mut settings = proxy.settings(&server, 10_000);
    settings.command_timeout = std::time::Duration::from_millis(300);
    let reservation = asker.lock(&settings, "a").unwrap();
    proxy.mute.store(true, Ordering::Relaxed);
    let failure = asker.release(&[&reservation]).unwrap_err();
    assert_eq!(failure.error.code(), "ERR_REDIS_TIMEOUT");
    assert_eq!(&*failure.failed[0], "reservation-a");
    assert_eq!(server.value_of("reservation-a"), None, "it did run");
    proxy.mute.store(false, Ordering::Relaxed);
    assert_eq!(asker.release(&[&reservation]).unwrap(), 1, "no loss: we did it ourselves");
}

#[test]
fn waiters_of_two_environments_are_both_told_of_an_outage() {
    let server = Server::start();
    let core = Core::start().unwrap();
    let settings = server.settings(30_000);
    let askers = ["a", "b"].map(|resource| {
        server.run::<()>(&["SET", &settings.key_of(resource), "somebody"]);
        let asker = Asker::new(&core);
        asker.start_wait(&settings, resource, None);
        asker.event(|event| matches!(event, Event::Attempted { .. }));
        asker
    });
    drop(server);
    for asker in &askers {
        asker.event(|event| matches!(event, Event::Outage { .. }));
    }
}
