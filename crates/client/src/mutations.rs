//! Changes: each is sent under a fresh idempotency key and answers a receipt.

use helix_model::Receipt;
use helix_model::api::{
    AvailabilityRequest, ConfigRequest, DeployRequest, ExposeRequest, Ipv4Request, PromoteRequest,
    ReleaseRequest, RollbackRequest, ScaleRequest,
};
use helix_model::reference::Scope;

use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// Releases an image and moves an env to it. What is missing on the way is
    /// made. The receipt's subject is the deploy.
    pub async fn deploy(&self, request: &DeployRequest) -> Result<Receipt> {
        self.change(&["v1", "deploys"], &Scope::default(), request).await
    }

    /// Releases an image without deploying it. The receipt's subject is the release.
    pub async fn release(&self, request: &ReleaseRequest) -> Result<Receipt> {
        self.change(&["v1", "releases"], &Scope::default(), request).await
    }

    /// Moves an env to a release that is there. The receipt's subject is the deploy.
    pub async fn promote(&self, request: &PromoteRequest, scope: &Scope) -> Result<Receipt> {
        self.change(&["v1", "promotions"], scope, request).await
    }

    /// Moves an env back to a release it has had.
    pub async fn rollback(&self, request: &RollbackRequest, scope: &Scope) -> Result<Receipt> {
        self.change(&["v1", "rollbacks"], scope, request).await
    }

    /// Gives an env an IPv4 address of its own, or takes it back.
    pub async fn set_ipv4(
        &self,
        env: &str,
        request: &Ipv4Request,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "envs", env, "ipv4"], scope, request).await
    }

    /// Sets instance counts of an env's processes.
    pub async fn scale(&self, env: &str, request: &ScaleRequest, scope: &Scope) -> Result<Receipt> {
        self.change(&["v1", "envs", env, "scale"], scope, request).await
    }

    /// Sets variables and resources of an env.
    pub async fn configure(
        &self,
        env: &str,
        request: &ConfigRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "envs", env, "config"], scope, request).await
    }

    /// Makes a port of an env reachable, or changes how. The receipt's subject is the
    /// endpoint.
    pub async fn expose(
        &self,
        env: &str,
        request: &ExposeRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "envs", env, "endpoints"], scope, request).await
    }

    /// Takes back what was exposed apart from the manifest.
    pub async fn unexpose(&self, env: &str, endpoint: &str, scope: &Scope) -> Result<Receipt> {
        let segments = ["v1", "envs", env, "endpoints", endpoint];
        self.change_by(Method::DELETE, &segments, |request| request.query(scope)).await
    }

    /// Says what a node may be used for.
    pub async fn set_availability(
        &self,
        node: &str,
        request: &AvailabilityRequest,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "nodes", node, "availability"], scope, request).await
    }
}
