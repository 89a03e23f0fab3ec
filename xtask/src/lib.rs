//! The project's chores, behind `cargo xtask`.
//!
//! Start at [`suite`] for what `cargo xtask test` does, at [`tidy`] for the
//! rules the source itself must keep, at [`bench`] for the figures in
//! `docs/benchmarks.md`, at [`dist`] for the program that packages carry, at [`fuzz`] for hostile input, at [`vm`] for the
//! virtual machine of the tests that need one, at [`engine`] for containers. Nothing here is part of the product: no room depends
//! on this package, and it drives the product only through the built binary.

pub mod bench;
pub mod dist;
pub mod engine;
pub mod fuzz;
pub mod image;
pub mod openapi;
pub mod output;
pub mod packages;
pub mod process;
pub mod processes;
pub mod python;
pub mod sim;
pub mod suite;
pub mod tidy;
pub mod vm;
pub mod workspace;
