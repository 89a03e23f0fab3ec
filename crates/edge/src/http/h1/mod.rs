//! HTTP/1.1 as bytes (RFC 9112): `inbox` reads, `head` finds where a head ends, `request` and
//! `response` make sense of one, `decoder` does of the body behind it, and `outbox` writes.
//!
//! Only what has to do with framing is here. The syntax of lines is `httparse`'s, what names
//! and values may be is the `http` crate's. Nothing here knows of hosts, backends or routes,
//! nor of tasks and timers: everything is polled by whoever has the connection.

mod date;
mod decoder;
mod head;
mod inbox;
mod outbox;
mod request;
mod response;

pub(crate) use decoder::{Decoded, Decoder};
pub(crate) use head::{HeadError, lists};
pub(crate) use inbox::Inbox;
pub(crate) use outbox::{Encoder, Outbox, Persistence};
pub(crate) use request::{Asked, Requests};
pub(crate) use response::{Answered, Responses};
