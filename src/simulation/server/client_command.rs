//! CLIENT: who a connection is, what it is to be told of, and ending another one.

use super::Server;
use super::client::{Client, ClientId};
use super::keys::{NO_INTEGER, SYNTAX};
use super::resp::{Reply, integer, lower};
use super::session::{BAD_NAME, is_name};
use super::version::Version;

const NO_SUCH_CLIENT: &str = "ERR No such client";
const NO_ID: &str = "ERR client-id should be greater than 0";

impl Server {
    pub(super) fn run_client_command(&mut self, id: ClientId, name: &str, words: &[Vec<u8>]) -> Reply {
        match name {
            "client|id" => Reply::Int(i64::try_from(id).unwrap()),
            "client|info" => Reply::Verbatim(self.describe(id) + "\n"),
            "client|getname" if self.clients[&id].name.is_empty() => Reply::Nil,
            "client|getname" => Reply::bulk(&self.clients[&id].name),
            "client|setname" if !is_name(&words[2]) => Reply::error(BAD_NAME),
            "client|setname" => {
                self.client(id).name = String::from_utf8_lossy(&words[2]).into_owned();
                Reply::ok()
            }
            "client|setinfo" => self.set_info(id, &words[2], &words[3]),
            "client|tracking" => self.set_tracking(id, words).map_or_else(Reply::error, |()| Reply::ok()),
            "client|caching" => self.set_caching(id, &words[2]).map_or_else(Reply::error, |()| Reply::ok()),
            _ => self.kill(id, &words[2..]).unwrap_or_else(Reply::error),
        }
    }

    fn describe(&self, id: ClientId) -> String {
        let Client { address, since, name, library, resp3, database, tracks, .. } = &self.clients[&id];
        let version = self.config.version;
        let command = if version.is_old() { "client" } else { "client|info" };
        let mut text = format!(
            "id={id} addr={address} laddr={} fd=8 name={name} age={} idle=0 flags={} db={database} sub=0 psub=0 multi=-1 \
             events=r cmd={command} user=default redir={}",
            self.config.address,
            (self.now - since) / 1000,
            if *tracks { 't' } else { 'N' },
            if *tracks { 0 } else { -1 },
        );
        if !version.is_old() {
            text.push_str(if *resp3 { " resp=3" } else { " resp=2" });
        }
        if version.has_client_set_info() {
            text = format!("{text} lib-name={} lib-ver={}", library[0], library[1]);
        }
        text
    }

    fn set_info(&mut self, id: ClientId, option: &[u8], value: &[u8]) -> Reply {
        let shown = String::from_utf8_lossy(option).into_owned();
        let at = match &*lower(option) {
            "lib-name" => 0,
            "lib-ver" => 1,
            _ => return Reply::error(format!("ERR Unrecognized option '{shown}'")),
        };
        if !is_name(value) {
            let text = format!("ERR {shown} cannot contain spaces, newlines or special characters.");
            return Reply::error(text);
        }
        self.client(id).library[at] = String::from_utf8_lossy(value).into_owned();
        Reply::ok()
    }

    /// `CLIENT TRACKING ON | OFF [OPTIN]`.
    fn set_tracking(&mut self, id: ClientId, words: &[Vec<u8>]) -> Result<(), &'static str> {
        let mut opts_in = false;
        for option in &words[3..] {
            if lower(option) != "optin" {
                return Err(SYNTAX);
            }
            opts_in = true;
        }
        let client = self.client(id);
        match &*lower(&words[2]) {
            "on" => (client.tracks, client.opts_in) = (true, opts_in),
            "off" => (client.tracks, client.opts_in, client.caching) = (false, false, false),
            _ => return Err(SYNTAX),
        }
        Ok(())
    }

    fn set_caching(&mut self, id: ClientId, word: &[u8]) -> Result<(), &'static str> {
        let client = self.client(id);
        if !client.tracks {
            return Err(
                "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
            );
        }
        match &*lower(word) {
            "yes" if client.opts_in => client.caching = true,
            "yes" => {
                return Err("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
            }
            "no" => {
                return Err("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
            }
            _ => return Err(SYNTAX),
        }
        Ok(())
    }

    /// `CLIENT KILL address`, or `CLIENT KILL [ID number] [ADDR address]`, which spares who asks.
    fn kill(&mut self, id: ClientId, words: &[Vec<u8>]) -> Result<Reply, &'static str> {
        let (mut number, mut address) = (None, None);
        if let [only] = words {
            let only = String::from_utf8_lossy(only);
            let found = self.clients.iter().find(|(_, client)| !client.closes && *client.address == *only);
            let found = found.map(|(&found, _)| found).ok_or(NO_SUCH_CLIENT)?;
            if found == id {
                // After its reply.
                self.client(id).closes = true;
            } else {
                end(self.client(found));
            }
            return Ok(Reply::ok());
        }
        for pair in words.chunks(2) {
            let [option, value] = pair else { return Err(SYNTAX) };
            match &*lower(option) {
                "id" => number = Some(self.number_of(value)?),
                "addr" => address = Some(String::from_utf8_lossy(value).into_owned()),
                _ => return Err(SYNTAX),
            }
        }
        // Redis 6 takes 0 for none that is named.
        let number = number.filter(|&number| number != 0);
        let fits = |of: ClientId, client: &Client| {
            of != id
                && !client.closes
                && number.is_none_or(|number| u64::try_from(number) == Ok(of))
                && address.as_ref().is_none_or(|address| *address == client.address)
        };
        let mut count = 0;
        for (&of, client) in &mut self.clients {
            if fits(of, client) {
                end(client);
                count += 1;
            }
        }
        Ok(Reply::Int(count))
    }

    fn number_of(&self, word: &[u8]) -> Result<i64, &'static str> {
        match (integer(word), self.config.version) {
            (Some(number), Version::Redis62) => Ok(number),
            (Some(number), _) if number > 0 => Ok(number),
            (Some(_), _) | (None, Version::Redis70 | Version::Redis8) => Err(NO_ID),
            (None, Version::Redis62) => Err(NO_INTEGER),
            (None, Version::Valkey9) => Err(SYNTAX),
        }
    }
}

/// At once: what it has sent and is not run yet never will be, nor is what it was told and is not on its way.
fn end(client: &mut Client) {
    client.closes = true;
    client.waiting = None;
    client.input.clear();
    client.output.truncate(client.sent);
}
