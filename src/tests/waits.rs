//! What waits and endpoints leave behind: nothing, whatever the timeouts were and however redis is.

use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::timeout;

use super::support::{Asker, Server, endpoint_at, until};
use crate::dispatcher::Core;
use crate::dispatcher::request::Request;
use crate::lock::endpoint_state::EndpointState;
use crate::model::answer::Event;
use crate::model::endpoint::{Endpoint, Login};
use crate::model::secret::Secret;
use crate::model::settings::Settings;

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_wait_that_is_over_leaves_no_timer_behind() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = Arc::new(server.settings(30_000));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let state = EndpointState::new(Arc::clone(&settings.endpoint));
        for (number, is_cancelled) in [false, true].into_iter().enumerate() {
            let resource = format!("wait-{number}");
            let key = settings.key_of(&resource);
            if is_cancelled {
                server.run::<()>(&["SET", &key, "somebody"]);
            }
            let ticket = asker.ticket();
            let (environment, call) = (asker.caller.environment, ticket.call);
            crate::lock::wait::wait(&state, ticket, 1, Arc::clone(&settings), &resource, Some(HOUR));
            let queue = Rc::downgrade(&state.queues.borrow()[&*key]);
            if is_cancelled {
                crate::lock::wait::cancel(&state, key, environment, call);
            }
            // The timeout task holds the queue, so the queue is dropped only after it.
            for _ in 0..2_000 {
                if queue.upgrade().is_none() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(queue.upgrade().is_none(), "cancelled: {is_cancelled}");
            assert_eq!(asker.answer().is_ok(), !is_cancelled);
        }
        assert!(state.queues.borrow().is_empty());
    });
}

#[test]
fn after_a_timeout_in_an_outage_nobody_connects_for_the_waiter() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    // The connection is up already, so no waiter tries again because it has come up.
    let reservation = asker.lock(&settings, "warm-up").unwrap();
    assert_eq!(asker.release(&[&reservation]).unwrap(), 1);
    server.run::<()>(&["SET", "reservation-a", "somebody"]);
    asker.start_wait(&settings, "a", Some(Duration::from_millis(600)));
    asker.event(|event| matches!(event, Event::Attempted { .. }));
    let port = server.port;
    drop(server);
    asker.event(|event| matches!(event, Event::Outage { .. }));
    assert_eq!(asker.answer().unwrap_err().error.code(), "ERR_RESERVATION_TIMEOUT");
    // A waiter that comes now was not there when the other left.
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    // A try that was in flight ends, and none follows, although the pauses are a quarter of a second at most.
    std::thread::sleep(Duration::from_millis(300));
    while listener.accept().is_ok() {}
    std::thread::sleep(Duration::from_secs(1));
    assert!(listener.accept().is_err(), "nobody connects");
}

#[test]
fn a_wait_that_has_its_answer_is_told_nothing_more() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    let warm = asker.lock(&settings, "warm-up").unwrap();
    server.run::<()>(&["SET", "reservation-a", "somebody"]);
    server.pause();
    let call = asker.start_wait(&settings, "a", None);
    // Its try is in flight, and will be answered when its waiter has left.
    std::thread::sleep(Duration::from_millis(200));
    asker.core.submit(Request::CancelWait {
        settings: Arc::new(settings),
        resource: "a".into(),
        environment: asker.caller.environment,
        call,
    });
    assert_eq!(asker.answer().unwrap_err().error.code(), "ABORTED");
    server.resume();
    assert_eq!(asker.release(&[&warm]).unwrap(), 1);
    std::thread::sleep(Duration::from_millis(200));
    let events = asker.events_so_far();
    assert!(!events.iter().any(|event| matches!(event, Event::Attempted { .. })));
}

fn endpoint_with(port: u16, password: &str) -> Arc<Endpoint> {
    let login = Login { password: Secret::new(password.into()), ..Login::default() };
    Endpoint { login, ..(*endpoint_at(port)).clone() }.shared()
}

/// Locks and releases with a password. Returns a weak reference that tells whether anything still has it.
fn use_once(asker: &Asker, port: u16, settings: &Settings, password: &str) -> Weak<Endpoint> {
    let endpoint = endpoint_with(port, password);
    let known = Arc::downgrade(&endpoint);
    let settings = Settings { endpoint, ..settings.clone() };
    let reservation = asker.lock(&settings, "rotating").unwrap();
    assert_eq!(asker.release(&[&reservation]).unwrap(), 1);
    known
}

#[test]
fn a_secret_that_nothing_needs_is_dropped() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    let held = {
        let endpoint = endpoint_with(server.port, "held");
        asker.lock(&Settings { endpoint, ..settings.clone() }, "held").unwrap()
    };
    let known = Arc::downgrade(&held.claim.settings.endpoint);
    // Later, a look would be a use of its connection.
    until("the first look", || server.run::<String>(&["INFO", "commandstats"]).contains("client|caching"));
    let passwords: Vec<_> =
        (0..10).map(|number| use_once(&asker, server.port, &settings, &format!("token-{number}"))).collect();
    let (last, earlier) = passwords.split_last().unwrap();
    until("the earlier ones are forgotten", || earlier.iter().all(|one| one.strong_count() == 0));
    assert!(last.strong_count() > 0, "its connection is kept for the next call");
    assert!(known.strong_count() > 0 && held.is_certain());
    assert_eq!(asker.release(&[&held]).unwrap(), 1);
    drop(held);
    // Another login has been used since.
    use_once(&asker, server.port, &settings, "token-10");
    until("that of what was held is forgotten", || known.strong_count() == 0);
}

#[tokio::test]
async fn a_waiter_that_begins_to_pause_within_a_second_of_good_news_is_told_of_the_next_at_its_end() {
    let state = EndpointState::new(endpoint_at(1));
    let test = async {
        state.notify_recovered();
        let paused = timeout(Duration::from_secs(10), state.recovered());
        let told = async { state.notify_recovered() };
        assert!(tokio::join!(paused, told).0.is_ok());
    };
    LocalSet::new().run_until(test).await;
}
