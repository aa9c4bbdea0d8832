//! Panics at fail points: at most one call fails, with an internal error. The tasks that serve all calls go on.

use std::time::Duration;

use super::support::{Asker, Server, until};
use crate::dispatcher::Core;
use crate::model::answer::{Answer, CallFailure, Event};
use crate::model::settings::Settings;
use crate::runtime::fail_point::{arm, disarm, is_used_up};

fn code_of(answer: Result<Answer, Box<CallFailure>>) -> &'static str {
    answer.map_or_else(|failure| failure.error.code(), |_| "none")
}

fn is_lost(event: &Event) -> bool {
    matches!(event, Event::Lost { .. })
}

/// Waits for the next successful renewal of this key.
fn renewed(asker: &Asker, key: &str) {
    asker.event(|event| matches!(event, Event::Extended { reservation, .. } if reservation.key() == key));
}

/// How often the server has run a command so far.
fn calls(server: &Server, command: &str) -> u64 {
    let stats: String = server.run(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()).map_or(0, |count| count.parse().unwrap())
}

/// The subject of a server's fail points.
fn subject_of(settings: &Settings) -> String {
    settings.endpoint.to_string()
}

#[test]
fn a_panic_in_the_dispatcher_fails_one_call() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    for resource in ["dispatcher-1", "dispatcher-2"] {
        arm("dispatcher", resource);
        // All in one turn: the requests before and after it are served.
        for other in ["before", resource, "behind"] {
            asker.start_lock(&settings, other);
        }
        let answers: Vec<_> = (0..3).map(|_| asker.answer()).collect();
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(failed, 1);
        for answer in answers {
            match answer {
                Ok(Answer::Acquired(reservation)) => assert_eq!(asker.release(&[&reservation]).unwrap(), 1),
                other => assert_eq!(code_of(other), "ERR_INTERNAL"),
            }
        }
        assert!(is_used_up(resource));
        let reservation = asker.lock(&settings, resource).expect("the next call works");
        assert_eq!(asker.release(&[&reservation]).unwrap(), 1);
    }
}

#[test]
fn a_panic_in_the_heartbeat_costs_no_lease() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(2_000);
    let keys = ["heartbeat-a", "heartbeat-b", "heartbeat-c"].map(|name| settings.key_of(name));
    let held = ["heartbeat-a", "heartbeat-b", "heartbeat-c"].map(|name| asker.lock(&settings, name).unwrap());
    for _ in 0..2 {
        arm("heartbeat", &keys[1]);
        until("the panic", || is_used_up(&keys[1]));
        for key in &keys {
            renewed(&asker, key);
        }
    }
    for reservation in &held {
        assert!(reservation.is_certain());
        assert_eq!(server.value_of(reservation.key()), Some(reservation.value()));
    }
    assert_eq!(asker.release(&held.each_ref()).unwrap(), 3);
    assert!(!asker.events_so_far().iter().any(is_lost));
}

#[test]
fn a_panic_at_the_reply_to_a_renewal_is_a_failed_renewal() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(2_000);
    let keys = ["renewed-a", "renewed-b"].map(|name| settings.key_of(name));
    let held = ["renewed-a", "renewed-b"].map(|name| asker.lock(&settings, name).unwrap());
    for _ in 0..3 {
        arm("renewed", &keys[0]);
        until("the panic", || is_used_up(&keys[0]));
        for key in &keys {
            renewed(&asker, key);
        }
    }
    // A renewal that a caller waits for fails, and the lease goes on.
    arm("renewed", &keys[0]);
    let answer = asker.renew(&[&held[0]], Duration::from_secs(2));
    assert!(answer.is_err() || is_used_up(&keys[0]), "the heartbeat may have been quicker");
    for key in &keys {
        renewed(&asker, key);
    }
    assert_eq!(asker.release(&held.each_ref()).unwrap(), 2);
    assert!(!asker.events_so_far().iter().any(is_lost));
}

