//! Snapshots on a real machine: of one moment, whole or not at all, and never in the
//! way of whoever writes for longer than allowed.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use helix_model::plan::{InstancePlan, SnapshotPlan, SourcePlan, VolumePlan};
use helix_model::snapshot::{Observed, Phase};
use helix_model::volume::{self, Mount};
use helix_model::{Id, Reason, Snapshot, Timestamp, Volume, instance};
use helix_node::Stop;

use crate::tests::leave;
use crate::volumes::volume;
use crate::world::{DEADLINE, World, eventually};

const GIBI: u64 = 1 << 30;

fn snapshot(number: u64) -> SnapshotPlan {
    SnapshotPlan {
        id: Id::new(Timestamp(1_790_000_000_000), number.into()),
        volume: volume().id,
        is_settled: false,
        pause_max_ms: 30_000,
        backup: false,
    }
}

/// Another volume, made from the snapshot.
fn copy(from: Id<Snapshot>, sha256: &str) -> VolumePlan {
    VolumePlan {
        id: Id::new(Timestamp(1_790_000_000_000), 8),
        size_bytes: 2 * GIBI,
        made: false,
        source: Some(SourcePlan { snapshot: from, sha256: sha256.to_owned(), backup: false }),
    }
}

impl World {
    async fn snapshot_is(&self, id: Id<Snapshot>, phase: Phase) -> Observed {
        let mut seen = self.agent.snapshots();
        let search = seen.wait_for(|all| all.get(&id).is_some_and(|it| it.phase == phase));
        let found = tokio::time::timeout(DEADLINE, search).await;
        let seen = self.agent.snapshots().borrow().clone();
        assert!(found.is_ok(), "never {phase:?}: {seen:?}");
        seen[&id].clone()
    }

    fn snapshot_disk(&self, id: Id<Snapshot>) -> PathBuf {
        self.place.data_dir.join("snapshots").join(id.to_string()).join("disk.img")
    }

    /// Whether anything can still be written to the volume, within a second.
    fn is_frozen(&self, id: Id<Volume>) -> bool {
        let file = self.place.data_dir.join("volumes").join(id.to_string()).join("mount/probe");
        let touched = Command::new("timeout").args(["-s", "KILL", "1", "touch"]).arg(file).status();
        !touched.unwrap().success()
    }

    /// An instance with the number, ready, that has written it to the volume.
    async fn with_data(&mut self) -> InstancePlan {
        self.volumes = vec![volume()];
        let plan = self.keeper(1);
        self.apply(&[&plan]);
        self.keeps(&plan, "1").await;
        plan
    }
}

pub(crate) async fn a_snapshot_shows_one_moment_and_becomes_another_volume() {
    let mut world = World::new().await;
    let first = world.with_data().await;
    world.snapshots = vec![snapshot(1)];
    world.apply(&[&first]);
    let taken = world.snapshot_is(snapshot(1).id, Phase::Available).await;
    assert!(taken.stored_bytes.is_some_and(|it| it < GIBI / 4), "holes take nothing: {taken:?}");
    assert!(taken.paused_ms.is_some_and(|it| it < 30_000), "{taken:?}");
    // What comes later is not in it.
    world.kill(world.place.pid(first.id));
    let again =
        |seen: &instance::Observed| seen.phase == instance::Phase::Ready && seen.restarts == 1;
    world.until(&first, "ready again", again).await;
    world.keeps(&first, "1\n1").await;

    let copy = copy(snapshot(1).id, &taken.sha256.unwrap());
    world.volumes.push(copy.clone());
    let mount = Mount { volume: copy.id, path: "/data".to_owned(), read_only: false };
    let second = InstancePlan { mounts: vec![mount], ..world.keeper(2) };
    world.apply(&[&first, &second]);
    world.keeps(&second, "1\n2").await;
    world.keeps(&first, "1\n1").await;
    let grown = world.agent.volumes().borrow()[&copy.id].size_bytes;
    assert_eq!(grown, Some(2 * GIBI));

    // An agent that begins again does not take it again.
    world.restart_agent().await;
    world.apply(&[&first, &second]);
    let again = world.snapshot_is(snapshot(1).id, Phase::Available).await;
    assert_eq!(again.taken_at, taken.taken_at);

    world.snapshots.clear();
    world.removing_snapshots = vec![snapshot(1)];
    world.apply(&[&first, &second]);
    world.snapshot_is(snapshot(1).id, Phase::Removed).await;
    assert!(!world.snapshot_disk(snapshot(1).id).parent().unwrap().exists());
    world.keeps(&second, "1\n2").await;
    leave(world, &[&first, &second]).await;
}

pub(crate) async fn writers_do_not_wait_longer_than_allowed() {
    let mut world = World::new().await;
    let plan = world.with_data().await;
    world.snapshots = vec![SnapshotPlan { pause_max_ms: 0, ..snapshot(1) }];
    world.apply(&[&plan]);
    let failed = world.snapshot_is(snapshot(1).id, Phase::Failed).await;
    assert_eq!(failed.reason, Some(Reason::SnapshotFailed));
    assert!(failed.message.unwrap().starts_with("quiesce_failed: "));
    assert!(!world.is_frozen(volume().id));
    assert!(!world.snapshot_disk(snapshot(1).id).parent().unwrap().exists(), "nothing is left");

    // While nobody has the volume there is nobody to wait.
    world.apply(&[]);
    world.gone(&plan).await;
    world.snapshots = vec![SnapshotPlan { pause_max_ms: 0, ..snapshot(2) }];
    world.apply(&[]);
    let taken = world.snapshot_is(snapshot(2).id, Phase::Available).await;
    assert_eq!(taken.paused_ms, Some(0));
    leave(world, &[]).await;
}

pub(crate) async fn a_damaged_snapshot_becomes_no_volume() {
    let mut world = World::new().await;
    let plan = world.with_data().await;
    world.snapshots = vec![snapshot(1)];
    world.apply(&[&plan]);
    let taken = world.snapshot_is(snapshot(1).id, Phase::Available).await;
    let disk = std::fs::File::options();
    let disk = disk.clone().write(true).open(world.snapshot_disk(snapshot(1).id)).unwrap();
    disk.write_all_at(b"other", 1_100).unwrap();
    let copy = copy(snapshot(1).id, &taken.sha256.unwrap());
    world.volumes.push(copy.clone());
    world.apply(&[&plan]);
    let mut seen = world.agent.volumes();
    let failed = |it: &volume::Observed| it.reason == Some(Reason::IntegrityCheckFailed);
    let search = seen.wait_for(|all| all.get(&copy.id).is_some_and(failed));
    assert!(tokio::time::timeout(DEADLINE, search).await.is_ok(), "never told");
    let dir = world.place.data_dir.join("volumes").join(copy.id.to_string());
    eventually("nothing to be left of it", || {
        !dir.join("disk.img").exists() && !dir.join("disk.img.next").exists()
    })
    .await;
    leave(world, &[&plan]).await;
}

pub(crate) async fn what_an_agent_left_frozen_is_let_go() {
    let mut world = World::new().await;
    let plan = world.with_data().await;
    world.agent.shutdown(Stop::Detach).await;
    let point = world.place.data_dir.join("volumes").join(volume().id.to_string()).join("mount");
    assert!(Command::new("fsfreeze").arg("-f").arg(&point).status().unwrap().success());
    assert!(world.is_frozen(volume().id), "or this test tests nothing");
    world.restart_agent().await;
    assert!(!world.is_frozen(volume().id));
    world.apply(&[&plan]);
    world.keeps(&plan, "1").await;
    leave(world, &[&plan]).await;
}
