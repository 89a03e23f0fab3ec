//! The whole product, end to end: the built binary as a person would run it, on
//! this machine, with real images, real containers and real visitors.
//!
//! Each file tells one story. They need root and namespaces; where those are
//! missing every test says that it skips.

// Helpers are not built as tests, so clippy does not see that they are ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../world/mod.rs"]
pub mod world;

#[path = "../../../log/tests/backends/objects.rs"]
pub mod objects;

mod acme;
mod backups;
mod bad_releases;
mod crash;
mod desk;
pub mod dns;
mod domains;
pub mod embedded;
mod endpoints;
mod hello;
mod https;
pub mod laptop;
pub mod network;
mod nginx;
pub mod other_node;
mod packs;
mod postgres;
mod private;
pub mod registry;
mod release_command;
mod secrets;
pub mod shop;
mod software;
mod tunnels;
pub mod websocket;
