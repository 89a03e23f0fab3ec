//! `helix explain`: what a code means, without asking anybody.

use clap::Args;
use helix_model::{Code, explain};
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::session::Session;

/// Say what a code means; works offline
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix explain oom_killed\n  helix explain not_found --json\n  helix explain            lists the codes"
)]
pub(crate) struct ExplainArgs {
    /// A code from an error, a condition or an event
    code: Option<String>,
}

pub(crate) fn run(session: &mut Session<'_>, args: &ExplainArgs) -> Result<u8> {
    let Some(code) = &args.code else {
        let mut codes: Vec<&str> = explain::codes().collect();
        codes.sort_unstable();
        codes.dedup();
        session.ui.result(&json!({ "codes": codes }), |_| codes.join("\n"))?;
        return Ok(0);
    };
    let page = explain::explain(code).ok_or_else(|| {
        Failure::new(Code::NotFound, format!("there is no code `{code}`"))
            .hint("`helix explain` lists them all")
    })?;
    session.ui.result(&json!({ "code": code, "page": page }), |_| page.clone())?;
    Ok(0)
}
