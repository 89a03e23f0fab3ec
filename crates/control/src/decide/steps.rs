//! Deciding on what reconcilers ask for: the next steps of one env, as of now.

use helix_model::{AnyId, Command, Env, Id};

use super::{Draft, carry_out};
use crate::reconcile;

/// Events of one command, so that what one round may append stays within what
/// the log takes; what is left comes with the next look.
const EVENTS_MAX: usize = 16;

/// Takes steps until there is none left to take. One that is refused is left
/// out; it will be proposed again for as long as it makes sense.
pub(super) fn take(draft: &mut Draft<'_, '_>, env: Id<Env>) -> Option<AnyId> {
    loop {
        let known = draft.state.envs.get(env)?;
        let begun = draft.events.len();
        for step in reconcile::steps(&draft.state, known, draft.context.now) {
            step_or_none(draft, &step);
            if draft.events.len() >= EVENTS_MAX {
                return Some(env.any());
            }
        }
        if draft.events.len() == begun {
            return Some(env.any());
        }
    }
}

/// Takes a step whole or not at all. Only the end of a deploy can be refused
/// half-way; keeping a copy of the state for the others would have every change
/// copy what it touches.
fn step_or_none(draft: &mut Draft<'_, '_>, step: &Command) {
    if !matches!(step, Command::FinishDeploy(_)) {
        let _ = carry_out(draft, step);
        return;
    }
    let (state, count) = (draft.state.clone(), draft.events.len());
    if carry_out(draft, step).is_err() {
        draft.state = state;
        draft.events.truncate(count);
    }
}
