//! What must follow once all is well: the checkers `ends` and `settled`.
//!
//! `ends`: every deploy is final. `settled`: every request is answered, every
//! replica has read the whole log, ready counts are as desired, nothing is left
//! over on any node, and the edge serves exactly what is ready.

use std::collections::BTreeSet;

use helix_control::place;
use helix_model::instance::{Desired, Instance, Phase};
use helix_model::{Env, Id, Name, Node, Release, Resource, Snapshot, State, Tunnel};

use super::World;
use super::body::{Behaviour, Doing};
use super::edge::Edge;
use super::happening::Happening;

/// Looks in a row that must find all well.
pub(crate) const LOOKS: u32 = 3;

/// How long it may take once all is healed: a deploy may time out, and after it
/// the one it gave way to must be rolled back.
const BOUND_MS: u64 = 900_000;

impl World {
    pub(crate) fn look(&mut self) {
        self.agenda.plan(1000, Happening::Look);
        let Some(missing) = self.unsettled() else {
            self.settled_looks += 1;
            return;
        };
        self.settled_looks = 0;
        if self.agenda.now > self.healed_at.unwrap_or(0) + BOUND_MS {
            self.checks.failed.get_or_insert(missing);
        }
    }

    /// What is not as it should be.
    fn unsettled(&self) -> Option<(&'static str, String)> {
        let settled = |message: String| Some(("settled", message));
        if let Some(wish) = self.wishes.iter().position(|wish| !wish.settled) {
            return settled(format!("wish {wish} gets no answer"));
        }
        let head = self.store.head();
        if let Some(late) = self.replicas.iter().position(|it| it.state.position != head) {
            return settled(format!("replica {late} does not follow the log"));
        }
        let state = &self.replicas.first()?.state;
        if let Some(id) = state.destroying.keys().next() {
            return settled(format!("{id} is never destroyed"));
        }
        for env in state.envs.iter() {
            if let Some(deploy) = env.spec.rolling {
                return Some(("ends", format!("{deploy} does not end")));
            }
            if let Some(message) = self.env_unsettled(state, env) {
                return settled(message);
            }
        }
        if let Some(left) = state.instances.iter().find(|it| it.spec.desired != Desired::Running) {
            let phase = left.status.observed.phase;
            return settled(format!("{} is {:?} and {phase:?}", left.id, left.spec.desired));
        }
        let known: BTreeSet<_> = state.instances.iter().map(|it| it.id).collect();
        let run: BTreeSet<_> = self.nodes.iter().flat_map(|it| it.bodies.keys().copied()).collect();
        if let Some(id) = known.symmetric_difference(&run).next() {
            return settled(format!("{id} is left over on one side"));
        }
        if let Some(node) = state.nodes.iter().find(|node| !node.status.connected) {
            return settled(format!("{} is not known to be connected", node.name));
        }
        if let Some(node) =
            state.nodes.iter().find(|it| it.is_draining() && has_movable(state, it.id))
        {
            return settled(format!("{} is never empty", node.name));
        }
        if let Some(message) = self.disks_unsettled(state) {
            return settled(message);
        }
        self.edge_unsettled(state).and_then(settled)
    }

    fn env_unsettled(&self, state: &State, env: &Resource<Env>) -> Option<String> {
        let running: Vec<_> = state
            .instances
            .children(env.id.any())
            .filter(|it| it.spec.desired == Desired::Running)
            .collect();
        let wanted = env.status.release.map(|release| wanted(state, env, release));
        let wanted = wanted.unwrap_or_default();
        // What cannot serve never takes over; such a release succeeds only
        // where nothing of it was wanted.
        if env.status.release.is_some_and(|release| !is_good(state, release)) {
            return None;
        }
        let stays = |instance: &Resource<Instance>| !instance.spec.mounts.is_empty();
        for instance in &running {
            // What has a volume waits for its node to take instances again.
            if stays(instance) && !takes_instances(state, instance) {
                return None;
            }
            if Some(instance.spec.release) != env.status.release {
                return Some(format!("{} is of another release than serves", instance.id));
            }
            if self.should_be_ready(state, instance) && !self.is_ready(instance) {
                let phase = instance.status.observed.phase;
                return Some(format!("{} is {phase:?} and not ready", instance.id));
            }
        }
        let count = |name: &Name| running.iter().filter(|it| it.spec.process == *name).count();
        let is_placeable = |name: &Name| {
            let release = env.status.release.and_then(|id| state.releases.get(id));
            let process = release.and_then(|it| it.spec.manifest.processes.get(name));
            process.is_none_or(|it| {
                it.mounts.is_empty() || place::seat(state, env.id, (name, it), &[]).is_ok()
            })
        };
        let wrong = wanted
            .iter()
            .find(|(name, count_wanted)| count(name) != *count_wanted && is_placeable(name));
        wrong.map(|(name, count_wanted)| {
            format!("{} of {count_wanted} {name} run in {}", count(name), env.id)
        })
    }

