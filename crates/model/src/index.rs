//! What follows from the tables and is kept beside them, so that no decision has
//! to walk over everything: what each node carries, which nodes have room, which
//! instances are on their way out, who owns a port, which tunnel goes next.
//!
//! Never written down: a state that was read back makes its index anew, and must
//! then equal one that was folded. So an index knows nothing the tables do not.

use std::cmp::Reverse;

use imbl::{OrdMap, OrdSet};

use crate::endpoint::{Endpoint, Exposure, PortClaim};
use crate::instance::{Desired, Instance, OVERHEAD_BYTES};
use crate::{Domain, Edge, Id, Node, Resource, Snapshot, Timestamp, Tunnel, Volume, tunnel};

/// Free memory of a node, and which node, the oldest last.
type Seat = (u64, Reverse<Id<Node>>);

/// Indexes over the tables of one state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    loads: OrdMap<Id<Node>, Load>,
    /// Nodes that take instances: by how many instances they carry, then by free memory,
    /// then by id.
    room: OrdMap<usize, OrdSet<Seat>>,
    leaving: OrdMap<Id<Instance>, Desired>,
    ports: OrdMap<PortClaim, Id<Endpoint>>,
    /// Volumes by their home.
    volumes: OrdMap<Id<Node>, OrdSet<Id<Volume>>>,
    /// Snapshots by where they are.
    snapshots: OrdMap<Id<Node>, OrdSet<Id<Snapshot>>>,
    /// Which instance has a volume, until it is forgotten.
    users: OrdMap<Id<Volume>, Id<Instance>>,
    /// Who has shown a domain to be theirs.
    domains: OrdMap<String, Id<Domain>>,
    /// Which tunnel has a port of the edges.
    tunnel_ports: OrdMap<tunnel::PortClaim, Id<Tunnel>>,
    /// Tunnels that go unless an agent attaches, by when.
    tunnel_ends: OrdSet<(Timestamp, Id<Tunnel>)>,
    /// How many tunnels have an agent at an edge.
    edge_agents: OrdMap<Id<Edge>, usize>,
}

/// What one node carries. An instance that was told to stop counts until it is
/// forgotten.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Memory set aside, overhead included.
    pub memory_bytes: u64,
    pub instances: OrdMap<Id<Instance>, Desired>,
    /// Where the node stands in `room`, if it takes instances.
    seat: Option<(usize, u64)>,
}

impl Load {
    /// Whether it is the very same; quick, and may say no to an equal one.
    pub fn is_same(&self, other: &Load) -> bool {
        self.memory_bytes == other.memory_bytes && self.instances.ptr_eq(&other.instances)
    }
}

/// What a node sets aside for one instance.
pub fn footprint_bytes(memory_bytes: u64) -> u64 {
    memory_bytes.saturating_add(OVERHEAD_BYTES)
}

impl Index {
    /// What a node carries; `None` for a node that is not known.
    pub fn load(&self, node: Id<Node>) -> Option<&Load> {
        self.loads.get(&node)
    }

    /// How many instances a node carries, those included that are on their way out.
    pub fn count(&self, node: Id<Node>) -> usize {
        self.loads.get(&node).map_or(0, |load| load.instances.len())
    }

    /// Whether no node takes instances.
    pub fn has_no_nodes(&self) -> bool {
        self.room.is_empty()
    }

    /// Of the nodes that take instances and have this much free memory, the one with the fewest
    /// instances; of several the one with the most memory free, then the oldest.
    pub fn roomiest(&self, wanted_bytes: u64) -> Option<Id<Node>> {
        let best = |seats: &OrdSet<Seat>| seats.get_max().copied();
        let fits = |(free, Reverse(id)): Seat| (free >= wanted_bytes).then_some(id);
        self.room.values().filter_map(best).find_map(fits)
    }

