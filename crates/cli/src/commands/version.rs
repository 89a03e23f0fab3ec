//! `helix version`: this program's version and the server's.

use std::time::Duration;

use clap::Args;
use helix_model::api::Version;
use serde_json::json;

use crate::failure::Result;
use crate::session::Session;

/// The server's version is an extra and must not delay our own.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Print the version of this program and of the server
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix version\n  helix version --json")]
pub(crate) struct VersionArgs {}

pub(crate) async fn run(session: &mut Session<'_>, _args: VersionArgs) -> Result<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let server = server(session).await;
    session.ui.result(&json!({ "version": version, "server": server }), |_| {
        let server = server.as_ref().map_or_else(
            || "not reachable".to_owned(),
            |server| format!("{} (API {})", server.version, server.api),
        );
        format!("helix {version}\nserver {server}")
    })?;
    Ok(0)
}

async fn server(session: &Session<'_>) -> Option<Version> {
    let client = session.client().ok()?;
    tokio::time::timeout(SERVER_TIMEOUT, client.version()).await.ok()?.ok()
}
