//! From the state to the next commands that bring current nearer to desired.
//!
//! [`reconcile`] says which envs have a step to take, [`Watch`] says the same
//! without looking at all of them. Neither says what the step is: that is
//! decided when the command is carried out, by [`steps`] on the state of that
//! moment, so that no step is taken on a state it was not made for. Nothing is
//! proposed when all is well; what follows from a step comes from looking again.

use helix_model::{AnyId, Command, Env, Kind, Resource, State, Timestamp};

mod certificate;
mod deploy;
mod destroy;
mod env;
mod instance;
mod release_command;
mod tunnel;
mod watch;

pub use watch::Watch;

/// The name under which reconcilers appear as actors.
pub const ACTOR: &str = "reconciler";

/// Everything that should be asked for now.
pub fn reconcile(state: &State, now: Timestamp) -> Vec<Command> {
    let envs = state.envs.iter().filter(|env| !steps(state, env, now).is_empty());
    let commands = envs.map(|env| Command::Reconcile(env.id)).chain(ends(state));
    commands.chain(certificate::steps(state, now)).chain(tunnel::steps(state, now)).collect()
}

/// What an env needs now.
pub fn steps(state: &State, env: &Resource<Env>, now: Timestamp) -> Vec<Command> {
    let mut commands = if state.destroying_since(env.id.any()).is_some() {
        destroy::step(state, env.id.any())
    } else if let Some(finish) = deploy::verdict(state, env, now) {
        vec![finish]
    } else {
        env::step(state, env, now)
    };
    let instances = state.instances.children(env.id.any());
    commands.extend(instances.filter_map(|it| instance::step(state, it, now)));
    commands
}

/// Whether neither time nor what happens outside of the env can bring it a step.
fn is_settled(state: &State, env: &Resource<Env>) -> bool {
    state.destroying_since(env.id.any()).is_none() && env::is_settled(state, env)
}

/// The ends of what is being destroyed, envs aside, which have steps of their own.
fn ends(state: &State) -> impl Iterator<Item = Command> {
    let wider = |id: &&AnyId| id.kind() != Kind::Env;
    state.destroying.keys().filter(wider).flat_map(|id| destroy::step(state, *id))
}
