//! What is being destroyed: its instances are sent away, and once nothing is
//! left in it, it is gone. From the inside out, one level a pass.

use helix_model::destroy::contents;
use helix_model::instance::Desired;
use helix_model::{AnyId, Command, Snapshot, State, Volume, snapshot, volume};

use super::env;

/// The next steps of something that is being destroyed.
pub(super) fn step(state: &State, id: AnyId) -> Vec<Command> {
    if let Some(snapshot) = id.typed::<Snapshot>().and_then(|id| state.snapshots.get(id)) {
        let is_removed = snapshot::is_removed(state, snapshot);
        return is_removed.then_some(Command::FinishDestroy(id)).into_iter().collect();
    }
    if let Some(volume) = id.typed::<Volume>().and_then(|id| state.volumes.get(id)) {
        // Its node removes what is in it, and says so.
        let is_removed = volume::is_removed(state, volume);
        return is_removed.then_some(Command::FinishDestroy(id)).into_iter().collect();
    }
    if contents(state, id).is_empty() {
        return vec![Command::FinishDestroy(id)];
    }
    let running = state.instances.children(id);
    let running = running.filter(|instance| instance.spec.desired == Desired::Running);
    running.map(env::retire).collect()
}
