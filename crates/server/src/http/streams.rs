//! What every stream of JSON lines has in common: a heartbeat while nothing
//! happens, so that proxies and readers know that it lives, and a last line that
//! says why it ends. Must not know what the lines are about.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use helix_model::api::{EndReason, StreamEnd, StreamHeartbeat};
use helix_model::{Code, Problem};
use http::header;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

use super::Api;
use super::access::Caller;
use super::identity;
use crate::clock;

/// Proxies commonly cut what is silent for 30 to 60 seconds.
const HEARTBEAT_DEFAULT_SECONDS: u64 = 15;
const HEARTBEAT_MAX_SECONDS: u64 = 300;

/// Lines a slow reader may lag behind before it is waited for.
const BUFFER: usize = 64;

/// The writing end of a stream.
pub(super) struct Stream {
    sender: mpsc::Sender<Result<String, Infallible>>,
    ended: Shared<BoxFuture<'static, EndReason>>,
    heartbeat: Duration,
    last: Instant,
}

/// How long a stream may be silent.
pub(super) fn heartbeat(seconds: Option<u64>) -> Result<Duration, Problem> {
    let seconds = seconds.unwrap_or(HEARTBEAT_DEFAULT_SECONDS);
    if !(1..=HEARTBEAT_MAX_SECONDS).contains(&seconds) {
        let detail = format!("heartbeat_seconds is from 1 to {HEARTBEAT_MAX_SECONDS}");
        let problem = Problem::new(Code::InvalidArgument, detail);
        return Err(problem.field("heartbeat_seconds", "out of range"));
    }
    Ok(Duration::from_secs(seconds))
}

/// Opens a stream; what is written comes out of the response.
pub(super) fn open(api: &Api, caller: &Caller, heartbeat: Duration) -> (Stream, Response) {
    let (sender, receiver) = mpsc::channel(BUFFER);
    let ended = identity::ended(api, caller).boxed().shared();
    let stream = Stream { sender, ended, heartbeat, last: Instant::now() };
    let body = Body::from_stream(ReceiverStream::new(receiver));
    (stream, ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

impl Stream {
    /// Writes a line once there is room for it. `false` when there is no use in
    /// going on: the reader is gone, the server is closing, or the reader may no
    /// longer read.
    pub(super) async fn write(&mut self, line: &impl Serialize) -> bool {
        let Ok(text) = serde_json::to_string(line) else {
            return false;
        };
        let sent = tokio::select! {
            biased;
            _ = self.ended.clone() => false,
            sent = self.sender.send(Ok(text + "\n")) => sent.is_ok(),
        };
        self.last = Instant::now();
        sent
    }

    /// Returns when a heartbeat is due.
    pub(super) async fn due(&self) {
        sleep_until(self.last + self.heartbeat).await;
    }

    /// Says that the stream lives, and how far it has come.
    pub(super) async fn beat(&mut self, position: Option<u64>) -> bool {
        let line = StreamHeartbeat { kind: "heartbeat".to_owned(), ts: clock::now(), position };
        self.write(&line).await
    }

    /// Returns when the stream has to end although the reader is there.
    pub(super) async fn ended(&self) -> EndReason {
        self.ended.clone().await
    }

    /// Returns when the reader is gone.
    pub(super) async fn abandoned(&self) {
        self.sender.closed().await;
    }

    /// Ends the stream. A reader who has not taken what was there before has
    /// nothing of the reason, and is not waited for.
    pub(super) fn end(self, reason: EndReason, position: Option<u64>) {
        // What ended it first is why, whatever was noticed because of it.
        let reason = self.ended.peek().copied().unwrap_or(reason);
        let line = StreamEnd { kind: "end".to_owned(), ts: clock::now(), reason, position };
        if let Ok(text) = serde_json::to_string(&line) {
            let _ = self.sender.try_send(Ok(text + "\n"));
        }
    }
}
