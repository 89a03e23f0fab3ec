//! What an operator settles for the whole installation, each time a server starts.

use serde::{Deserialize, Serialize};

use crate::domain::SetApp;
use crate::ports::Deny;

/// Command: from now on it is like this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Settle {
    /// Where endpoints without a host get theirs.
    AppDomain(SetApp),
    /// Where no new endpoint may listen.
    DeniedPorts(Deny),
}

impl Settle {
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Settle::AppDomain(_) => "set_app_domain",
            Settle::DeniedPorts(_) => "deny_ports",
        }
    }
}
