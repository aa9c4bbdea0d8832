//! Micro-benchmarks of code that runs once an operation and needs no redis. A regression shows here first.
//! `cargo bench`.

use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use redis_reservation::addon::mailbox::Mailbox;
use redis_reservation::lock::schedule::Schedule;
use redis_reservation::lock::wait_queue::{WaitQueue, Waiter};
use redis_reservation::model::answer::{Answer, Caller, EventSink, Ticket};
use redis_reservation::model::claim::Claim;
use redis_reservation::model::endpoint::{Endpoint, Host, Login, Place};
use redis_reservation::model::lease::{Interval, Lease, Terms};
use redis_reservation::model::settings::{LogLevel, Settings};
use redis_reservation::protocol::command::{self, RELEASE, ScriptCall};
use redis_reservation::time::clock::Moment;

fn main() {
    divan::main();
}

fn at(milliseconds: u64) -> Moment {
    Moment::ZERO.after(Duration::from_millis(milliseconds))
}

fn settings() -> Arc<Settings> {
    let ttl = Duration::from_secs(30);
    Arc::new(Settings {
        endpoint: Endpoint {
            place: Place::Server(Host { name: "127.0.0.1".into(), port: 6379 }),
            login: Login::default(),
            tls: None,
            waits_for_replicas: None,
        }
        .shared(),
        key_prefix: "reservation-".into(),
        min_replicas: 0,
        owner: "worker-4711".into(),
        terms: Terms { ttl, interval: Interval::Never, max_hold: None },
        connect_timeout: ttl,
        command_timeout: ttl,
        log_level: LogLevel::Silent,
    })
}

/// One heartbeat of a reservation among `held`: taken off the schedule, and added again an interval later.
#[divan::bench(args = [1, 1_000, 100_000])]
fn schedule_moves_one(bencher: Bencher, held: u64) {
    let mut schedule = Schedule::default();
    for id in 0..held {
        schedule.insert(at(id), id);
    }
    let mut next = 0;
    bencher.bench_local(|| {
        schedule.remove(at(next), next % held);
        schedule.insert(at(next + held), next % held);
        next += 1;
    });
}

/// A lease's `step`, computed each time that the heartbeat looks at it.
#[divan::bench]
fn lease_steps(bencher: Bencher) {
    let terms = Terms {
        ttl: Duration::from_secs(30),
        interval: Interval::Every(Duration::from_secs(10)),
        max_hold: Some(Duration::from_secs(60)),
    };
    let lease = Lease::begin(terms, at(0));
    bencher.bench_local(|| black_box(&lease).step(black_box(at(5_000))));
}

/// The core puts answers in, an environment takes them out, `batch` at a time.
#[divan::bench(args = [1, 256])]
fn mailbox_carries(bencher: Bencher, batch: u64) {
    let mailbox = Mailbox::new(Box::new(|| {}));
    bencher.counter(batch).bench_local(|| {
        for call in 0..batch {
            mailbox.answer(call, Ok(Answer::Renewed));
        }
        black_box(mailbox.take(256));
    });
}

/// A waiter joins behind `waiting` others, and the head leaves.
#[divan::bench(args = [1, 1_000, 100_000])]
fn queue_serves_the_head(bencher: Bencher, waiting: u64) {
    let sink = Arc::new(Mailbox::new(Box::new(|| {})));
    let caller = Arc::new(Caller { sink, environment: 1 });
    let settings = settings();
    let queue = WaitQueue::new("reservation-nightly-report".into());
    let join = |call| {
        queue.join(Waiter {
            ticket: Ticket::new(call, Arc::clone(&caller)),
            instance: 1,
            settings: Arc::clone(&settings),
            has_tried: false,
            timeout_task: None,
        })
    };
    for call in 0..waiting {
        join(call);
    }
    let mut next = 0;
    bencher.bench_local(|| {
        join(next + waiting);
        // A waiter's number counts from 0, and so do the calls here.
        let waiter = queue.leave(next).expect("the head");
        waiter.ticket.answer(Ok(Answer::Renewed));
        next += 1;
    });
}

/// Packs the commands of a lock and of its release.
#[divan::bench]
fn commands_are_packed(bencher: Bencher) {
    let claim = Claim::new("reservation-nightly-report", settings()).expect("a token");
    let call = ScriptCall { claim: &claim, ttl: None, next: None };
    bencher.bench_local(|| {
        let lock = command::take(claim.key(), &claim.value(), Duration::from_secs(30));
        (lock.get_packed_command(), RELEASE.by_hash(&call).get_packed_command())
    });
}
