//! Links from outside: streams in memory and over QUIC, and what loss does to the latter.
// Helpers are not test functions to clippy; here too, what cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lossy;
mod quic;
mod streams;
mod world;
