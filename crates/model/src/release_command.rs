//! The command that a deploy runs once before it replaces anything: `release_command`
//! of the manifest, in an instance of its own that ends with the command.
//!
//! ```text
//! due ──► running ──► over (exit code 0: instances are replaced)
//!   └────────┴──────► failed (the deploy has failed, what served keeps serving)
//! ```
//! How far it is follows from the deploy, what is noted here and the clock.

use serde::{Deserialize, Serialize};

use crate::deploy::Intent;
use crate::instance::{Exit, Observed, Phase};
use crate::manifest::RELEASE_PROCESS;
use crate::state::{Change, State};
use crate::{Deploy, Id, Instance, Name, Resource, Timestamp};

/// The one try of a deploy to run its command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    pub instance: Id<Instance>,
    pub name: Name,
    /// When its program was started, once the image was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it ended, or was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// How the program ended; none if nobody knows, or it never began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Why it failed, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Ran {
    /// Whether the command did what it should.
    pub fn succeeded(&self) -> bool {
        let exit = self.exit.as_ref().filter(|_| self.until.is_some());
        exit.is_some_and(|exit| exit.code == Some(0) && exit.signal.is_none() && !exit.oom_killed)
    }
}

impl Resource<Instance> {
    /// Whether it runs the command of a release instead of one of its processes.
    pub fn runs_release_command(&self, state: &State) -> bool {
        let release = state.releases.get(self.spec.release);
        self.spec.process.as_str() == RELEASE_PROCESS
            && release.is_some_and(|release| release.spec.manifest.release_command.is_some())
    }
}

impl Resource<Deploy> {
    /// Whether its release command has yet to end well. Not of a rollback, which must
    /// not wait for anything, nor of a rotation, in which nothing of the app changes.
    pub fn awaits_release_command(&self, state: &State) -> bool {
        let release = state.releases.get(self.spec.release);
        self.spec.intent == Intent::Deploy
            && release.is_some_and(|release| release.spec.manifest.release_command.is_some())
            && !self.status.release_command.as_ref().is_some_and(Ran::succeeded)
    }
}

/// Notes on its deploy that an instance was called for, if it is for the command.
pub(crate) fn begun(state: &mut State, instance: Id<Instance>) {
    let Some((deploy, name)) = of(state, instance) else { return };
    let ran = Ran { instance, name, since: None, until: None, exit: None, message: None };
    state.deploys.update(deploy, |deploy| {
        deploy.status.release_command.get_or_insert(ran);
    });
}

/// Notes what is seen of an instance, if it is for the command.
pub(crate) fn seen(state: &mut State, instance: Id<Instance>, observed: &Observed, change: Change) {
    update(state, instance, change, |ran| {
        if !matches!(observed.phase, Phase::Pending | Phase::Pulling) {
            ran.since.get_or_insert(change.at);
        }
        if observed.ended {
            ran.until = Some(change.at);
            ran.exit = observed.exit.clone();
            ran.message = observed.message.clone();
        }
    });
}

/// Notes that an instance is no more, which is the end of its command if nothing was.
pub(crate) fn gone(state: &mut State, instance: Id<Instance>, change: Change) {
    update(state, instance, change, |ran| ran.until = Some(change.at));
}

fn update(state: &mut State, instance: Id<Instance>, change: Change, what: impl FnOnce(&mut Ran)) {
    let Some((deploy, _)) = of(state, instance) else { return };
    state.deploys.update(deploy, |deploy| {
        let ran = deploy.status.release_command.as_mut();
        if let Some(ran) = ran.filter(|ran| ran.instance == instance && ran.until.is_none()) {
            what(ran);
            change.touch(deploy);
        }
    });
}

/// The deploy that an instance runs the command of, and the instance's name.
fn of(state: &State, instance: Id<Instance>) -> Option<(Id<Deploy>, Name)> {
    let instance = state.instances.get(instance)?;
    let deploy = instance.spec.deploy?;
    instance.runs_release_command(state).then(|| (deploy, instance.name.clone()))
}
