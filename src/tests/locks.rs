//! Taking a lock, waiting for it and releasing it, as another client of the same redis sees it.

use std::time::Duration;

use super::support::{Asker, Server, until};
use crate::dispatcher::Core;
use crate::dispatcher::request::Request;
use crate::model::answer::Answer;

#[test]
fn a_lock_is_one_key_with_an_unguessable_value_and_a_ttl() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let first = asker.lock(&server.settings(30_000), "report").unwrap();
    let value = first.value();
    assert_eq!(server.value_of("reservation-report").as_ref(), Some(&value));
    let token = value.strip_prefix("worker-1-").unwrap();
    assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    let ttl: i64 = server.run(&["PTTL", "reservation-report"]);
    assert!((29_000..=30_000).contains(&ttl), "{ttl}");
    assert!(first.is_certain());

    assert!(asker.lock(&server.settings(30_000), "report").is_none(), "it is held, by whomever");
    assert_eq!(asker.release(&[&first]).unwrap(), 1);
    assert!(!first.is_certain());
    assert_eq!(server.value_of("reservation-report"), None);
    let second = asker.lock(&server.settings(30_000), "report").unwrap();
    assert_ne!(first.value(), second.value());
    let keys: Vec<String> = server.run(&["KEYS", "*"]);
    assert_eq!(keys, ["reservation-report"], "no helper keys");
}

#[test]
fn a_thousand_locks_of_one_turn_are_all_answered() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    for number in 0..1_000 {
        asker.start_lock(&settings, &format!("job-{number}"));
    }
    let held: Vec<_> = (0..1_000)
        .map(|_| match asker.answer().unwrap() {
            Answer::Acquired(reservation) => reservation,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(server.run::<usize>(&["DBSIZE"]), 1_000);
    assert_eq!(asker.release(&held.iter().collect::<Vec<_>>()).unwrap(), 1_000);
    assert_eq!(server.run::<usize>(&["DBSIZE"]), 0);
}

#[test]
fn only_the_owner_frees_a_lock() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let mine = asker.lock(&server.settings(30_000), "a").unwrap();
    let other = asker.lock(&server.settings(30_000), "b").unwrap();
    server.run::<()>(&["SET", "reservation-a", "thief"]);
    let failure = asker.release(&[&mine, &other]).unwrap_err();
    assert_eq!(failure.error.code(), "ERR_RESERVATION_LOST");
    assert_eq!(failure.released, Some(1));
    assert_eq!(failure.lost[0].reservation.key(), "reservation-a");
    assert_eq!(failure.lost[0].holder.as_deref(), Some("thief"));
    assert_eq!(server.value_of("reservation-a").as_deref(), Some("thief"));
    assert_eq!(server.value_of("reservation-b"), None);
}

#[test]
fn waiters_of_one_process_are_served_in_order() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    let mut reservation = asker.lock(&settings, "turn").unwrap();
    let calls: Vec<u64> = (0..5).map(|_| asker.start_wait(&settings, "turn", None)).collect();
    for _ in &calls {
        let ticket = crate::model::answer::Ticket::new(0, std::sync::Arc::clone(&asker.caller));
        asker.core.submit(Request::release(ticket, vec![reservation.clone()]));
        let mut next = None;
        // The answers to a release and to the wait that it ends come in any order.
        for _ in 0..2 {
            match asker.answer().unwrap() {
                Answer::Acquired(acquired) => next = Some(acquired),
                Answer::Released(released) => assert_eq!(released, 1),
                other => panic!("{other:?}"),
            }
        }
        reservation = next.unwrap();
    }
}

#[test]
fn a_wait_ends_by_its_timeout_or_by_being_cancelled_and_leaves_nothing_behind() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(30_000);
    server.run::<()>(&["SET", "reservation-busy", "somebody"]);
    asker.start_wait(&settings, "busy", Some(Duration::from_millis(50)));
    assert_eq!(asker.answer().unwrap_err().error.code(), "ERR_RESERVATION_TIMEOUT");

    let call = asker.start_wait(&settings, "busy", None);
    let settings_of_wait = std::sync::Arc::new(settings.clone());
    let environment = asker.caller.environment;
    asker.core.submit(Request::CancelWait {
        settings: settings_of_wait,
        resource: "busy".into(),
        environment,
        call,
    });
    assert_eq!(asker.answer().unwrap_err().error.code(), "ABORTED");

    server.run::<()>(&["DEL", "reservation-busy"]);
    let other = Asker::new(&asker.core);
    assert!(other.lock(&settings, "busy").is_some(), "nobody who left took it");
}

#[test]
fn what_an_environment_held_is_no_longer_renewed_once_it_has_ended() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let settings = server.settings(1_000);
    let reservation = asker.lock(&settings, "left").unwrap();
    asker.core.submit(Request::Leave { environment: asker.caller.environment });
    until("the key lapses", || server.value_of("reservation-left").is_none());
    assert!(!reservation.is_certain());
    assert!(asker.events_so_far().is_empty(), "nobody is left to be told");
}
