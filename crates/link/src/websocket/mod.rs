//! Transports over WebSockets (RFC 6455): [`over`] any stream on which one was agreed, which is
//! what tunnels carry the bytes of visitors over, [`transport`] for those of the library, of
//! either side, and [`server`] for those that axum accepted. Each message is binary; anything else
//! is passed over, and pings are answered.

pub mod decoder;
mod encoder;
mod mask;
mod over;

use std::io;

use async_trait::async_trait;
use axum::extract::ws;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{WebSocketStream, tungstenite};

use crate::frame::Encoded;
use crate::transport::{Order, Sink, Source, Transport};

pub use over::{Masks, Role, over};

/// Longest message either side may send.
pub use crate::frame::FRAME_BYTES_MAX as MESSAGE_BYTES_MAX;

/// The transport over a WebSocket whose handshake is done.
pub fn transport<S>(socket: WebSocketStream<S>) -> Transport
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, source) = socket.split();
    Transport { order: Order::Whole, sink: Box::new(Plain(sink)), source: Box::new(Plain(source)) }
}

/// The transport over a WebSocket that axum accepted.
pub fn server(socket: ws::WebSocket) -> Transport {
    let (sink, source) = socket.split();
    Transport {
        order: Order::Whole,
        sink: Box::new(Accepted(sink)),
        source: Box::new(Accepted(source)),
    }
}

struct Plain<T>(T);

struct Accepted<T>(T);

#[async_trait]
impl<S> Sink for Plain<SplitSink<WebSocketStream<S>, tungstenite::Message>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn feed(&mut self, frame: Encoded) -> io::Result<()> {
        let message = tungstenite::Message::Binary(frame.whole());
        self.0.feed(message).await.map_err(io::Error::other)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await.map_err(io::Error::other)
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.close().await.map_err(io::Error::other)
    }
}

#[async_trait]
impl<S> Source for Plain<SplitStream<WebSocketStream<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(message) = self.0.next().await {
            match message.map_err(io::Error::other)? {
                tungstenite::Message::Binary(bytes) => return Ok(Some(bytes)),
                tungstenite::Message::Close(_) => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Sink for Accepted<SplitSink<ws::WebSocket, ws::Message>> {
    async fn feed(&mut self, frame: Encoded) -> io::Result<()> {
        self.0.feed(ws::Message::Binary(frame.whole())).await.map_err(io::Error::other)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await.map_err(io::Error::other)
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.close().await.map_err(io::Error::other)
    }
}

#[async_trait]
impl Source for Accepted<SplitStream<ws::WebSocket>> {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(message) = self.0.next().await {
            match message.map_err(io::Error::other)? {
                ws::Message::Binary(bytes) => return Ok(Some(bytes)),
                ws::Message::Close(_) => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }
}
