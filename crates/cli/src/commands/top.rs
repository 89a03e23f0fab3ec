//! `helix top`: what goes through endpoints, second by second.

use clap::Args;
use helix_client::TrafficQuery;

use crate::failure::Result;
use crate::render;
use crate::session::Session;

/// Show what goes through endpoints now, at all edges together
///
/// Requests of http, connections of tcp and tls, sessions of udp: how many begin in a
/// second, how many fail (answered with 5xx, refused or broken off), how long those took
/// that ended, and bytes. Of the org, narrowed to the project, app and env that flags or
/// variables name; the busiest first. Refreshes every second until Ctrl-C. With --json
/// one line a second.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix top\n  helix top --app shop --env production\n  helix top --once\n  helix top --json | jq '.items[] | {path, per_second}'"
)]
pub(crate) struct TopArgs {
    /// Show one second and end
    #[arg(long)]
    once: bool,
    /// How many endpoints
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: Option<u16>,
}

pub(crate) async fn run(session: &mut Session<'_>, args: TopArgs) -> Result<u8> {
    let scope = session.settings.scope_given()?;
    let query = TrafficQuery { limit: args.limit.map(usize::from) };
    let client = session.client()?;
    if args.once {
        let line = client.traffic(query, &scope).await?;
        session.ui.result(&line, |style| render::traffic::table(&line, style, usize::MAX))?;
        return Ok(0);
    }
    let mut stream = client.follow_traffic(query, scope).await?;
    loop {
        let line = stream.next().await?;
        session.ui.frame(&line, |style, rows| render::traffic::table(&line, style, rows))?;
    }
}
