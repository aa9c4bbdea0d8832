//! What a server refuses for reasons of its own, as whoever runs the simulation wants it.

use std::collections::{BTreeMap, BTreeSet};

use super::Server;
use super::replication::Role;
use super::table::Spec;

/// States in which redis refuses some commands and not others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Fault {
    OutOfMemory,
    /// Snapshots cannot be written.
    Misconf,
    /// Fewer replicas than `min-replicas-to-write`.
    NoReplicas,
    /// A replica that has lost its master, and may not answer without.
    MasterDown,
    Loading,
    /// A script runs for too long.
    Busy,
}

#[derive(Clone, Debug, Default)]
pub struct Faults {
    states: BTreeSet<Fault>,
    /// The whole error, by the command's name as redis 7 writes it (`client|kill`).
    refusals: BTreeMap<String, String>,
}

impl Faults {
    pub fn begin(&mut self, fault: Fault) {
        self.states.insert(fault);
    }

    pub fn end(&mut self, fault: Fault) {
        self.states.remove(&fault);
    }

    /// Answers a command with an error, also in scripts, until [`Faults::accept`].
    pub fn refuse_with(&mut self, command: &str, error: &str) {
        self.refusals.insert(command.into(), error.into());
    }

    pub fn accept(&mut self, command: &str) {
        self.refusals.remove(command);
    }
}

impl Server {
    /// Why the server is in no state to run a command; `in_script`: one that a script calls, which may have `written`.
    pub(super) fn refused(&self, spec: &Spec, in_script: bool, written: bool) -> Option<String> {
        if let Some(error) = self.faults.refusals.get(spec.name) {
            return Some(error.clone());
        }
        let is = |fault| self.faults.states.contains(&fault);
        if is(Fault::OutOfMemory) && spec.grows && !written && self.role() == Role::Master {
            return Some("OOM command not allowed when used memory > 'maxmemory'.".into());
        }
        if is(Fault::Misconf) && (spec.writes || spec.name == "ping") && self.role() == Role::Master {
            let text = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
                        Commands that may modify the data set are disabled, because this instance is configured to \
                        report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). \
                        Please check the Redis logs for details about the RDB error.";
            return Some(text.into());
        }
        if is(Fault::NoReplicas) && spec.writes && self.role() == Role::Master {
            return Some("NOREPLICAS Not enough good replicas to write.".into());
        }
        if spec.writes && self.role() == Role::Replica {
            return Some("READONLY You can't write against a read only replica.".into());
        }
        if in_script || spec.while_loading {
            return None;
        }
        if is(Fault::MasterDown) {
            return Some(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.".into(),
            );
        }
        if is(Fault::Loading) {
            return Some("LOADING Redis is loading the dataset in memory".into());
        }
        if is(Fault::Busy) {
            return Some(
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
                    .into(),
            );
        }
        None
    }
}
