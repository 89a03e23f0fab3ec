//! An env's instances: enough of the right release on nodes that keep them, and
//! none other.
//!
//! Surge 1, unavailable 0: at most one instance more than wanted exists, and no
//! ready one goes before another took its place. Only where the org's quota has
//! no room for the one more, an old one goes first. What is on a node that is
//! drained is replaced like that, too; of what is on a node that is lost, all is
//! replaced at once, for nobody knows whether it serves.
//!
//! A process with a volume is another matter: only one instance can have it, so the
//! old one goes before its successor comes, but not before it is sure that there is
//! a place for that; and it stays where the volume is.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use helix_model::bundle::{self, Pin};
use helix_model::instance::{Allocate, Desired, Instance, Phase, SetDesired};
use helix_model::quota;
use helix_model::tally::Need;
use helix_model::{
    Command, Deploy, Env, Id, Name, Node, Reason, Release, Resource, State, Timestamp, manifest,
};

use super::{instance, release_command};
use crate::place::{self, Seat};

/// How many instances may exist beyond what is wanted while rolling.
const SURGE: usize = 1;

/// How long an instance that has ended for good stands in the way of a release
/// before another is tried: it may only have been early for what it needs, and
/// one that ends at once must not be started again and again.
const ENDED_WAIT: Duration = Duration::from_secs(10);

/// One process of an env, while it is being brought to a release.
pub(super) struct Group<'s> {
    pub process: Name,
    /// How many there should be; 0 for a process the release does not have.
    pub wanted: usize,
    pub memory_bytes: u64,
    /// What one more takes of the org's quota.
    pub one: Need,
    /// Running ones of the release, where they may stay.
    pub new: Vec<&'s Resource<Instance>>,
    /// Other running ones.
    pub old: Vec<&'s Resource<Instance>>,
    /// How many of these are on nodes that are lost.
    pub lost: usize,
    /// What the release says of it.
    pub spec: Option<&'s manifest::Process>,
    /// Those that were told to go and are still there.
    leaving: usize,
}

/// Which nodes are taken for leaving.
#[derive(Clone, Copy)]
pub(super) enum Leaving {
    /// Those that are left by now.
    By(Timestamp),
    /// Also those that may be, as time goes by.
    InTime,
}

impl Leaving {
    fn has(self, node: &Resource<Node>) -> bool {
        node.is_draining() || self.has_lost(node)
    }

    fn has_lost(self, node: &Resource<Node>) -> bool {
        match self {
            Leaving::By(now) => node.is_lost(now),
            Leaving::InTime => !node.status.connected,
        }
    }
}

/// The env's processes, those of the release and those still running.
pub(super) fn groups<'s>(
    state: &'s State,
    env: &Resource<Env>,
    release: &'s Resource<Release>,
    leaving: Leaving,
) -> Vec<Group<'s>> {
    let secrets = secrets(state, env);
    let node_of = |instance: &Resource<Instance>| state.nodes.get(instance.spec.node);
    let running = || {
        let all = state.instances.children(env.id.any());
        all.filter(|instance| {
            instance.spec.desired == Desired::Running && !instance.runs_release_command(state)
        })
    };
    let processes = &release.spec.manifest.processes;
    let names: BTreeSet<&Name> =
        processes.keys().chain(running().map(|instance| &instance.spec.process)).collect();
    let group = |name: &Name| {
        let process = processes.get(name);
        let wanted = process.map_or(0, |process| {
            let wanted = env.spec.scale.get(name).copied().unwrap_or(process.scaling.min) as usize;
            if process.mounts.is_empty() { wanted } else { wanted.min(1) }
        });
        let (new, old): (Vec<_>, Vec<_>) =
            running().filter(|instance| instance.spec.process == *name).partition(|instance| {
                let stays = !instance.spec.mounts.is_empty()
                    || !node_of(instance).is_some_and(|node| leaving.has(node));
                stays && is_of(instance, release, secrets.as_ref())
            });
        let is_lost =
            |it: &&&Resource<Instance>| node_of(it).is_some_and(|node| leaving.has_lost(node));
        let lost = old.iter().filter(is_lost).count();
        let memory_bytes = process.map_or(0, |process| process.resources.memory_bytes);
        let one = process.map(Need::of_one).unwrap_or_default();
        let present = state.instances.children(env.id.any());
        let leaving =
            present.filter(|it| it.spec.process == *name && it.spec.desired != Desired::Running);
        let leaving = leaving.count();
        let (process, spec) = (name.clone(), process);
        Group { process, wanted, memory_bytes, one, new, old, lost, spec, leaving }
    };
    names.into_iter().map(group).collect()
}

