//! Names and addresses: where a name leads, and who is at an address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::server::data::Time;
use super::story::Story;
use super::world::{World, now};
use crate::connection::resolve;
use crate::model::endpoint::Host;

/// The name of the master, where no sentinels are asked.
pub const NAME: &str = "redis";

/// One more address of a name, beside that of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Address {
    /// Attempts to connect are refused.
    Refuses,
    /// Nobody answers.
    Silent,
    /// The server is there as well.
    Another,
}

/// Who answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Server(usize),
    Refuses,
    Nobody,
}

/// How long an address is waited for, before the next one is tried as well.
const EACH: Time = 250;

/// The third part of the addresses of servers, of their other ones, and of those that refuse and that are silent.
const OWN: u8 = 0;
const ANOTHER: u8 = 7;
const REFUSES: u8 = 8;
const SILENT: u8 = 9;

fn address(kind: u8, number: usize) -> SocketAddr {
    let last = u8::try_from(number + 1).unwrap();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, kind, last)), 6379)
}

/// A server's own address.
pub fn address_of(node: usize) -> SocketAddr {
    address(OWN, node)
}

pub fn name_of_sentinel(number: usize) -> String {
    format!("sentinel-{number}")
}

impl Story {
    /// How much longer it may take to connect where others of its addresses are tried first.
    pub fn more_to_connect(&self) -> Time {
        EACH * self.addresses.len() as Time
    }
}

impl World {
    /// The addresses of a name. For a while after a failover some caches still have the old one.
    pub fn look_up(&mut self, host: &Host) -> resolve::Answer {
        let sentinel = host.name.strip_prefix("sentinel-").and_then(|number| number.parse::<usize>().ok());
        if self.nameless_until > now() || (host.name != NAME && sentinel.is_none()) {
            let detail = format!("getaddrinfo ENOTFOUND {}", host.name);
            return Err(resolve::Unresolved { detail, reason: "ENOTFOUND" });
        }
        let node = match sentinel {
            Some(number) => self.story.nodes + number,
            None if self.name_settles > now() && self.random.bool() => self.former_master,
            None => self.master,
        };
        let mut addresses = vec![self.nodes[node].address];
        for (number, one) in self.story.addresses.iter().enumerate() {
            addresses.push(match one {
                Address::Refuses => address(REFUSES, number),
                Address::Silent => address(SILENT, number),
                Address::Another => address(ANOTHER, node),
            });
        }
        if addresses.len() > 1 {
            self.random.shuffle(&mut addresses);
        }
        Ok(addresses)
    }

    pub fn who_is_at(&self, wanted: SocketAddr) -> Who {
        if let Some(node) = self.nodes.iter().position(|node| node.address == wanted) {
            return if self.nodes[node].blind_until > now() { Who::Nobody } else { Who::Server(node) };
        }
        match wanted.ip() {
            IpAddr::V4(ip) if ip.octets()[2] == ANOTHER => Who::Server(usize::from(ip.octets()[3]) - 1),
            IpAddr::V4(ip) if ip.octets()[2] == REFUSES => Who::Refuses,
            _ => Who::Nobody,
        }
    }
}
