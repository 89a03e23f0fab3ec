//! `helix policy`: which images an org may release.

use clap::{Args, Subcommand};
use helix_model::policy::Policy;
use helix_model::reference::Scope;

use crate::failure::{Failure, Result};
use crate::output::pairs;
use crate::render;
use crate::session::Session;

/// Show or set which images an org may release
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix policy\n  helix policy set --allow ghcr.io/acme --allow registry.internal:5000 --require-digest true\n  helix policy set --allow-any --require-digest false"
)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Set(SetArgs),
}

/// Set which images an org may release
///
/// What is not named stays as it is. Releases from before stay, and can be gone back
/// to. What is built from a folder or pushed to the built-in registry is always
/// allowed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix policy set --allow ghcr.io/acme\n  helix policy set --require-digest true\n  helix policy set --allow-any --require-digest false"
)]
struct SetArgs {
    /// Registry, or a part of one, that images may come from; replaces the list
    #[arg(long, value_name = "HOST[/PATH]")]
    allow: Vec<String>,
    /// Let images come from anywhere
    #[arg(long, conflicts_with = "allow")]
    allow_any: bool,
    /// Whether images must be named by digest and not by a tag
    #[arg(long, value_name = "true|false")]
    require_digest: Option<bool>,
}

pub(crate) async fn run(session: &mut Session<'_>, args: PolicyArgs) -> Result<u8> {
    let org = session.settings.org.to_string();
    let scope = Scope { org: Some(org.clone()), ..Scope::default() };
    let client = session.client()?;
    let report = client.policy(&scope).await?;
    let Some(Verb::Set(set)) = args.verb else {
        session.ui.result(&report, |style| pairs(&rows(&report.policy), 0, style))?;
        return Ok(0);
    };
    if set.allow.is_empty() && !set.allow_any && set.require_digest.is_none() {
        return Err(Failure::usage(
            "no rule was named",
            "name one, for example `helix policy set --require-digest true`",
        ));
    }
    let mut policy = report.policy;
    if set.allow_any || !set.allow.is_empty() {
        policy.allowed_registries = set.allow;
    }
    policy.require_digest = set.require_digest.unwrap_or(policy.require_digest);
    let receipt = client.set_policy(&policy, &scope).await?;
    let document = serde_json::json!({ "org": org, "policy": policy, "receipt": receipt });
    session.ui.result(&document, |style| render::receipt::receipt(&receipt, &org, style))?;
    Ok(0)
}

fn rows(policy: &Policy) -> Vec<(&'static str, String)> {
    let from = match policy.allowed_registries.is_empty() {
        true => "anywhere".to_owned(),
        false => policy.allowed_registries.join(", "),
    };
    let named = if policy.require_digest { "digest only" } else { "tag or digest" };
    vec![("images from", from), ("named by", named.to_owned())]
}
