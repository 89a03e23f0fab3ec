//! `helix usage`: how long instances ran and how much memory that took.

use clap::Args;
use helix_client::UsageQuery;

use crate::duration::{now, since};
use crate::failure::{Failure, Result};
use crate::render;
use crate::session::Session;

/// Show how much instances have used, per env
///
/// Of the org, narrowed to the project, app and env that flags or variables
/// name. Edges move outwards to whole hours, and to whole UTC days more than a
/// week back. `--explain` lists the stretches of time that add up to the total,
/// each with the events it begins and ends with.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix usage\n  helix usage --since 7d --project shop\n  helix usage --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --json\n  helix usage --app shop --since 1d --explain"
)]
pub(crate) struct UsageArgs {
    /// From when, such as 7d or 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME", default_value = "30d")]
    since: String,
    /// Until when; now when left out
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// List what the total is made of
    #[arg(long)]
    explain: bool,
}

pub(crate) async fn run(session: &mut Session<'_>, args: UsageArgs) -> Result<u8> {
    let now = now();
    let moment = |flag: &str, text: &str| {
        since(text, now).map_err(|why| {
            Failure::usage(
                format!("{flag} {text}: {why}"),
                "write it as `7d` or `2026-11-01T00:00:00Z`",
            )
        })
    };
    let query = UsageQuery {
        since: Some(moment("--since", &args.since)?),
        until: args.until.as_deref().map(|text| moment("--until", text)).transpose()?,
    };
    let scope = session.settings.scope_given()?;
    let client = session.client()?;
    if args.explain {
        let intervals = client.usage_intervals(&query, &scope).await?;
        session.ui.result(&intervals, |style| render::usage::intervals(&intervals, style))?;
    } else {
        let report = client.usage(&query, &scope).await?;
        session.ui.result(&report, |style| render::usage::report(&report, style))?;
    }
    Ok(0)
}
