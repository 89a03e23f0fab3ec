//! DNS: what a name's TXT records say.
//!
//! Start from [`Resolver`], which asks the servers of this machine or one that was
//! named. [`Question`] is the messages by themselves: answers come from outside, so
//! they have limits, and nothing that does not fit the question is believed.
//!
//! This crate must not know what records are for; it draws no randomness.

mod message;
mod resolver;

pub use message::{Answer, MessageError, Question};
pub use resolver::{LookupError, Resolver};
