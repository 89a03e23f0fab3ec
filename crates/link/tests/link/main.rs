//! Links from outside: streams in memory, over WebSockets and over QUIC, what loss does to the
//! last, and WebSockets with another's library at the far end.
// Helpers are not test functions to clippy; here too, what cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lossy;
mod quic;
mod streams;
mod websocket;
mod world;
