//! `helix rollback`: back to a release that is there already.

use clap::Args;
use helix_model::api::RollbackRequest;

use super::deploy::{self, Precondition, WaitFlags};
use crate::failure::Result;
use crate::session::Session;

/// Go back to a release that served before
///
/// Nothing is built: the release's image and manifest are as they were.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix rollback\n  helix rollback --to v3\n  helix releases list"
)]
pub(crate) struct RollbackArgs {
    /// Release to go to; the one that served before when absent
    #[arg(long, value_name = "RELEASE")]
    to: Option<String>,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    precondition: Precondition,
}

pub(crate) async fn run(session: &mut Session<'_>, args: RollbackArgs) -> Result<u8> {
    let target = session.settings.target()?;
    let client = session.client()?;
    session.ui.step(&format!("rolling {target} back"));
    let request = RollbackRequest {
        env: target.env.to_string(),
        to: args.to,
        expected_version: args.precondition.expected_version,
    };
    let receipt = client.rollback(&request, &target.scope()).await?;
    deploy::finish(session, &client, &target, receipt, args.wait.limit()).await
}
