//! The command of a release, before a deploy of it replaces anything: it is run once,
//! and only its good end lets the deploy go on.

use std::time::Duration;

use helix_model::instance::{Allocate, Desired, Instance};
use helix_model::manifest::{RELEASE_PROCESS, ReleaseCommand};
use helix_model::release_command::Ran;
use helix_model::tally::Need;
use helix_model::{
    Command, Deploy, Env, Name, Reason, Release, Resource, State, Timestamp, manifest, quota,
};

use super::env::retire;
use crate::place;

/// The env's rolling deploy while it waits for its command.
pub(super) struct Waiting<'s> {
    deploy: &'s Resource<Deploy>,
    release: &'s Resource<Release>,
    command: &'s ReleaseCommand,
}

/// The env's rolling deploy, if its command has yet to end well.
pub(super) fn waiting<'s>(state: &'s State, env: &Resource<Env>) -> Option<Waiting<'s>> {
    let deploy = state.deploys.get(env.spec.rolling?)?;
    let release = state.releases.get(deploy.spec.release)?;
    let command = release.spec.manifest.release_command.as_deref()?;
    deploy.awaits_release_command(state).then_some(Waiting { deploy, release, command })
}

impl Waiting<'_> {
    /// Calls for the instance that runs the command.
    pub(super) fn step(&self, state: &State, env: &Resource<Env>) -> Option<Command> {
        if self.deploy.status.release_command.is_some() || self.blocked(state, env).is_some() {
            return None;
        }
        Some(Command::AllocateInstance(Allocate {
            env: env.id,
            release: self.release.id,
            deploy: Some(self.deploy.id),
            process: process()?,
            node: None,
        }))
    }

    /// Why the command cannot be started.
    pub(super) fn blocked(&self, state: &State, env: &Resource<Env>) -> Option<(Reason, String)> {
        if self.deploy.status.release_command.is_some() {
            return None;
        }
        let (process, name) = (&self.command.process, process()?);
        if let Some(dimension) = quota::blocking(state, env.spec.org, Need::of_one(process)) {
            let limit = state.limits.of(Some(env.spec.org), dimension).0;
            let limit = dimension.format(limit);
            let message = format!(
                "the release command needs an instance; the org may have no more than {limit} {dimension}"
            );
            return Some((Reason::QuotaExceeded, message));
        }
        let reason = place::seat(state, env.id, (&name, process), &[]).err()?;
        let size = manifest::format_bytes(process.resources.memory_bytes);
        Some((reason, format!("the release command needs {size}: {}", reason.meaning())))
    }

    /// Why the command has failed, if it has.
    pub(super) fn failure(&self, state: &State, now: Timestamp) -> Option<(Reason, String)> {
        let ran = self.deploy.status.release_command.as_ref()?;
        let failed = |why: String| {
            Some((
                Reason::ReleaseCommandFailed,
                format!("the release command ({}) {why}", ran.name),
            ))
        };
        if ran.until.is_some() {
            return failed(end(ran));
        }
        let node = state.instances.get(ran.instance).and_then(|it| state.nodes.get(it.spec.node));
        if node.is_none_or(|node| node.is_lost(now)) {
            return failed("is on a node that does not report; nobody knows how it ended".into());
        }
        let limit = Duration::from_secs(self.command.timeout_seconds);
        let is_late = ran.since.is_some_and(|since| now.since(since) >= limit);
        if is_late {
            return failed(format!("did not end within {} s", limit.as_secs()));
        }
        None
    }
}

/// How a command ended that did not end well.
fn end(ran: &Ran) -> String {
    match (&ran.exit, &ran.message) {
        (Some(exit), _) if exit.oom_killed => "needed more memory than its limit".to_owned(),
        (Some(exit), _) => match (exit.code, exit.signal) {
            (_, Some(signal)) => format!("was killed by signal {signal}"),
            (Some(code), None) => format!("exited with code {code}"),
            (None, None) => "ended, and nobody knows how".to_owned(),
        },
        (None, Some(message)) => format!("did not run: {message}"),
        (None, None) => "was stopped".to_owned(),
    }
}

/// Instances of release commands that nobody waits for: they have ended, or their deploy
/// has.
pub(super) fn spent(state: &State, env: &Resource<Env>) -> Vec<Command> {
    let awaited = waiting(state, env).and_then(|it| it.deploy.status.release_command.as_ref());
    let awaited = awaited.map(|ran| ran.instance);
    let is_spent = |it: &&Resource<Instance>| {
        it.spec.desired == Desired::Running
            && awaited != Some(it.id)
            && it.runs_release_command(state)
    };
    state.instances.children(env.id.any()).filter(is_spent).map(retire).collect()
}

fn process() -> Option<Name> {
    RELEASE_PROCESS.parse().ok()
}
