//! Whether a rolling deploy has come to an end.
//!
//! It succeeds when every process has its full count of ready instances of the
//! new release, none of another is running and the edges send new work to just
//! those: who is told that a release is running must not meet another one. It
//! fails on the first failure
//! that trying again will not mend, so that a bad release is told from a slow
//! one in seconds rather than by a timeout.

use std::time::Duration;

use helix_model::deploy::{Finish, Outcome};
use helix_model::instance::{Desired, Instance, Phase};
use helix_model::manifest::RestartPolicy;
use helix_model::quota;
use helix_model::{
    Command, Deploy, Edge, Env, Id, Reason, Release, Resource, State, Timestamp, manifest,
};

use super::env::{self, Group, Leaving};
use super::release_command::{self, Waiting};

/// A deploy that neither succeeds nor fails for this long has failed. The clock
/// stands while an image is being fetched.
const TIMEOUT: Duration = Duration::from_secs(600);

/// How long a deploy waits for a node: one that restarts beside it is back
/// within a second.
const NODE_WAIT: Duration = Duration::from_secs(15);

/// How long a deploy waits for room that instances on their way out will give
/// back: longer than the usual grace, shorter than patience.
const ROOM_WAIT: Duration = Duration::from_secs(60);

/// How long a deploy whose instances are as they should be waits for every edge to
/// say that it has taken note: it does so within milliseconds, and one that is
/// away must not fail or hold a deploy.
const EDGE_WAIT: Duration = Duration::from_secs(5);

/// The end of the env's rolling deploy, if it has come.
pub(super) fn verdict(state: &State, env: &Resource<Env>, now: Timestamp) -> Option<Command> {
    let deploy = state.deploys.get(env.spec.rolling?)?;
    let release = state.releases.get(deploy.spec.release)?;
    if let Some(waiting) = release_command::waiting(state, env) {
        let (reason, message) = stopped(state, env, deploy, &waiting, now)?;
        let outcome = Outcome::Failed { reason, message };
        return Some(Command::FinishDeploy(Finish { deploy: deploy.id, outcome }));
    }
    let outcome = if let Some((reason, message)) = failure(state, env, deploy, release, now) {
        Outcome::Failed { reason, message }
    } else if is_complete(state, env, release, now) {
        Outcome::Succeeded
    } else {
        return None;
    };
    Some(Command::FinishDeploy(Finish { deploy: deploy.id, outcome }))
}

/// Why the release command ends the deploy, or why it will not come to run.
fn stopped(
    state: &State,
    env: &Resource<Env>,
    deploy: &Resource<Deploy>,
    waiting: &Waiting<'_>,
    now: Timestamp,
) -> Option<(Reason, String)> {
    let waited = now.since(deploy.created_at);
    let blocked = waiting.blocked(state, env);
    let blocked = blocked.filter(|(reason, _)| waited >= patience(state, *reason));
    waiting.failure(state, now).or(blocked)
}

fn is_complete(
    state: &State,
    env: &Resource<Env>,
    release: &Resource<Release>,
    now: Timestamp,
) -> bool {
    env::groups(state, env, release, Leaving::By(now)).iter().all(|group| {
        group.old.is_empty()
            && group.new.len() == group.wanted
            && group.new.iter().all(|instance| instance.status.observed.phase == Phase::Ready)
    }) && is_routed(state, env, now)
}

/// Whether each edge sends new work to the env's ready instances and to no other.
fn is_routed(state: &State, env: &Resource<Env>, now: Timestamp) -> bool {
    let edges: Vec<_> = state.edges.iter().filter(|it| it.counts(now)).map(|it| it.id).collect();
    // What an edge has not told of it does not serve.
    let served = |edge: Id<Edge>| {
        state.endpoints.children(env.id.any()).filter(move |endpoint| {
            endpoint.status.edges.get(&edge).is_some_and(|seen| !seen.reachable.is_empty())
        })
    };
    state.instances.children(env.id.any()).all(|instance| {
        let since = match instance.spec.desired {
            Desired::Running => instance.status.ready_at,
            Desired::Draining => instance.status.draining_since,
            Desired::Stopped => None,
        };
        let wanted = |edge: Id<Edge>| {
            instance.serves()
                && served(edge).any(|endpoint| {
                    let endpoint = &endpoint.spec;
                    endpoint.process == instance.spec.process
                        && instance.status.observed.ports.contains_key(&endpoint.port)
                })
        };
        let is_as_wanted =
            |edge: &Id<Edge>| instance.status.routed_by.contains(edge) == wanted(*edge);
        edges.iter().all(is_as_wanted) || since.is_none_or(|at| now.since(at) >= EDGE_WAIT)
    })
}

