//! The redis commands that locks are made of, and what their replies mean.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Value};

use crate::model::claim::Claim;

/// Bytes for the keywords and numbers of one command, so that it is allocated at once.
const EXTRA_CAPACITY: usize = 40;

/// How many bytes are kept of a value that others wrote.
const MAX_HOLDER_BYTES: usize = 256;

/// A script. It runs inside redis, so that comparing and changing are one step.
#[derive(Debug)]
pub struct Script {
    /// The name, for messages.
    pub name: &'static str,
    source: &'static str,
    hash: String,
}

impl Script {
    fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, hash: redis::Script::new(source).get_hash().to_owned() }
    }

    /// Calls it by its hash: [EVALSHA](https://redis.io/docs/latest/commands/evalsha/).
    #[must_use]
    pub fn by_hash(&self, call: &ScriptCall<'_>) -> Cmd {
        self.run("EVALSHA", &self.hash, call)
    }

    /// Calls it by its source, for a server that does not have it; the server caches it.
    #[must_use]
    pub fn by_source(&self, call: &ScriptCall<'_>) -> Cmd {
        self.run("EVAL", self.source, call)
    }

    /// `SCRIPT LOAD`: makes the server cache it.
    #[must_use]
    pub fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.source);
        command
    }

    #[allow(clippy::unused_self, reason = "reads as what it is: a way to run this script")]
    fn run(&self, verb: &str, script: &str, call: &ScriptCall<'_>) -> Cmd {
        let (key, value) = (call.claim.key(), call.claim.value());
        let texts = script.len() + key.len() + 2 * value.len();
        let mut command = Cmd::with_capacity(6, texts + EXTRA_CAPACITY);
        command.arg(verb).arg(script).arg(1).arg(key).arg(value);
        if let Some(ttl) = call.ttl {
            command.arg(milliseconds(ttl));
        }
        if let Some(next) = call.next {
            command.arg(next.value());
        }
        command
    }
}

/// Extends the ttl of a key that holds our value (`lua/extend.lua`).
pub static EXTEND: LazyLock<Script> = LazyLock::new(|| Script::new("EXTEND", include_str!("lua/extend.lua")));

/// Deletes a key that holds our value (`lua/release.lua`).
pub static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new("RELEASE", include_str!("lua/release.lua")));

/// Gives a key that holds our value to the next waiter (`lua/hand_over.lua`).
pub static HAND_OVER: LazyLock<Script> =
    LazyLock::new(|| Script::new("HAND_OVER", include_str!("lua/hand_over.lua")));

/// The arguments of a script.
#[derive(Clone, Copy, Debug)]
pub struct ScriptCall<'claim> {
    /// The key, and the value that it must hold.
    pub claim: &'claim Claim,
    /// The new ttl, if the script sets one.
    pub ttl: Option<Duration>,
    /// The claim of the next holder, if the script sets one.
    pub next: Option<&'claim Claim>,
}

impl ScriptCall<'_> {
    /// What the reply means. If a hand-over finds the next holder's value already there, an earlier try did it and its
    /// reply was lost.
    #[must_use]
    pub fn comparison_of(&self, reply: &Value) -> Option<Comparison> {
        match (self.next, reply) {
            (Some(next), Value::BulkString(bytes)) if next.value().as_bytes() == &bytes[..] => {
                Some(Comparison::Ours)
            }
            _ => comparison_of(reply),
        }
    }
}

/// What a script found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The value was ours, and the change was made.
    Ours,
    /// The value was ours, and the key was deleted because redis refused to set the next value.
    Freed,
    /// The key is gone.
    Gone,
    /// Somebody else's value, as [`holder_of`] gives it; `None` for a key that is no string.
    Other(Option<String>),
}

/// `SET key value NX PX ttl`: [sets a key only if it does not exist](https://redis.io/docs/latest/commands/set/).
#[must_use]
pub fn take(key: &str, value: &str, ttl: Duration) -> Cmd {
    let mut command = Cmd::with_capacity(6, key.len() + value.len() + EXTRA_CAPACITY);
    command.arg("SET").arg(key).arg(value).arg("NX").arg("PX").arg(milliseconds(ttl));
    command
}

/// `GET key`.
#[must_use]
pub fn read(key: &str) -> Cmd {
    let mut command = redis::cmd("GET");
    command.arg(key);
    command
}

/// `PTTL key`.
#[must_use]
pub fn time_left(key: &str) -> Cmd {
    let mut command = redis::cmd("PTTL");
    command.arg(key);
    command
}

/// `CLIENT CACHING YES`: the server will report the next change of the key that the next command reads ([client-side
/// caching](https://redis.io/docs/latest/develop/reference/client-side-caching/#opt-in-caching)).
#[must_use]
pub fn watch_next() -> Cmd {
    let mut command = redis::cmd("CLIENT");
    command.arg("CACHING").arg("YES");
    command
}

/// A connection as the server knows it. The number alone is not enough: after a restart it counts from 1 again, and the
/// number may be another client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The server's number for it. Numbers grow for as long as the server runs.
    pub number: i64,
    /// Our address as the server sees it.
    pub address: String,
}

impl Identity {
    /// From a reply to [`CLIENT INFO`](https://redis.io/docs/latest/commands/client-info/):
    /// `id=3 addr=127.0.0.1:50686 …`.
    #[must_use]
    pub fn from_reply(reply: &Value) -> Option<Self> {
        let text = text_of(reply)?;
        let field = |name: &str| text.split(' ').find_map(|field| field.strip_prefix(name));
        Some(Self { number: field("id=")?.parse().ok()?, address: field("addr=")?.to_owned() })
    }
}

