//! Grants from the server: the first for the token of a person, the next for the one that
//! came with it.

use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use helix_model::Code;
use helix_model::api::{CreateTunnel, SecretText, TunnelGrant};
use helix_model::reference::Scope;
use helix_tunnel::{Candidate, Grant, GrantError, Grants};

use crate::{Client, ClientError};

/// Asks a server, for an agent of a tunnel.
pub struct TunnelGrants {
    client: Client,
    scope: Scope,
    /// What is asked for when the token has ended that came last.
    ask: CreateTunnel,
    recreate_token: Mutex<SecretText>,
}

impl TunnelGrants {
    /// The first grant, and who gives the next.
    ///
    /// # Errors
    /// When the server gives none.
    pub async fn ask(
        client: Client,
        scope: Scope,
        ask: CreateTunnel,
    ) -> Result<(TunnelGrants, TunnelGrant), ClientError> {
        let granted = client.create_tunnel(&ask, &scope).await?;
        // From now on it is this tunnel, whatever it came to be called.
        let ask = CreateTunnel { requested_name: Some(granted.name.clone()), ..ask };
        let recreate_token = Mutex::new(granted.recreate_token.clone());
        Ok((TunnelGrants { client, scope, ask, recreate_token }, granted))
    }

    /// What an agent needs of a grant.
    pub fn read(granted: &TunnelGrant) -> Grant {
        let candidates = granted.candidates.iter().map(|candidate| Candidate {
            edge: candidate.edge_id.to_string(),
            url: candidate.edge_url.clone(),
        });
        Grant {
            tunnel: granted.tunnel_id.to_string(),
            public_url: granted.public_url.clone(),
            candidates: candidates.collect(),
            token: granted.ephemeral_token.expose().to_owned(),
            expires_at_s: u64::try_from(granted.ephemeral_token_expires_at.0 / 1000).unwrap_or(0),
            edge_roots: granted.edge_roots.clone(),
        }
    }

    fn token(&self) -> SecretText {
        self.recreate_token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Grants for TunnelGrants {
    async fn grant(&self) -> Result<Grant, GrantError> {
        let granted = match self.client.refresh_tunnel(&self.token()).await {
            // Asleep for longer than that token was good for: the person's may still be.
            Err(error) if error.code() == Code::AccessDenied => {
                self.client.create_tunnel(&self.ask, &self.scope).await
            }
            outcome => outcome,
        };
        let granted = granted.map_err(|error| {
            let problem = error.into_problem();
            match problem.retryable {
                true => GrantError::Later(problem.detail),
                false => GrantError::Refused(problem.detail),
            }
        })?;
        let mut token = self.recreate_token.lock().unwrap_or_else(PoisonError::into_inner);
        token.clone_from(&granted.recreate_token);
        Ok(TunnelGrants::read(&granted))
    }
}
