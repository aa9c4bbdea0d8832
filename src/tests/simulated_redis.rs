//! Holds the simulated redis to the real one: the same random commands go to both, and every reply and every push must
//! be the same. `REDIS_SERVER` chooses the real one; `SIMULATED_REDIS_LISTS` has more lists run than the usual,
//! `SIMULATED_REDIS_SEED` others.

#![allow(clippy::print_stdout, reason = "what was compared is part of the result")]

mod both;
mod generate;
mod on_time;
mod replicas;
mod wire;

use both::Both;
use generate::{Step, list};

const LISTS: u64 = 150;

fn number_in(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect(variable))
}

#[test]
fn random_commands_are_answered_as_redis_answers_them() {
    let Some(mut both) = Both::start() else { return };
    let first = number_in("SIMULATED_REDIS_SEED", 1);
    for seed in first..first + number_in("SIMULATED_REDIS_LISTS", LISTS) {
        let steps = list(seed);
        if let Err(difference) = both.run(&steps, seed) {
            let (steps, difference) = shrink(&mut both, steps, difference, seed);
            panic!("{} of seed {seed}: {difference}\nafter {steps:#?}", both.name());
        }
    }
    println!("{}: {} commands, {} pushes", both.name(), both.commands, both.pushes);
    assert!(both.commands > 100 && both.pushes > 10, "{} commands, {} pushes", both.commands, both.pushes);
}

/// The steps without those that the difference does not need.
fn shrink(both: &mut Both, mut steps: Vec<Step>, mut difference: String, seed: u64) -> (Vec<Step>, String) {
    let mut at = 0;
    while at < steps.len() {
        let mut fewer = steps.clone();
        fewer.remove(at);
        if let Err(found) = both.run(&fewer, seed) {
            (steps, difference) = (fewer, found);
        } else {
            at += 1;
        }
    }
    (steps, difference)
}