    /// All of them, the best first.
    pub fn roomy(&self, wanted_bytes: u64) -> impl Iterator<Item = Id<Node>> + '_ {
        let seats = self.room.values().flat_map(|seats| seats.iter().rev().copied());
        seats.filter_map(move |(free, Reverse(id))| (free >= wanted_bytes).then_some(id))
    }

    /// Instances that are to go and are not forgotten yet.
    pub fn leaving(&self) -> &OrdMap<Id<Instance>, Desired> {
        &self.leaving
    }

    /// Whose a port of an env's address is, now or once its deploy is through.
    /// Of several, where all of a port is asked about, one.
    pub fn port_owner(&self, wanted: &PortClaim) -> Option<Id<Endpoint>> {
        let all = PortClaim { host: None, ..wanted.clone() };
        let on_it = self.ports.range(all..).take_while(|(it, _)| it.own == wanted.own);
        let mut in_the_way = on_it.filter(|(it, _)| it.collides(wanted));
        in_the_way.next().map(|(_, owner)| *owner)
    }

    /// The volumes whose home a node is.
    pub fn volumes(&self, node: Id<Node>) -> impl Iterator<Item = Id<Volume>> + '_ {
        self.volumes.get(&node).into_iter().flatten().copied()
    }

    /// The snapshots that are on a node.
    pub fn snapshots(&self, node: Id<Node>) -> impl Iterator<Item = Id<Snapshot>> + '_ {
        self.snapshots.get(&node).into_iter().flatten().copied()
    }

    /// The instance that has a volume; one that was told to stop has it until it is
    /// forgotten.
    pub fn user(&self, volume: Id<Volume>) -> Option<Id<Instance>> {
        self.users.get(&volume).copied()
    }

    /// Who has shown a domain to be theirs: this very one, not one above it.
    pub fn proven(&self, domain: &str) -> Option<Id<Domain>> {
        self.domains.get(domain).copied()
    }

    /// A domain was shown to be its org's.
    pub(crate) fn domain(&mut self, domain: &Resource<Domain>) {
        self.domains.insert(domain.spec.domain.clone(), domain.id);
    }

    /// A domain is gone, if it was proven at all.
    pub(crate) fn without_domain(&mut self, domain: &Resource<Domain>) {
        if self.domains.get(&domain.spec.domain) == Some(&domain.id) {
            self.domains.remove(&domain.spec.domain);
        }
    }

    /// The tunnel that has a port of the edges.
    pub fn tunnel_port_owner(&self, port: &tunnel::PortClaim) -> Option<Id<Tunnel>> {
        self.tunnel_ports.get(port).copied()
    }

    /// Tunnels that go unless an agent attaches, and when, the first first.
    pub fn tunnel_ends(&self) -> impl Iterator<Item = (Timestamp, Id<Tunnel>)> + '_ {
        self.tunnel_ends.iter().copied()
    }

    /// Edges at which agents are.
    pub fn edges_with_agents(&self) -> impl Iterator<Item = Id<Edge>> + '_ {
        self.edge_agents.keys().copied()
    }

    /// A tunnel is new, or something about it changed.
    pub(crate) fn tunnel(&mut self, tunnel: &Resource<Tunnel>) {
        if let Some(port) = tunnel.spec.exposure.port() {
            self.tunnel_ports.insert(port, tunnel.id);
        }
        if let Some(end) = tunnel.status.kept_until {
            self.tunnel_ends.insert((end, tunnel.id));
        }
        for edge in tunnel.status.agents.keys() {
            *self.edge_agents.entry(*edge).or_default() += 1;
        }
    }

    /// A tunnel is gone, or is about to change.
    pub(crate) fn without_tunnel(&mut self, tunnel: &Resource<Tunnel>) {
        if let Some(port) = tunnel.spec.exposure.port() {
            self.tunnel_ports.remove(&port);
        }
        if let Some(end) = tunnel.status.kept_until {
            self.tunnel_ends.remove(&(end, tunnel.id));
        }
        for edge in tunnel.status.agents.keys() {
            let left = self.edge_agents.entry(*edge).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.edge_agents.remove(edge);
            }
        }
    }

    /// A volume has a home.
    pub(crate) fn volume(&mut self, node: Id<Node>, volume: Id<Volume>) {
        self.volumes.entry(node).or_default().insert(volume);
    }

    /// A volume is gone.
    pub(crate) fn without_volume(&mut self, node: Id<Node>, volume: Id<Volume>) {
        let left = self.volumes.entry(node).or_default();
        left.remove(&volume);
        if left.is_empty() {
            self.volumes.remove(&node);
        }
    }

    /// A snapshot is on a node.
    pub(crate) fn snapshot(&mut self, node: Id<Node>, snapshot: Id<Snapshot>) {
        self.snapshots.entry(node).or_default().insert(snapshot);
    }

    /// A snapshot is gone.
    pub(crate) fn without_snapshot(&mut self, node: Id<Node>, snapshot: Id<Snapshot>) {
        let left = self.snapshots.entry(node).or_default();
        left.remove(&snapshot);
        if left.is_empty() {
            self.snapshots.remove(&node);
        }
    }

    /// A node is new, or something about it changed.
    pub(crate) fn node(&mut self, node: &Resource<Node>) {
        let load = self.loads.entry(node.id).or_default();
        let capacity = node.status.facts.as_ref().map_or(0, |facts| facts.memory_bytes);
        let free = capacity.saturating_sub(load.memory_bytes);
        let seat = node.takes_instances().then_some((load.instances.len(), free));
        let before = std::mem::replace(&mut load.seat, seat);
        if before == seat {
            return;
        }
        if let Some((count, free)) = before {
            self.unseat(count, free, node.id);
        }
        if let Some((count, free)) = seat {
            self.room.entry(count).or_default().insert((free, Reverse(node.id)));
        }
    }

    /// A node is gone, and nothing is on it.
    pub(crate) fn without_node(&mut self, node: Id<Node>) {
        let seat = self.loads.remove(&node).and_then(|load| load.seat);
        if let Some((count, free)) = seat {
            self.unseat(count, free, node);
        }
    }

    fn unseat(&mut self, count: usize, free: u64, node: Id<Node>) {
        let seats = self.room.entry(count).or_default();
        seats.remove(&(free, Reverse(node)));
        if seats.is_empty() {
            self.room.remove(&count);
        }
    }

    /// An instance is new, or what is desired of it changed.
    pub(crate) fn instance(
        &mut self,
        instance: &Resource<Instance>,
        node: Option<&Resource<Node>>,
    ) {
        let (id, desired) = (instance.id, instance.spec.desired);
        if desired != Desired::Running {
            self.leaving.insert(id, desired);
        }
        for mount in &instance.spec.mounts {
            self.users.insert(mount.volume, id);
        }
        let Some(node) = node else { return };
        let load = self.loads.entry(node.id).or_default();
        if load.instances.insert(id, desired).is_none() {
            let footprint = footprint_bytes(instance.spec.memory_bytes);
            load.memory_bytes = load.memory_bytes.saturating_add(footprint);
            self.node(node);
        }
    }

    /// An instance was forgotten.
    pub(crate) fn forget(&mut self, instance: &Resource<Instance>, node: Option<&Resource<Node>>) {
        self.leaving.remove(&instance.id);
        for mount in &instance.spec.mounts {
            if self.users.get(&mount.volume) == Some(&instance.id) {
                self.users.remove(&mount.volume);
            }
        }
        let Some(node) = node else { return };
        let load = self.loads.entry(node.id).or_default();
        if load.instances.remove(&instance.id).is_some() {
            let footprint = footprint_bytes(instance.spec.memory_bytes);
            load.memory_bytes = load.memory_bytes.saturating_sub(footprint);
            self.node(node);
        }
    }

    /// An endpoint has this exposure, or will have.
    pub(crate) fn claim(&mut self, exposure: &Exposure, endpoint: Id<Endpoint>) {
        if let Some(port) = exposure.port() {
            self.ports.insert(port, endpoint);
        }
    }

    /// An endpoint gives up what is its own.
    pub(crate) fn release(&mut self, exposure: &Exposure, endpoint: Id<Endpoint>) {
        if let Some(port) = exposure.port()
            && self.ports.get(&port) == Some(&endpoint)
        {
            self.ports.remove(&port);
        }
    }
}
