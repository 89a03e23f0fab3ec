//! Looking after an installation: proofs, keys, retention.

use std::time::Duration;

use bytes::Bytes;
use helix_model::admin::{AuditVerdict, KeyChange, Retention, RetentionRun, StateVerdict};
use reqwest::{Method, Response};
use serde::de::DeserializeOwned;

use crate::{Client, Result};

/// These walk everything there is.
const LONG: Duration = Duration::from_secs(60 * 60);

impl Client {
    /// Walks the hash chains of both logs.
    pub async fn verify_audit(&self) -> Result<AuditVerdict> {
        self.administer(Method::GET, &["v1", "audit", "verify"]).await
    }

    /// Whether the state is what the log says.
    pub async fn verify_state(&self) -> Result<StateVerdict> {
        self.administer(Method::GET, &["v1", "admin", "verify-state"]).await
    }

    /// Puts all sealed records under a new key. Never repeated by itself.
    pub async fn rotate_keys(&self) -> Result<KeyChange> {
        self.administer(Method::POST, &["v1", "admin", "keys", "rotate"]).await
    }

    /// Removes the keys under which no record is any more.
    pub async fn retire_keys(&self) -> Result<KeyChange> {
        self.administer(Method::POST, &["v1", "admin", "keys", "retire"]).await
    }

    /// How long history stays in the database, and how far it is archived.
    pub async fn retention(&self) -> Result<Retention> {
        self.administer(Method::GET, &["v1", "admin", "retention"]).await
    }

    /// Archives now what is old enough.
    pub async fn run_retention(&self) -> Result<RetentionRun> {
        self.administer(Method::POST, &["v1", "admin", "retention"]).await
    }

    /// The whole installation as one stream of bytes, for `helix admin import`.
    pub async fn export(&self) -> Result<Export> {
        let request = self.request(Method::GET, &["v1", "admin", "export"])?;
        Ok(Export { client: self.clone(), response: self.send(request).await? })
    }

    async fn administer<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
    ) -> Result<T> {
        self.read_within(self.request(method, segments)?, LONG).await
    }
}

/// An installation on its way.
pub struct Export {
    client: Client,
    response: Response,
}

impl Export {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let piece = self.response.chunk().await;
        piece.map_err(|source| self.client.unreachable(source))
    }
}
