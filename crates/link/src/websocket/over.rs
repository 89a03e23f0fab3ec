//! The transport over any stream on which a WebSocket was agreed.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::Mutex;
use tokio_util::io::poll_read_buf;

use super::decoder::{BINARY, CLOSE, Decoder, PONG, Received};
use super::encoder::encode;
use crate::frame::Encoded;
use crate::transport::{Order, Sink, Source, Transport};

/// What is read at a time: what TLS has decrypted at once (RFC 8446 §5.1). On the stack,
/// so that ten thousand idle links have none of it.
const READ_BYTES: usize = 16 * 1024;

/// What is written at a time: what a connection of TLS takes, in whole records. A byte more would
/// be a record and a call of the system of its own. Small messages go together.
const WRITE_BYTES: usize = 64 * 1024;

/// A buffer that was needed for more than this is kept for what comes next.
const SMALL_BYTES: usize = 4 * 1024;

/// A normal end (RFC 6455 §7.4.1).
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();

/// Where masks come from. Nobody may foresee them (RFC 6455 §5.3).
pub type Masks = Box<dyn FnMut() -> [u8; 4] + Send>;

/// Which side of a WebSocket this is.
pub enum Role {
    /// It masks what it sends.
    Client(Masks),
    Server,
}

/// The transport over `stream`, whose handshake is done; `unread` has already come of what
/// follows.
///
/// # Errors
/// When that may not come.
pub fn over<S>(stream: S, unread: &[u8], role: Role) -> io::Result<Transport>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (from, to) = tokio::io::split(stream);
    let mut decoder = Decoder::new(matches!(role, Role::Server));
    decoder.take(unread).map_err(invalid)?;
    let masks = match role {
        Role::Client(masks) => Some(masks),
        Role::Server => None,
    };
    let writer = Writer { to, queued: BytesMut::new(), masks };
    let writer = Arc::new(Mutex::new(writer));
    let source = Reader { from, decoder, writer: Arc::clone(&writer), is_over: false };
    Ok(Transport { order: Order::Whole, sink: Box::new(Shared(writer)), source: Box::new(source) })
}

fn invalid(violation: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}

/// That there is an end without a word of goodbye is an error.
fn some(come: usize) -> io::Result<()> {
    if come == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

struct Writer<S> {
    to: WriteHalf<S>,
    queued: BytesMut,
    masks: Option<Masks>,
}

impl<S: AsyncWrite> Writer<S> {
    /// Queues a frame whose payload is in two pieces.
    async fn put(&mut self, opcode: u8, payload: [&[u8]; 2]) -> io::Result<()> {
        let mask = self.masks.as_mut().map(|masks| masks());
        encode(&mut self.queued, opcode, payload, mask);
        while self.queued.len() >= WRITE_BYTES {
            self.to.write_all(&self.queued[..WRITE_BYTES]).await?;
            self.queued.advance(WRITE_BYTES);
        }
        Ok(())
    }

    async fn write_queued(&mut self) -> io::Result<()> {
        self.to.write_all(&self.queued).await?;
        match self.queued.len() {
            0..=SMALL_BYTES => self.queued = BytesMut::new(),
            _ => self.queued.clear(),
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.write_queued().await?;
        self.to.flush().await
    }
}

/// The half that sends, which the one that receives uses to answer pings.
struct Shared<S>(Arc<Mutex<Writer<S>>>);

#[async_trait]
impl<S: AsyncWrite + Send + 'static> Sink for Shared<S> {
    async fn feed(&mut self, frame: Encoded) -> io::Result<()> {
        self.0.lock().await.put(BINARY, [&frame.head, &frame.payload]).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.0.lock().await.flush().await
    }

    async fn close(&mut self) -> io::Result<()> {
        let mut writer = self.0.lock().await;
        writer.put(CLOSE, [&NORMAL, &[]]).await?;
        writer.flush().await?;
        writer.to.shutdown().await
    }
}

struct Reader<S> {
    from: ReadHalf<S>,
    decoder: Decoder,
    writer: Arc<Mutex<Writer<S>>>,
    is_over: bool,
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Send + 'static> Source for Reader<S> {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.is_over {
            match self.decoder.received() {
                Some(Received::Message(message)) => return Ok(Some(message)),
                Some(Received::Ping(data)) => self.answer(&data).await?,
                Some(Received::Close) => self.is_over = true,
                None => self.read().await?,
            }
        }
        Ok(None)
    }
}

impl<S: AsyncRead + AsyncWrite> Reader<S> {
    async fn read(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            if let Some(mut rest) = self.decoder.rest() {
                let come = ready!(poll_read_buf(Pin::new(&mut self.from), cx, &mut rest))?;
                self.decoder.read(come);
                return some(come).into();
            }
            let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            ready!(Pin::new(&mut self.from).poll_read(cx, &mut buffer))?;
            let filled = buffer.filled();
            some(filled.len())?;
            self.decoder.take(filled).map_err(invalid).into()
        })
        .await
    }

    /// Who is sending at this moment shows by that alone that it is there: a ping gets no
    /// answer then, rather than what comes in a wait for what goes out.
    async fn answer(&mut self, data: &[u8]) -> io::Result<()> {
        let Ok(mut writer) = self.writer.try_lock() else { return Ok(()) };
        writer.put(PONG, [data, &[]]).await?;
        writer.flush().await
    }
}
