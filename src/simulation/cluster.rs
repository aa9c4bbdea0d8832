//! A cluster: which node serves which slot, who knows that, slots that move, and masters that are replaced.

use super::node::place_of;
use super::replicas::HEAL_STALE;
use super::server::cluster::{Cluster, Node as Named, Range, SLOTS, slot_of};
use super::server::data::Time;
use super::server::replication::Role;
use super::story::ClusterPlan;
use super::world::{Occurrence, World, now};

/// Who serves what.
#[derive(Debug)]
pub struct Topology {
    plan: ClusterPlan,
    /// The master of each shard.
    masters: Vec<usize>,
    /// The slots that are elsewhere than they were at first: the shard.
    moved: Vec<(u16, usize)>,
    /// Slots that are on their way: from which shard, to which.
    moving: Vec<(u16, usize, usize)>,
}

/// How long it takes to look again at what could not be done.
const AGAIN: Time = 100;

impl Topology {
    pub fn new(plan: ClusterPlan) -> Self {
        Self { plan, masters: (0..plan.masters).collect(), moved: Vec::new(), moving: Vec::new() }
    }

    /// The shard of a node.
    fn shard_of(&self, node: usize) -> usize {
        node % self.plan.masters
    }

    fn owner_of(&self, slot: u16) -> usize {
        let moved = self.moved.iter().rev().find(|(of, _)| *of == slot);
        moved.map_or_else(|| usize::from(slot) * self.plan.masters / usize::from(SLOTS), |(_, shard)| *shard)
    }
}

fn named(node: usize) -> Named {
    let address = super::names::address_of(node);
    Named { id: format!("{node:040x}"), host: address.ip().to_string(), port: address.port() }
}

impl World {
    /// The master that a node is, or follows.
    pub fn leader_of(&self, node: usize) -> usize {
        self.cluster.as_ref().map_or(self.master, |cluster| cluster.masters[cluster.shard_of(node)])
    }

    /// The server that counts for a key.
    pub fn home(&self, key: &str) -> usize {
        let Some(cluster) = &self.cluster else { return self.master };
        let slot = slot_of(key.as_bytes());
        let node = cluster.masters[cluster.owner_of(slot)];
        let target = cluster.moving.iter().find(|(of, ..)| *of == slot).map(|(.., to)| cluster.masters[*to]);
        match target {
            Some(target) if self.nodes[node].text_at(key).is_none() => target,
            _ => node,
        }
    }

    /// Everybody who may be a master of some keys.
    pub fn masters(&self) -> Vec<usize> {
        self.cluster.as_ref().map_or_else(|| vec![self.master], |cluster| cluster.masters.clone())
    }

    /// At the beginning all nodes know all.
    pub fn form_cluster(&mut self) {
        let Some(plan) = self.story.cluster else { return };
        self.cluster = Some(Topology::new(plan));
        for node in 0..self.story.nodes {
            if self.leader_of(node) != node {
                self.nodes[node].server.demote();
            }
            let (myself, ranges) = (named(node), Vec::new());
            let cluster =
                Cluster { myself, ranges, is_up: true, migrating: Vec::new(), importing: Vec::new() };
            self.nodes[node].server.cluster = Some(cluster);
            self.learn_topology(node);
        }
    }

    /// A node learns who serves what.
    pub fn learn_topology(&mut self, node: usize) {
        if self.cluster.is_none() {
            return;
        }
        let waits = self.nodes[node].hung_until;
        if self.nodes[node].down.is_some() {
            return;
        }
        if waits > now() {
            return self.schedule(waits, Occurrence::Gossip(node));
        }
        if std::mem::take(&mut self.nodes[node].is_missed) {
            self.gossip(&[]);
        }
        let Some(cluster) = &self.cluster else { return };
        let mut ranges: Vec<Range> = Vec::new();
        for shard in 0..cluster.plan.masters {
            let replicas = (0..self.story.nodes)
                .filter(|other| cluster.shard_of(*other) == shard && cluster.masters[shard] != *other);
            let (master, replicas) = (named(cluster.masters[shard]), replicas.map(named).collect::<Vec<_>>());
            let slots: Vec<u16> = (0..SLOTS).filter(|slot| cluster.owner_of(*slot) == shard).collect();
            for run in slots.chunk_by(|one, next| one + 1 == *next) {
                let (first, last) = (run[0], run[run.len() - 1]);
                ranges.push(Range { first, last, master: master.clone(), replicas: replicas.clone() });
            }
        }
        let serves = !cluster.plan.full_coverage
            || cluster.masters.iter().all(|master| !self.nodes[*master].is_missed);
        let is_master = self.leader_of(node) == node;
        let one = &mut self.nodes[node].server;
        if let Some(view) = &mut one.cluster {
            (view.ranges, view.is_up) = (ranges, serves);
        }
        if !is_master && one.role() == Role::Master {
            self.learn(node);
        }
    }

    /// The others learn it in a while.
    fn gossip(&mut self, knows: &[usize]) {
        let Some(cluster) = &self.cluster else { return };
        let latest = cluster.plan.gossip;
        for node in 0..self.story.nodes {
            if self.nodes[node].is_stale_master {
                continue;
            }
            let at = if knows.contains(&node) { 0 } else { self.random.u64(1..=latest) };
            self.schedule(now() + at, Occurrence::Gossip(node));
        }
    }

