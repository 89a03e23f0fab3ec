//! Events: pages, and a stream that goes on where it broke off.

use helix_model::api::{EventLine, EventPage};
use helix_model::reference::Scope;
use reqwest::Method;
use serde::Serialize;

use crate::client::position;
use crate::lines::{Line, Lines};
use crate::retry::Retry;
use crate::{Client, ClientError, Result};

/// Which events.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EventQuery {
    /// `KIND/REF`: only events about this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only events after this log position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// The last so many, then (when following) what comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u64>,
    /// How many on a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl Client {
    /// One page of events.
    pub async fn events(&self, query: &EventQuery, scope: &Scope) -> Result<EventPage> {
        let request = self.request(Method::GET, &["v1", "events"])?;
        self.read(request.query(query).query(scope)).await
    }

    /// Follows events from `after`, or from now. Returns once the stream stands,
    /// so nothing that happens afterwards is missed.
    pub async fn follow_events(&self, query: EventQuery, scope: Scope) -> Result<EventStream> {
        let mut stream = EventStream { client: self.clone(), query, scope, lines: None };
        stream.connect().await?;
        Ok(stream)
    }
}

/// A followed stream of events, in order and without gaps. It connects again by
/// itself and resumes after the last event it handed out.
pub struct EventStream {
    client: Client,
    query: EventQuery,
    scope: Scope,
    lines: Option<Lines>,
}

impl EventStream {
    /// The next event. Fails only when the server refuses or stays away for half
    /// a minute. Cancel-safe.
    pub async fn next(&mut self) -> Result<EventLine> {
        loop {
            let Some(lines) = &mut self.lines else {
                self.reconnect().await?;
                continue;
            };
            match lines.next::<EventLine>().await {
                Ok(Some(Line::Item(event))) => {
                    self.resume_after(event.position);
                    return Ok(event);
                }
                Ok(Some(Line::Heartbeat { position })) => {
                    position.into_iter().for_each(|position| self.resume_after(position));
                }
                Ok(Some(Line::End(end))) => {
                    end.position.into_iter().for_each(|position| self.resume_after(position));
                    self.lines = None;
                }
                Ok(None) | Err(ClientError::Unreachable { .. }) => self.lines = None,
                Err(error) => return Err(error),
            }
        }
    }

    async fn reconnect(&mut self) -> Result<()> {
        let mut retry = Retry::new();
        loop {
            retry.pause().await;
            match self.connect().await {
                Err(error) if retry.is_worthwhile(&error) => {}
                other => return other,
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let request = self.client.request(Method::GET, &["v1", "events"])?;
        let request = request.query(&self.query).query(&[("follow", "true")]).query(&self.scope);
        let response = self.client.send(request).await?;
        // A stream from "now" that breaks before its first event must resume
        // from this now, not from a later one.
        let starts_now = self.query.after.is_none() && self.query.tail.is_none();
        if let Some(now) = position(&response).filter(|_| starts_now) {
            self.resume_after(now);
        }
        self.lines = Some(Lines::new(self.client.clone(), response));
        Ok(())
    }

    fn resume_after(&mut self, position: u64) {
        self.query.after = Some(position);
        self.query.tail = None;
    }
}
