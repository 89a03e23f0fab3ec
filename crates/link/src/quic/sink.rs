//! What goes: each frame by the stream of QUIC that it is of.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use quinn::{Connection, SendDatagramError, SendStream, WriteError};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::halves::Halves;
use super::messages::write_frame;
use super::read::{Opener, Reading};
use super::{GOODBYE, GOODBYE_TIMEOUT, id_of};
use crate::frame::{self, BEAT, DATAGRAM, Encoded, OPEN};
use crate::transport::Sink;

pub(super) struct QuicSink {
    connection: Connection,
    halves: Halves,
    /// For who reads the streams that are opened here. Weak: the queue ends with the
    /// connection, which this outlives.
    messages: mpsc::WeakSender<io::Result<Bytes>>,
    control: SendStream,
}

impl QuicSink {
    pub(super) fn new(reading: &Reading, control: SendStream) -> QuicSink {
        QuicSink {
            connection: reading.connection.clone(),
            halves: reading.halves.clone(),
            messages: reading.messages.downgrade(),
            control,
        }
    }

    /// Streams are opened here in the order of their ids, which therefore are those that
    /// the other side takes them to have.
    async fn open(&self, id: u32) -> io::Result<()> {
        let (to_there, from_there) = self.connection.open_bi().await?;
        if id_of(to_there.id()) != Some(id) {
            return Err(io::Error::other(format!("stream {id} was opened out of turn")));
        }
        self.halves.insert(id, to_there);
        let messages = self.messages.upgrade().ok_or(io::ErrorKind::BrokenPipe)?;
        let (connection, halves) = (self.connection.clone(), self.halves.clone());
        let reading = Reading { connection, halves, messages };
        tokio::spawn(reading.stream(from_there, id, Opener::Here));
        Ok(())
    }

    async fn of_stream(&self, kind: u8, id: u32, frame: Encoded) -> io::Result<()> {
        if kind == OPEN {
            self.open(id).await?;
        }
        let Some(mut half) = self.halves.lend(id) else { return Ok(()) };
        match write_frame(&mut half.stream, frame).await {
            Ok(()) => self.halves.give_back(id, half, kind),
            // Its end is on the way here.
            Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                self.halves.give_back(id, half, frame::RESET);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Whether it went as a datagram of QUIC.
    fn datagram(&self, frame: &Encoded) -> io::Result<bool> {
        match self.connection.send_datagram(frame.whole()) {
            Ok(()) => Ok(true),
            Err(SendDatagramError::ConnectionLost(error)) => Err(error.into()),
            // In its stream, where it may be longer.
            Err(_) => Ok(false),
        }
    }
}

#[async_trait]
impl Sink for QuicSink {
    async fn feed(&mut self, frame: Encoded) -> io::Result<()> {
        match frame::head(&frame.head).map_err(io::Error::other)? {
            (BEAT, _) => write_frame(&mut self.control, frame).await.map_err(io::Error::from),
            (DATAGRAM, _) if self.datagram(&frame)? => Ok(()),
            (kind, id) => self.of_stream(kind, id, frame).await,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        // QUIC sends by itself.
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        let ended = self.halves.end();
        let _ = self.control.finish();
        let arriving = ended.iter().chain([&self.control]).map(SendStream::stopped);
        // Who is gone, or does not listen, is not waited for.
        let _ = timeout(GOODBYE_TIMEOUT, join_all(arriving)).await;
        self.connection.close(GOODBYE, b"");
        Ok(())
    }
}

impl Drop for QuicSink {
    fn drop(&mut self) {
        // Closed already, unless something went wrong.
        self.connection.close(GOODBYE, b"");
    }
}
