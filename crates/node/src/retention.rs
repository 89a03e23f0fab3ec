//! What is kept of the instances' output: older segments are compressed, and go
//! when they are too old or too many. Start at [`keep`].
//!
//! Not the shim's work: it must stay small, and never wait for anything but the
//! write of a line.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use helix_runtime::logs::{Retention, tidy};
use tokio::sync::watch;

use crate::gone;
use crate::shared::{Shared, now};
use crate::supervisor::PlanSlot;

/// Between two looks. A shim keeps four segments of 8 MiB by itself, which a
/// program that writes 3 MB/s fills in this time; one that writes more loses the
/// oldest lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Tidies up until the agent is gone.
pub(crate) async fn keep(shared: Arc<Shared>, mut plans: watch::Receiver<PlanSlot>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            changed = plans.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        let instances_dir = shared.config.instances_dir();
        // A look that fails as a whole is told below; the next one tries again.
        let _ = tokio::task::spawn_blocking(move || tidy_all(&instances_dir)).await;
    }
}

fn tidy_all(instances_dir: &Path) {
    for found in gone::list(instances_dir) {
        if let Err(error) = tidy(&found.dir, Retention::default(), SystemTime::now()) {
            tracing::warn!(instance = %found.id, %error, "cannot tidy up its output");
        }
    }
    gone::prune(instances_dir, now());
}
