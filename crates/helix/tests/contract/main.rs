//! What scripts and people may rely on of the command line and the API, held
//! against the built binary.
//!
//! The list of commands is read from the binary's own help, so that a command
//! nobody wrote a case for fails these tests. [`desk`] is the helper that all of
//! them enter through; it also checks what must hold for every single command.

// Helpers are not built as tests, so clippy does not see that they are ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../world/mod.rs"]
pub mod world;

pub mod desk;

mod access;
mod codes;
mod commands;
mod config;
mod deferred;
mod exec_tokens;
mod exit_codes;
mod exposing;
mod plans;
mod receipts;
mod settings;
mod streams;
mod tenancy;
mod terminals;
