//! The language of a shim's control socket: frames of one type byte, a
//! big-endian `u32` length and that many bytes. Start at [`Request`].
//!
//! A client sends one [`Request`] per connection. `status`, `signal` and `stop`
//! are answered by one response frame; `watch` by a status frame at once and at
//! each change; `exec` turns the connection into a session of stream frames.
//! It must not do I/O: shim and client bring their own.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::spec::ExecSpec;

/// File name of the control socket inside an instance directory.
pub const SOCKET: &str = "shim.sock";

/// Largest payload accepted. Streams are cut into far smaller chunks; this only
/// stops a broken peer from making us allocate without end.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Size in which streams are cut into frames.
pub(crate) const CHUNK_BYTES: usize = 32 << 10;

const HEADER_BYTES: usize = 5;

/// What a frame carries. Numbers are part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Client → shim: a [`Request`] as JSON.
    Request = 1,
    /// Shim → client: success; the payload depends on the request.
    Done = 2,
    /// Shim → client: a [`Failure`] as JSON; the request had no effect.
    Failed = 3,
    /// Shim → client: a [`crate::Status`] as JSON.
    Status = 4,
    /// Client → shim: bytes for the command's standard input.
    Stdin = 10,
    /// Client → shim: end of standard input.
    StdinClosed = 11,
    /// Shim → client: bytes from standard output, or from the terminal.
    Stdout = 12,
    /// Shim → client: bytes from standard error.
    Stderr = 13,
    /// Shim → client: an [`crate::Exit`] as JSON; last frame of a session.
    Exit = 14,
    /// Client → shim: a [`WindowSize`] as JSON.
    Resize = 15,
    /// Client → shim: a signal number as JSON, sent to the command.
    Signal = 16,
    /// Shim → client: the command has been executed.
    Started = 17,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Request,
            2 => Self::Done,
            3 => Self::Failed,
            4 => Self::Status,
            10 => Self::Stdin,
            11 => Self::StdinClosed,
            12 => Self::Stdout,
            13 => Self::Stderr,
            14 => Self::Exit,
            15 => Self::Resize,
            16 => Self::Signal,
            17 => Self::Started,
            _ => return None,
        })
    }
}

/// What a client may ask of a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// The current status.
    Status,
    /// The current status, then one frame at each change until the end.
    Watch,
    /// Send a signal to the workload's first process.
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// TERM, then KILL after the grace. The shim sees it through alone.
    Stop {
        /// Milliseconds to wait before KILL.
        grace_ms: u64,
    },
    /// Run a command inside the instance.
    Exec(ExecSpec),
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Width.
    pub cols: u16,
    /// Height.
    pub rows: u16,
}

/// One unit on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameKind,
    /// The bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame around raw bytes.
    pub fn new(kind: FrameKind, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, payload: payload.into() }
    }

    /// A frame around a value as JSON. Values of this protocol always serialize;
    /// should one not, the empty payload is refused by the peer.
    pub fn json<T: Serialize>(kind: FrameKind, value: &T) -> Self {
        Self::new(kind, serde_json::to_vec(value).unwrap_or_default())
    }

    /// A refusal.
    #[must_use]
    pub fn failed(failure: &Failure) -> Self {
        Self::json(FrameKind::Failed, failure)
    }

    /// Appends the frame's bytes to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        out.push(self.kind as u8);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.payload);
    }

    /// The frame's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.payload.len());
        self.encode_into(&mut out);
        out
    }
}

/// A peer that does not speak this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The type byte is not one of [`FrameKind`].
    #[error("frame type {0} is unknown")]
    UnknownKind(u8),
    /// The length exceeds [`PAYLOAD_BYTES_MAX`].
    #[error("frame of {0} bytes exceeds the limit of {PAYLOAD_BYTES_MAX}")]
    TooLarge(usize),
}

/// Cuts received bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole frame, `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((header, rest)) = self.buffer.split_at_checked(HEADER_BYTES) else {
            return Ok(None);
        };
        let kind = FrameKind::from_byte(header[0]).ok_or(FrameError::UnknownKind(header[0]))?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLarge(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let payload = rest[..length].to_vec();
        self.buffer.drain(..HEADER_BYTES + length);
        Ok(Some(Frame { kind, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_fragmentation() {
        let frames = [
            Frame::json(FrameKind::Request, &Request::Stop { grace_ms: 7 }),
            Frame::new(FrameKind::StdinClosed, []),
            Frame::new(FrameKind::Stdout, vec![0, 1, 255]),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        for chunk in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(chunk) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, frames, "chunks of {chunk}");
        }
    }

    #[test]
    fn hostile_headers_are_refused_before_allocating() {
        let mut decoder = Decoder::default();
        decoder.push(&[12, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLarge(u32::MAX as usize)));
        let mut decoder = Decoder::default();
        decoder.push(&[99, 0, 0, 0, 0]);
        assert_eq!(decoder.next_frame(), Err(FrameError::UnknownKind(99)));
    }
}
