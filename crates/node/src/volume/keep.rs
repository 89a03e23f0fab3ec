//! The task that makes the volumes of the plan, makes them larger, and removes
//! those that it says are to go. What fails is tried again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use helix_model::plan::VolumePlan;
use helix_model::{Id, Volume};
use tokio::sync::watch;

use super::Volumes;
use crate::supervisor::PlanSlot;

/// A full disk or a busy mount may take a while to pass.
const AGAIN: Duration = Duration::from_secs(10);

/// Follows the plan for as long as there is one to follow.
pub(crate) async fn keep(volumes: Arc<Volumes>, mut plans: watch::Receiver<PlanSlot>) {
    let mut settled: HashSet<VolumePlan> = HashSet::new();
    let mut removed: HashSet<Id<Volume>> = HashSet::new();
    loop {
        let plan = plans.borrow_and_update().clone();
        let mut all = true;
        if let Some(plan) = plan {
            volumes.planned(&plan);
            settled.retain(|known| plan.volumes.contains(known));
            removed.retain(|id| plan.removing.contains(id));
            for volume in &plan.volumes {
                if settled.contains(volume) {
                    continue;
                }
                if volumes.settle(volume.clone()).await {
                    settled.insert(volume.clone());
                } else {
                    all = false;
                }
            }
            for id in &plan.removing {
                if !removed.contains(id) {
                    if volumes.remove(*id).await {
                        removed.insert(*id);
                    } else {
                        all = false;
                    }
                }
            }
        }
        let changed = plans.changed();
        let changed = match all {
            true => changed.await,
            false => tokio::time::timeout(AGAIN, changed).await.unwrap_or(Ok(())),
        };
        if changed.is_err() {
            return;
        }
    }
}
