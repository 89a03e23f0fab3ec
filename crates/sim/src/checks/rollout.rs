//! A rollout takes nothing away: no ready instance is retired while that leaves
//! fewer ready ones than are wanted. Together with `settled`: a failed deploy
//! never leaves fewer ready instances than before it.

use helix_model::instance::{Desired, Instance, Phase};
use helix_model::{Event, Resource, State};

use super::{Failed, fail};

const NAME: &str = "rollout";

pub(crate) fn happened(failed: &mut Failed, before: &State, after: &State, event: &Event) {
    let Event::InstanceDesiredChanged(changed) = event else { return };
    let Some(retired) = before.instances.get(changed.of.id) else { return };
    if !serves(retired) {
        return;
    }
    let (env, process) = (retired.spec.env, &retired.spec.process);
    let ready = after
        .instances
        .children(env.any())
        .filter(|it| it.spec.process == *process && serves(it))
        .count();
    let wanted = wanted(before, retired);
    if ready < wanted {
        let name = &retired.name;
        fail(failed, NAME, || {
            format!("{name} of {env} was ready and is retired: {ready} of {wanted} are left")
        });
    }
}

fn serves(instance: &Resource<Instance>) -> bool {
    instance.spec.desired == Desired::Running && instance.status.observed.phase == Phase::Ready
}

/// How many of the instance's process there should be.
fn wanted(state: &State, instance: &Resource<Instance>) -> usize {
    let Some(env) = state.envs.get(instance.spec.env) else { return 0 };
    if state.destroying_since(env.id.any()).is_some() {
        return 0;
    }
    // One that waits for its release command has not begun to replace anything.
    let rolling = env.spec.rolling.and_then(|deploy| state.deploys.get(deploy));
    let rolling = rolling.filter(|deploy| !deploy.awaits_release_command(state));
    let target = rolling.map(|deploy| deploy.spec.release).or(env.status.release);
    let process = target
        .and_then(|release| state.releases.get(release))
        .and_then(|release| release.spec.manifest.processes.get(&instance.spec.process));
    let scaled = env.spec.scale.get(&instance.spec.process).copied();
    // One with a volume has to go before its successor can come.
    let process = process.filter(|process| process.mounts.is_empty());
    process.map_or(0, |process| scaled.unwrap_or(process.scaling.min) as usize)
}
