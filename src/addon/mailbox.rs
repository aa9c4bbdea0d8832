//! The completion queue of one environment. The core puts answers and events in; the environment's thread takes them
//! out.

use std::collections::VecDeque;
use std::sync::PoisonError;

use crate::model::answer::{Answer, CallFailure, Event, EventSink};
use crate::runtime::sync::{Mutex, MutexGuard};

/// How many log lines may wait for a blocked event loop. Answers and losses need no limit: there are no more of them
/// than calls and reservations. Log lines would grow without end.
const MAX_LOG_LINES: usize = 1_000;

/// The capacity that an empty queue keeps, in letters.
const MAX_SPARE_CAPACITY: usize = 4_000;

/// A letter: one answer or event for the environment's thread to deliver.
pub enum Letter {
    /// The answer to a call.
    Answer {
        /// The number of the call.
        call: u64,
        /// Its result.
        answer: Result<Answer, Box<CallFailure>>,
    },
    /// An event.
    Event(Event),
    /// How many log lines were dropped because too many were waiting.
    LinesDropped(usize),
}

/// Wakes the environment's thread, so that it takes letters out.
pub type Wake = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Contents {
    letters: VecDeque<Letter>,
    /// How many of the letters are log lines.
    lines: usize,
    /// Log lines dropped since the last delivery.
    dropped: usize,
    /// The thread was woken, and has not taken letters out since.
    is_woken: bool,
    /// The environment has ended.
    is_closed: bool,
}

/// The queue. One lock guards it, held for a push or a pop only.
pub struct Mailbox {
    inner: Mutex<Contents>,
    wake: Wake,
}

impl Mailbox {
    /// An empty mailbox.
    #[must_use]
    pub fn new(wake: Wake) -> Self {
        Self { inner: Mutex::default(), wake }
    }

    /// Takes out at most `most` letters. Stops before a loss if an answer was taken before it: an `await` resumes only
    /// after the whole delivery, and a caller that awaits a lock must have it before it is told that the lock is lost.
    /// Returns true if there are more; then the caller must take again.
    pub fn take(&self, most: usize) -> (Vec<Letter>, bool) {
        let mut inner = self.lock();
        let count = inner.letters.iter().take(most).zip(1..).find_map(ends_before_loss()).unwrap_or(most);
        let count = inner.letters.len().min(count);
        let mut letters: Vec<Letter> = inner.letters.drain(..count).collect();
        inner.lines -= letters.iter().filter(|letter| is_line(letter)).count();
        let more = !inner.letters.is_empty();
        if !more && inner.letters.capacity() > MAX_SPARE_CAPACITY {
            inner.letters = VecDeque::new();
        }
        if !more && inner.dropped > 0 {
            letters.push(Letter::LinesDropped(std::mem::take(&mut inner.dropped)));
        }
        inner.is_woken = more;
        (letters, more)
    }

    /// The environment has ended: drops all letters, and accepts no more.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.letters.clear();
    }

    fn put(&self, letter: Letter) {
        let ring = {
            let mut inner = self.lock();
            if inner.is_closed {
                return;
            }
            if is_line(&letter) {
                if inner.lines >= MAX_LOG_LINES {
                    inner.dropped += 1;
                    return;
                }
                inner.lines += 1;
            }
            inner.letters.push_back(letter);
            !std::mem::replace(&mut inner.is_woken, true)
        };
        if ring {
            (self.wake)();
        }
    }

    /// Nothing panics while it holds the lock, so a poisoned one has good contents.
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For each letter and its position, counted from 1: how many letters precede it, if it is a loss and an answer
/// precedes it.
fn ends_before_loss() -> impl FnMut((&Letter, usize)) -> Option<usize> {
    let mut answered = false;
    move |(letter, count)| match letter {
        Letter::Answer { .. } => {
            answered = true;
            None
        }
        Letter::Event(Event::Lost { .. }) if answered => Some(count - 1),
        _ => None,
    }
}

