//! Canaries: rules broken on purpose, each to be caught by one checker.
//!
//! A checker nobody has seen fail proves nothing. Chosen at run time, so that
//! one build of the tests can try them all.

/// A deliberately broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A replica answers before its append has returned.
    AnswerEarly,
    /// Receipts are not looked up, so a repeated request is decided again.
    ForgetReceipts,
    /// Edge plans have tunnels that are out of use.
    DisabledTunnel,
    /// Every instance gets the same address.
    OneAddress,
    /// Nodes claim four times the memory they have.
    BoastMemory,
    /// A node goes on running what its plan no longer has.
    IgnoreAbsence,
    /// Edge plans name one more backend, of another env.
    ForeignBackend,
    /// A ready instance is retired now and then for no reason.
    RetireReady,
    /// Draining instances are told to stop at once.
    StopDraining,
    /// A replica that follows leaves out an event.
    SkipEvent,
    /// Deploys are never finished.
    NeverFinish,
    /// No instance is ever called for once all is well.
    NeverAllocate,
    /// Instances of a release are called for while its command still runs.
    CommandIgnored,
    /// A bare rollback goes to the release that is serving already.
    RollbackNowhere,
    /// An instance also gets the volumes that another one has.
    SharedVolume,
    /// What a node has taken is gone when its agent ends.
    LostSnapshots,
    /// The numbers of links are ignored: in reports, in news that one is gone,
    /// and by the replica that holds an older one.
    UnfencedLink,
    /// What one edge has drained counts as drained at all of them.
    OneEdgeSpeaks,
}

impl Canary {
    /// All of them, with the name of the checker that must notice.
    pub const ALL: [(Canary, &'static str); 18] = [
        (Canary::AnswerEarly, "acknowledged"),
        (Canary::ForgetReceipts, "acknowledged"),
        (Canary::DisabledTunnel, "tunnels"),
        (Canary::OneAddress, "owners"),
        (Canary::BoastMemory, "memory"),
        (Canary::IgnoreAbsence, "absence"),
        (Canary::ForeignBackend, "routes"),
        (Canary::RetireReady, "rollout"),
        (Canary::StopDraining, "grace"),
        (Canary::SkipEvent, "replay"),
        (Canary::NeverFinish, "ends"),
        (Canary::NeverAllocate, "settled"),
        (Canary::CommandIgnored, "release_command"),
        (Canary::RollbackNowhere, "rollback"),
        (Canary::SharedVolume, "volumes"),
        (Canary::LostSnapshots, "snapshots"),
        (Canary::UnfencedLink, "settled"),
        (Canary::OneEdgeSpeaks, "grace"),
    ];
}
