//! What holds whatever happens in whatever order.

use std::collections::BTreeSet;
use std::time::Duration;

use helix_control::place;
use helix_model::instance::{Desired, Phase};
use helix_model::{Instance, Reason, Resource};
use proptest::prelude::*;

use crate::world::{World, seen};

#[derive(Clone, Debug)]
enum Step {
    Deploy,
    Rollback,
    Scale(u32),
    /// The instance at this index (modulo how many there are) reports a phase.
    Report(usize, Phase),
    Fail(usize, Reason, u32),
    Drained(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let phase = prop_oneof![
        1 => Just(Phase::Pulling),
        1 => Just(Phase::Starting),
        4 => Just(Phase::Ready),
        1 => Just(Phase::Unready),
        1 => Just(Phase::Stopped),
    ];
    let reason = prop_oneof![
        Just(Reason::WorkloadExited),
        Just(Reason::HealthcheckFailed),
        Just(Reason::CrashLoopBackoff),
        Just(Reason::ImageNotFound),
    ];
    prop_oneof![
        2 => Just(Step::Deploy),
        1 => Just(Step::Rollback),
        1 => (0u32..5).prop_map(Step::Scale),
        8 => (any::<usize>(), phase).prop_map(|(index, phase)| Step::Report(index, phase)),
        2 => (any::<usize>(), reason, 0u32..4).prop_map(|(i, r, n)| Step::Fail(i, r, n)),
        2 => any::<usize>().prop_map(Step::Drained),
        1 => (0u64..20).prop_map(Step::Pass),
    ]
}

fn take(world: &mut World, step: &Step, releases: &mut u32) {
    let pick = |world: &World, index: usize| {
        let count = world.state.instances.len();
        (count > 0).then(|| world.state.instances.iter().nth(index % count).unwrap().id)
    };
    match step {
        Step::Deploy => {
            *releases += 1;
            world.deploy(&format!("v{releases}"));
        }
        // Refusals are part of the game.
        Step::Rollback => drop(world.rollback()),
        Step::Scale(count) => drop(world.try_scale("web", *count)),
        Step::Report(index, phase) => {
            if let Some(id) = pick(world, *index) {
                world.observe(id, seen(*phase));
            }
        }
        Step::Fail(index, reason, restarts) => {
            if let Some(id) = pick(world, *index) {
                let mut observed = seen(Phase::Failed);
                observed.reason = Some(*reason);
                observed.restarts = *restarts;
                world.observe(id, observed);
            }
        }
        Step::Drained(index) => {
            if let Some(id) = pick(world, *index) {
                let from = world.edge("front");
                world.mark_drained(from, id);
            }
        }
        Step::Pass(seconds) => world.pass(Duration::from_secs(*seconds)),
    }
}

fn check(world: &World, seen_addresses: &mut BTreeSet<(String, String)>) {
    let state = &world.state;
    for node in state.nodes.iter() {
        let capacity = node.status.facts.as_ref().map_or(0, |facts| facts.memory_bytes);
        assert!(place::used_bytes(state, node.id) <= capacity, "memory is oversold");
    }
    for instance in state.instances.iter() {
        seen_addresses.insert((instance.spec.address.to_string(), instance.id.to_string()));
    }
    let addresses: BTreeSet<_> = seen_addresses.iter().map(|(address, _)| address).collect();
    assert_eq!(addresses.len(), seen_addresses.len(), "an address has had two owners");
    for env in state.envs.iter() {
        let ready = |instance: &&Resource<Instance>| {
            instance.spec.desired == Desired::Running
                && instance.status.observed.phase == Phase::Ready
        };
        let seen = state.instances.children(env.id.any()).filter(ready).count();
        let counted: u32 = env.status.ready.values().flat_map(|it| it.values()).sum();
        assert_eq!(counted as usize, seen, "the env has counted its ready instances wrong");
    }
    let there: u64 = state.tallies.values().map(|tally| tally.present.instances).sum();
    assert_eq!(there, state.instances.len() as u64, "instances are miscounted");
    let hosts: BTreeSet<_> = state.hosts.values().collect();
    assert_eq!(hosts.len(), state.hosts.len(), "an endpoint has two hosts");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn safe_at_every_step_and_whole_again_once_all_is_well(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut world = World::with_node_of(3 << 30);
        let mut addresses = BTreeSet::new();
        let mut releases = 1;
        world.deploy("v1");
        for step in &steps {
            let ready = world.ready();
            let served = world.state.envs.iter().any(|env| env.status.release.is_some());
            take(&mut world, step, &mut releases);
            check(&world, &mut addresses);
            // Only what a person asked for, or the instances themselves, may
            // lower the number of ready ones; a deploy may not. (Before any
            // release has succeeded there is nothing to protect: a failed first
            // deploy leaves nothing, whatever the ones it took over had begun.)
            if served && matches!(step, Step::Deploy) {
                prop_assert!(world.ready() >= ready, "a deploy took ready instances away");
            }
        }
        // All is well from here on: what should run gets ready, what should
        // stop does, and time passes.
        for _ in 0..100 {
            world.report_all(Phase::Ready);
            let going: Vec<_> = world.state.instances.iter()
                .filter(|it| it.spec.desired != Desired::Running)
                .map(|it| it.id).collect();
            for id in going {
                let from = world.edge("front");
                world.mark_drained(from, id);
                world.observe(id, seen(Phase::Stopped));
            }
            world.pass(Duration::from_secs(1));
        }
        for env in world.state.envs.iter() {
            prop_assert!(env.spec.rolling.is_none(), "a deploy does not end");
            if let Some(release) = env.status.release {
                let process = &world.state.releases.get(release).unwrap().spec.manifest.processes;
                let (name, process) = process.iter().next().unwrap();
                let wanted = env.spec.scale.get(name).copied().unwrap_or(process.scaling.min);
                prop_assert_eq!(world.ready(), wanted as usize);
            }
        }
        prop_assert!(world.state.instances.iter().all(|it| it.spec.desired == Desired::Running));
        let written = serde_json::to_vec(&world.state).unwrap();
        let read: helix_model::State = serde_json::from_slice(&written).unwrap();
        prop_assert_eq!(read, world.state, "a snapshot is not the state it was made of");
    }
}