#[test]
fn a_panic_while_connecting_fails_that_attempt_and_the_next_connects() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    let subject = subject_of(&settings);
    // For as long as a call retries the connect.
    for _ in 0..200 {
        arm("connect", &subject);
    }
    asker.start_lock(&settings, "a");
    assert_eq!(code_of(asker.answer()), "ERR_INTERNAL");
    asker.start_wait(&settings, "a", None);
    assert_eq!(code_of(asker.answer()), "ERR_INTERNAL", "no connection has stood before");
    assert!(!is_used_up(&subject), "it is not tried without a pause");
    disarm(&subject);
    assert!(asker.lock(&settings, "a").is_some());
}

#[test]
fn holders_and_waiters_outlast_a_panic_while_reconnecting() {
    for place in ["connect", "came up"] {
        let server = Server::start();
        let asker = Asker::new(&Core::start().unwrap());
        let settings = server.settings(30_000);
        let subject = subject_of(&settings);
        let reservation = asker.lock(&settings, "held").unwrap();
        server.run::<()>(&["SET", "reservation-a", "somebody"]);
        asker.start_wait(&settings, "a", None);
        asker.event(|event| matches!(event, Event::Attempted { .. }));
        for _ in 0..2 {
            arm(place, &subject);
        }
        let before = calls(&server, "evalsha");
        server.run::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]);
        until("both panics", || is_used_up(&subject));
        until("what is held is validated", || calls(&server, "evalsha") > before);
        server.run::<()>(&["DEL", "reservation-a"]);
        assert!(matches!(asker.answer().unwrap(), Answer::Acquired(_)), "{place}");
        assert!(reservation.is_certain());
        assert_eq!(asker.release(&[&reservation]).unwrap(), 1);
    }
}

#[test]
fn a_panic_in_the_listener_for_changes_is_mended_by_a_new_connection() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    let subject = subject_of(&settings);
    let reservation = asker.lock(&settings, "held").unwrap();
    for resource in ["a", "b"] {
        let key = settings.key_of(resource);
        server.run::<()>(&["SET", &key, "somebody"]);
        asker.start_wait(&settings, resource, None);
        asker.event(|event| matches!(event, Event::Attempted { .. }));
        arm("listen", &subject);
        let before = connections(&server);
        server.run::<()>(&["DEL", &key]);
        assert!(matches!(asker.answer().unwrap(), Answer::Acquired(_)));
        until("another connection", || connections(&server) > before);
        assert!(is_used_up(&subject));
    }
    assert!(reservation.is_certain());
}

/// How many connections of ours a server has had: each loads the scripts.
fn connections(server: &Server) -> u64 {
    calls(server, "script|load")
}

