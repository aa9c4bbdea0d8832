//! What happens by time alone, with real sleeps: keys that end, seen by who asks for them and by who does not.

use std::time::Duration;

use super::both::{Both, now};
use super::generate::{Step, words};

fn send(client: usize, texts: &[&str]) -> Step {
    Step::Send(client, texts.iter().map(|text| words(text)).collect())
}

/// A key that a client watches ends; then both servers are given time, and all that they say is the same.
fn lives_and_ends(both: &mut Both, asks_at_once: bool) -> Result<(), String> {
    both.begin(1);
    if asks_at_once {
        // The real one looks once a second, the simulated one never: who asks finds that the key is over.
        both.control(&["CONFIG", "SET", "hz", "1"]);
        both.simulated.config.active_expiry = None;
    }
    both.step(&send(0, &["HELLO 3", "CLIENT TRACKING ON OPTIN", "SET key1 value1 PX 30"]))?;
    both.step(&send(0, &["CLIENT CACHING YES", "GET key1"]))?;
    both.step(&send(1, &["HELLO 3", "CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES", "GET key1"]))?;
    if asks_at_once {
        std::thread::sleep(Duration::from_millis(35));
        both.step(&send(1, &["CLIENT CACHING YES", "GET key1", "PTTL key1", "EXISTS key1"]))?;
        return both.step(&send(0, &["SET key1 value2 NX PX 70000", "GET key1"]));
    }
    let due = both.simulated.next_event().ok_or("no event although a key ends")?;
    assert!(due > now(), "the key has not ended yet");
    std::thread::sleep(Duration::from_millis(due - now() + 500));
    let told = both.pushes;
    both.simulated.advance(now());
    both.step(&send(2, &["DBSIZE"]))?;
    if both.pushes != told + 2 {
        return Err(format!("{} clients were told that a key is over", both.pushes - told));
    }
    Ok(())
}

/// The clocks of two processes are in it: what differs once must differ again.
fn same_in_one_of_three(asks_at_once: bool) {
    let Some(mut both) = Both::start() else { return };
    let differences: Vec<_> = (0..3).map_while(|_| lives_and_ends(&mut both, asks_at_once).err()).collect();
    assert!(differences.len() < 3, "{}: {differences:#?}", both.name());
}

#[test]
fn a_key_that_ends_is_told_of_though_nobody_asks() {
    same_in_one_of_three(false);
}

#[test]
fn a_key_that_has_ended_is_told_of_by_who_asks() {
    same_in_one_of_three(true);
}
