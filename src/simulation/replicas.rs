//! Masters and replicas: what gets from one to the other and when, and how another one becomes the master.

use super::server::data::Time;
use super::server::replication::Role;
use super::world::{Occurrence, World, now};

impl World {
    /// What is new at a master gets to its replicas in a while.
    pub fn replicate_soon(&mut self, master: usize) {
        if master != self.leader_of(master) {
            return;
        }
        for replica in 0..self.nodes.len() {
            if replica != master
                && self.leader_of(replica) == master
                && self.nodes[replica].server.role() == Role::Replica
                && !self.nodes[replica].is_replicating
                && !self.nodes[replica].server.has_all_of(&self.nodes[master].server)
            {
                self.nodes[replica].is_replicating = true;
                let at = now() + self.nodes[replica].lag;
                self.schedule(at, Occurrence::Replicate(replica));
            }
        }
    }

    /// A replica gets what its master has, and says so.
    pub fn replicate(&mut self, replica: usize) {
        let master = self.leader_of(replica);
        let one = &mut self.nodes[replica];
        one.is_replicating = false;
        if replica == master || one.down.is_some() || one.server.role() != Role::Replica {
            return;
        }
        let waits = one.detached_until.max(one.hung_until);
        if waits > now() {
            one.is_replicating = true;
            return self.schedule(waits, Occurrence::Replicate(replica));
        }
        if !self.nodes[master].is_running() {
            return;
        }
        let [one, other] = self.nodes.get_disjoint_mut([replica, master]).unwrap();
        let offset = one.server.replicate(&other.server, other.server.offset(), now());
        other.server.acknowledge(replica as u64, offset, now());
        self.flush(replica);
        self.flush(master);
    }

    /// A replica is cut off from its master: that does not count it any more.
    pub fn detach(&mut self, replica: usize, until: Time) {
        self.nodes[replica].detached_until = until;
        self.replica_gone(replica);
        if !self.nodes[replica].is_replicating {
            self.nodes[replica].is_replicating = true;
            self.schedule(until, Occurrence::Replicate(replica));
        }
    }

    /// The master finds that a replica is gone.
    pub fn replica_gone(&mut self, replica: usize) {
        let master = self.leader_of(replica);
        if replica != master {
            self.nodes[master].server.forget_replica(replica as u64);
        }
    }

    /// A replica becomes the master. The old one learns of it after `learns`; until then it serves on.
    pub fn fail_over(&mut self, to: usize, learns: Time) {
        if self.cluster.is_some() {
            return self.replace(to, learns);
        }
        let from = self.master;
        if to == from || self.nodes[to].down.is_some() || self.nodes[to].server.role() == Role::Master {
            return;
        }
        self.excuse_all_at(from);
        self.nodes[from].is_stale_master = true;
        self.promote(to, learns);
        // What was deleted at the old one just now may be there again.
        self.excuse_all_at(to);
        self.flush(to);
        self.schedule(now() + learns, Occurrence::Heal(HEAL_STALE + from));
        self.trace(|_| format!("failover: {from} to {to}"));
    }

    /// The master dies, and the replica that has most takes over. The old one comes back as a replica of that.
    pub fn succeed(&mut self, silent: bool, until: Time) {
        let from = self.master;
        let fits = |node: &usize| {
            let one = &self.nodes[*node];
            *node != from && one.is_running() && one.server.role() == Role::Replica
        };
        let most = |node: &usize| (self.position_of(*node, from), *node);
        let Some(to) = (0..self.story.nodes).filter(fits).max_by_key(most) else { return };
        self.look_at_successor(from, to);
        self.crash(from, silent, true, until);
        self.promote(to, 1);
        self.flush(to);
        self.trace(|_| format!("succession: {from} to {to}"));
    }

    /// How far a replica has come with what a master has; what it has of another history counts for nothing.
    pub fn position_of(&self, replica: usize, master: usize) -> u64 {
        let one = &self.nodes[replica].server;
        if one.is_of_one_history_with(&self.nodes[master].server) { one.offset() } else { 0 }
    }

    fn promote(&mut self, to: usize, learns: Time) {
        self.replicas_broken = now();
        self.nodes[to].server.promote();
        (self.former_master, self.name_settles) = (self.master, now() + settles(learns));
        self.master = to;
    }

    /// The old master learns that it is a replica now.
    pub fn learn(&mut self, node: usize) {
        self.excuse_all_at(node);
        self.nodes[node].is_stale_master = false;
        self.demoted = now();
        let leader = self.leader_of(node);
        if node != leader && self.nodes[node].down.is_none() {
            self.nodes[node].server.demote();
            self.flush(node);
            self.replicate_soon(leader);
        }
        if self.cluster.is_some() {
            self.learn_topology(node);
        }
    }
}

/// How long after a failover a name may lead to the old master, which learns of it after `learns`.
pub fn settles(learns: Time) -> Time {
    2 * learns
}

/// The numbers of faults from which on they stand for an old master that learns of its end.
pub const HEAL_STALE: usize = 1 << 32;
