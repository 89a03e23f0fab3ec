//! The shared listeners: requests find their backends by host name.
//!
//! In the order a request meets them: `server` accepts connections, a `connection` reads
//! requests off its bytes with `h1` (`h2` serves those of HTTP/2, which come encrypted), `front`
//! says how one came, `host` which app is meant, an `account` is kept, `headers` are rewritten,
//! `forward` finds a backend that takes the request over an `exchange` (or a `multiplexed`
//! connection), `upload` sends its body, `reply` streams the response, `upgrade` tunnels what
//! stops being HTTP.

mod account;
mod body;
mod connection;
mod exchange;
mod forward;
mod front;
mod h1;
mod h2;
mod headers;
mod host;
mod multiplexed;
mod reply;
mod server;
mod turn;
mod upgrade;
mod upload;

pub(crate) use body::Requested;
pub(crate) use exchange::IdleConnections;
pub(crate) use front::{Front, Secure};
pub(crate) use h2::serve_h2;
pub(crate) use multiplexed::Multiplexed;
pub(crate) use server::{accept, serve};
pub(crate) use turn::Conversation;
