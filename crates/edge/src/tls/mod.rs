//! TLS: connections for hosts that are served over HTTPS are decrypted here, and what is
//! inside is served by `http`; those for hosts of `tls` endpoints are passed on untouched.
//!
//! `hello` reads which host a client asks for, `sniff` finds it out of a connection,
//! `listener` takes those of the shared port through their handshake, `certificates`
//! answers which certificate a host is served with, `keeper` fetches what the plan wants,
//! `kept` has it for the next start.

mod certificates;
mod hello;
mod keeper;
mod kept;
mod listener;
mod sniff;

/// What an authority says it speaks that wants to see who has a host (RFC 8737 §6.2).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

pub(crate) use certificates::{Certificates, Order, Wanted};
pub(crate) use keeper::{Source, keep};
pub(crate) use kept::Kept;
pub(crate) use listener::{Acceptor, accept, refuse_name, within_quic};
pub(crate) use sniff::{First, first};

pub use hello::{Hello, read as read_hello};
pub use keeper::{CertificateSource, Fetched};
