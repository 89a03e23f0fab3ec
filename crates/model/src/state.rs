//! The state: a pure fold over the log.
//!
//! Cloning is cheap (shared structure), so readers get a whole snapshot and the
//! writer goes on. Two states folded from the same entries are equal.

use std::net::Ipv6Addr;

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::address::Book;
use crate::certificate::Authority;
use crate::condition::{Facts, Standing};
use crate::destroy::Gone;
use crate::endpoint::Exposure;
use crate::event::Event;
use crate::index::Index;
use crate::past::Past;
use crate::ports::Ports;
use crate::quota::Limits;
use crate::tally::{self, Tally};
use crate::usage::{Mark, Meter};
use crate::{
    AnyId, App, Bundle, Certificate, Deploy, Domain, Edge, Endpoint, Env, Id, Instance, Member,
    Name, Node, Noun, Org, Project, Release, Resource, Role, Snapshot, Table, Timestamp, Token,
    Tunnel, User, Volume, token, tunnel,
};

/// Version of the written form of [`State`], how it is packed, and of what events
/// mean to it.
/// Counts up when either changes: a snapshot of another version is not read, the
/// log is replayed instead.
pub const SNAPSHOT_FORMAT: u32 = 25;

/// Everything there is, as of one log position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct State {
    /// The last entry folded in; 0 before the first.
    pub position: u64,
    /// The installation's /48.
    pub network: Ipv6Addr,
    pub orgs: Table<Org>,
    pub projects: Table<Project>,
    pub apps: Table<App>,
    pub envs: Table<Env>,
    pub releases: Table<Release>,
    pub deploys: Table<Deploy>,
    pub instances: Table<Instance>,
    pub endpoints: Table<Endpoint>,
    pub nodes: Table<Node>,
    pub edges: Table<Edge>,
    pub users: Table<User>,
    pub members: Table<Member>,
    pub tokens: Table<Token>,
    pub bundles: Table<Bundle>,
    pub volumes: Table<Volume>,
    pub snapshots: Table<Snapshot>,
    pub certificates: Table<Certificate>,
    /// What vouches for hosts without a certificate of their own.
    pub authority: Option<Authority>,
    pub domains: Table<Domain>,
    /// Where endpoints without a host get theirs, if somebody said so.
    pub app_domain: Option<String>,
    /// Who has which of the addresses that operators gave.
    pub addresses: Book,
    /// Where no new endpoint may listen.
    pub denied_ports: Ports,
    pub tunnels: Table<Tunnel>,
    /// Which ports of edges tunnels get.
    pub tunnel_ports: tunnel::PortRange,
    /// Whether tunnels are had without a login, and where they are.
    pub anonymous_tunnels: tunnel::Anonymous,
    /// By which keys tokens of tunnels are signed, the newest last.
    pub tunnel_keys: Vector<tunnel::Key>,
    /// What a user is in each org they are in.
    pub memberships: OrdMap<Id<User>, OrdMap<Id<Org>, Role>>,
    /// Tokens by the hash of their text, also those that were revoked.
    pub issued: OrdMap<token::Hash, token::Issued>,
    /// Which endpoint or tunnel owns a host name, over all tenants.
    pub hosts: OrdMap<String, AnyId>,
    /// What is being destroyed, and since when.
    pub destroying: OrdMap<AnyId, Timestamp>,
    /// Orgs, projects, apps, envs and nodes that are gone, so that events of them can
    /// still be read and told apart by tenant.
    pub gone: OrdMap<AnyId, Gone>,
    /// The last instances of envs that are gone, so that their output can be found.
    pub past: OrdMap<Id<Env>, Vector<Past>>,
    /// How much orgs may have, where somebody said so.
    pub limits: Limits,
    /// How much orgs have.
    pub tallies: OrdMap<Id<Org>, Tally>,
    /// How long instances have run.
    pub usage: Meter,
    /// How many envs were ever made: addresses are not used twice.
    pub envs_created: u64,
    /// How many nodes were ever enrolled: subnets are not used twice.
    pub nodes_enrolled: u64,
    /// How many instances were ever made: addresses are not used twice.
    pub instances_allocated: u64,
    /// Made from the tables, see [`Index`].
    #[serde(skip)]
    pub index: Index,
}

// `remote` above names the derived functions apart from these, through which
// alone a state is read: one without its index would place everything anywhere.
impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        State::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut state = State::deserialize(deserializer)?;
        state.index = state.made_index();
        Ok(state)
    }
}

