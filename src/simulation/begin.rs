//! The beginning of a story: its servers, its processes, and its callers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use tokio::task::LocalSet;

use super::caller::Environment;
use super::names::{NAME, address_of, name_of_sentinel};
use super::node::Node;
use super::process::{Alarm, Clock, Process, enter};
use super::server::sentinel::{Sentinel, Watched as Master};
use super::server::{Config, Server};
use super::story::{Story, settings_of};
use super::world::{self, Occurrence};
use crate::dispatcher::Core;
use crate::model::endpoint::{DEFAULT_CLIENT_NAME, Endpoint, Host, Login, Place, Protocol};

/// Makes all of them. Returns the tasks of each process.
pub fn begin(waker: &Waker) -> Vec<LocalSet> {
    let story = world::with(|world| world.story.clone());
    let (processes, cores) = processes(&story, waker);
    let environments = environments(&story);
    world::with(|world| {
        world.set_waker(waker);
        world.nodes = nodes(&story);
        world.form_cluster();
        world.environments = environments;
        world.processes = processes;
        for (index, (at, _)) in story.steps.iter().enumerate() {
            world.schedule(*at, Occurrence::Act(index));
        }
        world.schedule(0, Occurrence::Look);
        world.schedule(story.end, Occurrence::Act(story.steps.len()));
        for at in (story.end..story.served_by()).step_by(500) {
            world.schedule(at, Occurrence::Act(story.steps.len() + 1));
        }
        world.schedule(story.served_by() + 5_000, Occurrence::Served);
    });
    cores
}

fn host(number: usize) -> Host {
    Host { name: address_of(number).ip().to_string(), port: 6379 }
}

fn nodes(story: &Story) -> Vec<Node> {
    let mut nodes = Vec::new();
    for number in 0..story.nodes + story.sentinels {
        let mut config = Config::new(story.version);
        config.active_expiry = story.active_expiry;
        config.address = address_of(number).to_string();
        let mut server = Server::new(config, story.seed ^ number as u64, 0);
        for command in &story.denied {
            let error = format!("NOPERM this user has no permissions to run the '{command}' command");
            server.faults.refuse_with(command, &error);
        }
        if number >= story.nodes {
            let master = Master { host: host(0).name, port: 6379, epoch: 1 };
            server.sentinel = Some(Sentinel { masters: [("mymaster".to_owned(), master)].into() });
        } else if number > 0 && story.cluster.is_none() {
            server.demote();
        }
        nodes.push(Node::new(server, address_of(number), 1 + 7 * number as u64 + story.lag));
    }
    nodes
}

fn place(story: &Story) -> Place {
    if let Some(plan) = story.cluster {
        return Place::Cluster((0..plan.seeds).map(host).collect());
    }
    let has_names = !story.addresses.is_empty();
    if story.sentinels > 0 {
        let sentinel = |number: usize| {
            let Host { name, port } = host(story.nodes + number);
            Host { name: if has_names { name_of_sentinel(number) } else { name }, port }
        };
        Place::Sentinels {
            sentinels: (0..story.sentinels).map(sentinel).collect(),
            name: "mymaster".into(),
            user: None,
            password: crate::model::secret::Secret::default(),
        }
    } else if story.nodes > 1 || has_names {
        Place::Server(Host { name: NAME.into(), port: 6379 })
    } else {
        Place::Server(host(0))
    }
}

fn processes(story: &Story, waker: &Waker) -> (Vec<Process>, Vec<LocalSet>) {
    let (mut processes, mut cores) = (Vec::new(), Vec::new());
    for (number, plan) in story.processes.iter().enumerate() {
        let (core, serves, at_rest) = Core::on_this_thread();
        let local = LocalSet::new();
        let clock =
            Clock { offset: 1_000_000_000 * (number as u64 + 1), parts_per_million: plan.parts_per_million };
        enter(number, clock);
        local.spawn_local(serves);
        cores.push(local);
        processes.push(Process {
            core,
            link: plan.link,
            clock,
            stopped_until: 0,
            is_alive: true,
            stopped_for: 0,
            alarm: Alarm::new(waker.clone()),
            sent: (0, 0),
            connects: (0, 0),
            at_rest: Rc::new(at_rest),
        });
    }
    (processes, cores)
}

/// Callers of one process share an endpoint, as those of the addon do: locks that wait for replicas have others.
fn environments(story: &Story) -> Vec<Environment> {
    let login = Login {
        client_name: DEFAULT_CLIENT_NAME.into(),
        protocol: story.speaks_resp2.then_some(Protocol::Resp2),
        ..Login::default()
    };
    let place = place(story);
    let (mut endpoints, mut environments) = (BTreeMap::new(), Vec::new());
    for (number, plan) in story.environments.iter().enumerate() {
        let waits_for_replicas = (plan.min_replicas > 0).then(|| plan.command_timeout());
        // Each process has its own: so no other run shares it.
        let endpoint = endpoints.entry((plan.process, waits_for_replicas)).or_insert_with(|| {
            let (place, login) = (place.clone(), login.clone());
            Arc::new(Endpoint { place, login, tls: None, waits_for_replicas })
        });
        environments.push(Environment::new(number, plan, settings_of(number, plan, Arc::clone(endpoint))));
    }
    environments
}
