//! `helix ready`: whether a process of `helix` here does what it was started for.

use std::net::SocketAddr;

use clap::Args;
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::ready::{self, VARIABLE};
use crate::session::Session;

/// Ask a helix process of this machine whether it is ready; for health checks
///
/// A process that is started with HELIX_READY set to a port answers there: a server when its
/// API answers, an edge when it has a plan, a node when its agent runs, an agent of tunnels
/// when all of them are attached. Exit code 0 when it is ready, 6 when not.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  HELIX_READY=7421 helix http 3000\n  helix ready 7421\n  HELIX_READY=7421 helix ready --json"
)]
pub(crate) struct ReadyArgs {
    /// Where it answers, a port or an address of the loopback; HELIX_READY when absent
    #[arg(value_name = "PORT|ADDRESS", value_parser = ready::address)]
    address: Option<SocketAddr>,
}

pub(crate) async fn run(session: &mut Session<'_>, args: ReadyArgs) -> Result<u8> {
    let address = address(session, args.address)?;
    ready::ask(address).await?;
    let document = json!({ "ready": true, "address": address });
    session.ui.result(&document, |style| format!("{} {address} is ready", style.tick()))?;
    Ok(0)
}

fn address(session: &Session<'_>, given: Option<SocketAddr>) -> Result<SocketAddr> {
    let hint = "say a port such as 7421, the one of HELIX_READY of the process";
    match (given, session.environment.get(VARIABLE)) {
        (Some(address), _) => Ok(address),
        (None, Some(text)) => {
            ready::address(text).map_err(|why| Failure::usage(format!("{VARIABLE}: {why}"), hint))
        }
        (None, None) => Err(Failure::usage("it is not said where to ask", hint)),
    }
}
