//! Random lists of commands: those that the package sends, what others write beside it, and what is wrong.

use crate::model::claim::Claim;
use crate::protocol::command::{EXTEND, HAND_OVER, RELEASE, Script, ScriptCall};
use crate::tests::support::reservation;

pub const CLIENTS: usize = 3;

/// What is done to both servers.
#[derive(Clone)]
pub enum Step {
    /// A client sends some commands at once.
    Send(usize, Vec<Vec<Vec<u8>>>),
    /// A client goes, and another comes in its place.
    Reconnect(usize),
    Set(State, bool),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Send(client, commands) => {
                write!(out, "client {client}:")?;
                for command in commands {
                    // Of a script the beginning.
                    let shown =
                        |word: &Vec<u8>| String::from_utf8_lossy(&word[..word.len().min(60)]).into_owned();
                    let words = command.iter().map(shown).collect::<Vec<_>>();
                    write!(out, " [{}]", words.join(" "))?;
                }
                Ok(())
            }
            Self::Reconnect(client) => write!(out, "client {client} again"),
            Self::Set(state, on) => write!(out, "{state:?} {on}"),
        }
    }
}

/// What redis may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No memory is left.
    Full,
    /// Too few replicas.
    Lonely,
    Replica,
    /// New clients need a password.
    Closed,
}

/// Scripts that show how values and errors come out of one.
const SCRIPTS: [&str; 25] = [
    "return {1, 1.7, true, 'x', {redis.status_reply('fine')}, nil, 2}",
    "return redis.error_reply('CODE words')",
    "return redis.error_reply('word')",
    "return {err='word'}",
    "return false",
    "return -1.5",
    "return tostring(1e15)",
    "return redis.call('get', KEYS[1])",
    "return redis.pcall('get', KEYS[1])",
    "local a = 1\nreturn redis.call('rpush', KEYS[1], 'x')",
    "return redis.call('set', KEYS[1], ARGV[1], 'PX', 70000)",
    "return redis.pcall('set', KEYS[1], ARGV[1], 'PX', 0)",
    "return redis.call('nothing')",
    "return redis.pcall('nothing').err",
    "\nreturn redis.call('get')",
    "return redis.pcall('get')",
    "return redis.call('client', 'id')",
    "return redis.call()",
    "return redis.call('get', true)",
    "return nil + 1",
    "return unknown",
    "unknown = 1",
    "error('x')",
    "return {#KEYS, #ARGV, redis.replicate_commands()}",
    "return 1 +",
];

pub fn list(seed: u64) -> Vec<Step> {
    let mut list = Generator { random: fastrand::Rng::with_seed(seed), ttls: (0..4_000).collect() };
    list.random.shuffle(&mut list.ttls);
    let mut steps = Vec::new();
    let mut state = None;
    for client in 0..CLIENTS {
        steps.push(Step::Send(client, list.greeting()));
    }
    for _ in 0..40 {
        if list.one_in(15) {
            if let Some(state) = state.take() {
                steps.push(Step::Set(state, false));
            } else {
                let next = list.of(&[State::Full, State::Lonely, State::Replica, State::Closed]);
                state = Some(next);
                steps.push(Step::Set(next, true));
            }
        }
        let client = list.random.usize(..CLIENTS);
        if list.one_in(20) {
            steps.push(Step::Reconnect(client));
            steps.push(Step::Send(client, list.greeting()));
        }
        let commands = (0..list.random.usize(1..6)).flat_map(|_| list.commands()).collect();
        steps.push(Step::Send(client, commands));
    }
    steps
}

struct Generator {
    random: fastrand::Rng,
    /// None twice, so that it is clear which of two ends is the later.
    ttls: Vec<u64>,
}

pub fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