#[test]
fn a_panic_in_the_task_of_a_queue_fails_only_its_first_waiter() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    let reservation = asker.lock(&settings, "queue").unwrap();
    let key = settings.key_of("queue");
    asker.start_wait(&settings, "queue", None);
    asker.event(|event| matches!(event, Event::Attempted { .. }));
    // An hour: a wait's own timeout must not keep the others from being served.
    for _ in 0..2 {
        asker.start_wait(&settings, "queue", Some(Duration::from_secs(3_600)));
    }
    arm("serve", &key);
    // The task tries again.
    server.run::<()>(&["PEXPIRE", &key, "60000"]);
    assert_eq!(code_of(asker.answer()), "ERR_INTERNAL");
    assert!(is_used_up(&key));
    let mut reservation = Some(reservation);
    for _ in 0..2 {
        asker.start_release(&[reservation.as_ref().unwrap()]);
        reservation = None;
        for _ in 0..2 {
            match asker.answer().unwrap() {
                Answer::Acquired(next) => reservation = Some(next),
                Answer::Released(released) => assert_eq!(released, 1),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(asker.release(&[&reservation.unwrap()]).unwrap(), 1);
    // A queue of one: the next waiter gets a new queue.
    server.run::<()>(&["SET", &key, "somebody"]);
    arm("serve", &key);
    asker.start_wait(&settings, "queue", None);
    assert_eq!(code_of(asker.answer()), "ERR_INTERNAL");
    asker.start_wait(&settings, "queue", None);
    asker.event(|event| matches!(event, Event::Attempted { .. }));
    server.run::<()>(&["DEL", &key]);
    assert!(matches!(asker.answer().unwrap(), Answer::Acquired(_)));
}

#[test]
fn a_panic_where_replies_are_read_loses_those_replies() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    let others = asker.lock(&settings, "others").unwrap();
    // More than may be in flight at once: each batch must leave the count again.
    for round in 0..3 {
        let key = settings.key_of(&format!("exchange-{round}"));
        arm("exchange", &key);
        let count = 3_000;
        for number in 0..count {
            let name = if number == 0 { format!("exchange-{round}") } else { format!("{round}-{number}") };
            asker.start_lock(&settings, &name);
        }
        for _ in 0..count {
            assert!(matches!(asker.answer().unwrap(), Answer::Acquired(_)), "found by its token");
        }
        assert!(is_used_up(&key));
    }
    assert_eq!(server.run::<usize>(&["DBSIZE"]), 9_001);
    assert_eq!(asker.release(&[&others]).unwrap(), 1);
}

#[test]
fn a_panic_in_the_watchdog_leaves_other_commands_their_limits() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    // The fail point knows the command by its limit, which no other test uses.
    let mut settings = server.settings(30_000);
    settings.command_timeout = Duration::from_millis(457);
    let reservation = asker.lock(&settings, "held").unwrap();
    arm("overdue", "457");
    server.pause();
    asker.start_lock(&settings, "a");
    let first = code_of(asker.answer());
    assert!(is_used_up("457"), "{first}");
    asker.start_lock(&settings, "b");
    assert_eq!(code_of(asker.answer()), "ERR_REDIS_TIMEOUT");
    server.resume();
    assert_eq!(asker.release(&[&reservation]).unwrap(), 1);
    assert!(asker.lock(&settings, "c").is_some());
}

#[test]
fn after_a_panic_in_a_release_the_reservation_may_be_released_again() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    let held = ["freed-a", "freed-b"].map(|name| asker.lock(&settings, name).unwrap());
    arm("freed", held[0].key());
    let failure = asker.release(&held.each_ref()).unwrap_err();
    assert_eq!((failure.error.code(), failure.released), ("ERR_INTERNAL", Some(1)));
    // Its key is gone, as the second release finds. A third has nothing to do.
    let again = asker.release(&[&held[0]]);
    assert!(again.is_err_and(|failure| failure.error.code() == "ERR_RESERVATION_LOST"));
    assert_eq!(asker.release(&[&held[0]]).unwrap(), 0);
    assert!(asker.lock(&settings, "freed-a").is_some());
}

#[test]
fn a_panic_in_the_undo_costs_that_value_only() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let mut settings = server.settings(60_000);
    settings.command_timeout = Duration::from_millis(300);
    let before = asker.lock(&settings, "before").unwrap();
    assert_eq!(asker.release(&[&before]).unwrap(), 1);
    for resource in ["undo-a", "undo-b", "undo-c"] {
        let (key, runs) = (settings.key_of(resource), calls(&server, "set"));
        if resource == "undo-a" {
            arm("undo", &key);
        }
        server.pause();
        asker.start_lock(&settings, resource);
        assert_eq!(code_of(asker.answer()), "ERR_REDIS_TIMEOUT");
        server.resume();
        until("the SET has run", || calls(&server, "set") > runs);
        if resource == "undo-a" {
            until("the panic", || is_used_up(&key));
        } else {
            until("it is undone", || server.value_of(&key).is_none());
        }
        // The connection is up before the next command is sent.
        let next = asker.lock(&settings, "next").unwrap();
        assert_eq!(asker.release(&[&next]).unwrap(), 1);
    }
}
