//! Tunnels that nobody has used for as long as their names are kept, and those whose agents
//! were at an edge that is lost.

use helix_model::tunnel::Ask;
use helix_model::{Command, State, Timestamp};

/// Ended at one look, at most: more are ended at the next.
const ENDED_MAX: usize = 256;

/// What there is to note.
pub(super) fn steps(state: &State, now: Timestamp) -> impl Iterator<Item = Command> + '_ {
    expired(state, now).chain(lost(state, now)).map(|ask| Command::ChangeTunnel(Box::new(ask)))
}

/// Those whose time is over.
fn expired(state: &State, now: Timestamp) -> impl Iterator<Item = Ask> + '_ {
    let over = state.index.tunnel_ends().take_while(move |(end, _)| *end <= now);
    over.take(ENDED_MAX).map(move |(_, tunnel)| Ask::Expire { tunnel })
}

/// Edges that do not report, and of which an agent is still known.
fn lost(state: &State, now: Timestamp) -> impl Iterator<Item = Ask> + '_ {
    let edges = state.index.edges_with_agents().filter_map(|id| state.edges.get(id));
    edges.filter(move |edge| !edge.counts(now)).map(|edge| Ask::Lose { edge: edge.id })
}
