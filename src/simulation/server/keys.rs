//! Keys whatever is in them: their ends, their deletion, and the change that replicas and readers are told of.

use super::Server;
use super::client::ClientId;
use super::data::{Entry, Place, Time, Value, is_over};
use super::replication::{Effect, Role};
use super::resp::{Reply, integer, lower};

pub const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
pub const NO_INTEGER: &str = "ERR value is not an integer or out of range";
pub const SYNTAX: &str = "ERR syntax error";

impl Server {
    pub(super) fn place(&self, id: ClientId, key: &[u8]) -> Place {
        (self.clients[&id].database, key.to_vec())
    }

    /// What is at a key. If its time is over, a master deletes it.
    pub(super) fn look(&mut self, place: &Place) -> Option<Entry> {
        let entry = self.data.get(place)?;
        if !is_over(entry, self.now) {
            return Some(entry.clone());
        }
        if self.role() == Role::Master {
            self.delete(place);
        }
        None
    }

    pub(super) fn put(&mut self, place: Place, entry: Entry) {
        self.replication.log.push(Effect::Set(place.clone(), entry.clone()));
        let key = place.1.clone();
        self.data.put(place, entry);
        self.invalidate(&key);
    }

    pub(super) fn delete(&mut self, place: &Place) {
        self.data.remove(place);
        self.replication.log.push(Effect::Gone(place.clone()));
        self.invalidate(&place.1);
    }

    /// A key leaves for another node of a cluster, with what is in it.
    pub fn give_away(&mut self, place: &Place, now: Time) -> Option<Entry> {
        self.advance(now);
        let entry = self.look(place)?;
        self.delete(place);
        Some(entry)
    }

    /// And comes to this one.
    pub fn take_over(&mut self, place: Place, entry: Entry, now: Time) {
        self.advance(now);
        self.put(place, entry);
    }

    pub(super) fn run_key_command(&mut self, id: ClientId, name: &str, words: &[Vec<u8>]) -> Option<Reply> {
        Some(match name {
            "pttl" => self.time_left(id, &words[1]),
            "exists" | "del" => {
                let mut count = 0;
                for key in &words[1..] {
                    let place = self.place(id, key);
                    if self.look(&place).is_some() {
                        count += 1;
                        if name == "del" {
                            self.delete(&place);
                        }
                    }
                }
                Reply::Int(count)
            }
            "pexpire" => self.expire(id, name, words, 1),
            "expire" => self.expire(id, name, words, 1000),
            "persist" => {
                let place = self.place(id, &words[1]);
                match self.look(&place) {
                    Some(entry) if entry.expires.is_some() => {
                        self.put(place, Entry { expires: None, ..entry });
                        Reply::Int(1)
                    }
                    _ => Reply::Int(0),
                }
            }
            "rpush" => self.push(id, words),
            "flushall" => match &words[1..] {
                [] => self.flush(),
                [how] if ["sync", "async"].contains(&&*lower(how)) => self.flush(),
                _ => Reply::error(SYNTAX),
            },
            "dbsize" => {
                let count = self.data.len_of(self.clients[&id].database);
                Reply::Int(i64::try_from(count).unwrap())
            }
            _ => return None,
        })
    }

    fn time_left(&mut self, id: ClientId, key: &[u8]) -> Reply {
        let place = self.place(id, key);
        Reply::Int(match self.look(&place) {
            None => -2,
            Some(Entry { expires: None, .. }) => -1,
            Some(Entry { expires: Some(end), .. }) => {
                i64::try_from(end.saturating_sub(self.now)).unwrap_or(i64::MAX)
            }
        })
    }

    /// `PEXPIRE key milliseconds [NX | XX | GT | LT]`; `unit`: in milliseconds.
    fn expire(&mut self, id: ClientId, name: &str, words: &[Vec<u8>], unit: i64) -> Reply {
        let options: Vec<String> = words[3..].iter().map(|word| lower(word)).collect();
        let has = |name: &str| options.iter().any(|option| option == name);
        if let Some(at) = options.iter().position(|option| !["nx", "xx", "gt", "lt"].contains(&&**option)) {
            let word = String::from_utf8_lossy(&words[3 + at]);
            return Reply::error(format!("ERR Unsupported option {word}"));
        }
        if has("nx") && (has("xx") || has("gt") || has("lt")) {
            return Reply::error("ERR NX and XX, GT or LT options at the same time are not compatible");
        }
        if has("gt") && has("lt") {
            return Reply::error("ERR GT and LT options at the same time are not compatible");
        }
        let Some(number) = integer(&words[2]) else { return Reply::error(NO_INTEGER) };
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        let Some(end) = number.checked_mul(unit).and_then(|duration| duration.checked_add(now)) else {
            return Reply::error(self.config.version.invalid_expire(name));
        };
        let place = self.place(id, &words[1]);
        let Some(entry) = self.look(&place) else { return Reply::Int(0) };
        let current = entry.expires.map(|end| i64::try_from(end).unwrap_or(i64::MAX));
        let is_against = (has("nx") && current.is_some())
            || (has("xx") && current.is_none())
            || (has("gt") && current.is_none_or(|current| end <= current))
            || (has("lt") && current.is_some_and(|current| end >= current));
        if is_against {
            return Reply::Int(0);
        }
        if end <= now {
            self.delete(&place);
        } else {
            self.put(place, Entry { expires: Time::try_from(end).ok(), ..entry });
        }
        Reply::Int(1)
    }

    fn push(&mut self, id: ClientId, words: &[Vec<u8>]) -> Reply {
        let place = self.place(id, &words[1]);
        let (mut list, expires) = match self.look(&place) {
            None => (Vec::new(), None),
            Some(Entry { value: Value::List(list), expires }) => (list, expires),
            Some(_) => return Reply::error(WRONG_TYPE),
        };
        list.extend_from_slice(&words[2..]);
        let length = i64::try_from(list.len()).unwrap();
        self.put(place, Entry { value: Value::List(list), expires });
        Reply::Int(length)
    }

    fn flush(&mut self) -> Reply {
        self.data.clear();
        self.replication.log.push(Effect::AllGone);
        self.invalidate_all();
        Reply::ok()
    }
}
