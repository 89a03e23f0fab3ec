//! The envs that need looking at, remembered from look to look.
//!
//! An env can be left alone once it is settled, until something in it changes:
//! what has changed since the last look is what two states do not share.

use std::collections::BTreeSet;

use helix_model::{Command, Env, Id, State, Timestamp};

use super::{certificate, ends, is_settled, steps, tunnel};

/// Follows one log, forwards. The first look is at everything.
#[derive(Debug, Default)]
pub struct Watch {
    seen: State,
    open: BTreeSet<Id<Env>>,
}

impl Watch {
    /// Everything that should be asked for now: the same as [`super::reconcile`].
    pub fn look(&mut self, state: &State, now: Timestamp) -> Vec<Command> {
        let before = std::mem::replace(&mut self.seen, state.clone());
        self.open.extend(touched(&before, state));
        let mut commands = Vec::new();
        self.open.retain(|id| {
            let Some(env) = state.envs.get(*id) else { return false };
            let has_steps = !steps(state, env, now).is_empty();
            if has_steps {
                commands.push(Command::Reconcile(*id));
            }
            has_steps || !is_settled(state, env)
        });
        commands.extend(ends(state));
        commands.extend(certificate::steps(state, now));
        commands.extend(tunnel::steps(state, now));
        commands
    }
}

/// The envs in which anything differs between two states.
pub(crate) fn touched(before: &State, after: &State) -> BTreeSet<Id<Env>> {
    let envs = after.envs.changed_since(&before.envs).map(|env| env.id);
    let deploys = after.deploys.changed_since(&before.deploys).map(|it| it.spec.env);
    let instances = after.instances.changed_since(&before.instances).map(|it| it.spec.env);
    let endpoints = after.endpoints.changed_since(&before.endpoints).map(|it| it.spec.env);
    envs.chain(deploys)
        .chain(instances)
        .chain(endpoints)
        .chain(on_changed_nodes(before, after))
        .chain(destroyed(before, after))
        .collect()
}

/// The envs of what is on nodes that come, go or are used for less.
fn on_changed_nodes<'s>(before: &'s State, after: &'s State) -> impl Iterator<Item = Id<Env>> + 's {
    let loads = after.nodes.changed_since(&before.nodes);
    let instances =
        loads.filter_map(|node| after.index.load(node.id)).flat_map(|load| load.instances.keys());
    instances.filter_map(|id| Some(after.instances.get(*id)?.spec.env))
}

fn destroyed<'s>(before: &'s State, after: &'s State) -> impl Iterator<Item = Id<Env>> + 's {
    let began = after.destroying.keys().filter(|id| !before.destroying.contains_key(*id));
    began.filter_map(|id| id.typed())
}
