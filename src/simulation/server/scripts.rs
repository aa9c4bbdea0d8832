//! EVAL, EVALSHA, SCRIPT: which scripts the server knows, and the commands that they call.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Server;
use super::client::ClientId;
use super::keys::NO_INTEGER;
use super::lua::{Engine, Run};
use super::resp::{Reply, integer, lower};
use super::table::{NoCommand, find, keys_of};
use super::version::Version;

/// The scripts of one process; gone with it.
#[derive(Default)]
pub struct Scripts {
    known: BTreeSet<String>,
    /// Made with the first script.
    engine: Option<Rc<Engine>>,
}

impl Server {
    pub(super) fn run_script_command(&mut self, id: ClientId, name: &str, words: &[Vec<u8>]) -> Reply {
        match name {
            "script|load" => match self.learn(&words[2]) {
                Ok(hash) => Reply::bulk(hash),
                Err(text) => Reply::Error(text),
            },
            "script|exists" => {
                let is_known = |hash: &Vec<u8>| self.scripts.known.contains(&lower(hash));
                Reply::Array(words[2..].iter().map(|hash| Reply::Int(is_known(hash).into())).collect())
            }
            "script|flush" => {
                self.scripts.known.clear();
                Reply::ok()
            }
            _ => self.run_script(id, name, words).unwrap_or_else(Reply::Error),
        }
    }

    fn engine(&mut self) -> Rc<Engine> {
        let version = self.config.version;
        Rc::clone(self.scripts.engine.get_or_insert_with(|| Rc::new(Engine::new(version))))
    }

    fn learn(&mut self, source: &[u8]) -> Result<String, String> {
        let source = String::from_utf8_lossy(source);
        let hash = redis::Script::new(&source).get_hash().to_owned();
        self.engine().compile(&hash, &source)?;
        self.scripts.known.insert(hash.clone());
        Ok(hash)
    }

    fn run_script(&mut self, id: ClientId, name: &str, words: &[Vec<u8>]) -> Result<Reply, String> {
        let count = integer(&words[2]).ok_or(NO_INTEGER)?;
        let given = &words[3..];
        if count > i64::try_from(given.len()).unwrap() {
            return Err("ERR Number of keys can't be greater than number of args".into());
        }
        let Ok(count) = usize::try_from(count) else {
            return Err("ERR Number of keys can't be negative".into());
        };
        let hash = if name == "eval" {
            self.learn(&words[1])?
        } else {
            let hash = lower(&words[1]);
            if !self.scripts.known.contains(&hash) {
                return Err(self.config.version.no_script().into());
            }
            hash
        };
        let (keys, arguments) = given.split_at(count);
        let run = Run { client: id, hash: &hash, keys, arguments };
        Ok(self.engine().run(self, &run))
    }

    /// A command that a script calls. `written`: whether the script has changed something so far.
    /// An error of the server about the call, and not of the command, is one of its words.
    pub(super) fn call_from_script(
        &mut self,
        run: &Run<'_>,
        words: &[Vec<u8>],
        written: &mut bool,
    ) -> Result<Reply, String> {
        let version = self.config.version;
        let spec = match find(version, false, words) {
            Ok(spec) => spec,
            Err((NoCommand::WrongArity(_), _)) => return Err(wrong_arity(version).into()),
            Err(_) => return Err(unknown(version).into()),
        };
        // From redis 7.2 on a WAIT in a script does not wait.
        if !spec.in_scripts && (spec.name != "wait" || version < Version::Redis8) {
            return Err(not_allowed(version).into());
        }
        if let Some(text) = self.refused(&spec, true, *written) {
            return Err(if version.is_old() { format!("-{text}") } else { text });
        }
        let client = &self.clients[&run.client];
        if self.redirection(keys_of(&spec, words), client.database, client.asking).is_some() {
            return Err("ERR Script attempted to access a non local key in a cluster node".into());
        }
        *written |= spec.writes;
        Ok(self.call(run.client, &spec, words, Some(run.hash)).unwrap_or(Reply::Nil))
    }
}

fn unknown(version: Version) -> &'static str {
    match version {
        Version::Redis62 => "Unknown Redis command called from Lua script",
        Version::Redis70 | Version::Redis8 => "ERR Unknown Redis command called from script",
        Version::Valkey9 => "ERR Unknown command called from script",
    }
}

fn wrong_arity(version: Version) -> &'static str {
    match version {
        Version::Redis62 => "Wrong number of args calling Redis command From Lua script",
        Version::Redis70 | Version::Redis8 => "ERR Wrong number of args calling Redis command from script",
        Version::Valkey9 => "ERR Wrong number of args calling command from script",
    }
}

fn not_allowed(version: Version) -> &'static str {
    match version {
        Version::Redis62 => "This Redis command is not allowed from scripts",
        Version::Redis70 | Version::Redis8 => "ERR This Redis command is not allowed from script",
        Version::Valkey9 => "ERR This Valkey command is not allowed from script",
    }
}
