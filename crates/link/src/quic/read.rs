//! What comes: each stream of QUIC is read by a task of its own, into one queue.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::halves::Halves;
use super::messages::{MessageError, read_message};
use super::{GOODBYE, GOODBYE_TIMEOUT, id_of};
use crate::frame::{self, BEAT, CLOSE, DATAGRAM, FRAME_BYTES_MAX, Frame, RESET};
use crate::transport::Source;

/// What tasks that read have.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) connection: Connection,
    pub(super) halves: Halves,
    pub(super) messages: mpsc::Sender<io::Result<Bytes>>,
}

/// Who has opened a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    Here,
    There,
}

impl Reading {
    /// Reads what is of no stream: beats.
    pub(super) async fn control(self, mut from: RecvStream) {
        loop {
            let read = read_message(&mut from, FRAME_BYTES_MAX).await;
            let message = match read {
                Ok(Some(message)) => message,
                Ok(None) | Err(MessageError::Read(_)) => return,
                Err(error) => return self.refuse(error.into()).await,
            };
            match frame::head(&message) {
                Ok((BEAT, _)) => drop(self.messages.send(Ok(message)).await),
                _ => return self.refuse(broken("a stream's frame is not in its stream")).await,
            }
        }
    }

    /// Reads datagrams. One that finds the queue full is lost.
    pub(super) async fn datagrams(self) {
        while let Ok(message) = self.connection.read_datagram().await {
            match frame::head(&message) {
                Ok((DATAGRAM, _)) => drop(self.messages.try_send(Ok(message))),
                _ => return self.refuse(broken("a datagram is no datagram of a stream")).await,
            }
        }
    }

    /// Takes the streams that the other side opens.
    pub(super) async fn accept(self) {
        while let Ok((to_there, from_there)) = self.connection.accept_bi().await {
            let Some(id) = id_of(from_there.id()) else {
                return self.refuse(broken("a stream has no id of its own")).await;
            };
            self.halves.insert(id, to_there);
            tokio::spawn(self.clone().stream(from_there, id, Opener::There));
        }
    }

    /// Reads a stream to its end.
    pub(super) async fn stream(self, mut from: RecvStream, id: u32, opener: Opener) {
        let (mut is_first, mut has_ended) = (opener == Opener::There, false);
        loop {
            let message = match read_message(&mut from, FRAME_BYTES_MAX).await {
                Ok(Some(message)) => message,
                Ok(None) if has_ended || self.says_goodbye().await => return,
                Ok(None) | Err(MessageError::Read(_) | MessageError::Short) => break,
                Err(error) => return self.refuse(error.into()).await,
            };
            let kind = match frame::head(&message) {
                Ok((kind, stream)) if stream == id => kind,
                _ => return self.refuse(broken("a frame is in the stream of another")).await,
            };
            if (kind == frame::OPEN) != std::mem::replace(&mut is_first, false) {
                return self.refuse(broken("a stream does not begin with its opening")).await;
            }
            has_ended |= matches!(kind, CLOSE | RESET);
            if self.messages.send(Ok(message)).await.is_err() {
                return;
            }
            match kind {
                CLOSE => self.halves.closed_there(id),
                RESET => self.halves.reset_there(id),
                _ => {}
            }
        }
        // With the connection all streams end, and the link says why.
        if !has_ended && self.connection.close_reason().is_none() {
            self.halves.reset_there(id);
            let reason = "its end was not told".to_owned();
            let reset = Frame::Reset { stream: id, reason };
            let _ = self.messages.send(Ok(reset.encode())).await;
        }
    }

    /// Whether a stream that ended without a word did so with the link: the connection is
    /// closed once all that was sent before has arrived.
    async fn says_goodbye(&self) -> bool {
        timeout(2 * GOODBYE_TIMEOUT, self.connection.closed()).await.is_ok()
    }

    /// The end of the link.
    async fn refuse(&self, why: io::Error) {
        let _ = self.messages.send(Err(why)).await;
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What was read, of all streams.
pub(super) struct Received {
    connection: Connection,
    messages: mpsc::Receiver<io::Result<Bytes>>,
}

impl Received {
    pub(super) fn new(
        connection: Connection,
        messages: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Received {
        Received { connection, messages }
    }
}

#[async_trait]
impl Source for Received {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        // Who reads ends with the connection, having read what came before its end.
        if let Some(message) = self.messages.recv().await {
            return message.map(Some);
        }
        match self.connection.closed().await {
            ConnectionError::ApplicationClosed(close) if close.error_code == GOODBYE => Ok(None),
            ConnectionError::LocallyClosed => Ok(None),
            ConnectionError::TimedOut => Err(io::ErrorKind::TimedOut.into()),
            error => Err(io::Error::other(error)),
        }
    }
}
