//! What a run may contain. Everything else is drawn from the seed.

use crate::{Canary, Known};

/// How a run is made, beside its seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A rule broken on purpose.
    pub canary: Option<Canary>,
    /// A known bug that is let happen; all others are steered around, so that
    /// they do not hide what is not known yet.
    pub let_happen: Option<Known>,
    /// How many steps before a failure are told; 0 keeps none, which is faster.
    pub trace_steps: usize,
}
