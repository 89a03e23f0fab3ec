//! What the backends promise, held against each of them and against a real
//! PostgreSQL.
//!
//! Start at [`conformance`]; [`world`] makes databases and cleans up after them.
//! Without PostgreSQL's programs the parts that need them say so and pass.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "says what is skipped, and why")]

mod archive;
mod archive_objects;
mod backup_objects;
pub mod cluster;
mod conformance;
mod leases;
pub mod objects;
mod postgres;
mod restart;
mod schemas;
mod sealed;
mod world;
