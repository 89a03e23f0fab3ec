//! The last plan on disk, so that an edge serves after a restart with the
//! control plane gone.
//!
//! Written by its own task, the latest plan only, so that a slow disk delays
//! neither traffic nor the next plan.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use helix_model::plan::EdgePlan;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Writes plans to disk. Ends, after the last write, when dropped by [`SavedPlan::finish`].
#[derive(Debug)]
pub(crate) struct SavedPlan {
    latest: watch::Sender<Option<Arc<EdgePlan>>>,
    writer: JoinHandle<()>,
}

impl SavedPlan {
    pub(crate) fn start(path: PathBuf) -> SavedPlan {
        let (latest, mut plans) = watch::channel(None);
        let writer = tokio::spawn(async move {
            while plans.changed().await.is_ok() {
                let plan: Option<Arc<EdgePlan>> = plans.borrow_and_update().clone();
                let Some(plan) = plan else { continue };
                let target = path.clone();
                let written = tokio::task::spawn_blocking(move || write(&target, &plan)).await;
                if let Ok(Err(error)) = written {
                    tracing::warn!(path = %path.display(), %error, "cannot keep the plan on disk");
                }
            }
        });
        SavedPlan { latest, writer }
    }

    pub(crate) fn keep(&self, plan: Arc<EdgePlan>) {
        self.latest.send_replace(Some(plan));
    }

    /// Waits until the latest plan is on disk.
    pub(crate) async fn finish(self) {
        drop(self.latest);
        // A panic in the writer has been logged by the runtime; there is
        // nothing left to do about it here.
        let _ = self.writer.await;
    }
}

/// The plan on disk. A file that is absent or unreadable is no plan: traffic
/// starts with the next one from the control plane.
pub(crate) fn load(path: &Path) -> Option<EdgePlan> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the last plan");
            return None;
        }
    };
    serde_json::from_slice(&bytes)
        .inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "the last plan is damaged");
        })
        .ok()
}

/// Replaces the file in one step: a crash leaves the old plan or the new one.
fn write(path: &Path, plan: &EdgePlan) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(plan)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_latest_plan_is_found_again_and_damage_is_no_plan() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.json");
        assert_eq!(load(&path), None);
        let saved = SavedPlan::start(path.clone());
        for version in 1..=3 {
            saved.keep(Arc::new(EdgePlan { version, ..EdgePlan::default() }));
        }
        saved.finish().await;
        assert_eq!(load(&path).unwrap().version, 3);
        fs::write(&path, "{").unwrap();
        assert_eq!(load(&path), None);
    }
}
