//! Messages in a stream of QUIC: a length of 4 bytes, big endian, and so many bytes.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{ReadExactError, RecvStream, SendStream, WriteError};

use crate::frame::Encoded;

const LENGTH_BYTES: usize = 4;

/// Why there is no further message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("a message of {bytes} bytes exceeds the limit of {limit}")]
    TooLong { bytes: usize, limit: usize },
    #[error("the stream ended within a message")]
    Short,
    #[error(transparent)]
    Read(#[from] quinn::ReadError),
}

impl From<MessageError> for io::Error {
    fn from(error: MessageError) -> io::Error {
        match error {
            MessageError::Read(error) => error.into(),
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// The next message of at most so many bytes; `None` at the stream's end.
///
/// # Errors
/// When it is longer, or the stream or its connection has broken off.
pub async fn read_message(
    from: &mut RecvStream,
    limit: usize,
) -> Result<Option<Bytes>, MessageError> {
    let mut length = [0; LENGTH_BYTES];
    match from.read_exact(&mut length).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(error) => return Err(broken(error)),
    }
    let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if bytes > limit {
        return Err(MessageError::TooLong { bytes, limit });
    }
    let mut message = BytesMut::zeroed(bytes);
    from.read_exact(&mut message).await.map_err(broken)?;
    Ok(Some(message.freeze()))
}

fn broken(error: ReadExactError) -> MessageError {
    match error {
        ReadExactError::FinishedEarly(_) => MessageError::Short,
        ReadExactError::ReadError(error) => MessageError::Read(error),
    }
}

/// Sends a message, which is shorter than 4 GiB.
///
/// # Errors
/// When the other side takes no more, or the connection has ended.
pub async fn write_message(to: &mut SendStream, message: Bytes) -> Result<(), WriteError> {
    let length = length_of(message.len(), &[]);
    to.write_all_chunks(&mut [length, message]).await
}

/// Sends a frame as a message, its payload uncopied.
pub(super) async fn write_frame(to: &mut SendStream, frame: Encoded) -> Result<(), WriteError> {
    let head = length_of(frame.head.len() + frame.payload.len(), &frame.head);
    to.write_all_chunks(&mut [head, frame.payload]).await
}

/// The length, and what follows it at once.
fn length_of(bytes: usize, first: &[u8]) -> Bytes {
    let mut head = BytesMut::with_capacity(LENGTH_BYTES + first.len());
    head.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
    head.put_slice(first);
    head.freeze()
}
