//! Volumes: making them and letting them grow.

use helix_model::Receipt;
use helix_model::api::{BackupsRequest, ResizeRequest, SnapshotRequest, VolumeRequest};
use helix_model::reference::Scope;

use crate::{Client, Result};

impl Client {
    /// Makes a volume in the org of the scope.
    pub async fn create_volume(&self, request: &VolumeRequest, scope: &Scope) -> Result<Receipt> {
        self.change(&["v1", "volumes"], scope, request).await
    }

    /// Lets a volume hold more.
    pub async fn resize_volume(
        &self,
        reference: &str,
        request: &ResizeRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "volumes", reference, "resize"], scope, request).await
    }

    /// Has a volume backed up at times, or no longer.
    pub async fn set_backups(
        &self,
        reference: &str,
        request: &BackupsRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "volumes", reference, "backups"], scope, request).await
    }

    /// Takes a snapshot of a volume.
    pub async fn create_snapshot(
        &self,
        request: &SnapshotRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "snapshots"], scope, request).await
    }
}
