//! Connections that are passed on unread.
//!
//! `relay` carries one connection, `over` one whose backend is behind an agent, `pump` moves the bytes of one direction and `pipes`
//! lends it pipes for splicing.

mod over;
mod pipes;
mod pump;
pub(crate) mod relay;
