//! The bodies of the API about tunnels. Tokens are shown by nothing but the answer
//! that hands them out.

use serde::{Deserialize, Serialize};

use super::SecretText;
use crate::tunnel::{Protocol, Transport};
use crate::{Edge, Id, Name, Receipt, Timestamp, Tunnel};

/// Edges an agent is told of, at most: enough to have another when one is gone.
pub const CANDIDATES_MAX: usize = 3;

/// `POST /v1/tunnels`: a tunnel, or the one of one's own that has this name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTunnel {
    #[serde(default)]
    pub protocol: Protocol,
    /// A random one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_name: Option<Name>,
    /// With `http` and `tls`: a host of a domain that the org has proven, instead of
    /// the name below the domain of the installation's apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// With `tcp` and `udp`: a port of the installation's range; the lowest free one
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Edges of this region come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_hint: Option<String>,
    /// How long the recreate token is good, and the name kept while no agent is
    /// attached: from a minute to 30 days, 7 days when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recreate_token_ttl_seconds: Option<u64>,
    /// A token of the API, for who cannot send an Authorization header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub management_token: Option<SecretText>,
    /// That of the tunnel that is wanted again: who has it counts as its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub recreate_token: Option<SecretText>,
}

/// `POST /auth/token`: fresh tokens for a tunnel one has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshTunnel {
    #[schema(value_type = String)]
    pub recreate_token: SecretText,
    /// Edges of this region come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_hint: Option<String>,
}

/// `POST /v1/tunnels/{tunnel}/disable`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DisableTunnel {
    /// A sentence for its owner.
    pub reason: String,
    /// Refuse unless the tunnel is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// `POST /v1/tunnels/{tunnel}/reserve`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveTunnel {
    /// `false` takes it back: the name goes when nobody has used it for long.
    #[serde(default = "yes")]
    pub reserved: bool,
    /// Refuse unless the tunnel is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

fn yes() -> bool {
    true
}

/// `POST /v1/tunnels/{tunnel}/enable` and `…/rotate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeTunnel {
    /// Refuse unless the tunnel is still this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
}

/// A tunnel, and all that an agent needs to offer something by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TunnelGrant {
    #[schema(value_type = String)]
    pub tunnel_id: Id<Tunnel>,
    pub name: Name,
    pub protocol: Protocol,
    /// The host name that visitors use.
    pub public_hostname: String,
    /// What visitors open, such as `https://demo.localhost:8443`. Where it is reached
    /// at each edge, `describe` tells.
    pub public_url: String,
    /// Where an agent connects, from 1 to 3, the best first.
    pub candidates: Vec<Candidate>,
    /// When to ask for candidates anew.
    pub candidates_expires_at: Timestamp,
    /// Lets an agent connect to an edge; a signed JWT.
    #[schema(value_type = String)]
    pub ephemeral_token: SecretText,
    pub ephemeral_token_expires_at: Timestamp,
    /// Gets fresh tokens, and the name back after a pause; a signed JWT.
    #[schema(value_type = String)]
    pub recreate_token: SecretText,
    pub recreate_token_expires_at: Timestamp,
    /// What agents trust edges by besides the authorities of their machine, in PEM;
    /// empty where the installation has no authority.
    pub edge_roots: String,
    /// Says when something is not as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Absent when fresh tokens were asked for, which changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// Where an agent may connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Candidate {
    #[schema(value_type = String)]
    pub edge_id: Id<Edge>,
    pub edge_url: String,
    pub supported_transport: Transport,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Why it is where it is in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_strictly_and_shows_no_token() {
        let request: CreateTunnel = serde_json::from_str(
            r#"{"management_token":"hx_secret","recreate_token":"ey.secret"}"#,
        )
        .unwrap();
        assert_eq!(request.protocol, Protocol::Http);
        assert!(!format!("{request:?}").contains("secret"));
        for bad in [r#"{"name":"demo"}"#, r#"{"protocol":"https"}"#, r#"{"port":70000}"#] {
            assert!(serde_json::from_str::<CreateTunnel>(bad).is_err(), "{bad}");
        }
        let reserve: ReserveTunnel = serde_json::from_str("{}").unwrap();
        assert!(reserve.reserved);
    }
}
