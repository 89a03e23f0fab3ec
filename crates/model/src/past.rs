//! Instances that are gone, as far as it takes to find what they have printed: nodes keep
//! their output for a while.

use imbl::Vector;
use serde::{Deserialize, Serialize};

use crate::state::State;
use crate::{Deploy, Env, Id, Instance, Name, Release, Resource};

/// How many an env remembers: some deploys' worth of a usual app. Nodes keep two hundred
/// over all envs.
const KEPT: usize = 64;

/// An instance that is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    pub id: Id<Instance>,
    pub name: Name,
    pub process: Name,
    pub release: Id<Release>,
    pub deploy: Option<Id<Deploy>>,
}

impl Past {
    /// What is to be known of an instance when it is gone.
    pub fn of(instance: &Resource<Instance>) -> Past {
        let spec = &instance.spec;
        Past {
            id: instance.id,
            name: instance.name.clone(),
            process: spec.process.clone(),
            release: spec.release,
            deploy: spec.deploy,
        }
    }
}

impl State {
    /// The last instances of an env that are gone, oldest first.
    pub fn past(&self, env: Id<Env>) -> impl Iterator<Item = &Past> {
        self.past.get(&env).into_iter().flatten()
    }

    /// Remembers an instance that is about to go.
    pub(crate) fn remember(&mut self, instance: &Resource<Instance>) {
        let past: &mut Vector<Past> = self.past.entry(instance.spec.env).or_default();
        past.push_back(Past::of(instance));
        while past.len() > KEPT {
            past.pop_front();
        }
    }
}
