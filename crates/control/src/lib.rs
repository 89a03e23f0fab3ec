//! The decisions: pure functions from the state to what should happen.
//!
//! Three doors. [`decide`] turns a command into events or a problem.
//! [`reconcile`] looks at the whole state and proposes commands that bring
//! current nearer to desired. [`plan`] says what one node and one edge should
//! be doing, [`report`] what an edge's answer adds. [`place`] picks nodes for the first two,
//! [`precondition`] keeps writers from overwriting what they have not seen.
//! [`round`] is the engine's part of it: many commands, one append;
//! [`state_file`] is one such round, of a whole installation written by hand.
//!
//! Nothing here knows tokio, files, sockets, clocks or randomness: time and
//! entropy are parameters, so a simulator can run the very same code.

pub mod acme;
pub mod decide;
pub mod place;
pub mod plan;
pub mod precondition;
mod receipt;
pub mod reconcile;
pub mod report;
pub mod round;
pub mod state_file;
