//! A bare rollback goes to what served before: after a failed deploy to what
//! still serves, otherwise to the last other release that served.

use std::collections::BTreeMap;

use helix_model::deploy::{Intent, Outcome};
use helix_model::{Command, Env, Event, Id, Release, State};

use super::{Failed, fail};

const NAME: &str = "rollback";

#[derive(Default)]
pub(crate) struct Rollback {
    /// What served, in the order in which it came to.
    served: BTreeMap<Id<Env>, Vec<Id<Release>>>,
}

impl Rollback {
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
                    served.push(deploy.spec.release);
                }
            }
            Event::DeployCreated(created) if created.spec.intent == Intent::Rollback => {
                let bare = matches!(asked, Some(Command::Rollback(it)) if it.to.is_none());
                let expected = self.expected(before, created.spec.env);
                let release = created.spec.release;
                if bare && expected != Some(release) {
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
        served.iter().rev().copied().find(|release| Some(*release) != serving)
    }
}
