//! Deploys: moving an env to a release. A rollback is a deploy of an older one.
//!
//! ```text
//! queued ──► rolling ──► succeeded
//!    └──────────┴──────► failed      (the release that served keeps serving)
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bundle::Pin;
use crate::condition::Facts;
use crate::event::{Apply, Subject};
use crate::release::Image;
use crate::release_command::Ran;
use crate::state::{Change, State};
use crate::{
    App, Env, Id, Kind, Manifest, Name, Noun, Org, Reason, Release, Resource, Timestamp, env,
};

/// What a deploy asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deploy {
    pub org: Id<Org>,
    pub env: Id<Env>,
    pub release: Id<Release>,
    pub intent: Intent,
    /// What served before, to be left serving should this fail.
    pub previous: Option<Id<Release>>,
    /// The secrets it brings; none before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Pin>,
}

/// Forwards or back, or to other secrets with the release that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    Deploy,
    Rollback,
    Rotate,
}

/// What is known of a deploy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub phase: Phase,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// The same for a person, with the particulars.
    pub message: Option<String>,
    pub finished_at: Option<Timestamp>,
    /// Instances that failed and were replaced, per process.
    pub replacements: BTreeMap<Name, u32>,
    /// Per process with a volume: since when nothing of it serves, because its old
    /// instance had to go before the new one could have the volume.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pauses: BTreeMap<Name, Pause>,
    /// The command that ran, or runs, before anything was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_command: Option<Ran>,
}

/// A time in which a process does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub since: Timestamp,
    /// When its successor was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// How far a deploy has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Queued,
    Rolling,
    Succeeded,
    Failed,
}

impl Phase {
    /// Whether it will not change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

impl Noun for Deploy {
    const KIND: Kind = Kind::Deploy;
    type Status = Status;

    fn facts(deploy: &Resource<Deploy>) -> Option<Facts> {
        let phase = deploy.status.phase;
        Some(Facts {
            ready: phase == Phase::Succeeded,
            reconciling: !phase.is_final(),
            degraded: phase == Phase::Failed,
        })
    }
}

/// Command: release an image with its manifest and move an env to it. What is
/// missing on the way (app, env, endpoints) is made in the same breath, so that
/// a first deploy is one atomic change with one receipt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub org: Name,
    pub project: Name,
    pub app: Name,
    pub env: Name,
    pub image: Image,
    /// Whether it was named by digest, and not by a tag that stood for it.
    #[serde(default)]
    pub by_digest: bool,
    pub manifest: Manifest,
    /// Where the image came from, for people.
    pub source: String,
}

/// Command: move an env of an app to a release that is there. The env is made when missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promote {
    pub app: Id<App>,
    pub env: Name,
    pub release: Id<Release>,
    /// Refuse if there is such an env already.
    pub first: bool,
}

/// Command: move an env back to a release it has had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    pub env: Id<Env>,
    /// The release to go to; the last one that served before this when absent.
    pub to: Option<Id<Release>>,
}

/// Command: note that a deploy has come to an end (a reconciler's).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finish {
    pub deploy: Id<Deploy>,
    pub outcome: Outcome,
}

/// How a deploy ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Succeeded,
    Failed { reason: Reason, message: String },
}

/// Event: a deploy was asked for and has begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Deploy>,
    pub name: Name,
    pub spec: Deploy,
}

/// Event: a deploy has come to an end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub id: Id<Deploy>,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Its name and env, for when it is gone; older entries do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Id<Env>>,
    /// Per process with a volume: when it did not serve meanwhile.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pauses: BTreeMap<Name, Pause>,
}

impl Finished {
    /// The end of a deploy.
    pub fn new(deploy: &Resource<Deploy>, outcome: Outcome) -> Finished {
        let (name, env) = (Some(deploy.name.clone()), Some(deploy.spec.env));
        Finished { id: deploy.id, outcome, name, env, pauses: deploy.status.pauses.clone() }
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        match (self.env, &self.name) {
            (Some(env), Some(name)) => Subject::of(self.id.any(), env.any(), name),
            _ => Subject::lasting(self.id.any()),
        }
    }
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        state.envs.update(self.spec.env, |env| {
            env.spec.release = Some(self.spec.release);
            env.spec.rolling = Some(self.id);
            env.status.deploys += 1;
            change.touch(env);
        });
        let parent = Some(self.spec.env.any());
        let mut deploy = change.create(self.id, self.name.clone(), parent, self.spec.clone());
        deploy.status.phase = Phase::Rolling;
        state.deploys.insert(deploy);
        env::settle(state, self.spec.env, change);
    }
}

impl Apply for Finished {
    fn apply(&self, state: &mut State, change: Change) {
        let Some(deploy) = state.deploys.get(self.id) else {
            return;
        };
        let (env, release, secrets) = (deploy.spec.env, deploy.spec.release, deploy.spec.secrets);
        let succeeded = self.outcome == Outcome::Succeeded;
        state.deploys.update(self.id, |deploy| {
            match &self.outcome {
                Outcome::Succeeded => deploy.status.phase = Phase::Succeeded,
                Outcome::Failed { reason, message } => {
                    deploy.status.phase = Phase::Failed;
                    deploy.status.reason = Some(*reason);
                    deploy.status.message = Some(message.clone());
                }
            }
            deploy.status.finished_at = Some(change.at);
            change.touch(deploy);
        });
        state.envs.update(env, |env| {
            if env.spec.rolling == Some(self.id) {
                env.spec.rolling = None;
            }
            if succeeded {
                env.status.release = Some(release);
                env.status.secrets = secrets;
            }
            change.touch(env);
        });
        env::settle(state, env, change);
    }
}
