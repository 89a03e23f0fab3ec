//! A bare rollback goes to what served before: after a failed deploy to what
//! still serves, otherwise to the last other release that served.

use std::collections::BTreeMap;

use helix_model::deploy::{Intent, Outcome};
use helix_model::{Command, Deploy, Env, Event, Id, Release, State};

use super::{Failed, fail};

const NAME: &str = "rollback";

type Served = (Id<Deploy>, Id<Release>);

pub(crate) struct Rollback {
    /// Whether to look at envs whose deploys' ids are not in the order of the
    /// log too.
    strict: bool,
    /// What served, in the order in which it came to.
    served: BTreeMap<Id<Env>, Vec<Served>>,
}

impl Rollback {
    pub(crate) fn new(strict: bool) -> Rollback {
        Rollback { strict, served: BTreeMap::new() }
    }

    pub(crate) fn happened(
        &mut self,
        failed: &mut Failed,
        before: &State,
        event: &Event,
        asked: Option<&Command>,
    ) {
        match event {
            Event::DeployFinished(finished) if finished.outcome == Outcome::Succeeded => {
                if let Some(deploy) = before.deploys.get(finished.id) {
                    let served = self.served.entry(deploy.spec.env).or_default();
                    served.push((deploy.id, deploy.spec.release));
                }
            }
            Event::DeployCreated(created) if created.spec.intent == Intent::Rollback => {
                let bare = matches!(asked, Some(Command::Rollback(it)) if it.to.is_none());
                let expected = self.expected(before, created.spec.env);
                let release = created.spec.release;
                if bare && self.is_told(created.spec.env) && expected != Some(release) {
                    fail(failed, NAME, || format!("went to {release}, not to {expected:?}"));
                }
            }
            _ => {}
        }
    }

    fn expected(&self, before: &State, env: Id<Env>) -> Option<Id<Release>> {
        let current = before.envs.get(env)?;
        let serving = current.status.release;
        if current.spec.release != serving {
            return serving;
        }
        let served = self.served.get(&env)?;
        let releases = served.iter().rev().map(|(_, release)| *release);
        releases.into_iter().find(|release| Some(*release) != serving)
    }

    /// Whether the ids of the env's deploys tell the order of the log.
    fn is_told(&self, env: Id<Env>) -> bool {
        let served = self.served.get(&env);
        self.strict || served.is_none_or(|served| served.is_sorted_by_key(|(deploy, _)| *deploy))
    }
}