impl Group<'_> {
    /// How many of the release may be added now.
    pub(super) fn missing(&self) -> usize {
        if self.is_exclusive() {
            let is_alone = self.old.is_empty() && self.leaving == 0;
            return if is_alone { self.wanted.saturating_sub(self.new.len()) } else { 0 };
        }
        let room = match self.old.len() - self.lost {
            0 => self.wanted,
            standing => (self.wanted + SURGE).saturating_sub(standing),
        };
        room.min(self.wanted).saturating_sub(self.new.len())
    }

    /// Whether only one instance of it can be, because it has a volume.
    pub(super) fn is_exclusive(&self) -> bool {
        self.spec.is_some_and(|process| !process.mounts.is_empty())
    }

    /// Whether an old instance has to go before its successor can come. Once that is
    /// there, or still is because the release in between never had the volume, the old
    /// ones are like any others.
    pub(super) fn is_to_be_handed_over(&self) -> bool {
        self.is_exclusive() && self.new.len() < self.wanted && !self.old.is_empty()
    }

    /// Where one more goes, or why it cannot. With `instead` of the old ones.
    pub(super) fn seat(&self, state: &State, env: Id<Env>, instead: bool) -> Result<Seat, Reason> {
        let yielding = if instead { self.old.as_slice() } else { &[] };
        match self.spec {
            Some(process) => place::seat(state, env, (&self.process, process), yielding),
            None => place::place(state, self.memory_bytes).map(Seat::on),
        }
    }

    /// Whether the env has of it what it should have, and nothing else.
    fn is_settled(&self) -> bool {
        self.old.is_empty() && self.new.len() == self.wanted
    }

    /// Which of the release have ended for good while another release still has
    /// instances that should go. They would be waited for in vain; once the env
    /// is of one release, their restart policy alone decides.
    fn ended(&self, now: Timestamp) -> Vec<&Resource<Instance>> {
        let stands = |it: &&&Resource<Instance>| {
            it.status.observed.ended && now.since(it.updated_at) >= ENDED_WAIT
        };
        if self.old.is_empty() {
            Vec::new()
        } else {
            self.new.iter().filter(stands).copied().collect()
        }
    }

    /// Which running ones may go now.
    fn surplus(&self) -> Vec<&Resource<Instance>> {
        let mut candidates: Vec<_> = self.new.clone();
        candidates.sort_by_key(|instance| (is_ready(instance), !is_failed(instance), instance.id));
        let extra = self.new.len().saturating_sub(self.wanted);
        let mut going: Vec<_> = candidates.into_iter().take(extra).collect();
        if self.is_to_be_handed_over() {
            // One that serves goes only when it is sure where its successor will, and one
            // whose node is away may serve.
            let away = Some(Reason::VolumeHomeNodeOffline);
            let is_down =
                |it: &&Resource<Instance>| !is_ready(it) && it.status.observed.reason != away;
            going.extend(self.old.iter().copied().filter(is_down));
            return going;
        }
        let mut ready =
            self.new.iter().chain(&self.old).filter(|instance| is_ready(instance)).count();
        ready -= going.iter().filter(|instance| is_ready(instance)).count();
        let mut old = self.old.clone();
        old.sort_by_key(|instance| (is_ready(instance), Reverse(instance.id)));
        for instance in old {
            if !is_ready(instance) {
                going.push(instance);
            } else if ready > self.wanted || self.wanted == 0 {
                ready -= 1;
                going.push(instance);
            }
        }
        going
    }
}

/// Whether an instance runs a release, with these secrets.
pub(super) fn is_of(
    instance: &Resource<Instance>,
    release: &Resource<Release>,
    secrets: Option<&Pin>,
) -> bool {
    let spec = &instance.spec;
    spec.release == release.id && bundle::is_same(spec.secrets.as_ref(), secrets)
}

/// The deploy that the env's instances are being brought to. One that waits for its
/// release command has not begun with that.
fn rolling<'s>(state: &'s State, env: &Resource<Env>) -> Option<&'s Resource<Deploy>> {
    let deploy = state.deploys.get(env.spec.rolling?)?;
    (!deploy.awaits_release_command(state)).then_some(deploy)
}

