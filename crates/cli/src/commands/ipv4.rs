//! `helix env ipv4`: an IPv4 address of the env's own.

use clap::{Args, Subcommand};
use helix_model::Env;
use helix_model::api::Ipv4Request;
use serde_json::json;

use super::deploy::Precondition;
use crate::failure::Result;
use crate::session::Session;

/// An IPv4 address of the env's own: enable, disable
///
/// Endpoints with `ipv4 = true` listen on it besides their IPv6 address. It comes from the
/// addresses of the edges and is metered (`helix usage`) from when it is given until it
/// is given up; nobody else gets it for 24 hours after that.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix env ipv4 enable\n  helix env ipv4 disable --env staging"
)]
pub(crate) struct Ipv4Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Give the env an IPv4 address
    #[command(after_help = "Examples:\n  helix env ipv4 enable\n  helix env ipv4 enable --json")]
    Enable(Precondition),
    /// Give its address up; no endpoint may need it any more
    #[command(
        after_help = "Examples:\n  helix env ipv4 disable\n  helix env ipv4 disable --env staging"
    )]
    Disable(Precondition),
}

pub(crate) async fn run(session: &mut Session<'_>, args: Ipv4Args) -> Result<u8> {
    let (enabled, precondition) = match args.verb {
        Verb::Enable(precondition) => (true, precondition),
        Verb::Disable(precondition) => (false, precondition),
    };
    let target = session.settings.target()?;
    let client = session.client()?;
    let request = Ipv4Request { enabled, expected_version: precondition.expected_version };
    let receipt = client.set_ipv4(target.env.as_str(), &request, &target.scope()).await?;
    session.ui.warn(&receipt.warnings);
    let env = client.one::<Env>(target.env.as_str(), &target.scope()).await?;
    let address = env.desired.ipv4;
    let document = json!({ "target": target.to_string(), "ipv4": address, "receipt": receipt });
    session.ui.result(&document, |_| match &address {
        Some(address) => format!(
            "{target} has {address}\n\nnext\n  say `ipv4 = true` of an endpoint with a port, in \
             helix.toml or with `helix endpoints expose --ipv4`\n"
        ),
        None => format!("{target} has no IPv4 address\n"),
    })?;
    Ok(0)
}
