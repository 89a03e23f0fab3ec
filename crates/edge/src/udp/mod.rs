//! Datagrams, passed on unread.
//!
//! Who sends from one address and port has a session: a socket of its own towards one
//! backend, so that answers find their way and a backend sees one client as one. `serve`
//! takes what comes to a port, `session` brings the answers back.

mod serve;
mod session;

pub(crate) use serve::serve;
