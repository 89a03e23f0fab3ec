//! Volumes on a real machine: made once, kept whatever happens to agent and
//! programs, gone only when told.

use std::process::Command;

use helix_model::instance::Phase;
use helix_model::plan::{InstancePlan, VolumePlan};
use helix_model::volume::{self, Mount};
use helix_model::{Id, Reason, Timestamp, Volume};
use helix_node::{Isolation, Stop};

use crate::tests::leave;
use crate::world::{DEADLINE, World, eventually};

const GIBI: u64 = 1 << 30;

pub(crate) fn volume() -> VolumePlan {
    VolumePlan {
        id: Id::new(Timestamp(1_790_000_000_000), 7),
        size_bytes: GIBI,
        made: false,
        source: None,
    }
}

impl World {
    /// An instance that adds its number to a file on the volume.
    pub(crate) fn keeper(&self, number: u64) -> InstancePlan {
        let mount = Mount { volume: volume().id, path: "/data".to_owned(), read_only: false };
        let word = format!("{number}\n");
        InstancePlan {
            mounts: vec![mount],
            ..self.instance(number, &["keep", "/data/file", &word])
        }
    }

    /// Waits until the instance sees this in the file.
    pub(crate) async fn keeps(&self, plan: &InstancePlan, wanted: &str) {
        self.ready(plan).await;
        let begun = std::time::Instant::now();
        loop {
            let kept = self.run(plan.id, &["read", "/data/file"]).await;
            if kept == wanted {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{kept:?} and not {wanted:?}");
        }
    }

    async fn volume_is(&self, what: &str, wanted: impl Fn(&volume::Observed) -> bool) {
        let mut seen = self.agent.volumes();
        let id: Id<Volume> = volume().id;
        let search = seen.wait_for(|all| all.get(&id).is_some_and(&wanted));
        let found = tokio::time::timeout(DEADLINE, search).await;
        assert!(
            found.is_ok(),
            "never seen: {what}; last seen: {:?}",
            self.agent.volumes().borrow()
        );
    }

    fn mounted(&self) -> Vec<String> {
        let place = self.place.data_dir.join("volumes").display().to_string();
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
        table.lines().filter(|line| line.contains(&place)).map(str::to_owned).collect()
    }
}

pub(crate) async fn a_volume_outlives_its_instances_and_goes_when_told() {
    let mut world = World::new().await;
    assert!(world.agent.facts().volumes.is_some_and(|it| it.size_enforced));
    world.volumes = vec![volume()];
    let (first, second) = (world.keeper(1), world.keeper(2));
    world.apply(&[&first]);
    world.keeps(&first, "1").await;
    world.volume_is("available", |it| it.phase == volume::Phase::Available).await;
    assert_eq!(world.mounted().len(), 1);
    world.apply(&[]);
    world.gone(&first).await;
    eventually("it to be unmounted", || world.mounted().is_empty()).await;

    world.apply(&[&second]);
    world.keeps(&second, "1\n2").await;
    world.restart_agent().await;
    world.keeps(&second, "1\n2").await;
    let pid = world.place.pid(second.id);
    world.kill(pid);
    let again =
        |seen: &helix_model::instance::Observed| seen.phase == Phase::Ready && seen.restarts == 1;
    world.until(&second, "ready again", again).await;
    world.keeps(&second, "1\n2\n2").await;

    // A plan that does not name it touches nothing.
    world.volumes.clear();
    world.apply(&[]);
    world.gone(&second).await;
    world.volumes = vec![VolumePlan { made: true, ..volume() }];
    let third = world.keeper(3);
    world.apply(&[&third]);
    world.keeps(&third, "1\n2\n2\n3").await;
    world.apply(&[]);
    world.gone(&third).await;

    world.volumes.clear();
    world.removing = vec![volume().id];
    world.apply(&[]);
    world.volume_is("removed", |it| it.phase == volume::Phase::Removed).await;
    assert!(!world.place.data_dir.join("volumes").join(volume().id.to_string()).exists());
    leave(world, &[]).await;
}

pub(crate) async fn an_agent_killed_at_any_moment_loses_no_volume() {
    let mut world = World::new().await;
    world.agent.shutdown(Stop::Detach).await;
    world.volumes = vec![volume()];
    let plans: Vec<InstancePlan> = (1..=11).map(|number| world.keeper(number)).collect();
    for (life_ms, plan) in [20, 40, 60, 80, 100, 130, 160, 200, 300, 400].into_iter().zip(&plans) {
        // Between two lives it leaves and comes back, so that stops are cut short too.
        let some: &[&InstancePlan] = if life_ms % 40 == 0 { &[] } else { &[plan] };
        world.killed_after(some, life_ms).await;
    }
    world.restart_agent().await;
    let plan = &plans[10];
    world.apply(&[plan]);
    let size = world.volumes[0].size_bytes;
    world.volume_is("large enough", |it| it.size_bytes == Some(size)).await;
    world.ready(plan).await;
    let kept = world.run(plan.id, &["read", "/data/file"]).await;
    assert!(kept.lines().all(|line| line.parse::<u64>().is_ok()), "{kept:?}");
    world.apply(&[]);
    world.gone(plan).await;
    eventually("it to be unmounted", || world.mounted().is_empty()).await;
    let disk = world.place.data_dir.join("volumes").join(volume().id.to_string()).join("disk.img");
    let checked = Command::new("e2fsck").args(["-f", "-n"]).arg(&disk).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    leave(world, &[]).await;
}

pub(crate) async fn a_volume_that_is_not_where_it_was_is_not_made_anew() {
    let mut world = World::new().await;
    world.volumes = vec![VolumePlan { made: true, ..volume() }];
    let plan = world.keeper(1);
    world.apply(&[&plan]);
    world.volume_is("damaged", |it| it.reason == Some(Reason::VolumeDamaged)).await;
    let seen = world.until(&plan, "the failure", |seen| seen.phase == Phase::Failed).await;
    assert_eq!(seen.reason, Some(Reason::VolumeDamaged));
    assert!(!world.place.data_dir.join("volumes").join(volume().id.to_string()).exists());
    leave(world, &[&plan]).await;
}

pub(crate) async fn two_instances_never_have_one_volume() {
    let mut world = World::new().await;
    world.volumes = vec![volume()];
    let (first, second) = (world.keeper(1), world.keeper(2));
    world.apply(&[&first]);
    world.ready(&first).await;
    world.apply(&[&first, &second]);
    let seen = world.until(&second, "the refusal", |seen| seen.phase == Phase::Failed).await;
    assert_eq!(seen.reason, Some(Reason::VolumeInUse));
    world.keeps(&first, "1").await;
    leave(world, &[&first, &second]).await;
}

pub(crate) async fn without_privileges_a_volume_is_a_directory() {
    let Some(mut world) = World::if_available(Isolation::ContainerRootless).await else {
        return;
    };
    assert!(world.agent.facts().volumes.is_some_and(|it| !it.size_enforced));
    world.volumes = vec![volume()];
    let (first, second) = (world.keeper(1), world.keeper(2));
    world.apply(&[&first]);
    world.keeps(&first, "1").await;
    world.volume_is("labelled", |it| !it.size_enforced).await;
    world.apply(&[]);
    world.gone(&first).await;
    world.apply(&[&second]);
    world.keeps(&second, "1\n2").await;
    leave(world, &[&second]).await;
}
