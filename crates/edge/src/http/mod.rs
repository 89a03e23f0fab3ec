//! The shared listeners: requests find their backends by host name.
//!
//! In the order a request meets them: `server` accepts connections (`h2` serves those
//! of HTTP/2, which come encrypted), `front` says how one came, `strict_head`
//! refuses ambiguous framing before the parser sees it, `host` says which app is
//! meant, an `account` is kept, `headers` are rewritten, `forward` finds a backend that takes the
//! request over an `exchange` (or a `multiplexed` connection), `reply` streams the response, `upgrade` tunnels
//! what stops being HTTP.

mod account;
mod body_scan;
mod exchange;
mod forward;
mod front;
mod h2;
mod headers;
mod host;
mod multiplexed;
mod reply;
mod server;
mod strict_head;
mod turn;
mod upgrade;
mod upload;

pub(crate) use exchange::IdleConnections;
pub(crate) use front::{Front, Secure};
pub(crate) use h2::serve_h2;
pub(crate) use multiplexed::Multiplexed;
pub(crate) use server::{accept, serve};
