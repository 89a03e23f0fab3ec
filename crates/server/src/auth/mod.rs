//! Proof of identity: passwords, setup codes, device codes, and how often one
//! may try.
//!
//! Start from [`Accounts`] (what is kept per user in the sealed table) and
//! [`devices`] (how a program is let in by a person elsewhere). Everything that
//! has to outlive a request is in the sealed table, so that any replica can go
//! on with what another began. What a caller may do is not known here.

pub(crate) mod accounts;
pub(crate) mod buckets;
pub(crate) mod devices;
pub(crate) mod limits;
pub(crate) mod password;

pub(crate) use accounts::Accounts;
pub(crate) use devices::Devices;
pub(crate) use limits::Limits;

use helix_log::SealedError;
use helix_model::{Code, Problem};

/// What people are told when the sealed table cannot be used; the cause is for
/// the operator's eyes.
fn unusable(error: &SealedError) -> Problem {
    tracing::error!(%error, hint = error.hint(), "the sealed table cannot be used");
    Problem::new(Code::Unavailable, "what proves identity cannot be read or written right now")
}
