//! What an operator settles for the whole installation, each time a server starts.

use serde::{Deserialize, Serialize};

use crate::domain::SetApp;
use crate::ports::Deny;
use crate::tunnel::{SetAnonymous, SetKey, SetPorts};

/// Command: from now on it is like this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Settle {
    /// Where endpoints without a host get theirs.
    AppDomain(SetApp),
    /// Where no new endpoint may listen.
    DeniedPorts(Deny),
    /// Which ports tunnels get.
    TunnelPorts(SetPorts),
    /// Whether tunnels are had without a login.
    AnonymousTunnels(SetAnonymous),
    /// By which key tokens of tunnels are signed, unless there is one.
    TunnelKey(SetKey),
}

impl Settle {
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Settle::AppDomain(_) => "set_app_domain",
            Settle::DeniedPorts(_) => "deny_ports",
            Settle::TunnelPorts(_) => "set_tunnel_ports",
            Settle::AnonymousTunnels(_) => "set_anonymous_tunnels",
            Settle::TunnelKey(_) => "set_tunnel_key",
        }
    }
}
