//! Waiting for something: a condition of a resource, what a change set off, a log
//! position. And receipts, found again.

use std::time::{Duration, Instant};

use helix_model::api::{RecordedChange, Settled, WaitOutcome, WaitResult};
use helix_model::reference::Scope;
use helix_model::{Kind, Receipt};
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;

use crate::{Client, Result};

/// One request of a long wait. Short, so that proxies with an idle limit of
/// half a minute do not end it.
const SLICE: Duration = Duration::from_secs(20);
/// What an answer may take on top of the time the server was told to wait.
const MARGIN: Duration = Duration::from_secs(10);

/// An answer that may be "not yet".
trait Answer: DeserializeOwned {
    fn outcome(&self) -> WaitOutcome;
}

impl Answer for WaitResult {
    fn outcome(&self) -> WaitOutcome {
        self.outcome
    }
}

impl Answer for Settled {
    fn outcome(&self) -> WaitOutcome {
        self.outcome
    }
}

impl Client {
    /// Waits until something holds of a resource (`ready`, `gone`,
    /// `reconciling=false`, …), it has failed, or `limit` is over.
    pub async fn wait_for(
        &self,
        kind: Kind,
        reference: &str,
        until: &str,
        limit: Duration,
        scope: &Scope,
    ) -> Result<WaitResult> {
        self.patiently(limit, || {
            let request = self.request(Method::GET, &["v1", "wait"])?;
            let query = [("kind", kind.singular()), ("ref", reference), ("until", until)];
            Ok(request.query(&query).query(scope))
        })
        .await
    }

    /// Waits until all that a change set off has settled or `limit` is over.
    pub async fn wait_receipt(&self, id: &str, limit: Duration) -> Result<Settled> {
        self.patiently(limit, || self.request(Method::GET, &["v1", "receipts", id, "wait"])).await
    }

    /// Waits until the state reflects a log position or `limit` is over.
    pub async fn wait_position(&self, position: u64, limit: Duration) -> Result<Settled> {
        let position = position.to_string();
        self.patiently(limit, || self.request(Method::GET, &["v1", "positions", &position, "wait"]))
            .await
    }

    /// An accepted change, as the log has it.
    pub async fn receipt(&self, id: &str) -> Result<RecordedChange> {
        self.read(self.request(Method::GET, &["v1", "receipts", id])?).await
    }

    /// The receipt that was given under an idempotency key.
    pub async fn receipt_by_key(&self, key: &str) -> Result<Receipt> {
        let request = self.request(Method::GET, &["v1", "receipts"])?;
        self.read(request.query(&[("key", key)])).await
    }

    /// Asks again and again, each time for a while, until there is an outcome.
    async fn patiently<T: Answer>(
        &self,
        limit: Duration,
        request: impl Fn() -> Result<RequestBuilder>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = left.min(SLICE);
            // Whole seconds, upwards: a wait of zero would be a busy loop.
            let seconds = slice.as_secs() + u64::from(slice.subsec_nanos() > 0);
            let request = request()?.query(&[("timeout_seconds", seconds)]);
            let answer: T = self.read_within(request, slice + MARGIN).await?;
            if answer.outcome() != WaitOutcome::TimedOut || left <= slice {
                return Ok(answer);
            }
        }
    }
}
