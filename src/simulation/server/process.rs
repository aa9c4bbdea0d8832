//! From a request to its reply: what is no command, what is refused before it runs, and what is told behind it.

use super::Server;
use super::client::ClientId;
use super::resp::{Reply, Request, lower, parse};
use super::session::WRONG_PASS;
use super::table::{NoCommand, Spec, find, keys_of};
use super::version::Version;

const NO_AUTH: &str = "NOAUTH Authentication required.";

impl Server {
    /// Runs what has come of a client, until something is missing or it waits.
    pub(super) fn run(&mut self, id: ClientId) {
        while let Some(client) = self.clients.get_mut(&id) {
            if client.closes || client.waiting.is_some() {
                return;
            }
            match parse(&client.input) {
                Request::Partial => return,
                Request::Command(words, length) => {
                    client.input.drain(..length);
                    if !words.is_empty() {
                        self.execute(id, &words);
                    }
                }
                Request::Broken(error) => {
                    Reply::error(error).write(&mut client.output, client.resp3);
                    client.closes = true;
                }
            }
        }
    }

    /// Runs what stands behind waits that are over.
    pub(super) fn run_unblocked(&mut self) {
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            if !self.clients.get(&id).is_some_and(|client| client.input.is_empty()) {
                self.run(id);
            }
        }
    }

    fn execute(&mut self, id: ClientId, words: &[Vec<u8>]) {
        self.current = Some(id);
        let (version, is_sentinel) = (self.config.version, self.sentinel.is_some());
        let found = find(version, is_sentinel, words);
        let known = match &found {
            Ok(spec) | Err((_, Some(spec))) => Some(*spec),
            Err((_, None)) => None,
        };
        let reply = match found {
            Ok(spec) => match self.refusal(id, &spec, words) {
                Some(text) => Some(Reply::Error(text)),
                None => self.call(id, &spec, words, None),
            },
            Err((why, known)) if self.wants_login(id) && asks_for_login_first(version, &why, known) => {
                Some(Reply::error(NO_AUTH))
            }
            Err((why, _)) => Some(Reply::Error(no_command(version, &why, words))),
        };
        // Redis 8 empties its memory before it answers.
        let flushes = known.is_some_and(|spec| spec.name == "flushall");
        let tells_first =
            version == Version::Redis8 && flushes && words.get(1).is_none_or(|word| lower(word) != "async");
        if tells_first {
            self.tell_pending(id);
            self.send_all();
        }
        let offset = self.offset();
        if let Some(client) = self.clients.get_mut(&id) {
            // Redis 8.2 loses this one behind other replies that it has not written yet.
            let is_lost = version == Version::Redis8
                && client.output.len() > client.sent
                && reply.as_ref().is_some_and(|reply| *reply == Reply::error(WRONG_PASS));
            if let Some(reply) = reply.filter(|_| !is_lost) {
                reply.write(&mut client.output, client.resp3);
            }
            // CLIENT CACHING is for the next command that is not CLIENT.
            let is_client = match known {
                // To redis 8 this one is a command of its own.
                Some(spec) if spec.name == "client|setinfo" => version != Version::Redis8,
                Some(spec) => spec.name.starts_with("client|"),
                None => version.is_old() && lower(&words[0]) == "client",
            };
            client.caching &= is_client;
            client.asking &= known.is_some_and(|spec| spec.name == "asking");
            if client.waiting.is_none() {
                client.offset = offset;
            }
        }
        self.tell_pending(id);
        self.current = None;
    }

    /// Why a command that is one does not run.
    fn refusal(&self, id: ClientId, spec: &Spec, words: &[Vec<u8>]) -> Option<String> {
        let client = &self.clients[&id];
        if self.wants_login(id) && !spec.before_login {
            return Some(NO_AUTH.into());
        }
        let database = client.database;
        self.redirection(keys_of(spec, words), database, client.asking)
            .or_else(|| self.refused(spec, false, false))
    }

    /// Runs a command that nothing refuses; `None` if its reply comes later. `script` is the text of the one that calls it.
    pub(super) fn call(
        &mut self,
        id: ClientId,
        spec: &Spec,
        words: &[Vec<u8>],
        script: Option<&str>,
    ) -> Option<Reply> {
        let reply = match spec.name {
            "eval" | "evalsha" | "script|load" | "script|exists" | "script|flush" => {
                self.run_script_command(id, spec.name, words)
            }
            "wait" if script.is_some() => Reply::Int(0),
            "wait" => return self.wait(id, words),
            "role" => self.role_reply(),
            name if name.starts_with("client|") => self.run_client_command(id, name, words),
            name if name.starts_with("cluster|") => self.run_cluster_command(name),
            name if name.starts_with("sentinel|") => self.run_sentinel_command(name, words),
            name => self
                .run_string_command(id, name, words)
                .or_else(|| self.run_key_command(id, name, words))
                .unwrap_or_else(|| self.run_session_command(id, name, words)),
        };
        // Also where the reply is an error.
        if spec.reads {
            self.remember(id, keys_of(spec, words));
        }
        Some(reply)
    }
}

/// Valkey looks at the words of a command only once it may run; to redis 6 CLIENT and SCRIPT are commands, which look at
/// the rest themselves.
fn asks_for_login_first(version: Version, why: &NoCommand, known: Option<Spec>) -> bool {
    match (version, why) {
        (Version::Valkey9, _) => known.is_none_or(|spec| !spec.before_login),
        (Version::Redis62, NoCommand::UnknownSubcommand(_)) => true,
        _ => false,
    }
}

fn no_command(version: Version, why: &NoCommand, words: &[Vec<u8>]) -> String {
    match why {
        NoCommand::Unknown => version.unknown_command(words),
        NoCommand::UnknownSubcommand(command) => version.unknown_subcommand(command, &words[1]),
        NoCommand::WrongArity(name) => format!("ERR wrong number of arguments for '{name}' command"),
    }
}
