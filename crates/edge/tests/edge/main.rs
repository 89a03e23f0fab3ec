//! The edge from outside: real sockets, real plans, small apps behind it.
// Helpers are not test functions to clippy; here too, what cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access_log;
mod address;
mod agents;
mod answers;
mod app;
mod challenge;
mod corpus;
mod drain;
mod h2c;
mod http;
mod limits;
#[path = "../../../link/tests/link/lossy.rs"]
mod lossy;
mod metrics;
mod origin;
mod passthrough;
mod plan_file;
mod proxy;
mod quic;
mod relay;
mod retry;
mod secure;
mod strict;
mod takeover;
mod tcp;
mod tls;
mod tunnel;
mod udp;
mod upgrade;
mod world;
