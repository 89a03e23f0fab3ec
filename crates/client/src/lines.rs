//! NDJSON: one JSON document per line, as the streams of the API send it.

use std::borrow::Cow;

use bytes::BytesMut;
use helix_model::api::{StreamEnd, StreamHeartbeat};
use reqwest::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Client, Result};

/// No line the server writes is longer: log lines are cut at 16 KiB and events
/// hold one manifest at most. A peer that sends more is no such server.
const LINE_BYTES_MAX: usize = 4 << 20;

/// One line of a stream.
pub(crate) enum Line<T> {
    Item(T),
    /// The stream lives, and everything up to this position has been sent.
    Heartbeat {
        position: Option<u64>,
    },
    /// Nothing more comes, for this reason.
    End(StreamEnd),
}

/// What kind of line it is.
#[derive(Deserialize)]
struct Tag<'l> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'l, str>,
}

/// The lines of a streaming answer. Cancel-safe: what has arrived stays.
pub(crate) struct Lines {
    client: Client,
    response: Response,
    buffer: BytesMut,
}

impl Lines {
    pub(crate) fn new(client: Client, response: Response) -> Lines {
        Lines { client, response, buffer: BytesMut::new() }
    }

    /// The next line; `None` when the connection has ended without a word.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Line<T>>> {
        loop {
            if let Some(line) = self.take_line() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return self.decode(&line).map(Some);
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                let reason = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                return Err(self.client.malformed(reason));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(source) => return Err(self.client.unreachable(source)),
            }
        }
    }

    fn decode<T: DeserializeOwned>(&self, line: &[u8]) -> Result<Line<T>> {
        let malformed = |error: serde_json::Error| self.client.malformed(error);
        let tag: Tag<'_> = serde_json::from_slice(line).map_err(malformed)?;
        Ok(match tag.kind.as_ref() {
            "heartbeat" => {
                let beat: StreamHeartbeat = serde_json::from_slice(line).map_err(malformed)?;
                Line::Heartbeat { position: beat.position }
            }
            "end" => Line::End(serde_json::from_slice(line).map_err(malformed)?),
            _ => Line::Item(serde_json::from_slice(line).map_err(malformed)?),
        })
    }

    fn take_line(&mut self) -> Option<BytesMut> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        Some(self.buffer.split_to(end + 1))
    }
}
