//! Secrets of an env: changing them, and seeing what there is.

use helix_model::Receipt;
use helix_model::api::{SecretsReport, SecretsRequest, SecretsRollbackRequest, SecretsStepRequest};
use helix_model::reference::Scope;
use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// Which secrets there are, without their values.
    pub async fn secrets(&self, env: &str, scope: &Scope) -> Result<SecretsReport> {
        let request = self.request(Method::GET, &["v1", "envs", env, "secrets"])?;
        self.read(request.query(scope)).await
    }

    /// Sets secrets and takes them out.
    pub async fn set_secrets(
        &self,
        env: &str,
        request: &SecretsRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        let segments = ["v1", "envs", env, "secrets"];
        let fill = |asked: reqwest::RequestBuilder| asked.query(scope).json(request);
        self.change_by(Method::PATCH, &segments, fill).await
    }

    /// Goes back to the values of an older version.
    pub async fn rollback_secrets(
        &self,
        env: &str,
        request: &SecretsRollbackRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "envs", env, "secrets", "rollback"], scope, request).await
    }

    /// Lets what is staged take effect.
    pub async fn apply_secrets(
        &self,
        env: &str,
        request: &SecretsStepRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "envs", env, "secrets", "apply"], scope, request).await
    }

    /// Gives up what is staged.
    pub async fn discard_secrets(
        &self,
        env: &str,
        request: &SecretsStepRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "envs", env, "secrets", "discard"], scope, request).await
    }

    /// Notes that the env needs no secrets.
    pub async fn confirm_no_secrets(
        &self,
        env: &str,
        request: &SecretsStepRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "envs", env, "secrets", "confirm-none"], scope, request).await
    }
}
