//! What a run may contain. Everything else is drawn from the seed.

use crate::Canary;

/// How a run is made, beside its seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A rule broken on purpose.
    pub canary: Option<Canary>,
    /// How many steps before a failure are told; 0 keeps none, which is faster.
    pub trace_steps: usize,
}
