//! Envs: where an app runs (production, staging, a preview).
//!
//! An env owns an address, desires one release and says how many instances each
//! process should have.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::bundle::Pin;
use crate::condition::Facts;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{App, Deploy, Id, Instance, Kind, Name, Noun, Org, Release, Resource, address, bundle};

/// What is desired of an env.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Env {
    pub org: Id<Org>,
    pub app: Id<App>,
    /// The env's own IPv6 address; endpoints bind any port on it.
    pub address: Ipv6Addr,
    /// Its own IPv4 address, which somebody asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// The release the last deploy asked for. A failed deploy leaves it here,
    /// so that desired and current can be seen to differ.
    pub release: Option<Id<Release>>,
    /// The deploy that is still rolling, if any.
    pub rolling: Option<Id<Deploy>>,
    /// Instance counts that a person set; they win over the manifest's.
    pub scale: BTreeMap<Name, u32>,
}

/// What is known of an env.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The release of the last deploy that succeeded: what should be serving.
    pub release: Option<Id<Release>>,
    /// The version of the secrets that this deploy brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Pin>,
    /// How many deploys there have been.
    pub deploys: u64,
    /// How many instances there have been, per process.
    pub instances: BTreeMap<Name, u64>,
    /// How many instances are ready, per release and process.
    #[serde(default)]
    pub ready: BTreeMap<Id<Release>, BTreeMap<Name, u32>>,
    /// How many instances are on their way out.
    #[serde(default)]
    pub leaving: u32,
}

impl Noun for Env {
    const KIND: Kind = Kind::Env;
    type Status = Status;

    /// An env stands as its release and its instances do; see [`settle`].
    fn facts(_env: &Resource<Env>) -> Option<Facts> {
        None
    }
}

/// Command: make an env.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub app: Id<App>,
    pub name: Name,
}

/// Command: set how many instances processes should have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    pub env: Id<Env>,
    pub processes: BTreeMap<Name, u32>,
}

/// Event: an env was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub id: Id<Env>,
    pub org: Id<Org>,
    pub app: Id<App>,
    pub name: Name,
    pub address: Ipv6Addr,
}

/// Event: instance counts were set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    pub id: Id<Env>,
    pub processes: BTreeMap<Name, u32>,
}

impl Apply for Created {
    fn apply(&self, state: &mut State, change: Change) {
        let spec = Env {
            org: self.org,
            app: self.app,
            address: self.address,
            ipv4: None,
            release: None,
            rolling: None,
            scale: BTreeMap::new(),
        };
        state.envs_created += 1;
        address::made(state, self.id, self.address);
        let parent = Some(self.app.any());
        state.envs.insert(change.create(self.id, self.name.clone(), parent, spec));
    }
}

impl Apply for Scaled {
    fn apply(&self, state: &mut State, change: Change) {
        state.envs.update(self.id, |env| {
            env.spec.scale.extend(self.processes.clone());
            change.touch(env);
        });
        settle(state, self.id, change);
    }
}

/// A ready instance, as its env counts it.
pub(crate) struct Serving {
    env: Id<Env>,
    release: Id<Release>,
    process: Name,
}

impl Serving {
    /// The instance, if it is one that counts.
    pub(crate) fn of(instance: &Resource<Instance>) -> Option<Serving> {
        let spec = &instance.spec;
        let process = spec.process.clone();
        instance.serves().then_some(Serving { env: spec.env, release: spec.release, process })
    }

    /// Counts it in or out. The env's version does not change: nobody changed it.
    pub(crate) fn count(self, state: &mut State, change: Change, is_in: bool) {
        state.envs.update(self.env, |env| {
            let processes = env.status.ready.entry(self.release).or_default();
            let ready = processes.entry(self.process.clone()).or_default();
            *ready = if is_in { *ready + 1 } else { ready.saturating_sub(1) };
            if *ready == 0 {
                processes.remove(&self.process);
            }
            if processes.is_empty() {
                env.status.ready.remove(&self.release);
            }
        });
        settle(state, self.env, change);
    }
}

/// Counts an instance in or out of those on their way out.
pub(crate) fn count_leaving(state: &mut State, id: Id<Env>, change: Change, is_in: bool) {
    state.envs.update(id, |env| {
        let leaving = &mut env.status.leaving;
        *leaving = if is_in { *leaving + 1 } else { leaving.saturating_sub(1) };
    });
    settle(state, id, change);
}

/// How many instances of what an env serves are ready and wanted, and whether
/// any process has fewer than it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ready: u32,
    pub wanted: u32,
    pub is_short: bool,
}

/// Counts an env's instances without looking at them.
pub fn counts(state: &State, env: &Resource<Env>) -> Counts {
    let Some(release) = env.status.release.and_then(|release| state.releases.get(release)) else {
        return Counts::default();
    };
    let ready = env.status.ready.get(&release.id);
    let mut counts = Counts::default();
    for (name, process) in &release.spec.manifest.processes {
        let wanted = env.spec.scale.get(name).copied().unwrap_or(process.scaling.min);
        let ready = ready.and_then(|ready| ready.get(name)).copied().unwrap_or(0);
        counts.wanted += wanted;
        counts.ready += ready;
        counts.is_short |= ready < wanted;
    }
    counts
}

/// Whether what serves has other secrets than are desired: the deploy that was to
/// bring them failed, or was a rollback of the release alone.
fn lacks_secrets(state: &State, env: &Resource<Env>) -> bool {
    let desired = bundle::of(state, env.id).and_then(Resource::desired);
    desired.is_some_and(|desired| {
        let current = env.status.secrets.as_ref();
        env.status.release.is_some() && !bundle::is_same(current, Some(&desired.pin))
    })
}

/// Notes which facts hold of an env, after anything they follow from changed.
pub(crate) fn settle(state: &mut State, id: Id<Env>, change: Change) {
    let Some(env) = state.envs.get(id) else {
        return;
    };
    let counts = counts(state, env);
    let serves = env.status.release.is_some();
    let rolling = env.spec.rolling.is_some();
    let given_up = env.spec.release.is_some() && env.spec.release != env.status.release
        || lacks_secrets(state, env);
    let facts = Facts {
        ready: serves && !counts.is_short && !rolling,
        reconciling: rolling
            || env.status.leaving > 0
            || serves && (counts.is_short || counts.ready > counts.wanted),
        degraded: !rolling && (given_up || counts.is_short),
    };
    if facts != env.standing.facts() {
        state.envs.update(id, |env| env.standing.note(facts, change.at));
    }
}