/// `CLIENT KILL ID number ADDR address`: closes that connection of ours, which may still hold a command, and no other.
#[must_use]
pub fn kill(connection: &Identity) -> Cmd {
    let mut command = redis::cmd("CLIENT");
    command.arg("KILL").arg("ID").arg(connection.number).arg("ADDR").arg(&connection.address);
    command
}

/// `WAIT replicas milliseconds`: waits until so many replicas have [what this connection has
/// written](https://redis.io/docs/latest/commands/wait/), or until the time is over.
#[must_use]
pub fn replicated(replicas: u32, limit: Duration) -> Cmd {
    let mut command = redis::cmd("WAIT");
    command.arg(replicas).arg(milliseconds(limit));
    command
}

/// The key of a command; `None` for a command without one.
#[must_use]
pub fn key_of(command: &Cmd) -> Option<&[u8]> {
    let mut words = command.args_iter().map(|word| match word {
        redis::Arg::Simple(word) => word,
        _ => &[],
    });
    match words.next()? {
        b"CLIENT" | b"WAIT" => None,
        // Skips the script and the number of keys.
        b"EVAL" | b"EVALSHA" => words.nth(2),
        _ => words.next(),
    }
}

/// True if [`take`] took the key, false if the key exists; `None` for any other reply.
#[must_use]
pub fn was_taken(reply: &Value) -> Option<bool> {
    match reply {
        Value::Okay => Some(true),
        Value::Nil => Some(false),
        _ => None,
    }
}

/// The string in a reply to [`read`].
#[must_use]
pub fn text_of(reply: &Value) -> Option<String> {
    match reply {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// The holder's value in a reply to [`read`], for errors and log lines. Anybody may have written it, at any length, so
/// it is cut.
#[must_use]
pub fn holder_of(reply: &Value) -> Option<String> {
    match reply {
        Value::BulkString(bytes) => Some(excerpt(bytes)),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(excerpt(text.as_bytes())),
        _ => None,
    }
}

/// The first [`MAX_HOLDER_BYTES`] bytes of a text, up to the end of a character; `…` marks a cut.
fn excerpt(bytes: &[u8]) -> String {
    // Three bytes more, so that a character that crosses the limit is not decoded as an error.
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_HOLDER_BYTES + 3)]).into_owned();
    if text.len() > MAX_HOLDER_BYTES {
        let end = (0..=MAX_HOLDER_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The remaining ttl in a reply to [`time_left`]; `None` for a key without one, or without a key.
#[must_use]
pub fn duration_of(reply: &Value) -> Option<Duration> {
    match reply {
        // -1: no ttl; -2: no key.
        Value::Int(milliseconds) => u64::try_from(*milliseconds).ok().map(Duration::from_millis),
        _ => None,
    }
}

/// What a script's reply means; `None` for a reply that no script gives.
#[must_use]
pub fn comparison_of(reply: &Value) -> Option<Comparison> {
    match reply {
        Value::Int(1) => Some(Comparison::Ours),
        Value::Int(2) => Some(Comparison::Freed),
        Value::Nil => Some(Comparison::Gone),
        Value::BulkString(_) => Some(Comparison::Other(holder_of(reply))),
        _ => None,
    }
}

/// The number in a reply to [`replicated`].
#[must_use]
pub fn number_of(reply: &Value) -> Option<i64> {
    match reply {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

/// Whole milliseconds, at least one: redis refuses a ttl of 0.
fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_command_is_found() {
        let reservation = crate::tests::support::reservation("k");
        let call = ScriptCall { claim: &reservation.claim, ttl: None, next: None };
        for command in [
            take("k", "v", Duration::from_secs(1)),
            read("k"),
            time_left("k"),
            EXTEND.by_hash(&call),
            RELEASE.by_source(&call),
        ] {
            assert_eq!(key_of(&command), Some(&b"k"[..]));
        }
        assert_eq!(key_of(&watch_next()), None);
        assert_eq!(key_of(&replicated(1, Duration::from_secs(1))), None);
    }

    #[test]
    fn what_others_have_written_is_cut_at_the_end_of_a_character() {
        let of = |text: &[u8]| holder_of(&Value::BulkString(text.to_vec())).unwrap();
        let full = "x".repeat(256);
        assert_eq!(of(full.as_bytes()), full);
        assert_eq!(of(format!("{full}y").as_bytes()), format!("{full}…"));
        for start in 253..256 {
            let start = "x".repeat(start);
            assert_eq!(of(format!("{start}😀").as_bytes()), format!("{start}…"), "half of one is none");
        }
        let fits = format!("{}😀", "x".repeat(252));
        assert_eq!(of(fits.as_bytes()), fits);
        // Each invalid byte becomes three.
        assert_eq!(of(&[0xff; 100]), format!("{}…", "\u{fffd}".repeat(85)));
        assert_eq!(of(&vec![b'x'; 1 << 20]).len(), 256 + '…'.len_utf8());
        assert_eq!(holder_of(&Value::Nil), None);
    }

    #[test]
    fn the_next_holder_is_recognised_whatever_the_length_of_its_value() {
        let settings = crate::tests::support::settings_for(1, Duration::from_secs(1));
        let settings = crate::model::settings::Settings { owner: "x".repeat(1_000), ..settings };
        let next = Claim::new("k", settings.into()).unwrap();
        let reservation = crate::tests::support::reservation("k");
        let call = ScriptCall { claim: &reservation.claim, ttl: None, next: Some(&next) };
        let reply = |text: String| Value::BulkString(text.into_bytes());
        assert_eq!(call.comparison_of(&reply(next.value())), Some(Comparison::Ours));
        let other = reply(format!("{}?", next.value()));
        assert!(matches!(call.comparison_of(&other), Some(Comparison::Other(Some(_)))));
    }
}
