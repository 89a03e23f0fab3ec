//! Certificates that time has brought nearer to their end.

use helix_model::{Command, State, Timestamp};

/// Those of which it is to be told.
pub(super) fn steps(state: &State, now: Timestamp) -> impl Iterator<Item = Command> + '_ {
    let aged = state.certificates.iter().filter(move |it| {
        it.spec.phase_at(now) != it.status.phase && state.destroying_since(it.id.any()).is_none()
    });
    aged.map(|certificate| Command::AgeCertificate(certificate.id))
}
