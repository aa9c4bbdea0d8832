//! The core in a simulated world: seeds that are always the same, stories that once found something, and as many other
//! seeds as one asks for (`npm run simulate`).

#![allow(clippy::print_stdout, reason = "whoever asks for seeds reads what they did")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::simulation::kinds::{Kind, story_of};
use crate::simulation::run::run;
use crate::simulation::shrink::shrink;
use crate::simulation::story::Story;
use crate::simulation::world::Counts;

/// What `cargo test` lives through each time: some 20 s of it.
const ALWAYS: u64 = 2_000;

/// The most stories that are shown.
const SHOWN: usize = 3;

/// Of a story of a cluster there may be two: the crate's engine takes some orders from elsewhere. So those are run by
/// `npm run simulate` alone: what they find must be able to be found again.
fn has_one_history(seed: &u64) -> bool {
    Kind::of(*seed) != Kind::Cluster
}

#[test]
fn one_seed_has_one_history() {
    for seed in (1..=16).filter(has_one_history) {
        let story = story_of(seed, None);
        let first = run(&story, true);
        assert!(first.trace.len() > 1_000);
        // On another thread, and where memory looks otherwise: no order may come from an address.
        let clutter: Vec<_> = (0..1_000).map(|size| vec![0_u8; 16 + size]).collect();
        let second = std::thread::scope(|scope| scope.spawn(|| run(&story, true)).join()).unwrap();
        drop(clutter);
        if let Some((one, other)) =
            first.trace.lines().zip(second.trace.lines()).find(|(one, other)| one != other)
        {
            panic!("seed {seed} has two histories:\n{one}\n{other}");
        }
        assert!(first == second, "seed {seed} has two histories");
        assert_eq!(run(&story, false).counts, first.counts, "watching seed {seed} changes something");
    }
}

#[test]
fn whatever_goes_wrong_what_is_promised_is_kept() {
    let bad: Vec<u64> = (1..=ALWAYS)
        .filter(has_one_history)
        .filter(|seed| !run(&story_of(*seed, None), false).offences.is_empty())
        .collect();
    assert!(bad.is_empty(), "npm run simulate -- --from SEED --seeds 1 tells the story of each of {bad:?}");
}

#[test]
fn stories_that_found_something_once_find_it_no_more() {
    for file in std::fs::read_dir(regressions()).unwrap() {
        let path = file.unwrap().path();
        let story: Story = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(run(&story, false).offences, Vec::<String>::new(), "{}", path.display());
    }
}

fn regressions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/simulation/regressions")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}

/// All seeds are to be of one kind.
fn kind() -> Option<Kind> {
    std::env::var("SIMULATE_KIND").ok().map(|name| Kind::named(&name).expect("SIMULATE_KIND"))
}

/// What `npm run simulate` runs; its options come as variables of the environment (scripts/simulate.js).
#[test]
#[ignore = "as long as one likes: npm run simulate"]
fn seeds_that_were_asked_for() {
    let from = number("SIMULATE_FROM").unwrap_or(1);
    let seeds = number("SIMULATE_SEEDS").unwrap_or(u64::MAX - from);
    let time = Duration::from_secs(number("SIMULATE_SECONDS").unwrap_or(u64::from(u32::MAX)));
    // Enough have offended: the rest is not run.
    let enough = number("SIMULATE_ENOUGH").unwrap_or(u64::MAX);
    let (began, next, is_over) = (Instant::now(), AtomicU64::new(from), AtomicBool::new(false));
    let results = Mutex::new((Counts::default(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..number("SIMULATE_JOBS").unwrap_or(1) {
            scope.spawn(|| {
                while began.elapsed() < time && !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - from >= seeds {
                        return;
                    }
                    let outcome = run(&story_of(seed, kind()), false);
                    let mut results = results.lock().unwrap();
                    results.0 += outcome.counts;
                    if let Some(offence) = outcome.offences.first() {
                        println!("seed {seed}: {offence}");
                        results.1.push(seed);
                        is_over.fetch_or(results.1.len() as u64 >= enough, Ordering::Relaxed);
                    }
                    if results.0.stories % 10_000 == 0 {
                        println!("{} seeds, {} offend", results.0.stories, results.1.len());
                    }
                }
            });
        }
    });
    let (counts, mut bad) = results.into_inner().unwrap();
    bad.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "roughly")]
    let rate = counts.stories as f64 / began.elapsed().as_secs_f64() * 60.0;
    println!(
        "{} seeds in {:.1} s, {rate:.0} a minute: {counts:?}",
        counts.stories,
        began.elapsed().as_secs_f64()
    );
    if std::env::var("SIMULATE_TERSE").is_err() {
        bad.iter().take(SHOWN).for_each(|seed| tell(*seed));
    }
    assert!(bad.is_empty(), "{} seeds offend: {bad:?}", bad.len());
}

/// Tells the story of a seed that offends, shrunk, and keeps it if that was asked for.
fn tell(seed: u64) {
    let (story, offence) = shrink(&story_of(seed, kind())).expect("it offends each time");
    println!("\n{story}\n{offence}");
    if std::env::var("SIMULATE_TRACE").is_ok() {
        println!("{}", run(&story, true).trace);
    }
    if let Ok(name) = std::env::var("SIMULATE_KEEP") {
        std::fs::create_dir_all(regressions()).unwrap();
        let path = regressions().join(format!("{name}-{seed}.json"));
        std::fs::write(&path, serde_json::to_string_pretty(&story).unwrap() + "\n").unwrap();
        println!("kept as {}", path.display());
    }
}
