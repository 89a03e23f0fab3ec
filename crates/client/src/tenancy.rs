//! Orgs, projects, apps and envs: making and destroying them, how much they may
//! have, how much they have used.

use helix_model::api::{
    CreateRequest, DestroyQuery, PolicyReport, QuotaReport, QuotaRequest, RegistryReport,
    RegistryRequest, UsageIntervals, UsageReport,
};
use helix_model::policy::Policy;
use helix_model::reference::Scope;
use helix_model::{Kind, Receipt, Timestamp};
use reqwest::Method;
use serde::Serialize;

use crate::{Client, Result};

/// Which time usage is asked for; the server's default where absent.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct UsageQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Client {
    /// Makes an org, a project, an app or an env.
    pub async fn create(
        &self,
        kind: Kind,
        request: &CreateRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", kind.plural()], scope, request).await
    }

    /// Has an org, a project, an app or an env destroyed. The receipt says that
    /// it begins; it takes as long as its instances need.
    pub async fn destroy(
        &self,
        kind: Kind,
        reference: &str,
        query: &DestroyQuery,
        scope: &Scope,
    ) -> Result<Receipt> {
        let segments = ["v1", kind.plural(), reference];
        self.change_by(Method::DELETE, &segments, |request| request.query(scope).query(query)).await
    }

    /// What an org may have and has; the installation's limits when the scope
    /// names no org.
    pub async fn quotas(&self, scope: &Scope) -> Result<QuotaReport> {
        let request = self.request(Method::GET, &["v1", "quotas"])?;
        self.read(request.query(scope)).await
    }

    /// Sets limits of an org or of the installation.
    pub async fn set_quotas(&self, request: &QuotaRequest) -> Result<Receipt> {
        self.change(&["v1", "quotas"], &Scope::default(), request).await
    }

    /// Where an org logs in to pull images.
    pub async fn registries(&self, scope: &Scope) -> Result<RegistryReport> {
        let request = self.request(Method::GET, &["v1", "registries"])?;
        self.read(request.query(scope)).await
    }

    /// Has an org log in at a registry.
    pub async fn set_registry(&self, request: &RegistryRequest, scope: &Scope) -> Result<Receipt> {
        self.change(&["v1", "registries"], scope, request).await
    }

    /// Has an org log in at a registry no longer.
    pub async fn remove_registry(&self, host: &str, scope: &Scope) -> Result<Receipt> {
        let segments = ["v1", "registries", host];
        self.change_by(Method::DELETE, &segments, |request| request.query(scope)).await
    }

    /// What an org demands of its releases.
    pub async fn policy(&self, scope: &Scope) -> Result<PolicyReport> {
        let request = self.request(Method::GET, &["v1", "policy"])?;
        self.read(request.query(scope)).await
    }

    /// Sets what an org demands of its releases.
    pub async fn set_policy(&self, policy: &Policy, scope: &Scope) -> Result<Receipt> {
        self.change(&["v1", "policy"], scope, policy).await
    }

    /// How long instances ran, per env.
    pub async fn usage(&self, query: &UsageQuery, scope: &Scope) -> Result<UsageReport> {
        let request = self.request(Method::GET, &["v1", "usage"])?;
        self.read(request.query(query).query(scope)).await
    }

    /// The stretches of time that usage is made of.
    pub async fn usage_intervals(
        &self,
        query: &UsageQuery,
        scope: &Scope,
    ) -> Result<UsageIntervals> {
        let request = self.request(Method::GET, &["v1", "usage", "intervals"])?;
        self.read(request.query(query).query(scope)).await
    }
}
