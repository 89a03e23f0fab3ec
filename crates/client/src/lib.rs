//! A typed client of the HTTP API: every route, its streams and `exec`.
//!
//! Start at [`Client::new`]. Reads are generic over the resource kinds
//! ([`Client::list`], [`Client::get`], [`Client::wait`]); [`Seen`] turns a
//! view into the noun's own types. [`EventStream`] survives broken connections.
//!
//! This crate knows the wire. It knows no command line, no terminal and no
//! files, and it never decides what to do about a failure: [`ClientError`]
//! says what happened and the caller chooses.

mod access;
mod admin;
mod certificates;
mod client;
mod domains;
mod error;
mod events;
mod exec;
mod lines;
mod link;
mod logs;
mod mutations;
mod resources;
mod retry;
mod secrets;
mod seen;
mod tenancy;
#[cfg(test)]
mod tests;
mod traffic;
#[cfg(feature = "tunnel")]
mod tunnel_grants;
mod tunnels;
mod volumes;
mod waits;

pub use access::{AuditQuery, AuditStream};
pub use admin::Export;
pub use client::Client;
pub use error::{ClientError, Result};
pub use events::{EventQuery, EventStream};
pub use exec::{ExecInput, ExecOutput, ExecReceived, ExecTarget};
pub use link::Socket;
pub use logs::{LogQuery, LogStream};
pub use resources::ListQuery;
pub use seen::Seen;
pub use tenancy::UsageQuery;
pub use traffic::{TrafficQuery, TrafficStream};
#[cfg(feature = "tunnel")]
pub use tunnel_grants::TunnelGrants;
