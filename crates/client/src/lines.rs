//! NDJSON: one JSON document per line, as the streams of the API send it.

use bytes::BytesMut;
use reqwest::Response;
use serde::de::DeserializeOwned;

use crate::{Client, Result};

/// No line the server writes is longer: log lines are cut at 16 KiB and events
/// hold one manifest at most. A peer that sends more is no such server.
const LINE_BYTES_MAX: usize = 4 << 20;

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

    /// The next line, decoded; `None` when the server has ended the stream.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(line) = self.take_line() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| self.client.malformed(error));
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

    fn take_line(&mut self) -> Option<BytesMut> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        Some(self.buffer.split_to(end + 1))
    }
}
