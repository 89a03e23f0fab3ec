//! TCP endpoints: an address and port of their own, bytes passed on unread.
//!
//! `listeners` keeps one listener per address and port of the plan, `relay`
//! carries one connection, `pump` moves the bytes of one direction and `pipes`
//! lends it pipes for splicing.

mod listeners;
mod pipes;
mod pump;
mod relay;

pub(crate) use listeners::{ListenerState, Listeners};
