//! HELLO, AUTH, SELECT, PING, INFO: what a connection begins with, and what it asks of the server itself.

use super::Server;
use super::client::ClientId;
use super::keys::{NO_INTEGER, SYNTAX};
use super::replication::Role;
use super::resp::{Reply, integer, lower};
use super::version::Version;

pub const WRONG_PASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
pub const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
const DATABASES: u32 = 16;

impl Server {
    pub(super) fn run_session_command(&mut self, id: ClientId, name: &str, words: &[Vec<u8>]) -> Reply {
        match name {
            "hello" => self.hello(id, words).unwrap_or_else(Reply::Error),
            "auth" => self.auth(id, words),
            "select" => match integer(&words[1]).map(u32::try_from) {
                None => Reply::error(NO_INTEGER),
                Some(Ok(database)) if self.cluster.is_some() && database > 0 => {
                    Reply::error("ERR SELECT is not allowed in cluster mode")
                }
                Some(Ok(database)) if database < DATABASES => {
                    self.client(id).database = database;
                    Reply::ok()
                }
                Some(_) => Reply::error("ERR DB index is out of range"),
            },
            "ping" => match &words[1..] {
                [] => Reply::Simple("PONG".into()),
                [word] => Reply::bulk(word),
                _ => Reply::error("ERR wrong number of arguments for 'ping' command"),
            },
            "quit" => {
                self.client(id).closes = true;
                Reply::ok()
            }
            "asking" | "readonly" if self.cluster.is_none() => {
                Reply::error("ERR This instance has cluster support disabled")
            }
            "asking" => {
                self.client(id).asking = true;
                Reply::ok()
            }
            "info" => Reply::Verbatim(self.information()),
            _ => Reply::ok(),
        }
    }

    pub(super) fn client(&mut self, id: ClientId) -> &mut super::client::Client {
        self.clients.get_mut(&id).unwrap()
    }

    /// `HELLO [2 | 3 [AUTH user password] [SETNAME name]]`.
    fn hello(&mut self, id: ClientId, words: &[Vec<u8>]) -> Result<Reply, String> {
        let mut protocol = None;
        if let Some(word) = words.get(1) {
            let number = integer(word).ok_or("ERR Protocol version is not an integer or out of range")?;
            if !(2..=3).contains(&number) {
                return Err("NOPROTO unsupported protocol version".into());
            }
            protocol = Some(number == 3);
        }
        let mut name = None;
        let mut credentials = None;
        let mut rest = words.get(2..).unwrap_or_default();
        while let Some(option) = rest.first() {
            match (&*lower(option), rest) {
                ("auth", [_, user, password, ..]) => {
                    credentials = Some((user, password));
                    rest = &rest[3..];
                }
                ("setname", [_, word, ..]) => {
                    if !is_name(word) {
                        return Err(BAD_NAME.into());
                    }
                    name = Some(String::from_utf8_lossy(word).into_owned());
                    rest = &rest[2..];
                }
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return Err(format!("ERR Syntax error in HELLO option '{option}'"));
                }
            }
        }
        if let Some((user, password)) = credentials
            && !self.log_in(id, user, password)
        {
            return Err(WRONG_PASS.into());
        }
        // Who came while there was a password, and has not said it, is asked for it here also when there is none any more.
        if !self.clients[&id].is_authenticated {
            let protocol = if self.config.version >= Version::Redis8 { "<proto> " } else { "" };
            return Err(format!(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO {protocol}AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
                 time"
            ));
        }
        let client = self.client(id);
        if let Some(name) = name {
            client.name = name;
        }
        client.resp3 = protocol.unwrap_or(client.resp3);
        Ok(self.greeting(id))
    }

    fn greeting(&self, id: ClientId) -> Reply {
        let version = self.config.version;
        let mode = match (&self.cluster, &self.sentinel) {
            (Some(_), _) => "cluster",
            (_, Some(_)) => "sentinel",
            _ => "standalone",
        };
        let role = if self.role() == Role::Master { "master" } else { "replica" };
        // Parts of the server itself that are built as modules.
        let modules = match version {
            Version::Redis62 | Version::Redis70 => None,
            Version::Redis8 => Some(("vectorset", "")),
            Version::Valkey9 => Some(("lua", "lua")),
        };
        let modules = modules.into_iter().map(|(name, path)| {
            Reply::Map(vec![
                (Reply::bulk("name"), Reply::bulk(name)),
                (Reply::bulk("ver"), Reply::Int(1)),
                (Reply::bulk("path"), Reply::bulk(path)),
                (Reply::bulk("args"), Reply::Array(Vec::new())),
            ])
        });
        let protocol = if self.clients[&id].resp3 { 3 } else { 2 };
        Reply::Map(vec![
            (Reply::bulk("server"), Reply::bulk(version.server())),
            (Reply::bulk("version"), Reply::bulk(version.number())),
            (Reply::bulk("proto"), Reply::Int(protocol)),
            (Reply::bulk("id"), Reply::Int(i64::try_from(id).unwrap())),
            (Reply::bulk("mode"), Reply::bulk(mode)),
            (Reply::bulk("role"), Reply::bulk(role)),
            (Reply::bulk("modules"), Reply::Array(modules.collect())),
        ])
    }

    fn auth(&mut self, id: ClientId, words: &[Vec<u8>]) -> Reply {
        let is_in = match &words[1..] {
            [_] if self.config.password.is_none() => {
                let text = "ERR AUTH <password> called without any password configured for the default user. Are you sure \
                            your configuration is correct?";
                return Reply::error(text);
            }
            [password] => self.log_in(id, b"default", password),
            [user, password] => self.log_in(id, user, password),
            _ => return Reply::error(SYNTAX),
        };
        if is_in { Reply::ok() } else { Reply::error(WRONG_PASS) }
    }

    /// Nobody has to log in while there is no password.
    pub(super) fn wants_login(&self, id: ClientId) -> bool {
        self.config.password.is_some() && !self.clients[&id].is_authenticated
    }

    /// A user without a password is let in with any.
    fn log_in(&mut self, id: ClientId, user: &[u8], password: &[u8]) -> bool {
        let is_right = self.config.password.as_ref().is_none_or(|right| right.as_bytes() == password);
        let is_in = user == b"default" && is_right;
        if is_in {
            self.client(id).is_authenticated = true;
        }
        is_in
    }

    /// Some of INFO: who this is, for how long, and what it replicates.
    fn information(&self) -> String {
        let role = if self.role() == Role::Master { "master" } else { "slave" };
        format!(
            "# Server\r\nredis_version:{}\r\nrun_id:{}\r\nuptime_in_seconds:{}\r\n\r\n# Clients\r\nconnected_clients:{}\r\n\r\n\
             # Replication\r\nrole:{role}\r\nconnected_slaves:{}\r\nmaster_repl_offset:{}\r\n",
            self.config.version.number(),
            self.run_id,
            (self.now - self.started) / 1000,
            self.clients.len(),
            self.replication.acknowledged.len(),
            self.offset(),
        )
    }
}

/// Redis takes what is printable and has no spaces.
pub fn is_name(word: &[u8]) -> bool {
    word.iter().all(|byte| (b'!'..=b'~').contains(byte))
}