impl Generator {
    fn one_in(&mut self, count: usize) -> bool {
        self.random.usize(..count) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.usize(..choices.len())]
    }

    fn key(&mut self) -> String {
        format!("key{}", self.random.usize(..4))
    }

    fn value(&mut self) -> String {
        format!("value{}", self.random.usize(..3))
    }

    fn ttl(&mut self) -> String {
        if self.one_in(25) {
            let odd = ["0", "-1", "x", "", "01", "+5", "9223372036854775807", "9223372036854775808", "1.5"];
            return self.of(&odd).to_owned();
        }
        (60_000 + 10_000 * self.ttls.pop().unwrap()).to_string()
    }

    /// What a client begins with: RESP3, RESP2, or nothing at all.
    fn greeting(&mut self) -> Vec<Vec<Vec<u8>>> {
        let texts: &[&str] = match self.random.usize(..8) {
            0 => &[],
            1 => &["CLIENT TRACKING ON OPTIN", "CLIENT INFO"],
            2 => &["HELLO 3 AUTH default secret SETNAME one", "CLIENT TRACKING ON"],
            3 => &["AUTH secret", "HELLO 3", "CLIENT SETINFO LIB-NAME redis-reservation"],
            _ => &["HELLO 3 AUTH default secret", "CLIENT INFO", "CLIENT TRACKING ON OPTIN"],
        };
        texts.iter().map(|text| words(text)).collect()
    }

    /// One command, or a few that belong together.
    fn commands(&mut self) -> Vec<Vec<Vec<u8>>> {
        let (key, value) = (self.key(), self.value());
        let text = match self.random.usize(..34) {
            0..=4 => return self.look(),
            5 | 6 => return vec![self.script(&EXTEND, true, false)],
            7 | 8 => return vec![self.script(&RELEASE, false, false)],
            9 => return vec![self.script(&HAND_OVER, true, true)],
            10 | 11 => return vec![self.other_script()],
            12..=14 => format!("SET {key} {value} NX PX {}", self.ttl()),
            15 => return vec![self.set()],
            16 => format!("DEL {key} {}", self.key()),
            17 => format!("GET {key}"),
            18 => format!("PTTL {key}"),
            19 => format!("EXISTS {key} {}", self.key()),
            20 => format!("PEXPIRE {key} {} {}", self.ttl(), self.of(&["GT", "gt", "LT", "NX", "XX", "ODD"])),
            21 => format!("PEXPIRE {key} {}", self.ttl()),
            22 => format!("GETEX {key} PX {}", self.ttl()),
            23 => self.of(&["GETEX K", "GETEX K PERSIST", "GETEX K ODD", "PERSIST K"]).replace('K', &key),
            24 => format!("{} {key} {value}", self.of(&["RPUSH", "SETNX", "setnx"])),
            25 => self.of(&["FLUSHALL", "FLUSHALL ASYNC", "FLUSHALL SYNC", "FLUSHALL ODD", "DBSIZE"]).into(),
            26 | 27 => return vec![self.about_clients()],
            28 => self.of(&["WAIT 0 0", "WAIT x 0", "WAIT 0 x", "WAIT 0 -1", "WAIT -1 5", "ROLE"]).into(),
            29 => self
                .of(&["SELECT 1", "SELECT 0", "SELECT 0", "SELECT 16", "SELECT x", "PING", "PING x"])
                .into(),
            30 | 31 => return vec![self.wrong()],
            32 => format!("EXPIRE {key} {}", self.of(&["100000", "0", "9223372036854775807", "x"])),
            _ => self
                .of(&["HELLO 3", "HELLO 3", "HELLO", "HELLO 2", "HELLO 4", "HELLO x", "HELLO 3 ODD"])
                .into(),
        };
        vec![words(&text)]
    }

    /// What a waiter sends.
    fn look(&mut self) -> Vec<Vec<Vec<u8>>> {
        let (key, value, ttl) = (self.key(), self.value(), self.ttl());
        let set = format!("SET {key} {value} NX PX {ttl}");
        let all = ["CLIENT CACHING YES", &format!("GET {key}"), &format!("PTTL {key}"), &set];
        all[..self.random.usize(1..5)].iter().map(|text| words(text)).collect()
    }

    fn set(&mut self) -> Vec<Vec<u8>> {
        let mut text = format!("SET {} {}", self.key(), self.value());
        for _ in 0..self.random.usize(..4) {
            let option = self.of(&["NX", "XX", "GET", "KEEPTTL", "PX", "EX", "ODD"]);
            text = format!("{text} {option}");
            if option == "PX" || option == "EX" {
                text = format!("{text} {}", self.ttl());
            }
        }
        words(&text)
    }

    /// A script of the package, as the package sends it.
    fn script(&mut self, script: &Script, with_ttl: bool, with_next: bool) -> Vec<Vec<u8>> {
        // Only the shape is taken of these: the words are put in below.
        let claim: &Claim = &reservation("k").claim;
        let call = ScriptCall { claim, ttl: None, next: None };
        let command = match self.random.usize(..5) {
            0 => return words_in(&script.load()),
            1 => script.by_source(&call),
            _ => script.by_hash(&call),
        };
        let mut words = words_in(&command);
        words[3] = self.key().into_bytes();
        words[4] = self.value().into_bytes();
        if with_ttl {
            words.push(self.ttl().into_bytes());
        }
        if with_next {
            words.push(self.value().into_bytes());
        }
        words
    }

    fn other_script(&mut self) -> Vec<Vec<u8>> {
        let source = self.of(&SCRIPTS);
        let count = self.of(&["1", "1", "1", "1", "1", "1", "0", "2", "3", "-1", "x"]);
        let mut command = words(&format!("EVAL source {count} {} {}", self.key(), self.value()));
        if self.one_in(4) {
            command[0] = b"EVALSHA".to_vec();
            command[1] = redis::Script::new(source).get_hash().as_bytes().to_vec();
        } else {
            command[1] = source.as_bytes().to_vec();
        }
        command
    }

    fn about_clients(&mut self) -> Vec<Vec<u8>> {
        words(self.of(&[
            "CLIENT ID",
            "CLIENT INFO",
            "CLIENT GETNAME",
            "CLIENT SETNAME two",
            "CLIENT SETNAME ",
            "CLIENT SETINFO lib-ver 1.0.0",
            "CLIENT SETINFO ODD x",
            "CLIENT TRACKING ON OPTIN",
            "CLIENT TRACKING ON",
            "CLIENT TRACKING OFF",
            "CLIENT TRACKING ODD",
            "CLIENT TRACKING ON ODD",
            "CLIENT CACHING YES",
            "CLIENT CACHING NO",
            "CLIENT CACHING ODD",
            "CLIENT KILL ID @id0",
            "CLIENT KILL ID @id1 ADDR @address1",
            "CLIENT KILL ID @id2 ADDR @address1",
            "CLIENT KILL ID 999999999 ADDR @address1",
            "CLIENT KILL @address2",
            "CLIENT KILL ID x",
            "CLIENT KILL ID -1",
            "CLIENT KILL ID",
            "CLIENT KILL ODD 1",
        ]))
    }

    fn wrong(&mut self) -> Vec<Vec<u8>> {
        words(self.of(&[
            "NOTHING",
            "nothing at all",
            "GET",
            "GET key1 key2",
            "SET key1",
            "PTTL",
            "EXISTS",
            "DEL",
            "CLIENT",
            "CLIENT NOTHING",
            "client caching",
            "CLIENT ID x",
            "SCRIPT",
            "SCRIPT LOAD",
            "SCRIPT NOTHING",
            "SCRIPT EXISTS",
            "SCRIPT EXISTS 0000000000000000000000000000000000000000",
            "EVAL",
            "EVALSHA 0000000000000000000000000000000000000000 0",
            "AUTH",
            "AUTH wrong",
            "AUTH secret",
            "AUTH default wrong",
            "AUTH default secret",
            "AUTH nobody secret",
            "AUTH a b c",
            "HELLO 3 AUTH default wrong",
            "HELLO 3 AUTH default",
            "WAIT 0",
            "PING x y",
            "SELECT",
            "ROLE x",
            "ASKING",
            "CLUSTER MYID",
            "CLUSTER SLOTS",
        ]))
    }
}

fn words_in(command: &redis::Cmd) -> Vec<Vec<u8>> {
    let words = command.args_iter().map(|word| match word {
        redis::Arg::Simple(word) => word.to_vec(),
        _ => Vec::new(),
    });
    words.collect()
}
