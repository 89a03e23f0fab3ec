//! What can happen: the entries of the agenda, and the messages on the wire.

use std::collections::BTreeSet;

use helix_model::instance::Observed;
use helix_model::plan::{EdgePlan, EdgeReport, NodePlan};
use helix_model::{Code, Id, Instance, Receipt, Snapshot, Volume, node, snapshot, volume};

/// A machine or a person, as the network sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Replica(usize),
    Node(usize),
    Edge(usize),
    People,
    Store,
}

/// One connection of a node or an edge to a replica; never used twice.
pub(crate) type Session = u64;

/// Something that is due. Every happening of a process carries the process's
/// life, so that what a crash left behind is recognised.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A replica's writer takes the commands that wait.
    Round {
        replica: usize,
        life: u32,
    },
    /// Its batch reaches the store.
    AppendArrives {
        replica: usize,
        life: u32,
    },
    /// The store's answer reaches it, or it has waited long enough.
    AppendDone {
        replica: usize,
        life: u32,
        outcome: Outcome,
    },
    /// It reads what others have appended.
    Follow {
        replica: usize,
        life: u32,
    },
    /// It looks at a new state: feeds plans, and reconciles if it may.
    Wake {
        replica: usize,
        life: u32,
    },
    /// Its slow tick.
    Tick {
        replica: usize,
        life: u32,
    },
    StartReplica(usize),
    Arrives {
        session: Option<Session>,
        from: Place,
        to: Place,
        message: Message,
    },
    /// One end of a session learns that it is over.
    Broken {
        session: Session,
        end: Place,
    },
    /// A machine dials a replica.
    Dial {
        machine: Place,
        life: u32,
    },
    /// An instance's next change, unless it changed otherwise meanwhile.
    Body {
        node: usize,
        instance: Id<Instance>,
        token: u64,
    },
    /// A node takes a snapshot, or sends a backup again.
    Take {
        node: usize,
        life: u32,
        snapshot: Id<Snapshot>,
        tries: u32,
    },
    StartAgent {
        node: usize,
    },
    StartEdge {
        edge: usize,
    },
    EdgeTick {
        edge: usize,
        life: u32,
    },
    EdgeSaved {
        edge: usize,
        life: u32,
        plan: Box<EdgePlan>,
    },
    Traffic,
    WorkEnds {
        edge: usize,
        instance: Id<Instance>,
        token: u64,
    },
    /// A person thinks of something to ask for.
    Wish,
    /// A person has waited long enough for an answer, or repeats themselves.
    Ask {
        wish: usize,
    },
    Fault,
    /// A fault is over.
    Over(Trouble),
    Heal,
    /// Once healed: is everything as it should be?
    Look,
}

/// How an append ended, as its writer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Appended,
    Stale,
    /// Nobody knows whether it took place.
    Unknown,
}

/// A lasting fault that ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Partition(Place, Place),
    SlowNetwork,
    FullDisk(usize),
    RegistryDown(usize),
}

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A node's first words: what it is and what it has.
    Hello {
        facts: Box<node::Facts>,
        present: BTreeSet<Id<Instance>>,
        current: Vec<(Id<Instance>, Observed)>,
    },
    Report(Id<Instance>, Observed),
    VolumeReport(Id<Volume>, volume::Observed),
    SnapshotReport(Id<Snapshot>, snapshot::Observed),
    /// A node has a backup, with this in it.
    KeepBackup(Id<Snapshot>, u64),
    /// Whether it is in the store now.
    BackupKept(Id<Snapshot>, bool),
    NodePlan(Box<NodePlan>),
    EdgeHello,
    EdgeReport(EdgeReport),
    EdgePlan(EdgePlan),
    Ask {
        wish: usize,
    },
    Answer {
        wish: usize,
        answer: Result<Box<Receipt>, Code>,
    },
}
