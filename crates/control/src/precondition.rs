//! Optimistic concurrency: a change may demand that what it changes is still as
//! its author saw it.
//!
//! Checked against the very state the command is decided on, so that of several
//! writers who saw the same version exactly one gets through.

use helix_model::{AnyId, Code, Problem, State, reference, view};

/// The resource a change was made for, and the version its author saw.
pub type Precondition = (AnyId, u64);

/// Refuses when the resource is gone or another version than expected.
pub fn check(state: &State, (id, expected): Precondition) -> Result<(), Problem> {
    let kind = id.kind();
    let Some(actual) = view::version(state, id) else {
        return Err(Problem::not_found(kind, &id.to_string()));
    };
    if actual == expected {
        return Ok(());
    }
    let path = reference::path(state, id);
    let detail = format!("{kind} `{path}` is version {actual}, not {expected}");
    Err(Problem::new(Code::VersionConflict, detail)
        .hint(format!(
            "`helix describe {kind}/{path}` shows what it is now; if the change still fits, \
             repeat it with `--expected-version {actual}`"
        ))
        .field("expected_version", format!("expected {expected}, actual {actual}")))
}
