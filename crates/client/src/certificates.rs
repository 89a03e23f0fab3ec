//! Certificates: bringing them, and what to trust.

use helix_model::Receipt;
use helix_model::api::{AuthorityReport, CertificateRequest};
use helix_model::reference::Scope;
use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// Serves hosts of the scope's org with a certificate, in place of the one of the
    /// same name.
    pub async fn add_certificate(
        &self,
        request: &CertificateRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "certificates"], scope, request).await
    }

    /// What to trust for hosts without a certificate of their own.
    pub async fn local_authority(&self) -> Result<AuthorityReport> {
        self.read(self.request(Method::GET, &["v1", "authority"])?).await
    }
}
