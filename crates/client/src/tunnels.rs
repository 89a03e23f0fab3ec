//! Tunnels: having one, fresh tokens for one, and what is to be different about one.

use helix_model::Receipt;
use helix_model::api::{
    ChangeTunnel, CreateTunnel, DisableTunnel, RefreshTunnel, ReserveTunnel, SecretText,
    TunnelGrant,
};
use helix_model::reference::Scope;
use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// A tunnel of the scope's org, or again the caller's own of this name.
    pub async fn create_tunnel(
        &self,
        request: &CreateTunnel,
        scope: &Scope,
    ) -> Result<TunnelGrant> {
        let segments = ["v1", "tunnels"];
        self.change_for(Method::POST, &segments, |asked| asked.query(scope).json(request)).await
    }

    /// Fresh tokens for who has the recreate token of a tunnel.
    pub async fn refresh_tunnel(&self, recreate_token: &SecretText) -> Result<TunnelGrant> {
        let request = RefreshTunnel { recreate_token: recreate_token.clone(), region_hint: None };
        let asked = self.request(Method::POST, &["v1", "tunnels", "token"])?.json(&request);
        self.read(asked).await
    }

    /// Keeps its name for good, or no longer.
    pub async fn reserve_tunnel(
        &self,
        reference: &str,
        request: &ReserveTunnel,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "tunnels", reference, "reserve"], scope, request).await
    }

    /// Takes it out of use.
    pub async fn disable_tunnel(
        &self,
        reference: &str,
        request: &DisableTunnel,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "tunnels", reference, "disable"], scope, request).await
    }

    /// Takes it into use again.
    pub async fn enable_tunnel(
        &self,
        reference: &str,
        request: &ChangeTunnel,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "tunnels", reference, "enable"], scope, request).await
    }

    /// Ends every token that was given out before.
    pub async fn rotate_tunnel(
        &self,
        reference: &str,
        request: &ChangeTunnel,
        scope: &Scope,
    ) -> Result<Receipt> {
        self.change(&["v1", "tunnels", reference, "rotate"], scope, request).await
    }
}