/// The secrets that the env's instances should have.
fn secrets(state: &State, env: &Resource<Env>) -> Option<Pin> {
    match rolling(state, env) {
        Some(deploy) => deploy.spec.secrets,
        None => env.status.secrets,
    }
}

/// The release that the env should be running.
fn target<'s>(state: &'s State, env: &Resource<Env>) -> Option<&'s Resource<Release>> {
    let target = rolling(state, env).map(|deploy| deploy.spec.release).or(env.status.release);
    state.releases.get(target?)
}

/// Whether it runs what it should, and nothing is on its way.
pub(super) fn is_settled(state: &State, env: &Resource<Env>) -> bool {
    let all_run = || {
        let mut instances = state.instances.children(env.id.any());
        instances
            .all(|it| it.spec.desired == Desired::Running && !instance::awaits_its_node(state, it))
    };
    let is_as_wanted = || match target(state, env) {
        Some(release) => groups(state, env, release, Leaving::InTime).iter().all(Group::is_settled),
        None => state.instances.children(env.id.any()).next().is_none(),
    };
    env.spec.rolling.is_none() && all_run() && is_as_wanted()
}

/// The next steps towards what the env should be running.
pub(super) fn step(state: &State, env: &Resource<Env>, now: Timestamp) -> Vec<Command> {
    let rolling = rolling(state, env);
    let mut commands = release_command::spent(state, env);
    commands.extend(release_command::waiting(state, env).and_then(|it| it.step(state, env)));
    let Some(release) = target(state, env) else {
        // The first deploy failed, or waits for its command: nothing else is to be.
        let left = state.instances.children(env.id.any()).filter(|instance| {
            instance.spec.desired == Desired::Running && !instance.runs_release_command(state)
        });
        commands.extend(left.map(retire));
        return commands;
    };
    for group in groups(state, env, release, Leaving::By(now)) {
        commands.extend(group.surplus().into_iter().map(retire));
        commands.extend(group.ended(now).into_iter().map(retire));
        if group.is_to_be_handed_over() && group.seat(state, env.id, true).is_ok() {
            commands.extend(group.old.iter().copied().map(retire));
        }
        let missing = group.missing();
        if missing == 0 {
            continue;
        }
        if quota::blocking(state, env.spec.org, group.one).is_some() {
            commands.extend(make_room(state, env, &group));
        } else if group.seat(state, env.id, false).is_ok() {
            let allocate = Command::AllocateInstance(Allocate {
                env: env.id,
                release: release.id,
                deploy: rolling.map(|deploy| deploy.id),
                process: group.process.clone(),
                // Where is settled one by one: each takes room from the next.
                node: None,
            });
            commands.extend(std::iter::repeat_n(allocate, missing));
        }
    }
    commands
}

/// The old instance that goes before its successor comes, because the quota does
/// not allow both; one after another.
fn make_room(state: &State, env: &Resource<Env>, group: &Group<'_>) -> Option<Command> {
    let mut others = state.instances.children(env.id.any());
    let going =
        others.any(|it| it.spec.process == group.process && it.spec.desired != Desired::Running);
    let unproven = group.new.iter().any(|instance| !is_ready(instance));
    if going || unproven || !group.surplus().is_empty() {
        return None;
    }
    group.old.iter().max_by_key(|instance| instance.id).map(|instance| retire(instance))
}

/// Sends an instance on its way: gently when it may be serving.
pub(super) fn retire(instance: &Resource<Instance>) -> Command {
    // One that was ready and is pending has not been seen since its node came
    // back, which does not say that nothing is open to it.
    let serving = match instance.status.observed.phase {
        Phase::Ready | Phase::Unready => true,
        Phase::Pending => instance.status.ready_at.is_some(),
        Phase::Pulling | Phase::Starting | Phase::Failed | Phase::Stopped => false,
    };
    let desired = if serving { Desired::Draining } else { Desired::Stopped };
    Command::SetInstanceDesired(SetDesired { instance: instance.id, desired })
}

fn is_ready(instance: &Resource<Instance>) -> bool {
    instance.status.observed.phase == Phase::Ready
}

fn is_failed(instance: &Resource<Instance>) -> bool {
    instance.status.observed.phase == Phase::Failed
}
