//! State rebuilt from the log equals live state: folded from the written form
//! of every entry, read back from a snapshot, or kept by any replica.

use helix_model::{Recorded, State};

use super::{Failed, fail};
use crate::world::Store;

const NAME: &str = "replay";

#[derive(Default)]
pub(crate) struct Replay {
    /// Folded from what was written, entry by entry.
    witness: State,
    digest: u64,
}

impl Replay {
    pub(crate) fn state(&self) -> &State {
        &self.witness
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn follow(&mut self, failed: &mut Failed, recorded: &Recorded) {
        let written = serde_json::to_vec(recorded).unwrap_or_default();
        for byte in &written {
            // FNV-1a, 64 bits: enough to tell two runs apart.
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        match serde_json::from_slice::<Recorded>(&written) {
            Ok(read) => self.witness.apply(self.witness.position + 1, read.at, &read.event),
            Err(error) => fail(failed, NAME, || format!("an entry cannot be read back: {error}")),
        }
    }

    /// Compares a live state with the witness, when they are of one position.
    pub(crate) fn compare(&self, failed: &mut Failed, who: &str, state: &State) {
        if state.position == self.witness.position && *state != self.witness {
            let position = state.position;
            fail(failed, NAME, || format!("{who} has another state at {position} than the log"));
        }
    }

    pub(crate) fn at_end(&self, failed: &mut Failed, store: &Store) {
        self.compare(failed, "a snapshot and the log after it", &store.load());
        let mut rebuilt = State::default();
        store.replay(&mut rebuilt);
        self.compare(failed, "a replay from the beginning", &rebuilt);
        let written = serde_json::to_vec(&rebuilt).unwrap_or_default();
        match serde_json::from_slice::<State>(&written) {
            Ok(read) => self.compare(failed, "a snapshot of the end", &read),
            Err(error) => fail(failed, NAME, || format!("a snapshot cannot be read: {error}")),
        }
    }
}
