//! The commands that the simulation knows: how many words each takes, what it may do, where its keys are.

use super::resp::lower;
use super::version::Version;

#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "redis's own flags of a command")]
pub struct Spec {
    /// With its subcommand, as redis 7 writes it.
    pub name: &'static str,
    /// How many words, the name included; negative: at least so many.
    pub arity: i64,
    pub writes: bool,
    /// Only reads, which is what client-side caching looks at.
    pub reads: bool,
    /// Refused where there is no memory left.
    pub grows: bool,
    pub in_scripts: bool,
    pub while_loading: bool,
    pub before_login: bool,
    /// Where the keys begin, and whether all words from there on are some.
    pub keys: Keys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    None,
    First,
    All,
    /// The number of keys stands before them.
    Counted,
}

const PLAIN: Spec = Spec {
    name: "",
    arity: 0,
    writes: false,
    reads: false,
    grows: false,
    in_scripts: true,
    while_loading: false,
    before_login: false,
    keys: Keys::None,
};

const fn read(name: &'static str, arity: i64, keys: Keys) -> Spec {
    Spec { name, arity, reads: true, keys, ..PLAIN }
}

const fn write(name: &'static str, arity: i64, grows: bool, keys: Keys) -> Spec {
    Spec { name, arity, writes: true, grows, keys, ..PLAIN }
}

/// About the connection: not in scripts, but while the server loads.
const fn about(name: &'static str, arity: i64) -> Spec {
    Spec { name, arity, in_scripts: false, while_loading: true, ..PLAIN }
}

const fn script(name: &'static str, arity: i64, keys: Keys) -> Spec {
    Spec { name, arity, in_scripts: false, keys, ..PLAIN }
}

const COMMANDS: [Spec; 40] = [
    read("get", 2, Keys::First),
    read("pttl", 2, Keys::First),
    read("exists", -2, Keys::All),
    read("dbsize", 1, Keys::None),
    write("set", -3, true, Keys::First),
    write("setnx", 3, true, Keys::First),
    write("getex", -2, false, Keys::First),
    write("rpush", -3, true, Keys::First),
    write("del", -2, false, Keys::All),
    write("pexpire", -3, false, Keys::First),
    write("expire", -3, false, Keys::First),
    write("persist", 2, false, Keys::First),
    write("flushall", -1, false, Keys::None),
    script("eval", -3, Keys::Counted),
    script("evalsha", -3, Keys::Counted),
    script("script|load", 3, Keys::None),
    script("script|exists", -3, Keys::None),
    script("script|flush", -2, Keys::None),
    Spec { before_login: true, ..about("hello", -1) },
    Spec { before_login: true, ..about("auth", -2) },
    Spec { before_login: true, ..about("quit", -1) },
    about("client|id", 2),
    about("client|info", 2),
    about("client|kill", -3),
    about("client|tracking", -3),
    about("client|caching", 3),
    about("client|setname", 3),
    about("client|getname", 2),
    about("client|setinfo", 4),
    Spec { in_scripts: true, ..about("select", 2) },
    Spec { name: "ping", arity: -1, ..PLAIN },
    Spec { name: "wait", arity: 3, in_scripts: false, ..PLAIN },
    Spec { in_scripts: true, ..about("info", -1) },
    about("role", 1),
    about("asking", 1),
    about("readonly", 1),
    about("cluster|slots", 2),
    about("cluster|myid", 2),
    about("sentinel|get-master-addr-by-name", 3),
    about("sentinel|master", 3),
];

/// Why there is no such command.
pub enum NoCommand {
    Unknown,
    /// Of a command that has others, which is named.
    UnknownSubcommand(&'static str),
    /// Of the command that is named.
    WrongArity(&'static str),
}

/// What the first words are, as the server's `version` reads them; `is_sentinel` for one that is a sentinel.
pub fn find(
    version: Version,
    is_sentinel: bool,
    words: &[Vec<u8>],
) -> Result<Spec, (NoCommand, Option<Spec>)> {
    let name = lower(&words[0]);
    for container in ["client", "script", "cluster", "sentinel"] {
        if name != container || (container == "sentinel" && !is_sentinel) {
            continue;
        }
        let Some(subcommand) = words.get(1) else {
            return Err((NoCommand::WrongArity(container), None));
        };
        let whole = format!("{container}|{}", lower(subcommand));
        let Some(spec) = COMMANDS.iter().find(|spec| spec.name == whole && knows(version, spec)).copied()
        else {
            return Err((NoCommand::UnknownSubcommand(container), None));
        };
        if fits(spec.arity, words.len()) || (version.is_old() && spec.name == "script|exists") {
            return Ok(spec);
        }
        return Err(if version.is_old() {
            (NoCommand::UnknownSubcommand(container), Some(spec))
        } else {
            (NoCommand::WrongArity(spec.name), Some(spec))
        });
    }
    let Some(spec) = COMMANDS.iter().find(|spec| spec.name == name).copied() else {
        return Err((NoCommand::Unknown, None));
    };
    // Redis 6 has no conditions for them.
    let arity = match spec.name {
        "pexpire" | "expire" if version.is_old() => 3,
        _ => spec.arity,
    };
    if fits(arity, words.len()) { Ok(spec) } else { Err((NoCommand::WrongArity(spec.name), Some(spec))) }
}

fn knows(version: Version, spec: &Spec) -> bool {
    spec.name != "client|setinfo" || version.has_client_set_info()
}

fn fits(arity: i64, words: usize) -> bool {
    let words = i64::try_from(words).unwrap_or(i64::MAX);
    if arity < 0 { words >= -arity } else { words == arity }
}

/// The keys among a command's words.
pub fn keys_of<'a>(spec: &Spec, words: &'a [Vec<u8>]) -> &'a [Vec<u8>] {
    match spec.keys {
        Keys::None => &[],
        Keys::First => &words[1..2],
        Keys::All => &words[1..],
        Keys::Counted => {
            let count = super::resp::integer(&words[2]).and_then(|count| usize::try_from(count).ok());
            words.get(3..3 + count.unwrap_or_default().min(words.len())).unwrap_or_default()
        }
    }
}
