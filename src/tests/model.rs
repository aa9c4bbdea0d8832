//! Every interleaving of two threads at what they share: a reservation's record, and the mailbox. `npm run test:threads`.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::addon::mailbox::{Letter, Mailbox};
use crate::model::answer::{Answer, EventSink};
use crate::model::reservation::{Phase, ReleaseAction, Reservation};
use crate::tests::support::reservation;
use crate::time::clock::Moment;

fn shared() -> (Arc<Reservation>, Arc<Reservation>) {
    let one = reservation("reservation-a");
    (Arc::clone(&one), one)
}

#[test]
fn a_loss_is_told_by_the_letter_or_by_the_release_whichever_comes_first() {
    loom::model(|| {
        let (ours, cores) = shared();
        let core = thread::spawn(move || cores.lose(Some("thief")));
        let action = ours.ask_release();
        let is_letter_sent = core.join().unwrap();
        let tells_letter = is_letter_sent && ours.tell_loss();
        match action {
            // The release asks redis, and finds it.
            ReleaseAction::Release => assert!(!is_letter_sent && ours.phase() == Phase::Releasing),
            ReleaseAction::Lost => {
                assert!(is_letter_sent && !tells_letter);
                assert_eq!(ours.taken_by(), Some("thief"), "who has it is known as soon as it is lost");
            }
            ReleaseAction::Nothing => panic!("the release is forgotten"),
        }
    });
}

#[test]
fn a_release_that_fails_and_one_that_is_asked_for_again() {
    loom::model(|| {
        let (ours, cores) = shared();
        assert_eq!(ours.ask_release(), ReleaseAction::Release);
        let core = thread::spawn(move || {
            cores.release_failed();
            // By its own clock the lease is over; that is no loss any more.
            assert!(!cores.lose(None));
        });
        let again = ours.ask_release();
        core.join().unwrap();
        let phase = ours.phase();
        match again {
            ReleaseAction::Release => assert_eq!(phase, Phase::Releasing),
            ReleaseAction::Nothing => assert_eq!(phase, Phase::Unreleased),
            ReleaseAction::Lost => panic!("nothing was lost"),
        }
    });
}

#[test]
fn whoever_sees_a_renewal_sees_its_end() {
    loom::model(|| {
        let (ours, cores) = shared();
        let core = thread::spawn(move || cores.set_certain_until(Moment::NEVER));
        let early = ours.is_certain();
        core.join().unwrap();
        assert!(ours.is_certain() || early, "it was extended for ever");
        assert!(ours.is_certain());
    });
}

#[test]
fn no_letter_is_left_without_a_wake_up() {
    loom::model(|| {
        let woken = Arc::new(AtomicUsize::new(0));
        let bell = Arc::clone(&woken);
        let mailbox = Arc::new(Mailbox::new(Box::new(move || {
            bell.fetch_add(1, Ordering::SeqCst);
        })));
        let core = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                for call in 1..=2 {
                    mailbox.answer(call, Ok(Answer::Renewed));
                }
            })
        };
        let mut taken = Vec::new();
        let mut turn = || {
            // As the event loop does: once for each wake-up, and again while there is more.
            if woken.swap(0, Ordering::SeqCst) == 0 {
                return;
            }
            loop {
                let (letters, more) = mailbox.take(1);
                taken.extend(letters.into_iter().map(|letter| match letter {
                    Letter::Answer { call, .. } => call,
                    _ => panic!("nothing else was sent"),
                }));
                if !more {
                    return;
                }
            }
        };
        turn();
        core.join().unwrap();
        turn();
        assert_eq!(taken, [1, 2]);
    });
}

#[test]
fn an_environment_that_ends_while_a_letter_comes_keeps_none() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(Box::new(|| {})));
        let core = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.answer(1, Ok(Answer::Renewed)))
        };
        mailbox.close();
        core.join().unwrap();
        assert_eq!(mailbox.take(10).0.len(), 0);
        assert!(!mailbox.is_open());
    });
}
