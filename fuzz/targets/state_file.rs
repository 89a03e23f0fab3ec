//! A state file, as written by whoever brings an installation along. What is
//! refused must say where; what is accepted must fold to a state that was decided.
#![no_main]

use helix_control::decide::Context;
use helix_control::round::Origin;
use helix_control::state_file;
use helix_model::state_file::StateFile;
use helix_model::{Actor, Timestamp};
use libfuzzer_sys::fuzz_target;

/// What the log takes.
const PAYLOAD_MAX_BYTES: usize = 1024 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let error = match StateFile::parse(bytes) {
        Ok(file) => match decided(&file) {
            Ok(()) => return,
            Err(error) => error,
        },
        Err(error) => error,
    };
    assert!(!error.path.is_empty() && !error.message.is_empty());
});

fn decided(file: &StateFile) -> Result<(), helix_model::state_file::StateFileError> {
    let origin = Origin {
        actor: Actor::System("fuzz".to_owned()),
        request_id: "req_fuzz".to_owned(),
        source: None,
        idempotency: None,
        precondition: None,
    };
    let mut next = 0;
    let mut entropy = || {
        next += 1;
        next
    };
    let mut context = Context { now: Timestamp(1), entropy: &mut entropy };
    let round = state_file::decide(file, &origin, PAYLOAD_MAX_BYTES, &mut context)?;
    assert!(round.answers.iter().all(Result::is_ok));
    assert_eq!(round.state.position as usize, round.entries.len());
    assert_eq!(round.state.orgs.len(), file.orgs.len());
    Ok(())
}
