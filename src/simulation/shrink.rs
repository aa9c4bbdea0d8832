//! Makes a story that offends short: takes steps out for as long as the same goes wrong.

use super::run::run;
use super::story::Story;

/// The shortest story that was found, and what is wrong in it. `None`: nothing is wrong with this one.
pub fn shrink(story: &Story) -> Option<(Story, String)> {
    let mut offence = run(story, false).offences.first().cloned()?;
    let kind = kind_of(&offence);
    let mut shortest = story.clone();
    let mut size = shortest.steps.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < shortest.steps.len() {
            let mut shorter = shortest.clone();
            shorter.steps.drain(at..(at + size).min(shorter.steps.len()));
            match run(&shorter, false).offences.first() {
                Some(same) if kind_of(same) == kind => {
                    offence.clone_from(same);
                    shortest = shorter;
                }
                _ => at += size,
            }
        }
        if size == 1 {
            return Some((shortest, offence));
        }
        size = size.div_ceil(2);
    }
}

/// An offence without its times, numbers and names.
fn kind_of(offence: &str) -> String {
    let is_word = |word: &&str| !word.chars().any(|letter| letter.is_ascii_digit());
    offence.split(' ').filter(is_word).collect::<Vec<_>>().join(" ")
}
