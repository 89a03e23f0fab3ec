//! Domains: saying whose one is, and having it looked at.

use helix_model::Receipt;
use helix_model::api::DomainRequest;
use helix_model::reference::Scope;
use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// Adds a domain to the scope's org.
    pub async fn add_domain(&self, request: &DomainRequest, scope: &Scope) -> Result<Receipt> {
        self.change(&["v1", "domains"], scope, request).await
    }

    /// Has its record looked for now.
    pub async fn verify_domain(&self, reference: &str, scope: &Scope) -> Result<Receipt> {
        let segments = ["v1", "domains", reference, "verify"];
        self.change_by(Method::POST, &segments, |request| request.query(scope)).await
    }

    /// Vouches for it, as an operator.
    pub async fn vouch_for_domain(&self, reference: &str, scope: &Scope) -> Result<Receipt> {
        let segments = ["v1", "domains", reference, "vouch"];
        self.change_by(Method::POST, &segments, |request| request.query(scope)).await
    }
}