impl Default for State {
    fn default() -> Self {
        State {
            position: 0,
            network: Ipv6Addr::UNSPECIFIED,
            orgs: Table::default(),
            projects: Table::default(),
            apps: Table::default(),
            envs: Table::default(),
            releases: Table::default(),
            deploys: Table::default(),
            instances: Table::default(),
            endpoints: Table::default(),
            nodes: Table::default(),
            edges: Table::default(),
            users: Table::default(),
            members: Table::default(),
            tokens: Table::default(),
            bundles: Table::default(),
            volumes: Table::default(),
            snapshots: Table::default(),
            certificates: Table::default(),
            authority: None,
            domains: Table::default(),
            app_domain: None,
            addresses: Book::default(),
            denied_ports: Ports::default(),
            tunnels: Table::default(),
            tunnel_ports: tunnel::PortRange::default(),
            anonymous_tunnels: tunnel::Anonymous::default(),
            tunnel_keys: Vector::new(),
            memberships: OrdMap::new(),
            issued: OrdMap::new(),
            hosts: OrdMap::new(),
            destroying: OrdMap::new(),
            gone: OrdMap::new(),
            past: OrdMap::new(),
            limits: Limits::default(),
            tallies: OrdMap::new(),
            usage: Meter::default(),
            envs_created: 0,
            nodes_enrolled: 0,
            instances_allocated: 0,
            index: Index::default(),
        }
    }
}

impl State {
    /// The index, made anew from the tables.
    pub fn made_index(&self) -> Index {
        let mut index = Index::default();
        for node in self.nodes.iter() {
            index.node(node);
        }
        for instance in self.instances.iter() {
            index.instance(instance, self.nodes.get(instance.spec.node));
        }
        for volume in self.volumes.iter() {
            if let Some(node) = volume.spec.node {
                index.volume(node, volume.id);
            }
        }
        for snapshot in self.snapshots.iter() {
            index.snapshot(snapshot.spec.node, snapshot.id);
        }
        for domain in self.domains.iter().filter(|it| it.status.proof.is_some()) {
            index.domain(domain);
        }
        for endpoint in self.endpoints.iter() {
            for exposure in endpoint.spec.claims() {
                index.claim(exposure, endpoint.id);
            }
        }
        for tunnel in self.tunnels.iter() {
            index.tunnel(tunnel);
        }
        index
    }

    /// Whose a host name or a port is, now or once its deploy is through: an endpoint's,
    /// or, of a host name, a tunnel's.
    pub fn owner(&self, exposure: &Exposure) -> Option<AnyId> {
        match exposure {
            Exposure::Http { host } | Exposure::Tls { host, own: None } => {
                self.hosts.get(host).copied()
            }
            Exposure::Tcp { .. } | Exposure::Udp { .. } | Exposure::Tls { own: Some(_), .. } => {
                self.index.port_owner(&exposure.port()?).map(Id::any)
            }
        }
    }

    /// Folds in the event at `position`, which must be the next one.
    pub fn apply(&mut self, position: u64, at: Timestamp, event: &Event) {
        debug_assert_eq!(position, self.position + 1, "the log has no gaps");
        self.position = position;
        self.usage.apply(Mark { position, at }, event);
        let asking = tally::asking(self, event).map(|(env, org)| (env, org, self.asked(env)));
        self.count(event);
        event.apply(self, Change { at, position });
        if let Some((env, org, before)) = asking {
            self.recount(env, org, before);
        }
    }
}

/// When and where in the log a change happened.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub at: Timestamp,
    pub position: u64,
}

impl Change {
    /// A resource made by this change.
    pub fn create<N: Noun>(
        self,
        id: Id<N>,
        name: Name,
        parent: Option<AnyId>,
        spec: N,
    ) -> Resource<N> {
        let mut resource = Resource {
            id,
            name,
            parent,
            created_at: self.at,
            updated_at: self.at,
            version: self.position,
            spec,
            status: N::Status::default(),
            standing: Standing::new(Facts::default(), self.at),
        };
        if let Some(facts) = N::facts(&resource) {
            resource.standing = Standing::new(facts, self.at);
        }
        resource
    }

    /// Marks a resource as changed here.
    pub fn touch<N: Noun>(self, resource: &mut Resource<N>) {
        resource.updated_at = self.at;
        resource.version = self.position;
        if let Some(facts) = N::facts(resource) {
            resource.standing.note(facts, self.at);
        }
    }
}
