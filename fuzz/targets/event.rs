//! An entry of the event log, from a file that another version wrote or that was
//! damaged. What is read must be written back as the same, and applying it to a
//! state that knows nothing of its subject must not bring the server down.
#![no_main]

use helix_model::{Recorded, State};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(recorded) = serde_json::from_slice::<Recorded>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&recorded).expect("an entry is JSON");
    let again: Recorded = serde_json::from_slice(&written).expect("and is read back");
    assert_eq!(again, recorded);
    let mut state = State::default();
    let position = state.position + 1;
    state.apply(position, recorded.at, &recorded.event);
});
