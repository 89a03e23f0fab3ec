//! A command running inside an instance, seen from the agent. Start at
//! [`ExecSession`].

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::client::{Connection, ShimError, receive};
use crate::failure::{Failure, Reason};
use crate::protocol::{CHUNK_BYTES, Decoder, Frame, FrameKind, WindowSize};
use crate::status::Exit;

/// What a command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    /// Bytes from standard output, or from the terminal.
    Stdout(Vec<u8>),
    /// Bytes from standard error.
    Stderr(Vec<u8>),
    /// It ended; nothing follows.
    Exit(Exit),
}

/// A running command. Dropping both halves kills it.
#[derive(Debug)]
pub struct ExecSession {
    /// Where to send input, signals and sizes.
    pub input: ExecInput,
    /// Where its output and exit come from.
    pub output: ExecOutput,
}

/// The half towards the command.
#[derive(Debug)]
pub struct ExecInput {
    stream: OwnedWriteHalf,
}

/// The half from the command.
#[derive(Debug)]
pub struct ExecOutput {
    dir: PathBuf,
    stream: OwnedReadHalf,
    decoder: Decoder,
}

impl ExecSession {
    pub(crate) async fn begin(dir: &Path, connection: Connection) -> Result<Self, ShimError> {
        let (read, write) = connection.stream.into_split();
        let mut output =
            ExecOutput { dir: dir.to_owned(), stream: read, decoder: connection.decoder };
        let frame = output.next_frame().await?;
        match frame.kind {
            FrameKind::Started => Ok(Self { input: ExecInput { stream: write }, output }),
            FrameKind::Failed => Err(ShimError::Refused(output.parse(&frame.payload)?)),
            _ => Err(output.broken("the shim spoke out of turn")),
        }
    }
}

impl ExecInput {
    /// Sends bytes to standard input; waits while the command does not read.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            self.send(&Frame::new(FrameKind::Stdin, chunk)).await?;
        }
        Ok(())
    }

    /// Ends standard input.
    pub async fn close(&mut self) -> io::Result<()> {
        self.send(&Frame::new(FrameKind::StdinClosed, [])).await
    }

    /// Tells the terminal its new size.
    pub async fn resize(&mut self, cols: u16, rows: u16) -> io::Result<()> {
        self.send(&Frame::json(FrameKind::Resize, &WindowSize { cols, rows })).await
    }

    /// Sends a signal to the command.
    pub async fn signal(&mut self, signal: i32) -> io::Result<()> {
        self.send(&Frame::json(FrameKind::Signal, &signal)).await
    }

    async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.stream.write_all(&frame.encode()).await
    }
}

impl ExecOutput {
    /// Waits for what the command says next. An error before
    /// [`ExecEvent::Exit`] means the instance ended and took the command along.
    pub async fn next(&mut self) -> Result<ExecEvent, ShimError> {
        let frame = self.next_frame().await?;
        match frame.kind {
            FrameKind::Stdout => Ok(ExecEvent::Stdout(frame.payload)),
            FrameKind::Stderr => Ok(ExecEvent::Stderr(frame.payload)),
            FrameKind::Exit => Ok(ExecEvent::Exit(self.parse(&frame.payload)?)),
            _ => Err(self.broken("the shim spoke out of turn")),
        }
    }

    async fn next_frame(&mut self) -> Result<Frame, ShimError> {
        let frame = receive(&mut self.stream, &mut self.decoder)
            .await
            .map_err(|error| ShimError::io(&self.dir, error))?;
        frame.ok_or_else(|| {
            let detail = "the session ended with its instance";
            ShimError::Refused(Failure::new(Reason::NotRunning, detail))
        })
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, json: &[u8]) -> Result<T, ShimError> {
        serde_json::from_slice(json).map_err(|error| ShimError::io(&self.dir, error))
    }

    fn broken(&self, what: &str) -> ShimError {
        ShimError::io(&self.dir, io::Error::new(io::ErrorKind::InvalidData, what.to_owned()))
    }
}
