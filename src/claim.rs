//! A key and the value that one acquisition sets it to: the texts by which redis knows a reservation, in one piece of
//! memory, and the tokens that make each value unguessable.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use crate::error::Error;

/// Bytes of one token: 128 random bits.
const TOKEN: usize = 16;

/// Tokens that are asked of the operating system at once: asking costs more than a lock does otherwise.
const TOKENS_AT_ONCE: usize = 64;

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

/// Random bytes that were not used yet. Each thread has its own, and each byte is used once.
struct Pool {
    bytes: [u8; TOKEN * TOKENS_AT_ONCE],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> =
        const { RefCell::new(Pool { bytes: [0; TOKEN * TOKENS_AT_ONCE], used: TOKEN * TOKENS_AT_ONCE }) };
    /// Where texts are put together before they get memory of their own size.
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A key, and the value that says whose it is. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    /// The key, and behind it the value.
    text: Arc<str>,
    key_length: usize,
}

impl Claim {
    /// A claim for one acquisition: the worker's name and a token that nobody can guess or repeat.
    ///
    /// # Errors
    /// Where the operating system has no random numbers to give.
    pub fn new(key: &str, owner: &str) -> Result<Self, Error> {
        let token = draw_token()?;
        TEXT.with_borrow_mut(|text| {
            text.clear();
            for part in [key, owner, "-"] {
                text.push_str(part);
            }
            for byte in token {
                for digit in [byte >> 4, byte & 15] {
                    text.push(char::from(HEXADECIMAL[usize::from(digit)]));
                }
            }
            Ok(Self::cut(text, key.len()))
        })
    }

    /// The claim of a key by this very value.
    #[must_use]
    pub fn from_parts(key: &str, value: &str) -> Self {
        Self::cut(&format!("{key}{value}"), key.len())
    }

    fn cut(text: &str, key_length: usize) -> Self {
        Self { text: text.into(), key_length }
    }

    /// The bytes of both.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// The key in redis.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.text[..self.key_length]
    }

    /// The value it is set to.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.text[self.key_length..]
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} = {}", self.key(), self.value())
    }
}

fn draw_token() -> Result<[u8; TOKEN], Error> {
    POOL.with_borrow_mut(|pool| {
        if pool.used == pool.bytes.len() {
            getrandom::fill(&mut pool.bytes).map_err(|error| {
                Error::Internal(format!("no random numbers from the operating system ({error})"))
            })?;
            pool.used = 0;
        }
        let mut token = [0; TOKEN];
        let drawn = &mut pool.bytes[pool.used..pool.used + TOKEN];
        token.copy_from_slice(drawn);
        drawn.fill(0);
        pool.used += TOKEN;
        Ok(token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_claim_is_a_key_and_a_value_that_ends_in_a_token() {
        let claim = Claim::new("reservation-ä", "worker-1").unwrap();
        assert_eq!(claim.key(), "reservation-ä");
        let token = claim.value().strip_prefix("worker-1-").unwrap();
        assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
        let same = Claim::from_parts(claim.key(), claim.value());
        assert_eq!(same, claim);
    }

    #[test]
    fn no_token_comes_twice_on_any_thread() {
        let draw = || -> Vec<String> {
            (0..1_000).map(|_| Claim::new("key", "worker").unwrap().value().to_owned()).collect()
        };
        let threads = [0, 1].map(|_| std::thread::spawn(draw));
        let mut drawn: Vec<String> = draw();
        for thread in threads {
            drawn.extend(thread.join().unwrap());
        }
        let count = drawn.len();
        assert_eq!(drawn.into_iter().collect::<HashSet<_>>().len(), count);
    }
}
