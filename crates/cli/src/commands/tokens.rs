//! `helix tokens`: ways in for programs.

use clap::{Args, Subcommand};
use helix_model::api::access::TokenRequest;
use helix_model::token::{LIFE_DAYS_DEFAULT, LIFE_DAYS_MAX};
use helix_model::{Kind, Name, Permission};

use super::kinds;
use crate::failure::Result;
use crate::output::pairs;
use crate::render;
use crate::session::Session;

/// Tokens: list, describe, events, create, revoke
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix tokens list\n  helix tokens create ci --service --scope deploys:write --scope releases:write --days 30\n  helix tokens revoke laptop"
)]
pub(crate) struct TokensArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Any(kinds::Verb),
    Create(CreateArgs),
    Revoke(RevokeArgs),
}

/// Make a token and print it, this once
///
/// A personal token acts as you; a service token acts for the org and survives
/// you. docs/access.md lists the scopes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix tokens create laptop\n  helix tokens create reader --scope logs:read --scope envs:read\n  helix tokens create ci --service --org acme --scope deploys:write"
)]
struct CreateArgs {
    name: Name,
    /// A token of the org instead of your own
    #[arg(long)]
    service: bool,
    /// Only this; repeat for more. A service token needs at least one
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Permission>,
    /// Only in the org that --org names
    #[arg(long, conflicts_with = "service")]
    only_org: bool,
    /// How long it lives
    #[arg(long, default_value_t = LIFE_DAYS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(LIFE_DAYS_MAX)))]
    days: u32,
}

/// End a token at once, everywhere
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix tokens revoke laptop\n  helix tokens revoke acme/ci\n  helix tokens revoke self"
)]
struct RevokeArgs {
    /// Id, owner/name or name; `self` is the one in use
    token: String,
}

impl TokensArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, Verb::Any(verb) if verb.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: TokensArgs) -> Result<u8> {
    match args.verb {
        Verb::Any(verb) => kinds::run_verb(session, Kind::Token, verb).await,
        Verb::Create(args) => create(session, args).await,
        Verb::Revoke(args) => {
            let client = session.client()?;
            let receipt = client.revoke_token(&args.token, &session.settings.org_scope()).await?;
            session.ui.result(&receipt, |style| {
                render::receipt::receipt(&receipt, client.url(), style)
            })?;
            Ok(0)
        }
    }
}

async fn create(session: &mut Session<'_>, args: CreateArgs) -> Result<u8> {
    let client = session.client()?;
    let bounded = args.service || args.only_org;
    let request = TokenRequest {
        name: args.name,
        service: args.service,
        org: bounded.then(|| session.settings.org.clone()),
        scopes: (!args.scopes.is_empty()).then(|| args.scopes.into_iter().collect()),
        expires_in_days: Some(args.days),
    };
    let made = client.create_token(&request).await?;
    session.ui.result(&made, |style| {
        let rows = [
            ("token", made.token.clone()),
            ("expires", made.expires_at.to_string()),
            ("receipt", made.receipt.id.clone()),
        ];
        let note = "keep it now: it is shown this once";
        format!(
            "{} {note}\n{}{}",
            style.tick(),
            pairs(&rows, 2, style),
            render::next(&made.receipt.next, style)
        )
    })?;
    Ok(0)
}
