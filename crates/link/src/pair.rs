//! Two transports that are each other's far end, in memory: for tests, here and
//! elsewhere, and for both ends in one process.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::frame::Encoded;
use crate::transport::{Order, Sink, Source, Transport};

/// Messages under way in each direction, like a socket's buffer.
const MESSAGES: usize = 16;

/// Both ends. Dropping a half is what the other side sees as goodbye.
pub fn pair() -> (Transport, Transport) {
    let (to_right, from_left) = mpsc::channel(MESSAGES);
    let (to_left, from_right) = mpsc::channel(MESSAGES);
    (end(to_right, from_right), end(to_left, from_left))
}

fn end(to: mpsc::Sender<Bytes>, from: mpsc::Receiver<Bytes>) -> Transport {
    Transport { order: Order::Whole, sink: Box::new(End(Some(to))), source: Box::new(Start(from)) }
}

struct End(Option<mpsc::Sender<Bytes>>);

struct Start(mpsc::Receiver<Bytes>);

#[async_trait]
impl Sink for End {
    async fn feed(&mut self, frame: Encoded) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let to = self.0.as_ref().ok_or_else(gone)?;
        to.send(frame.whole()).await.map_err(|_| gone())
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0 = None;
        Ok(())
    }
}

#[async_trait]
impl Source for Start {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.0.recv().await)
    }
}
