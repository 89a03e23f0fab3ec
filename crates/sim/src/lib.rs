//! A deterministic simulator of the whole platform: the real `model` and
//! `control`, and round them a fake clock, log, network, nodes, edge and people,
//! all driven by one seed.
//!
//! Start from [`run`]. [`world`] holds the fakes, one file each; [`checks`] the
//! checkers, one file each; [`Canary`] the rules broken on purpose that prove
//! the checkers can fail. A run draws a cluster, a workload and faults; safety
//! is checked at every step, then faults heal and liveness must follow.
//!
//! It must not know the production shells (`server`, `node`, `edge`); the fakes
//! follow their contracts. Nothing here reads a clock, a thread's timing or a
//! hash map's order: the same seed is the same run.

mod agenda;
mod canary;
mod checks;
mod options;
mod random;
mod world;

use std::fmt;

pub use canary::Canary;
pub use options::Options;

/// A run in which a checker noticed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub seed: u64,
    /// The checker's name.
    pub checker: &'static str,
    pub message: String,
    /// Simulated time of the failure, milliseconds from the beginning.
    pub at_ms: u64,
    /// The last steps before it, oldest first.
    pub steps: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        let Failure { seed, checker, message, at_ms, .. } = self;
        write!(f, "seed {seed}: {checker}: {message} (at {at_ms} ms; replay with --seed {seed})")
    }
}

/// What a run without failure was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Happenings carried out.
    pub steps: u64,
    /// Entries in the log at the end.
    pub entries: u64,
    /// Faults injected.
    pub faults: u64,
    /// Deploys asked for.
    pub deploys: u64,
    /// Simulated time, milliseconds.
    pub took_ms: u64,
    /// A digest of everything that was written, to compare two runs by.
    pub digest: u64,
}

/// Plays one seed through.
///
/// # Errors
/// The first thing a checker noticed.
pub fn run(seed: u64, options: Options) -> Result<Summary, Box<Failure>> {
    world::World::new(seed, options).run()
}
