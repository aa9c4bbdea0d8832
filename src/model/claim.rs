//! The key and the value of one acquisition, and the random tokens that make values unguessable.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use crate::model::error::Error;
use crate::model::settings::Settings;

/// Bytes of one token: 128 random bits.
const TOKEN: usize = 16;

/// How many tokens one call to the operating system fetches. One call for each lock would cost more than the rest of
/// the lock.
const TOKENS_AT_ONCE: usize = 64;

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

/// Random bytes, each used once. Each thread has its own pool.
struct Pool {
    bytes: [u8; TOKEN * TOKENS_AT_ONCE],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> =
        const { RefCell::new(Pool { bytes: [0; TOKEN * TOKENS_AT_ONCE], used: TOKEN * TOKENS_AT_ONCE }) };
}

/// The key and the value of one acquisition. It keeps only the value's token, since a process may hold a hundred
/// thousand locks. The rest of the value is the same for all locks of an owner; the whole is put together when it is
/// needed.
#[derive(Clone)]
pub struct Claim {
    /// The settings that the key was claimed with.
    pub settings: Arc<Settings>,
    key: Box<str>,
    token: [u8; TOKEN],
}

impl Claim {
    /// A claim for one acquisition: the owner's name and a new token.
    ///
    /// # Errors
    /// If the operating system gives no random numbers.
    pub fn new(key: impl Into<Box<str>>, settings: Arc<Settings>) -> Result<Self, Error> {
        Ok(Self { settings, key: key.into(), token: draw_token()? })
    }

    /// The key in redis.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value that the key is set to: `<owner>-<token>`.
    #[must_use]
    pub fn value(&self) -> String {
        let owner = &self.settings.owner;
        let mut value = String::with_capacity(owner.len() + 1 + 2 * TOKEN);
        value.push_str(owner);
        value.push('-');
        for byte in self.token {
            for digit in [byte >> 4, byte & 15] {
                value.push(char::from(HEXADECIMAL[usize::from(digit)]));
            }
        }
        value
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
            fill(&mut pool.bytes).map_err(|error| {
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

#[cfg(not(test))]
use getrandom::fill;

#[cfg(test)]
thread_local! {
    static SEEDED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// If true, this thread draws tokens from `fastrand`'s generator from now on, so that its seed repeats them.
#[cfg(test)]
pub fn simulate(seeded: bool) {
    SEEDED.set(seeded);
    POOL.with_borrow_mut(|pool| pool.used = pool.bytes.len());
}

#[cfg(test)]
fn fill(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    if SEEDED.get() {
        fastrand::fill(bytes);
        return Ok(());
    }
    getrandom::fill(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::settings_for;
    use std::collections::HashSet;
    use std::time::Duration;

    fn claim(key: &str) -> Claim {
        Claim::new(key, Arc::new(settings_for(1, Duration::from_secs(1)))).unwrap()
    }

    #[test]
    fn a_claim_is_a_key_and_a_value_that_ends_in_a_token() {
        let claim = claim("reservation-ä");
        assert_eq!(claim.key(), "reservation-ä");
        let value = claim.value();
        let token = value.strip_prefix("worker-1-").unwrap();
        assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
        assert_eq!(claim.value(), value);
    }

    #[test]
    fn no_token_comes_twice_on_any_thread() {
        let draw = || -> Vec<String> { (0..1_000).map(|_| claim("key").value()).collect() };
        let threads = [0, 1].map(|_| std::thread::spawn(draw));
        let mut drawn: Vec<String> = draw();
        for thread in threads {
            drawn.extend(thread.join().unwrap());
        }
        let count = drawn.len();
        assert_eq!(drawn.into_iter().collect::<HashSet<_>>().len(), count);
    }
}
