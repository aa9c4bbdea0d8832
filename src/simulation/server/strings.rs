//! SET, GET and their kin.

use super::Server;
use super::client::ClientId;
use super::data::{Entry, Time, Value};
use super::keys::{NO_INTEGER, SYNTAX, WRONG_TYPE};
use super::resp::{Reply, integer, lower};
use super::version::Version;

/// When a key is to end.
enum End {
    Keep,
    None,
    /// In milliseconds; with the word and its unit.
    After(Vec<u8>, i64),
}

impl Server {
    pub(super) fn run_string_command(
        &mut self,
        id: ClientId,
        name: &str,
        words: &[Vec<u8>],
    ) -> Option<Reply> {
        Some(match name {
            "get" => self.read(id, &words[1]),
            "set" => self.set(id, words).unwrap_or_else(Reply::Error),
            "setnx" => {
                let place = self.place(id, &words[1]);
                if self.look(&place).is_some() {
                    return Some(Reply::Int(0));
                }
                self.put(place, Entry { value: Value::Text(words[2].clone()), expires: None });
                Reply::Int(1)
            }
            "getex" => self.read_and_expire(id, words).unwrap_or_else(Reply::Error),
            _ => return None,
        })
    }

    fn read(&mut self, id: ClientId, key: &[u8]) -> Reply {
        let place = self.place(id, key);
        match self.look(&place) {
            None => Reply::Nil,
            Some(Entry { value: Value::Text(text), .. }) => Reply::Bulk(text),
            Some(_) => Reply::error(WRONG_TYPE),
        }
    }

    /// `SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | KEEPTTL]`.
    fn set(&mut self, id: ClientId, words: &[Vec<u8>]) -> Result<Reply, String> {
        let (mut if_absent, mut if_there, mut with_get, mut end) = (false, false, false, None);
        let mut options = words[3..].iter();
        while let Some(option) = options.next() {
            match &*lower(option) {
                "nx" if !if_there => if_absent = true,
                "xx" if !if_absent => if_there = true,
                "get" => with_get = true,
                "keepttl" if matches!(end, None | Some(End::Keep)) => end = Some(End::Keep),
                // The same twice is no contradiction: the last counts.
                unit @ ("ex" | "px")
                    if end
                        .as_ref()
                        .is_none_or(|end| matches!(end, End::After(_, of) if *of == unit_of(unit))) =>
                {
                    end = Some(End::After(options.next().ok_or(SYNTAX)?.clone(), unit_of(unit)));
                }
                _ => return Err(SYNTAX.into()),
            }
        }
        if self.config.version.is_old() && with_get && if_absent {
            return Err(SYNTAX.into());
        }
        let end = end.unwrap_or(End::None);
        let expires = self.end_of(&end, "set")?;
        let place = self.place(id, &words[1]);
        let before = if with_get { self.read(id, &words[1]) } else { Reply::Nil };
        if let Reply::Error(text) = before {
            return Err(text);
        }
        let current = self.look(&place);
        if (if_absent && current.is_some()) || (if_there && current.is_none()) {
            return Ok(before);
        }
        let expires = match end {
            End::Keep => current.and_then(|entry| entry.expires),
            _ => expires,
        };
        self.put(place, Entry { value: Value::Text(words[2].clone()), expires });
        Ok(if with_get { before } else { Reply::ok() })
    }

    /// `GETEX key [EX seconds | PX milliseconds | PERSIST]`.
    fn read_and_expire(&mut self, id: ClientId, words: &[Vec<u8>]) -> Result<Reply, String> {
        let end = match &words[2..] {
            [] => End::Keep,
            [option] if lower(option) == "persist" => End::None,
            [option, word] if ["ex", "px"].contains(&&*lower(option)) => {
                End::After(word.clone(), unit_of(&lower(option)))
            }
            _ => return Err(SYNTAX.into()),
        };
        if self.config.version == Version::Valkey9 {
            // The others look at the time only for a key that is there.
            self.end_of(&end, "getex")?;
        }
        let reply = self.read(id, &words[1]);
        let place = self.place(id, &words[1]);
        let Some(entry) = self.look(&place) else { return Ok(reply) };
        if matches!(entry.value, Value::List(_)) {
            return Ok(reply);
        }
        let expires = match end {
            End::Keep => return Ok(reply),
            End::None if entry.expires.is_none() => return Ok(reply),
            _ => self.end_of(&end, "getex")?,
        };
        self.put(place, Entry { expires, ..entry });
        Ok(reply)
    }

    fn end_of(&self, end: &End, command: &str) -> Result<Option<Time>, String> {
        let End::After(word, unit) = end else { return Ok(None) };
        let number = integer(word).ok_or(NO_INTEGER)?;
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        let end = Some(number).filter(|&number| number > 0).and_then(|number| number.checked_mul(*unit));
        match end.and_then(|duration| duration.checked_add(now)) {
            Some(end) => Ok(Time::try_from(end).ok()),
            None => Err(self.config.version.invalid_expire(command)),
        }
    }
}

fn unit_of(option: &str) -> i64 {
    if option == "ex" { 1000 } else { 1 }
}
