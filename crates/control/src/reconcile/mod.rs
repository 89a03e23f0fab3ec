//! From the state to the next commands that bring current nearer to desired.
//!
//! [`reconcile`] is called after every change and on a slow tick; it keeps no
//! memory of its own and proposes nothing when all is well. Each pass does one
//! bounded step; what follows comes from looking again.

use helix_model::{Command, State, Timestamp};

mod deploy;
mod destroy;
mod env;
mod instance;

/// The name under which reconcilers appear as actors.
pub const ACTOR: &str = "reconciler";

/// Everything that should be asked for now.
pub fn reconcile(state: &State, now: Timestamp) -> Vec<Command> {
    let mut commands = Vec::new();
    for env in state.envs.iter() {
        if state.destroying_since(env.id.any()).is_some() {
            continue;
        }
        if let Some(finish) = deploy::verdict(state, env, now) {
            commands.push(finish);
        } else {
            commands.extend(env::step(state, env));
        }
    }
    commands.extend(destroy::steps(state));
    commands.extend(state.instances.iter().filter_map(|it| instance::step(state, it, now)));
    commands
}
