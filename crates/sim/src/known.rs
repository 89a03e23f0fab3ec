//! Bugs the simulator has found and that are not fixed yet.
//!
//! Each is steered around by default (mostly by doing what would fix it) and
//! can be let happen, which keeps a seed that shows it. Once fixed, the variant
//! goes and the seed stays in `tests/seeds.rs`. `docs/simulation.md` tells each
//! story.

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A TCP port that moves to another endpoint name has two owners while the
    /// deploy rolls.
    MovedPort,
    /// A restarted agent does not name what it has adopted as present, so the
    /// control plane takes it for never begun.
    QuietAdoption,
    /// An instance that was never heard of is forgotten, and its memory given
    /// away, while its node may be starting it.
    ForgottenProgram,
    /// Proposals of reconcilers are carried out although what they were based
    /// on has changed.
    StaleProposal,
    /// A start that fails for a reason of the machine's counts as a crash of
    /// the program, after which nothing starts it again.
    MachineAtFault,
    /// An instance that has ended for good counts as one of its release's, so
    /// that the release before it is never replaced in full.
    EndedInTheWay,
    /// The host a deploy moves an endpoint to is not kept for it; once another
    /// env has taken it, the deploy can no longer succeed.
    HostNotKept,
    /// Deploys are put in order by their ids, which follow the clocks of the
    /// replicas; a bare rollback then goes to the wrong release.
    SkewedIds,
    /// What a replica that lags behind decides to be no news is not checked
    /// against the log, although the log may know better.
    LaggingReplica,
    /// A report that could not be appended is dropped, and nobody repeats it.
    DroppedReport,
}

impl Known {
    /// All of them, by the name used on the command line.
    pub const ALL: [(&'static str, Known); 10] = [
        ("moved-port", Known::MovedPort),
        ("quiet-adoption", Known::QuietAdoption),
        ("forgotten-program", Known::ForgottenProgram),
        ("stale-proposal", Known::StaleProposal),
        ("machine-at-fault", Known::MachineAtFault),
        ("ended-in-the-way", Known::EndedInTheWay),
        ("host-not-kept", Known::HostNotKept),
        ("skewed-ids", Known::SkewedIds),
        ("lagging-replica", Known::LaggingReplica),
        ("dropped-report", Known::DroppedReport),
    ];

    /// The bug of this name.
    pub fn named(name: &str) -> Option<Known> {
        Known::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, bug)| bug)
    }
}
