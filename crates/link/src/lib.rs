//! Streams of messages between two machines, many over one connection.
//!
//! Start at [`Link::start`]: it takes a [`Transport`] (something that carries
//! binary messages and has proven who is at the other end) and gives out
//! [`Stream`]s. Either side opens them; each has its own flow control, so that
//! one whose reader is slow holds up no other. [`websocket`] makes transports of
//! WebSockets, `quic` of connections over UDP, [`Backoff`] says when to try again after one was lost.
//!
//! It must not know what flows through: the header a stream is opened with, and
//! its messages, are bytes. It reads no wall clock and draws no randomness.

mod backoff;
mod byte_stream;
mod error;
pub mod frame;
mod gauge;
mod limits;
mod link;
mod pair;
mod pumps;
#[cfg(feature = "quic")]
pub mod quic;
mod sorter;
mod stream;
mod streams;
mod transport;
pub mod websocket;

pub use backoff::Backoff;
pub use byte_stream::ByteStream;
pub use error::{LinkError, StreamError};
pub use limits::{
    BEAT_INTERVAL, DEAD_AFTER, HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, REASON_BYTES_MAX, STREAMS_MAX,
    WINDOW_BYTES,
};
pub use link::{Incoming, Link, Opened, Side};
pub use pair::pair;
pub use stream::{Receiver, Sender, Stream};
pub use transport::{Order, Sink, Source, Transport};
