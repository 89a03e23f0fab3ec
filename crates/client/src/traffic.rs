//! Traffic: what goes through endpoints.

use helix_model::api::TrafficLine;
use helix_model::reference::Scope;
use reqwest::Method;
use serde::Serialize;

use crate::lines::{Line, Lines};
use crate::retry::Retry;
use crate::{Client, ClientError, Result};

/// How much of it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TrafficQuery {
    /// How many endpoints, the busiest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Client {
    /// What goes through endpoints in a second, which it takes.
    pub async fn traffic(&self, query: TrafficQuery, scope: &Scope) -> Result<TrafficLine> {
        let request = self.request(Method::GET, &["v1", "traffic"])?;
        self.read(request.query(&query).query(scope)).await
    }

    /// The same second by second.
    pub async fn follow_traffic(&self, query: TrafficQuery, scope: Scope) -> Result<TrafficStream> {
        let mut stream = TrafficStream { client: self.clone(), query, scope, lines: None };
        stream.connect().await?;
        Ok(stream)
    }
}

/// What goes through, second by second. It connects again by itself.
pub struct TrafficStream {
    client: Client,
    query: TrafficQuery,
    scope: Scope,
    lines: Option<Lines>,
}

impl TrafficStream {
    /// The next second's. Fails only when the server refuses or stays away for half a
    /// minute.
    pub async fn next(&mut self) -> Result<TrafficLine> {
        let mut retry = Retry::new();
        loop {
            let Some(lines) = &mut self.lines else {
                retry.pause().await;
                match self.connect().await {
                    Err(error) if retry.is_worthwhile(&error) => continue,
                    Err(error) => return Err(error),
                    Ok(()) => continue,
                }
            };
            match lines.next().await {
                Ok(Some(Line::Item(line))) => return Ok(line),
                Ok(Some(Line::Heartbeat { .. })) => {}
                Ok(Some(Line::End(_)) | None) | Err(ClientError::Unreachable { .. }) => {
                    self.lines = None;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let request = self.client.request(Method::GET, &["v1", "traffic"])?;
        let request = request.query(&self.query).query(&self.scope).query(&[("follow", "true")]);
        let response = self.client.send(request).await?;
        self.lines = Some(Lines::new(self.client.clone(), response));
        Ok(())
    }
}
