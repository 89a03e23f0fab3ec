//! Faults: what goes wrong, when, and for how long; and how all of it heals.

use helix_model::{Id, Instance, Reason};

use super::World;
use super::happening::{Happening, Place, Trouble};
use super::node::Node;

/// A kind of fault. Each seed draws which of them it has, because a run with
/// everything at once rarely gets far enough to show anything subtle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    ReplicaCrash,
    Partition,
    SlowNetwork,
    AgentCrash,
    MachineCrash,
    MachineAway,
    EdgeCrash,
    ProgramKilled,
    Unhealthy,
    FullDisk,
    RegistryDown,
    ClockJump,
}

impl Fault {
    pub(crate) const ALL: [Fault; 12] = [
        Fault::ReplicaCrash,
        Fault::Partition,
        Fault::SlowNetwork,
        Fault::AgentCrash,
        Fault::MachineCrash,
        Fault::MachineAway,
        Fault::EdgeCrash,
        Fault::ProgramKilled,
        Fault::Unhealthy,
        Fault::FullDisk,
        Fault::RegistryDown,
        Fault::ClockJump,
    ];
}

/// How long a machine is away whose instances may begin elsewhere meanwhile; also
/// beyond the end of all other trouble.
const AWAY_MS: (u64, u64) = (45_000, 180_000);

/// Memory of the node that joins when all heals, so that there is room for all.
const SPARE_NODE_BYTES: u64 = 64 << 30;

impl World {
    pub(crate) fn fault(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        let pause = self.random.between(200, self.fault_pause_ms);
        self.agenda.plan(pause, Happening::Fault);
        let Some(fault) = self.random.pick(&self.faults) else { return };
        self.summary.faults += 1;
        let lasts = self.random.between(50, 12_000);
        let replica = self.random.index(self.replicas.len());
        let node = self.random.index(self.nodes.len());
        self.tell(|| format!("fault: {fault:?} (replica {replica}, node {node}, {lasts} ms)"));
        match fault {
            Fault::ReplicaCrash => {
                self.crash_replica(replica);
                self.agenda.plan(lasts / 4, Happening::StartReplica(replica));
            }
            Fault::AgentCrash => {
                self.crash_agent(node);
                self.agenda.plan(lasts / 4, Happening::StartAgent { node });
            }
            Fault::MachineCrash => {
                self.crash_machine(node);
                self.agenda.plan(lasts, Happening::StartAgent { node });
            }
            Fault::MachineAway => {
                self.crash_machine(node);
                let lasts = self.random.between(AWAY_MS.0, AWAY_MS.1);
                self.nodes[node].away_until = self.agenda.now + lasts;
                self.agenda.plan(lasts, Happening::StartAgent { node });
            }
            Fault::EdgeCrash => {
                let edge = self.random.index(self.edges.len());
                self.crash_edge(edge);
                self.agenda.plan(lasts / 4, Happening::StartEdge { edge });
            }
            Fault::ClockJump => {
                let limit = self.skew_max_ms;
                let drawn = self.random.between(0, 2 * limit);
                let skew = i64::try_from(drawn).unwrap_or(0) - i64::try_from(limit).unwrap_or(0);
                self.replicas[replica].skew_ms = skew;
            }
            Fault::ProgramKilled => {
                let cause = self.random.pick(&[Reason::WorkloadExited, Reason::OomKilled]);
                if let Some(id) = self.some_body(node) {
                    self.body_suffers(node, id, cause);
                }
            }
            _ => self.lasting(fault, replica, node, lasts),
        }
    }

    fn lasting(&mut self, fault: Fault, replica: usize, node: usize, lasts: u64) {
        let trouble = match fault {
            Fault::Partition => {
                let (one, other) = self.some_pair(replica, node);
                self.network.block(one, other);
                Trouble::Partition(one, other)
            }
            Fault::SlowNetwork => {
                self.network.slow = true;
                Trouble::SlowNetwork
            }
            Fault::FullDisk => {
                self.nodes[node].disk_full = true;
                Trouble::FullDisk(node)
            }
            Fault::RegistryDown => {
                self.nodes[node].registry_down = true;
                Trouble::RegistryDown(node)
            }
            _ => {
                let Some(instance) = self.some_body(node) else { return };
                self.body_suffers(node, instance, None);
                return;
            }
        };
        self.agenda.plan(lasts, Happening::Over(trouble));
    }

    fn some_pair(&mut self, replica: usize, node: usize) -> (Place, Place) {
        let edge = Place::Edge(self.random.index(self.edges.len()));
        let pairs = [
            (Place::Replica(replica), Place::Store),
            (Place::Replica(replica), Place::Node(node)),
            (Place::Replica(replica), edge),
            (Place::Replica(replica), Place::People),
            (edge, Place::Node(node)),
        ];
        pairs[self.random.index(pairs.len())]
    }

    fn some_body(&mut self, node: usize) -> Option<Id<Instance>> {
        let ids: Vec<_> = self.nodes[node].bodies.keys().copied().collect();
        self.random.pick(&ids)
    }

    pub(crate) fn over(&mut self, trouble: Trouble) {
        self.tell(|| format!("over: {trouble:?}"));
        match trouble {
            Trouble::Partition(one, other) => self.network.unblock(one, other),
            Trouble::SlowNetwork => self.network.slow = false,
            Trouble::FullDisk(node) => self.nodes[node].disk_full = false,
            Trouble::RegistryDown(node) => self.nodes[node].registry_down = false,
        }
    }

    /// All faults end, everything starts that does not run, and there is room.
    pub(crate) fn heal(&mut self) {
        self.tell(|| "all heals".to_owned());
        self.healed_at = Some(self.agenda.now);
        self.network.calm();
        if let Ok(name) = "spare".parse() {
            self.nodes.push(Node::new(name, SPARE_NODE_BYTES));
        }
        for replica in 0..self.replicas.len() {
            self.start_replica(replica);
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].disk_full = false;
            self.nodes[node].registry_down = false;
            self.start_agent(node);
        }
        for edge in 0..self.edges.len() {
            self.start_edge(edge);
        }
        self.agenda.plan(1000, Happening::Look);
    }
}
