//! Renewals, and how a loss is found and reported.

use std::time::Duration;

use super::support::{Asker, Server, until};
use crate::dispatcher::Core;
use crate::model::answer::Event;
use crate::model::lease::Interval;
use crate::model::reservation::Phase;

fn is_lost(event: &Event) -> bool {
    matches!(event, Event::Lost { .. })
}

#[test]
fn a_lock_outlives_its_ttl_for_as_long_as_it_is_held() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let reservation = asker.lock(&server.settings(1_000), "long").unwrap();
    for _ in 0..9 {
        asker.event(|event| matches!(event, Event::Extended { .. }));
        assert!(reservation.is_certain());
        assert_eq!(server.value_of("reservation-long"), Some(reservation.value()));
    }
}

#[test]
fn a_deleted_key_is_a_loss_and_is_not_created_again() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let reservation = asker.lock(&server.settings(1_000), "gone").unwrap();
    server.run::<()>(&["DEL", "reservation-gone"]);
    let Event::Lost { loss, quiet, .. } = asker.event(is_lost) else { unreachable!() };
    assert_eq!(
        loss.to_error().to_string(),
        format!("Worker {} lost reservation for reservation-gone", reservation.value())
    );
    assert!(!quiet);
    assert!(!reservation.is_certain());
    assert_eq!(server.value_of("reservation-gone"), None);
    assert!(reservation.tell_loss(), "as whoever delivers the event does");
    assert_eq!(asker.release(&[&reservation]).unwrap(), 0, "it was told");
    assert!(!asker.events_so_far().iter().any(is_lost), "once");
}

#[test]
fn a_stolen_key_is_a_loss_that_names_the_thief_and_leaves_him_the_key() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let reservation = asker.lock(&server.settings(1_000), "stolen").unwrap();
    server.run::<()>(&["SET", "reservation-stolen", "thief", "PX", "60000"]);
    let Event::Lost { loss, .. } = asker.event(is_lost) else { unreachable!() };
    assert_eq!(
        loss.to_error().to_string(),
        format!("Worker {} lost reservation-stolen to thief", reservation.value())
    );
    let ttl: i64 = server.run(&["PTTL", "reservation-stolen"]);
    assert!(ttl > 30_000, "the thief's ttl is his own: {ttl}");
}

#[test]
fn a_key_of_another_type_is_a_loss() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    asker.lock(&server.settings(1_000), "list").unwrap();
    server.run::<()>(&["DEL", "reservation-list"]);
    server.run::<()>(&["RPUSH", "reservation-list", "x"]);
    assert!(matches!(asker.event(is_lost), Event::Lost { loss, .. } if loss.holder.is_none()));
}

#[test]
fn a_server_that_hangs_costs_the_lease_at_its_deadline_and_not_before() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let reservation = asker.lock(&server.settings(1_500), "hung").unwrap();
    asker.event(|event| matches!(event, Event::Extended { .. }));
    server.pause();
    asker.event(|event| matches!(event, Event::ExtendFailed { .. }));
    assert!(reservation.is_certain(), "a renewal that failed is no loss");
    assert!(matches!(asker.event(is_lost), Event::Lost { quiet: false, .. }));
    assert!(!reservation.is_certain());
    server.resume();
    until("what was told lost is deleted", || server.value_of("reservation-hung").is_none());
}

#[test]
fn an_interval_longer_than_the_ttl_ends_quietly_and_the_release_tells() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let mut settings = server.settings(200);
    settings.terms.interval = Interval::Every(Duration::from_secs(600));
    let reservation = asker.lock(&settings, "quiet").unwrap();
    assert!(matches!(asker.event(is_lost), Event::Lost { quiet: true, .. }));
    assert_eq!(reservation.phase(), Phase::Lost);
    assert_eq!(asker.release(&[&reservation]).unwrap_err().error.code(), "ERR_RESERVATION_LOST");
    assert_eq!(asker.release(&[&reservation]).unwrap(), 0);
}

#[test]
fn max_hold_ends_a_lock_that_would_be_renewed_for_ever() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let mut settings = server.settings(1_000);
    settings.terms.max_hold = Some(Duration::from_millis(1_500));
    let reservation = asker.lock(&settings, "hold").unwrap();
    assert!(matches!(asker.event(is_lost), Event::Lost { quiet: false, .. }));
    assert!(!reservation.is_certain());
}

#[test]
fn a_renewal_on_request_sets_the_requested_ttl() {
    let server = Server::start();
    let asker = Asker::new(&Core::start().unwrap());
    let reservation = asker.lock(&server.settings(10_000), "asked").unwrap();
    asker.renew(&[&reservation], Duration::from_secs(60)).unwrap();
    let ttl: i64 = server.run(&["PTTL", "reservation-asked"]);
    assert!(ttl > 50_000, "{ttl}");
    server.run::<()>(&["DEL", "reservation-asked"]);
    let failure = asker.renew(&[&reservation], Duration::from_secs(60)).unwrap_err();
    assert_eq!(failure.error.code(), "ERR_RESERVATION_LOST");
    let failure = asker.renew(&[&reservation], Duration::from_secs(60)).unwrap_err();
    assert_eq!(failure.error.code(), "ERR_RESERVATION_NOT_HELD");
    assert!(!asker.events_so_far().iter().any(is_lost), "the call told it");
}