fn failure(
    state: &State,
    env: &Resource<Env>,
    deploy: &Resource<Deploy>,
    release: &Resource<Release>,
    now: Timestamp,
) -> Option<(Reason, String)> {
    let of_release = || {
        state.instances.children(env.id.any()).filter(|instance| {
            env::is_of(instance, release, deploy.spec.secrets.as_ref())
                && instance.spec.desired == Desired::Running
        })
    };
    for instance in of_release() {
        let process = release.spec.manifest.processes.get(&instance.spec.process);
        if let Some(reason) = process.and_then(|process| hopeless(instance, process)) {
            let observed = &instance.status.observed;
            let message = observed.message.clone().unwrap_or_else(|| reason.meaning().to_owned());
            return Some((reason, format!("{}: {message}", instance.name)));
        }
    }
    let ran = deploy.status.release_command.as_ref().and_then(|ran| ran.until);
    let waited = now.since(ran.unwrap_or(deploy.created_at));
    let blocked =
        blocked(state, env, release, now).filter(|(reason, _)| waited >= patience(state, *reason));
    if blocked.is_some() {
        return blocked;
    }
    let pulling = of_release().any(|it| it.status.observed.phase == Phase::Pulling);
    (waited >= TIMEOUT && !pulling).then(|| {
        let seconds = TIMEOUT.as_secs();
        (Reason::DeployTimeout, format!("not every instance was ready after {seconds} s"))
    })
}

/// Why waiting for this instance is of no use. A program that ended gets one
/// more try, since it may only have been early for something it depends on.
fn hopeless(instance: &Resource<Instance>, process: &manifest::Process) -> Option<Reason> {
    let observed = &instance.status.observed;
    if observed.phase != Phase::Failed {
        return None;
    }
    let reason = observed.reason?;
    if observed.ended {
        return Some(reason);
    }
    if instance.status.ready_at.is_some() && !is_looping(instance) {
        return None;
    }
    let retried = observed.restarts >= 1 || process.restart.policy == RestartPolicy::Never;
    match reason {
        Reason::WorkloadExited | Reason::OomKilled => retried.then_some(reason),
        _ => Some(reason),
    }
}

/// How long to wait for what stands in the way of placing an instance.
fn patience(state: &State, reason: Reason) -> Duration {
    let leaving = || !state.index.leaving().is_empty();
    match reason {
        Reason::NoNodesActive | Reason::VolumeHomeNodeOffline => NODE_WAIT,
        // Until the other instance has finished, which may take its grace.
        Reason::VolumeInUse => TIMEOUT,
        Reason::NoCapacityMemory if leaving() => ROOM_WAIT,
        // Others replace instances, too, and give back what that takes; a node that
        // is full begins with removing what it can.
        Reason::QuotaExceeded | Reason::DiskPressure => ROOM_WAIT,
        _ => Duration::ZERO,
    }
}

fn is_looping(instance: &Resource<Instance>) -> bool {
    instance.status.observed.reason == Some(Reason::CrashLoopBackoff)
}

/// Why the next instance that is missing cannot be placed.
fn blocked(
    state: &State,
    env: &Resource<Env>,
    release: &Resource<Release>,
    now: Timestamp,
) -> Option<(Reason, String)> {
    env::groups(state, env, release, Leaving::By(now)).iter().find_map(|group: &Group<'_>| {
        if group.is_to_be_handed_over() {
            let reason = group.seat(state, env.id, true).err()?;
            return Some((reason, format!("{}: {}", group.process, reason.meaning())));
        }
        if group.missing() == 0 {
            return None;
        }
        if let Some(dimension) = quota::blocking(state, env.spec.org, group.one) {
            // With an old one left, that one makes room.
            let limit = state.limits.of(Some(env.spec.org), dimension).0;
            let limit = format!("no more than {} {dimension}", dimension.format(limit));
            let message =
                format!("{} needs another instance; the org may have {limit}", group.process);
            return group.old.is_empty().then_some((Reason::QuotaExceeded, message));
        }
        let memory = group.memory_bytes;
        let reason = group.seat(state, env.id, false).err()?;
        let size = manifest::format_bytes(memory);
        Some((reason, format!("{} needs {size}: {}", group.process, reason.meaning())))
    })
}
