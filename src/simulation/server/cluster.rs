//! One node of a cluster: which slots are whose, as whoever runs the simulation says, and where others are sent.

use super::Server;
use super::resp::Reply;

pub const SLOTS: u16 = 16_384;

/// Where a node is, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: String,
    pub host: String,
    pub port: u16,
}

/// A range of slots, its master, and the replicas of that.
#[derive(Clone, Debug)]
pub struct Range {
    pub first: u16,
    pub last: u16,
    pub master: Node,
    pub replicas: Vec<Node>,
}

/// What one node believes of its cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub myself: Node,
    pub ranges: Vec<Range>,
    /// False where a slot is nobody's, or most masters are out of reach.
    pub is_up: bool,
    /// Slots that are being moved from here, and where to.
    pub migrating: Vec<(u16, Node)>,
    /// Slots that are being moved here.
    pub importing: Vec<u16>,
}

impl Server {
    /// Where a command about these keys has to go instead, or why nowhere.
    pub(super) fn redirection(&self, keys: &[Vec<u8>], database: u32, asking: bool) -> Option<String> {
        let (cluster, first) = (self.cluster.as_ref()?, keys.first()?);
        let slot = slot_of(first);
        if keys.iter().any(|key| slot_of(key) != slot) {
            return Some("CROSSSLOT Keys in request don't hash to the same slot".into());
        }
        let owner = cluster.ranges.iter().find(|range| (range.first..=range.last).contains(&slot));
        let Some(Range { master, .. }) = owner else {
            return Some("CLUSTERDOWN Hash slot not served".into());
        };
        if !cluster.is_up {
            return Some("CLUSTERDOWN The cluster is down".into());
        }
        let is_there = |key: &Vec<u8>| self.data.get(&(database, key.clone())).is_some();
        if *master == cluster.myself {
            let target = cluster.migrating.iter().find(|(of, _)| *of == slot).map(|(_, to)| to);
            let missing = keys.iter().filter(|key| !is_there(key)).count();
            return match target {
                Some(_) if missing > 0 && missing < keys.len() => Some(TRY_AGAIN.into()),
                Some(to) if missing > 0 => Some(format!("ASK {slot} {}:{}", to.host, to.port)),
                _ => None,
            };
        }
        if asking && cluster.importing.contains(&slot) {
            let is_whole = keys.len() == 1 || keys.iter().all(is_there);
            return (!is_whole).then(|| TRY_AGAIN.into());
        }
        Some(format!("MOVED {slot} {}:{}", master.host, master.port))
    }

    pub(super) fn run_cluster_command(&self, name: &str) -> Reply {
        let Some(cluster) = &self.cluster else {
            return Reply::error("ERR This instance has cluster support disabled");
        };
        if name == "cluster|myid" {
            return Reply::bulk(&cluster.myself.id);
        }
        let is_old = self.config.version.is_old();
        let node = |node: &Node| {
            let mut words =
                vec![Reply::bulk(&node.host), Reply::Int(node.port.into()), Reply::bulk(&node.id)];
            if !is_old {
                words.push(Reply::Array(Vec::new()));
            }
            Reply::Array(words)
        };
        let ranges = cluster.ranges.iter().map(|range| {
            let nodes = std::iter::once(&range.master).chain(&range.replicas).map(node);
            let ends = [Reply::Int(range.first.into()), Reply::Int(range.last.into())];
            Reply::Array(ends.into_iter().chain(nodes).collect())
        });
        Reply::Array(ranges.collect())
    }
}

const TRY_AGAIN: &str = "TRYAGAIN Multiple keys request during rehashing of slot";

/// The slot of a key: of what stands in its first braces, if anything does.
pub fn slot_of(key: &[u8]) -> u16 {
    let inside = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|&byte| byte == b'}').filter(|&length| length > 0).map(|length| &rest[..length])
    });
    let crc = inside.unwrap_or(key).iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}
