//! Deciding on what holds for the whole installation.

use helix_model::installation::Settle;
use helix_model::{AnyId, Problem};

use super::{Draft, address, anonymous, domain, tunnel};

/// Settles something, unless it is so already.
pub(super) fn settle(
    draft: &mut Draft<'_, '_>,
    command: &Settle,
) -> Result<Option<AnyId>, Problem> {
    match command {
        Settle::AppDomain(it) => domain::set_app(draft, it),
        Settle::DeniedPorts(it) => Ok(address::deny(draft, it)),
        Settle::TunnelPorts(it) => Ok(tunnel::set_ports(draft, it)),
        Settle::AnonymousTunnels(it) => anonymous::settle(draft, *it),
        Settle::TunnelKey(it) => Ok(tunnel::set_key(draft, it)),
    }
}