fn is_line(letter: &Letter) -> bool {
    matches!(letter, Letter::Event(event) if event.level().is_some())
}

impl EventSink for Mailbox {
    fn answer(&self, call: u64, answer: Result<Answer, Box<CallFailure>>) {
        self.put(Letter::Answer { call, answer });
    }

    fn report(&self, event: Event) {
        self.put(Letter::Event(event));
    }

    fn is_open(&self) -> bool {
        !self.lock().is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::answer::{Caller, Ticket};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn mailbox() -> (Mailbox, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let wake = Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        (Mailbox::new(wake), wakes)
    }

    fn line() -> Event {
        Event::Attempted { call: 1, key: "reservation-a".into(), holder: None }
    }

    #[test]
    fn the_thread_is_woken_once_for_many_letters_and_again_after_they_were_taken() {
        let (mailbox, wakes) = mailbox();
        for call in 0..5 {
            mailbox.answer(call, Ok(Answer::Renewed));
        }
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        let (letters, more) = mailbox.take(3);
        assert_eq!((letters.len(), more), (3, true));
        mailbox.answer(5, Ok(Answer::Renewed));
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "whoever took three comes for the rest");
        let (letters, more) = mailbox.take(10);
        assert_eq!((letters.len(), more), (3, false));
        mailbox.answer(6, Ok(Answer::Renewed));
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn lines_beyond_a_thousand_are_counted_and_answers_are_never_dropped() {
        let (mailbox, _) = mailbox();
        for call in 0..3_000 {
            mailbox.report(line());
            mailbox.answer(call, Ok(Answer::Renewed));
        }
        let (letters, more) = mailbox.take(usize::MAX);
        assert!(!more);
        let answers = letters.iter().filter(|letter| matches!(letter, Letter::Answer { .. })).count();
        let lines = letters.iter().filter(|letter| is_line(letter)).count();
        assert_eq!((answers, lines), (3_000, 1_000));
        assert!(matches!(letters.last(), Some(Letter::LinesDropped(2_000))));
        mailbox.report(line());
        assert_eq!(mailbox.take(usize::MAX).0.len(), 1, "there is room again");
    }

    #[test]
    fn a_loss_is_not_taken_out_together_with_an_answer_before_it() {
        let (mailbox, _) = mailbox();
        let lost = || {
            let reservation = crate::tests::support::reservation("reservation-a");
            let loss = crate::model::answer::Loss { reservation: Arc::clone(&reservation), holder: None };
            Event::Lost { reservation, loss, quiet: false }
        };
        mailbox.report(lost());
        mailbox.answer(1, Ok(Answer::Renewed));
        mailbox.report(line());
        mailbox.report(lost());
        mailbox.report(lost());
        let (letters, more) = mailbox.take(10);
        assert_eq!((letters.len(), more), (3, true));
        let (letters, more) = mailbox.take(10);
        assert_eq!((letters.len(), more), (2, false));
    }

    #[test]
    fn a_closed_mailbox_takes_nothing_in() {
        let (mailbox, wakes) = mailbox();
        mailbox.close();
        mailbox.answer(1, Ok(Answer::Renewed));
        assert!(!mailbox.is_open());
        assert_eq!(mailbox.take(10).0.len(), 0);
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_task_that_panics_answers_its_call_with_an_error() {
        let mailbox = Arc::new(Mailbox::new(Box::new(|| {})));
        let sink: Arc<Mailbox> = Arc::clone(&mailbox);
        let ticket = Ticket::new(7, Arc::new(Caller { sink, environment: 1 }));
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _ticket = ticket;
            panic!("a fault of this library");
        }));
        assert!(panic.is_err());
        let (letters, _) = mailbox.take(10);
        let [Letter::Answer { call: 7, answer: Err(failure) }] = &letters[..] else { panic!("no answer") };
        assert_eq!(failure.error.code(), "ERR_INTERNAL");
    }
}
