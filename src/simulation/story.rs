//! A story: which processes and callers there are, what each does and when, and what goes wrong. A seed gives a story, a
//! part of its steps is a story too.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::names::Address;
use super::network::{Fate, Side};
use super::process::Link;
use super::server::data::Time;
use super::server::faults::Fault;
use super::server::version::Version;
use crate::model::endpoint::Endpoint;
use crate::model::lease::{Interval, Terms};
use crate::model::settings::{LogLevel, Settings};

/// What a program or the world does at a moment. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Lock {
        caller: usize,
        key: String,
    },
    Wait {
        caller: usize,
        key: String,
        timeout: Option<Time>,
    },
    Cancel {
        caller: usize,
        key: String,
    },
    /// `None` is all that it holds.
    Release {
        caller: usize,
        key: Option<String>,
    },
    Renew {
        caller: usize,
        ttl: Time,
    },
    /// Its event loop is blocked.
    Block {
        caller: usize,
        time: Time,
    },
    /// Its environment ends.
    Leave {
        caller: usize,
    },
    /// A process is stopped.
    Stop {
        process: usize,
        time: Time,
    },
    Kill {
        process: usize,
    },
    /// One direction of a process's connections lets nothing through for a while.
    Stall {
        process: usize,
        to: Side,
        time: Time,
    },
    /// Everything takes longer.
    Slow {
        process: usize,
        by: Time,
        time: Time,
    },
    /// Nobody answers attempts to connect.
    Unreachable {
        process: usize,
        time: Time,
    },
    Cut {
        process: usize,
        is_seen: bool,
        fate: Fate,
        heard: Option<Time>,
    },
    Hang {
        node: usize,
        time: Time,
    },
    Crash {
        node: usize,
        silent: bool,
        keeps_data: bool,
        time: Time,
    },
    /// The server refuses what it does in such a state.
    Trouble {
        node: usize,
        fault: Fault,
        time: Time,
    },
    /// The server has another password.
    LockOut {
        node: usize,
        time: Time,
    },
    /// It takes no more connections.
    Full {
        node: usize,
        time: Time,
    },
    FailOver {
        to: usize,
        learns: Time,
    },
    /// The master dies, and the replica that has most takes over at once. The old one comes back as a replica of that.
    Succeed {
        silent: bool,
        time: Time,
    },
    /// A replica is cut off from its master.
    Detach {
        node: usize,
        time: Time,
    },
    /// No name is known.
    Nameless {
        time: Time,
    },
    /// Nobody answers attempts to connect at the own address of a server, which has another one.
    Blind {
        node: usize,
        time: Time,
    },
    /// The slot of a key moves to another shard.
    Migrate {
        key: String,
        to: usize,
        time: Time,
    },
    /// An operator, or 0.4.0: these look at no value.
    Delete {
        key: String,
    },
    Expire {
        key: String,
        time: Time,
    },
    Take {
        key: String,
        time: Time,
    },
    FlushAll,
    FlushScripts,
    /// The server hangs up on everybody.
    KillClients,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ProcessPlan {
    pub link: Link,
    pub parts_per_million: i64,
}

/// A cluster: node n is of shard n modulo the number of masters.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ClusterPlan {
    pub masters: usize,
    /// How many of the nodes the callers name.
    pub seeds: usize,
    /// `cluster-require-full-coverage`: without one master all others serve nothing.
    pub full_coverage: bool,
    /// After how long a silent node is missed.
    pub node_timeout: Time,
    /// How long it takes at the most until all nodes know what is new.
    pub gossip: Time,
}

/// When a lock is renewed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Renewal {
    Third,
    Every(Time),
    Never,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct EnvironmentPlan {
    pub process: usize,
    pub ttl: Time,
    pub renewal: Renewal,
    pub max_hold: Option<Time>,
    /// `None` is the default, which depends on the ttl.
    pub command_timeout: Option<Time>,
    pub connect_timeout: Time,
    #[serde(default)]
    pub min_replicas: u32,
}

impl EnvironmentPlan {
    pub fn command_timeout(&self) -> Duration {
        let default = Settings::default_command_timeout(Duration::from_millis(self.ttl));
        self.command_timeout.map_or(default, Duration::from_millis)
    }
}

