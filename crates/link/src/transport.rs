//! What a link runs over: two halves that carry binary messages.
//!
//! Start at [`Transport`]. Who is at the other end has been proven before one is
//! made.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;

use crate::frame::Encoded;

/// The half that sends.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Takes a frame, which becomes a message; it may be sent only with the next
    /// [`Sink::flush`].
    async fn feed(&mut self, frame: Encoded) -> io::Result<()>;

    /// Sends what was taken.
    async fn flush(&mut self) -> io::Result<()>;

    /// Says goodbye.
    async fn close(&mut self) -> io::Result<()>;
}

/// The half that receives.
#[async_trait]
pub trait Source: Send + 'static {
    /// The next message; `None` when the other side said goodbye.
    async fn next(&mut self) -> io::Result<Option<Bytes>>;
}

/// In which order messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they were sent.
    Whole,
    /// As they were sent within each stream, apart from datagrams. The transport sees to it
    /// that no stream is opened twice.
    OfStreams,
}

/// Both halves.
pub struct Transport {
    pub order: Order,
    pub sink: Box<dyn Sink>,
    pub source: Box<dyn Source>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport")
    }
}
