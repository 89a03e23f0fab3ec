//! Tunnels that nobody has used for as long as their names are kept.

use helix_model::tunnel::Ask;
use helix_model::{Command, State, Timestamp};

/// Ended at one look, at most: more are ended at the next.
const ENDED_MAX: usize = 256;

/// Those whose time is over.
pub(super) fn steps(state: &State, now: Timestamp) -> impl Iterator<Item = Command> + '_ {
    let over = state.index.tunnel_ends().take_while(move |(end, _)| *end <= now);
    let expire = |tunnel| Command::ChangeTunnel(Box::new(Ask::Expire { tunnel }));
    over.take(ENDED_MAX).map(move |(_, id)| expire(id))
}
