//! The inspector between a visitor and a program that answers: what goes through, what is
//! kept of it, who may come in, and who may look.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step fails the test")]

mod keeping;
mod looking;
mod passing;
mod policies;
mod world;
