//! HTTP that goes through a tunnel, read on its way: what was asked and answered is kept
//! for whoever works on the program, and visitors are let in or not.
//!
//! Start at [`Inspector`]: a [`Service`](crate::Service) that passes requests on to a
//! program and keeps the last of them in its [`Journal`]. [`Page`] shows them in a
//! browser of this machine, [`Policy`] says who may come in. Edges speak HTTP/1.1 to
//! agents, whatever visitors speak.

mod exchange;
mod guard;
mod journal;
mod page;
mod policy;
mod program;
mod redact;
mod replay;
mod service;
mod tap;

pub use http::HeaderValue;

pub use self::journal::Journal;
pub use self::page::{DEFAULT_PORT, PORTS, Page, PageError};
pub use self::policy::{AllowList, BasicAuth, BasicAuthError, Instead, Policy};
pub use self::service::{Inspector, Options};

/// Requests that are kept, the newest.
pub const KEPT_REQUESTS_MAX: usize = 200;

/// How much of a body is kept, each way: enough to read one, and 200 of them are 25 MiB.
pub const KEPT_BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest head of a request or an answer. Edges take no longer ones from visitors.
const HEAD_BYTES_MAX: usize = 128 * 1024;

/// Locks what cannot be left half changed: a panic elsewhere does not end the tunnel.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
