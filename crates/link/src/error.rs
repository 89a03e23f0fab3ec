//! How links and streams end before their time.

use std::io;
use std::sync::Arc;

use crate::frame::FrameError;

/// Why a link ended. The same for all its streams, hence cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the link was closed here")]
    Closed,
    #[error("the other side closed the link")]
    ClosedThere,
    #[error("nothing was heard over the link for {seconds} seconds")]
    Silent { seconds: u64 },
    #[error("the link's connection failed")]
    Transport(#[source] Arc<io::Error>),
    #[error("the other side broke the link's protocol: {what}")]
    Protocol { what: &'static str },
    #[error("the other side sent what is no frame")]
    Frame(#[from] FrameError),
    #[error("the other side does not read what it asks for")]
    Flooded,
}

/// Why a stream cannot go on, or begin.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the other side gave the stream up: {reason}")]
    Reset { reason: String },
    #[error("a message of {bytes} bytes exceeds the limit of {limit}")]
    TooLong { bytes: usize, limit: usize },
    #[error("the link has {limit} streams open, which is the limit")]
    TooMany { limit: usize },
}
