//! What listeners and connections share: the table in force, the counters and
//! the two stages of stopping.

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::stats::Counters;
use crate::table::Table;

/// Shared by everything that handles traffic.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) table: ArcSwap<Table>,
    pub(crate) counters: Counters,
    /// Every task that accepts or carries traffic.
    pub(crate) tasks: TaskTracker,
    /// Take no more work; what is open goes on.
    pub(crate) draining: CancellationToken,
    /// Close what is open.
    pub(crate) closing: CancellationToken,
}
