//! `exec`: a program in a running instance, over a WebSocket (RFC 6455).
//!
//! The socket is opened as in `link`; then the frames of
//! `model::api::exec_frame` go both ways. Input and output are separate halves:
//! a program may print without reading.

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use helix_model::api::{ExecControl, ExecEnd, ExecRequest, exec_frame};
use helix_model::reference::Scope;
use reqwest::Method;
use serde::Serialize;
use tokio_tungstenite::tungstenite::Message;

use crate::link::Socket;
use crate::{Client, ClientError, Result};

/// Programs' output is framed far smaller; this only bounds a hostile peer.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Where to run it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ExecTarget {
    /// The instance; one that is ready when absent.
    #[serde(skip)]
    pub instance: Option<String>,
    /// With no instance: of which process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// How long it may run, seconds; an hour when absent, a day at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<u64>,
}

/// What came from the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecReceived {
    /// Bytes of its standard output.
    Stdout(Bytes),
    /// Bytes of its standard error.
    Stderr(Bytes),
    /// It has ended, or never began. Nothing follows.
    End(ExecEnd),
}

/// The way to the program.
pub struct ExecInput {
    client: Client,
    sink: SplitSink<Socket, Message>,
}

/// The way from the program.
pub struct ExecOutput {
    client: Client,
    stream: SplitStream<Socket>,
}

impl Client {
    /// Starts a program in an instance.
    pub async fn exec(
        &self,
        target: &ExecTarget,
        request: &ExecRequest,
        scope: &Scope,
    ) -> Result<(ExecInput, ExecOutput)> {
        let instance = target.instance.as_deref().unwrap_or("-");
        let opening = self
            .request(Method::GET, &["v1", "instances", instance, "exec"])?
            .query(target)
            .query(scope);
        let socket = self.socket(opening, MESSAGE_BYTES_MAX).await?;
        let (sink, stream) = socket.split();
        let mut input = ExecInput { client: self.clone(), sink };
        let first = serde_json::to_string(request).map_err(|error| self.malformed(error))?;
        input.send(Message::text(first)).await?;
        let output = ExecOutput { client: self.clone(), stream };
        Ok((input, output))
    }

    fn broken(&self, source: tokio_tungstenite::tungstenite::Error) -> ClientError {
        ClientError::Unreachable { url: self.url().to_owned(), source: Box::new(source) }
    }
}

impl ExecInput {
    /// Sends bytes to the program's standard input.
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<()> {
        // An empty frame means the end, which `close` says.
        if bytes.is_empty() {
            return Ok(());
        }
        self.frame(exec_frame::STDIN, bytes).await
    }

    /// Ends the program's standard input.
    pub async fn close_stdin(&mut self) -> Result<()> {
        self.frame(exec_frame::STDIN, &[]).await
    }

    /// Resizes the terminal or sends a signal.
    pub async fn control(&mut self, control: &ExecControl) -> Result<()> {
        let payload = serde_json::to_vec(control).map_err(|error| self.client.malformed(error))?;
        self.frame(exec_frame::CONTROL, &payload).await
    }

    async fn frame(&mut self, tag: u8, payload: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 1);
        frame.push(tag);
        frame.extend_from_slice(payload);
        self.send(Message::binary(frame)).await
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        self.sink.send(message).await.map_err(|source| self.client.broken(source))
    }
}

impl ExecOutput {
    /// What comes next; `None` when the connection ended without an end of the
    /// program.
    pub async fn next(&mut self) -> Result<Option<ExecReceived>> {
        while let Some(message) = self.stream.next().await {
            match message.map_err(|source| self.client.broken(source))? {
                Message::Binary(frame) => return self.received(frame).map(Some),
                Message::Close(_) => return Ok(None),
                // Pings are answered by the library; nothing else has a meaning.
                _ => {}
            }
        }
        Ok(None)
    }

    fn received(&self, mut frame: Bytes) -> Result<ExecReceived> {
        if frame.is_empty() {
            return Err(self.client.malformed("an empty exec frame"));
        }
        let payload = frame.split_off(1);
        match frame.first() {
            Some(&exec_frame::STDOUT) => Ok(ExecReceived::Stdout(payload)),
            Some(&exec_frame::STDERR) => Ok(ExecReceived::Stderr(payload)),
            Some(&exec_frame::EXIT) => serde_json::from_slice(&payload)
                .map(ExecReceived::End)
                .map_err(|error| self.client.malformed(error)),
            tag => Err(self.client.malformed(format!("exec frame {tag:?} is unknown"))),
        }
    }
}
