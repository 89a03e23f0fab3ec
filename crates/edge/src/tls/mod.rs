//! The shared HTTPS listener: connections are decrypted here, and what is inside is
//! served by `http`.
//!
//! `listener` takes connections through their handshake, `certificates` answers which
//! certificate a host is served with, `keeper` fetches what the plan wants.

mod certificates;
mod keeper;
mod listener;

pub(crate) use certificates::{Certificates, Wanted};
pub(crate) use keeper::{Source, keep};
pub(crate) use listener::{Acceptor, accept};

pub use keeper::{CertificateSource, Fetched};
