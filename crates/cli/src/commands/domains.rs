//! `helix domains`: which DNS names are an org's own.

use clap::{Args, Subcommand};
use helix_client::Seen;
use helix_model::api::DomainRequest;
use helix_model::condition::ConditionKind;
use helix_model::domain::record_value;
use helix_model::reference::Scope;
use helix_model::{Domain, Kind, Receipt};
use serde_json::json;

use super::destroy;
use super::kinds::{self, Verb};
use super::restore;
use crate::failure::Result;
use crate::output::pairs;
use crate::render;
use crate::session::Session;

/// What can be done with domains.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix domains add example.com\n  helix domains verify example.com\n  helix domains list\n  helix domains destroy example.com"
)]
pub(crate) struct DomainsArgs {
    #[command(subcommand)]
    verb: DomainsVerb,
}

#[derive(Debug, Subcommand)]
enum DomainsVerb {
    #[command(flatten)]
    Any(Verb),
    Add(AddArgs),
    Verify(VerifyArgs),
    Vouch(VouchArgs),
    #[command(visible_alias = "rm")]
    Destroy(destroy::DestroyArgs),
}

/// Say that a domain is the org's, and print the record that proves it
///
/// Once proven, endpoints of the org may have the domain and every name below it as
/// `host`. The record is looked for by itself from now on; `verify` looks at once.
/// Any org may add a domain, and one can prove it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix domains add example.com\n  helix domains add shop.example.com --org acme --json"
)]
struct AddArgs {
    /// The domain, such as example.com
    #[arg(value_name = "DOMAIN")]
    domain: String,
}

/// Look for the record that proves a domain, now
///
/// Fails with what was found instead as long as it is not there.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix domains verify example.com\n  helix wait domain/example.com --timeout 1h"
)]
struct VerifyArgs {
    /// The domain, its name or its id
    #[arg(value_name = "NAME")]
    reference: String,
}

/// Have a domain count as proven without a record; for operators
///
/// For names that no public DNS knows, and when another way has shown whose one is.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix domains vouch example.com\n  helix domains vouch intranet.corp --org acme"
)]
struct VouchArgs {
    /// The domain, its name or its id
    #[arg(value_name = "NAME")]
    reference: String,
}

impl DomainsArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, DomainsVerb::Any(verb) if verb.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: DomainsArgs) -> Result<u8> {
    match args.verb {
        DomainsVerb::Any(verb) => kinds::run_verb(session, Kind::Domain, verb).await,
        DomainsVerb::Add(args) => add(session, args).await,
        DomainsVerb::Verify(args) => {
            let (client, scope) = (session.client()?, session.settings.org_scope());
            session.ui.step("asking DNS");
            let receipt = client.verify_domain(&args.reference, &scope).await?;
            tell(session, &receipt, &scope).await
        }
        DomainsVerb::Vouch(args) => {
            let (client, scope) = (session.client()?, session.settings.org_scope());
            let receipt = client.vouch_for_domain(&args.reference, &scope).await?;
            tell(session, &receipt, &scope).await
        }
        DomainsVerb::Destroy(args) => destroy::run(session, Kind::Domain, args).await,
    }
}

async fn add(session: &mut Session<'_>, args: AddArgs) -> Result<u8> {
    let scope = session.settings.org_scope();
    let request = DomainRequest { domain: args.domain };
    let receipt = session.client()?.add_domain(&request, &scope).await?;
    tell(session, &receipt, &scope).await
}

/// How it stands with the domain a receipt is about, and what to do next.
async fn tell(session: &mut Session<'_>, receipt: &Receipt, scope: &Scope) -> Result<u8> {
    let target = restore::target(receipt);
    let domain: Seen<Domain> = session.client()?.one(&target, scope).await?;
    let record = [
        ("name", domain.desired.record_name()),
        ("type", "TXT".to_owned()),
        ("value", domain.view.id.typed().map(record_value).unwrap_or_default()),
    ];
    let fields: serde_json::Map<_, _> =
        record.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let document =
        json!({ "target": target, "receipt": receipt, "domain": domain.view, "record": fields });
    session.ui.result(&document, |style| {
        let name = style.bold(&domain.desired.domain);
        let next = render::next(&receipt.next, style);
        if domain.current.proof.is_some() {
            let ready = domain.view.condition(ConditionKind::Ready);
            let why = ready.map_or("", |it| it.message.as_str());
            return format!("{} domain {name} is the org's. {why}\n{next}", style.tick());
        }
        let record = pairs(&record, 4, style);
        format!(
            "{} domain {name} waits for its proof\n  make this record where its DNS is kept:\n{record}{next}",
            style.tick()
        )
    })?;
    Ok(0)
}