    /// A node has ended or hangs: if that lasts, the others do without it.
    pub fn suspect(&mut self, node: usize) {
        if let Some(cluster) = &self.cluster {
            let at = now() + cluster.plan.node_timeout;
            self.nodes[node].silent_since = now();
            self.schedule(at, Occurrence::Elect(node));
        }
    }

    /// It has lasted: a replica takes over, or nobody serves these slots.
    pub fn elect(&mut self, from: usize) {
        let Some(cluster) = &self.cluster else { return };
        let shard = cluster.shard_of(from);
        let is_early = self.nodes[from].silent_since + cluster.plan.node_timeout > now();
        if is_early || self.nodes[from].is_running() || cluster.masters[shard] != from {
            return;
        }
        if cluster.moving.iter().any(|(_, one, other)| *one == shard || *other == shard) {
            return self.schedule(now() + AGAIN, Occurrence::Elect(from));
        }
        let fits = |node: &usize| {
            let one = &self.nodes[*node];
            cluster.shard_of(*node) == shard && *node != from && one.is_running()
        };
        let best =
            (0..self.story.nodes).filter(fits).max_by_key(|node| (self.position_of(*node, from), *node));
        match best {
            Some(to) => {
                // One that hangs serves on for a moment before it hears of it.
                let hangs = self.nodes[from].hung_until.saturating_sub(now());
                let learns = hangs + self.random.u64(1..=200);
                self.replace(to, learns);
            }
            None if !self.nodes[from].is_missed => {
                self.nodes[from].is_missed = true;
                self.gossip(&[]);
            }
            None => {}
        }
    }

    /// A node of a cluster takes the place of its master, which learns of it after `learns`.
    pub fn replace(&mut self, to: usize, learns: Time) {
        let from = self.leader_of(to);
        let Some(cluster) = &mut self.cluster else { return };
        let shard = cluster.shard_of(to);
        let is_moving = cluster.moving.iter().any(|(_, one, other)| *one == shard || *other == shard);
        if to == from || is_moving || self.nodes[to].down.is_some() {
            return;
        }
        cluster.masters[shard] = to;
        self.excuse_all_at(from);
        self.replicas_broken = now();
        self.nodes[from].is_missed = false;
        self.nodes[to].server.promote();
        // What was deleted at the old one just now may be there again.
        self.excuse_all_at(to);
        if self.nodes[from].down.is_none() {
            self.nodes[from].is_stale_master = true;
            self.schedule(now() + learns, Occurrence::Heal(HEAL_STALE + from));
        }
        self.trace(|_| format!("failover: {from} to {to}"));
        self.gossip(&[to]);
        self.flush(to);
    }

    /// A node is there again. It serves nothing before it has heard from the others.
    pub fn rejoin(&mut self, node: usize) {
        let Some(cluster) = &self.cluster else { return };
        let at = now() + self.random.u64(1..=cluster.plan.gossip);
        if let Some(view) = &mut self.nodes[node].server.cluster {
            view.is_up = false;
        }
        self.schedule(at, Occurrence::Gossip(node));
    }

    /// The slot of a key begins to move to another shard.
    pub fn migrate(&mut self, key: &str, to: usize, time: Time) {
        let slot = slot_of(key.as_bytes());
        let Some(cluster) = &mut self.cluster else { return };
        let from = cluster.owner_of(slot);
        let to = to % cluster.plan.masters;
        let (source, target) = (cluster.masters[from], cluster.masters[to]);
        let can = |node: usize| self.nodes[node].is_running() && !self.nodes[node].is_stale_master;
        if from == to || cluster.moving.iter().any(|(of, ..)| *of == slot) || !can(source) || !can(target) {
            return;
        }
        cluster.moving.push((slot, from, to));
        if let Some(view) = &mut self.nodes[target].server.cluster {
            view.importing.push(slot);
        }
        if let Some(view) = &mut self.nodes[source].server.cluster {
            view.migrating.push((slot, named(target)));
        }
        self.trace(|_| format!("slot {slot} begins to move from {source} to {target}"));
        self.schedule(now() + time / 2, Occurrence::Move(slot, false));
        self.schedule(now() + time, Occurrence::Move(slot, true));
    }

    /// What is in a moving slot is moved; `is_last`: and then the slot is the other shard's.
    pub fn move_slot(&mut self, slot: u16, is_last: bool) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(at) = cluster.moving.iter().position(|(of, ..)| *of == slot) else { return };
        let (_, from, to) = cluster.moving[at];
        let (source, target) = (cluster.masters[from], cluster.masters[to]);
        if !self.nodes[source].is_running() || !self.nodes[target].is_running() {
            return self.schedule(now() + AGAIN, Occurrence::Move(slot, is_last));
        }
        for key in self.story.keys().iter().filter(|key| slot_of(key.as_bytes()) == slot) {
            let place = place_of(key);
            if let Some(entry) = self.nodes[source].server.give_away(&place, now()) {
                self.nodes[target].server.take_over(place, entry, now());
            }
        }
        if is_last {
            if let Some(cluster) = &mut self.cluster {
                cluster.moving.remove(at);
                cluster.moved.push((slot, to));
            }
            for node in [source, target] {
                if let Some(view) = &mut self.nodes[node].server.cluster {
                    view.importing.retain(|of| *of != slot);
                    view.migrating.retain(|(of, _)| *of != slot);
                }
                self.learn_topology(node);
            }
            self.gossip(&[source, target]);
            self.trace(|_| format!("slot {slot} has moved from {source} to {target}"));
        }
        self.flush(source);
        self.flush(target);
    }
}
