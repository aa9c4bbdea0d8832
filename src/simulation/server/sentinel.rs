//! A sentinel: it knows where the masters are that it is told of.

use std::collections::BTreeMap;

use super::Server;
use super::resp::Reply;

/// A master as a sentinel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub host: String,
    pub port: u16,
    /// Which failover made it the master.
    pub epoch: u64,
}

/// By name.
#[derive(Clone, Debug, Default)]
pub struct Sentinel {
    pub masters: BTreeMap<String, Watched>,
}

impl Server {
    pub(super) fn run_sentinel_command(&self, name: &str, words: &[Vec<u8>]) -> Reply {
        let wanted = String::from_utf8_lossy(&words[2]).into_owned();
        let master = self.sentinel.as_ref().and_then(|sentinel| sentinel.masters.get(&wanted));
        let Some(master) = master else {
            return if name == "sentinel|master" {
                Reply::error("ERR No such master with that name")
            } else {
                Reply::NilArray
            };
        };
        let port = master.port.to_string();
        if name != "sentinel|master" {
            return Reply::Array(vec![Reply::bulk(&master.host), Reply::bulk(port)]);
        }
        let fields = [
            ("name", wanted),
            ("ip", master.host.clone()),
            ("port", port),
            ("flags", "master".into()),
            ("config-epoch", master.epoch.to_string()),
        ];
        Reply::Map(fields.into_iter().map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect())
    }
}
