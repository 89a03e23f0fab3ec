//! `helix tunnels`: public names that lead to programs elsewhere, whether or not one is
//! offered right now.

use clap::{Args, Subcommand};
use helix_client::Client;
use helix_model::api::{ChangeTunnel, DisableTunnel, ReserveTunnel};
use helix_model::reference::Scope;
use helix_model::{Kind, Receipt};
use serde_json::json;

use super::deploy::Precondition;
use super::destroy;
use super::kinds::{self, Verb};
use super::restore;
use super::tunnel;
use crate::failure::Result;
use crate::render;
use crate::session::Session;

/// What can be done with tunnels.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix tunnels list\n  helix tunnels describe demo\n  helix tunnels reserve demo\n  helix tunnels delete demo"
)]
pub(crate) struct TunnelsArgs {
    #[command(subcommand)]
    verb: TunnelsVerb,
}

#[derive(Debug, Subcommand)]
enum TunnelsVerb {
    #[command(flatten)]
    Any(Verb),
    Reserve(ReserveArgs),
    Disable(DisableArgs),
    Enable(EnableArgs),
    Rotate(RotateArgs),
    #[command(visible_aliases = ["destroy", "rm"])]
    Delete(destroy::DestroyArgs),
    Run(tunnel::run::RunArgs),
}

/// Keep a tunnel's name for good
///
/// Without that it is given up when no agent has been attached for as long as its
/// recreate tokens live, 7 days unless asked otherwise.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix tunnels reserve demo\n  helix tunnels reserve demo --release"
)]
struct ReserveArgs {
    /// Id, path or name
    #[arg(value_name = "NAME")]
    reference: String,
    /// Keep it no longer than others
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    precondition: Precondition,
}

/// Take a tunnel out of use; for admins and operators
///
/// Its name is kept, nothing goes through it, and no agent attaches. What an operator
/// has disabled only an operator enables.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix tunnels disable demo --reason \"it imitates a bank\"\n  helix tunnels enable demo"
)]
struct DisableArgs {
    /// Id, path or name
    #[arg(value_name = "NAME")]
    reference: String,
    /// Why, for its owner to read
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    precondition: Precondition,
}

/// Take a tunnel into use again; for admins and operators
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix tunnels enable demo")]
struct EnableArgs {
    /// Id, path or name
    #[arg(value_name = "NAME")]
    reference: String,
    #[command(flatten)]
    precondition: Precondition,
}

/// End every token of a tunnel that was given out before
///
/// For when one may have been seen by others. Agents have to be started anew.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix tunnels rotate demo")]
struct RotateArgs {
    /// Id, path or name
    #[arg(value_name = "NAME")]
    reference: String,
    #[command(flatten)]
    precondition: Precondition,
}

impl TunnelsArgs {
    /// Whether it goes on until somebody ends it.
    pub(crate) fn stays(&self) -> bool {
        matches!(&self.verb, TunnelsVerb::Run(_))
    }

    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        match &self.verb {
            TunnelsVerb::Any(verb) => verb.streams(),
            TunnelsVerb::Run(_) => true,
            _ => false,
        }
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: TunnelsArgs) -> Result<u8> {
    let receipt = match args.verb {
        TunnelsVerb::Any(verb) => return kinds::run_verb(session, Kind::Tunnel, verb).await,
        TunnelsVerb::Delete(args) => return destroy::run(session, Kind::Tunnel, args).await,
        TunnelsVerb::Run(args) => return tunnel::run::run(session, args).await,
        TunnelsVerb::Reserve(args) => reserve(session, args).await?,
        TunnelsVerb::Disable(args) => disable(session, args).await?,
        TunnelsVerb::Enable(args) => {
            let (client, scope) = asking(session)?;
            let expected_version = args.precondition.expected_version;
            let request = ChangeTunnel { expected_version };
            client.enable_tunnel(&args.reference, &request, &scope).await?
        }
        TunnelsVerb::Rotate(args) => {
            let (client, scope) = asking(session)?;
            let expected_version = args.precondition.expected_version;
            let request = ChangeTunnel { expected_version };
            client.rotate_tunnel(&args.reference, &request, &scope).await?
        }
    };
    tell(session, &receipt)
}

fn asking(session: &mut Session<'_>) -> Result<(Client, Scope)> {
    Ok((session.client()?, session.settings.org_scope()))
}

async fn reserve(session: &mut Session<'_>, args: ReserveArgs) -> Result<Receipt> {
    let (client, scope) = asking(session)?;
    let expected_version = args.precondition.expected_version;
    let request = ReserveTunnel { reserved: !args.release, expected_version };
    Ok(client.reserve_tunnel(&args.reference, &request, &scope).await?)
}

async fn disable(session: &mut Session<'_>, args: DisableArgs) -> Result<Receipt> {
    let (client, scope) = asking(session)?;
    let expected_version = args.precondition.expected_version;
    let request = DisableTunnel { reason: args.reason, expected_version };
    Ok(client.disable_tunnel(&args.reference, &request, &scope).await?)
}

fn tell(session: &mut Session<'_>, receipt: &Receipt) -> Result<u8> {
    let target = restore::target(receipt);
    let document = json!({ "target": target, "receipt": receipt });
    session.ui.result(&document, |style| render::receipt::receipt(receipt, &target, style))?;
    Ok(0)
}
