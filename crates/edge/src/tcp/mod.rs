//! Connections that are passed on unread.
//!
//! `relay` carries one connection, `pump` moves the bytes of one direction and `pipes`
//! lends it pipes for splicing.

mod pipes;
mod pump;
pub(crate) mod relay;
