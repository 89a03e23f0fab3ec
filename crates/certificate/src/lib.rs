//! X.509: what an uploaded certificate says and whether it can be served, and the
//! authority that vouches for names nobody else does.
//!
//! Start from [`Bundle`], a chain with its key: [`read`] makes one of what a person
//! uploads and says what is in it, [`Authority::issue`] makes one for a host. The
//! bytes come from outside, so all of it has limits.
//!
//! This crate must not know whose a certificate is, where it is kept or who serves
//! it; it reads no file and no clock.

mod authority;
mod bundle;
mod challenge;
mod error;
mod facts;
mod upload;

pub use authority::Authority;
pub use bundle::Bundle;
pub use challenge::challenge;
pub use error::CertificateError;
pub use facts::Facts;
pub use upload::{CHAIN_BYTES_MAX, KEY_BYTES_MAX, Upload, read};