/// The settings of an environment, as its plan has them.
pub fn settings_of(number: usize, plan: &EnvironmentPlan, endpoint: Arc<Endpoint>) -> Settings {
    let ttl = Duration::from_millis(plan.ttl);
    let interval = match plan.renewal {
        Renewal::Third => Interval::Third,
        Renewal::Every(time) => Interval::Every(Duration::from_millis(time)),
        Renewal::Never => Interval::Never,
    };
    Settings {
        endpoint,
        key_prefix: "reservation-".into(),
        min_replicas: plan.min_replicas,
        owner: format!("caller-{number}"),
        terms: Terms { ttl, interval, max_hold: plan.max_hold.map(Duration::from_millis) },
        connect_timeout: Duration::from_millis(plan.connect_timeout),
        command_timeout: plan.command_timeout(),
        log_level: LogLevel::Info,
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Story {
    pub seed: u64,
    pub version: Version,
    pub speaks_resp2: bool,
    /// Commands that the user may not use.
    pub denied: Vec<String>,
    pub active_expiry: Option<Time>,
    /// Servers, the first is the master. Without sentinels a name leads to the master, and for a while after a failover
    /// to either.
    pub nodes: usize,
    pub sentinels: usize,
    /// How much later a write gets to the replicas.
    #[serde(default)]
    pub lag: Time,
    /// The other addresses of each name.
    #[serde(default)]
    pub addresses: Vec<Address>,
    #[serde(default)]
    pub cluster: Option<ClusterPlan>,
    pub processes: Vec<ProcessPlan>,
    pub environments: Vec<EnvironmentPlan>,
    pub resources: Vec<String>,
    /// In the order of their times.
    pub steps: Vec<(Time, Action)>,
    /// When everything is healed and released.
    pub end: Time,
}

impl Story {
    pub fn keys(&self) -> Vec<String> {
        self.resources.iter().map(|name| format!("reservation-{name}")).collect()
    }

    /// The longest ttl that any call asks for.
    pub fn longest_ttl(&self) -> Time {
        let renewed = self.steps.iter().filter_map(|(_, action)| match action {
            Action::Renew { ttl, .. } => Some(*ttl),
            _ => None,
        });
        renewed.chain(self.environments.iter().map(|one| one.ttl)).max().unwrap_or(0)
    }

    /// When every waiter must have been served after everything has healed: keys whose holders are gone end by their
    /// ttl, and what was stalled has come through.
    pub fn served_by(&self) -> Time {
        self.end + self.longest_ttl().max(LONGEST_EXPIRE) + 20_000
    }

    /// The same story with these steps alone.
    pub fn keeping(&self, kept: &[usize]) -> Self {
        let steps = kept.iter().filter_map(|index| self.steps.get(*index).cloned()).collect();
        Self { steps, ..self.clone() }
    }
}

/// The longest ttl that somebody else gives a key.
pub const LONGEST_EXPIRE: Time = 30_000;

impl fmt::Display for Story {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, version, nodes, sentinels, .. } = self;
        writeln!(formatter, "seed {seed}: {version:?}, {nodes} servers, {sentinels} sentinels")?;
        if self.speaks_resp2 {
            writeln!(formatter, "  RESP2")?;
        }
        if !self.denied.is_empty() {
            writeln!(formatter, "  the user may not use {:?}", self.denied)?;
        }
        if !self.addresses.is_empty() {
            writeln!(formatter, "  each name has other addresses: {:?}", self.addresses)?;
        }
        if let Some(plan) = &self.cluster {
            writeln!(formatter, "  {plan:?}")?;
        }
        if nodes > &1 {
            writeln!(formatter, "  replicas are {} ms late", self.lag)?;
        }
        for (number, process) in self.processes.iter().enumerate() {
            let Link { delay, jitter, .. } = process.link;
            let drift = process.parts_per_million;
            writeln!(
                formatter,
                "  process {number}: {delay} to {} ms away, clock {drift:+} ppm",
                delay + jitter
            )?;
        }
        for (number, one) in self.environments.iter().enumerate() {
            let EnvironmentPlan {
                process,
                ttl,
                renewal,
                max_hold,
                command_timeout,
                connect_timeout,
                min_replicas,
            } = one;
            writeln!(
                formatter,
                "  caller {number} in process {process}: ttl {ttl}, renewal {renewal:?}, max_hold {max_hold:?}, \
                 command_timeout {command_timeout:?}, connect_timeout {connect_timeout}, min_replicas {min_replicas}"
            )?;
        }
        for (time, action) in &self.steps {
            writeln!(formatter, "{:>9.3} {action:?}", Duration::from_millis(*time).as_secs_f64())?;
        }
        write!(
            formatter,
            "{:>9.3} everything is healed and released",
            Duration::from_millis(self.end).as_secs_f64()
        )
    }
}
