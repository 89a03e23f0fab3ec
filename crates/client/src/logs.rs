//! Log lines of instances, past and following.

use helix_model::api::LogLine;
use helix_model::reference::Scope;
use reqwest::Method;
use serde::Serialize;

use crate::lines::Lines;
use crate::{Client, Result};

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
    /// The last so many lines; the server's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail_lines: Option<u32>,
    /// Only lines from this moment on, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Go on with what is written from now on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

impl Client {
    /// Opens the stream of matching lines. Not resumed by itself: lines have no
    /// position to resume from, and a silent gap or a repeated line would look
    /// like the program's doing.
    pub async fn logs(&self, query: &LogQuery, scope: &Scope) -> Result<LogStream> {
        let request = self.request(Method::GET, &["v1", "logs"])?;
        let response = self.send(request.query(query).query(scope)).await?;
        Ok(LogStream { lines: Lines::new(self.clone(), response) })
    }
}

/// Log lines in the order the server merged them.
pub struct LogStream {
    lines: Lines,
}

impl LogStream {
    /// The next line; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<LogLine>> {
        self.lines.next().await
    }
}
