//! Log lines of instances, past and following.

use std::collections::BTreeMap;

use helix_model::Timestamp;
use helix_model::api::{EndReason, LogLine, StreamEnd};
use helix_model::reference::Scope;
use reqwest::Method;
use serde::Serialize;

use crate::lines::{Line, Lines};
use crate::retry::Retry;
use crate::{Client, ClientError, Result};

/// As many as the server gives at once, so that a break loses nothing.
const RESUME_LINES: u32 = 10_000;

/// Which lines. The scope must name an env.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogQuery {
    /// Only this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Only this instance: a name or an id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Only instances of this release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Only instances that this deploy called for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<String>,
    /// The last so many lines; the server's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail_lines: Option<u32>,
    /// Only lines from this moment on, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Only lines before this moment, milliseconds since 1970; not with `follow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// Only lines in which this regular expression is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// Only lines of this stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<helix_model::LogStream>,
    /// Go on with what is written from now on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

impl Client {
    /// Opens the stream of matching lines. A followed one connects again by itself
    /// and goes on after the last line it handed out.
    pub async fn logs(&self, query: &LogQuery, scope: &Scope) -> Result<LogStream> {
        let mut stream = LogStream {
            client: self.clone(),
            query: query.clone(),
            scope: scope.clone(),
            lines: None,
            last: BTreeMap::new(),
            repeated: BTreeMap::new(),
        };
        stream.connect().await?;
        Ok(stream)
    }
}

/// How far an instance's output has been read: the time of its last line, and how
/// many lines it has written at that very time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    at: Timestamp,
    lines: u32,
}

/// Log lines in the order the server merged them.
pub struct LogStream {
    client: Client,
    query: LogQuery,
    scope: Scope,
    lines: Option<Lines>,
    /// By instance.
    last: BTreeMap<String, Mark>,
    /// What comes again after a break and has been handed out before.
    repeated: BTreeMap<String, Mark>,
}

impl LogStream {
    /// The next line; `None` at the end, which a followed stream does not have.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<LogLine>> {
        loop {
            let Some(lines) = &mut self.lines else {
                self.reconnect().await?;
                continue;
            };
            match lines.next::<LogLine>().await {
                Ok(Some(Line::Item(line))) => {
                    if self.is_new(&line) {
                        return Ok(Some(line));
                    }
                }
                Ok(Some(Line::Heartbeat { .. })) => {}
                Ok(Some(Line::End(StreamEnd { reason: EndReason::Complete, .. }))) => {
                    return Ok(None);
                }
                Ok(Some(Line::End(_)) | None) | Err(ClientError::Unreachable { .. })
                    if self.query.follow =>
                {
                    self.lines = None;
                }
                Ok(Some(Line::End(_)) | None) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    async fn reconnect(&mut self) -> Result<()> {
        let mut retry = Retry::new();
        // From the instance that was read least far; what the others repeat is
        // left out line by line.
        if let Some(since) = self.last.values().map(|mark| mark.at).min() {
            self.query.since_ms = Some(since.0);
            self.query.tail_lines = Some(RESUME_LINES);
        }
        loop {
            retry.pause().await;
            self.repeated.clone_from(&self.last);
            match self.connect().await {
                Err(error) if retry.is_worthwhile(&error) => {}
                other => return other,
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let request = self.client.request(Method::GET, &["v1", "logs"])?;
        let response = self.client.send(request.query(&self.query).query(&self.scope)).await?;
        self.lines = Some(Lines::new(self.client.clone(), response));
        Ok(())
    }

    /// Whether the line has not been handed out before; notes it as read.
    fn is_new(&mut self, line: &LogLine) -> bool {
        if let Some(mark) = self.repeated.get_mut(&line.instance_id) {
            if line.ts < mark.at {
                return false;
            }
            if line.ts == mark.at && mark.lines > 0 {
                mark.lines -= 1;
                return false;
            }
            self.repeated.remove(&line.instance_id);
        }
        let mark = Mark { at: line.ts, lines: 0 };
        let last = self.last.entry(line.instance_id.clone()).or_insert(mark);
        if last.at != line.ts {
            *last = mark;
        }
        last.lines += 1;
        true
    }
}