    /// Whether there is nothing wrong with the program itself.
    fn should_be_ready(&self, state: &State, instance: &Resource<Instance>) -> bool {
        let good = is_good(state, instance.spec.release);
        good && !self.has_ended(instance.id)
    }

    /// Whether its program ended by itself and its restart policy leaves it so.
    fn has_ended(&self, id: Id<Instance>) -> bool {
        let body = self.nodes.iter().find_map(|node| node.bodies.get(&id));
        body.is_some_and(|body| body.doing == Doing::Ended { own: true })
    }

    fn is_ready(&self, instance: &Resource<Instance>) -> bool {
        let body = self.nodes.iter().find_map(|node| node.bodies.get(&instance.id));
        instance.status.observed.phase == Phase::Ready && body.is_some_and(|body| body.ready)
    }

    /// What is not known of snapshots yet, and what is kept that nobody knows.
    fn disks_unsettled(&self, state: &State) -> Option<String> {
        let waits = state.snapshots.iter().find(|it| it.status.observed.phase.is_under_way());
        if let Some(waits) = waits {
            return Some(format!("{} is {:?}", waits.id, waits.status.observed.phase));
        }
        let unmade = state.volumes.iter().find(|it| {
            let home = it.spec.node.and_then(|node| state.nodes.get(node));
            it.spec.source.is_some() && home.is_some() && !it.status.made
        });
        if let Some(unmade) = unmade {
            return Some(format!("{} is not made: {:?}", unmade.id, unmade.status.observed));
        }
        let has = |id: &Id<Snapshot>| state.snapshots.get(*id);
        if let Some(id) = self.backups.keys().find(|id| has(id).is_none()) {
            return Some(format!("{id} is left over in the store"));
        }
        for node in &self.nodes {
            let Some(known) = node.plan.as_ref().and_then(|it| state.nodes.get(it.node)) else {
                continue;
            };
            let mut kept = node.disks.snapshots.keys();
            let left = kept.find(|id| has(id).is_none());
            if let Some(id) = left.or_else(|| node.disks.sending.keys().next()) {
                return Some(format!("{id} is left over on {}", known.name));
            }
        }
        None
    }

    fn edge_unsettled(&self, state: &State) -> Option<String> {
        let unsettled = |edge: &&Edge| {
            let Some(known) = state.edges.named(None, &edge.name) else { return true };
            let current = helix_control::plan::edge_plan(state, known.id);
            let connected = known.status.connected;
            let (followed, routed) = (&edge.plan, current.routed());
            let told = |instance: &Resource<Instance>| {
                instance.status.routed_by.contains(&known.id) == routed.contains(&instance.id)
            };
            let has_agent = |tunnel: &Resource<Tunnel>| {
                let known_to_be = tunnel.status.agents.contains_key(&known.id);
                tunnel.spec.disabled.is_some()
                    || known_to_be == edge.agents.contains_key(&tunnel.id)
            };
            !connected
                || !followed.asks_the_same(&current)
                || !state.tunnels.iter().all(has_agent)
                || !state.instances.iter().all(told)
        };
        let edge = self.edges.iter().find(unsettled)?;
        Some(format!("edge {} follows an old plan, or nobody knows what it follows", edge.name))
    }
}

/// Whether anything on a node could go elsewhere.
fn has_movable(state: &State, node: Id<Node>) -> bool {
    let mut on_it = state.instances.iter().filter(|it| it.spec.node == node);
    on_it.any(|it| it.spec.mounts.is_empty())
}

fn takes_instances(state: &State, instance: &Resource<Instance>) -> bool {
    state.nodes.get(instance.spec.node).is_some_and(Resource::takes_instances)
}

fn is_good(state: &State, release: Id<Release>) -> bool {
    let image = state.releases.get(release).map(|it| it.spec.image.pinned());
    image.is_some_and(|image| Behaviour::of(&image) == Behaviour::Good)
}

fn wanted(state: &State, env: &Resource<Env>, release: Id<Release>) -> Vec<(Name, usize)> {
    let Some(release) = state.releases.get(release) else { return Vec::new() };
    let count = |(name, process): (&Name, &helix_model::manifest::Process)| {
        let scaled = env.spec.scale.get(name).copied();
        let count = scaled.unwrap_or(process.scaling.min) as usize;
        (name.clone(), if process.mounts.is_empty() { count } else { count.min(1) })
    };
    release.spec.manifest.processes.iter().map(count).collect()
}
