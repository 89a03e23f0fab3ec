//! The main job with every amount of privilege there is: as root, as a plain
//! user, and where namespaces are refused.
//!
//! The work itself is the same everywhere and told once, in [`job`]; each other
//! file brings about one kind of privilege and says what must follow from it.

// Helpers are not built as tests, so clippy does not see that they are ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../world/mod.rs"]
pub mod world;

#[path = "../e2e/registry.rs"]
pub mod registry;

pub mod job;
pub mod user;

mod denied;
mod root;
