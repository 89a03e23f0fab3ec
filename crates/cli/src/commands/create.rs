//! `helix orgs|projects|apps|envs create`: something to put other things in.

use clap::Args;
use helix_model::api::CreateRequest;
use helix_model::{Kind, Name};

use crate::failure::{Failure, Result};
use crate::render;
use crate::session::Session;

/// Make one by its name
///
/// `helix deploy` makes the app and the env it names by itself.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix orgs create acme\n  helix projects create acme/shop\n  helix apps create web\n  helix envs create web@staging"
)]
pub(crate) struct CreateArgs {
    /// Name, or the path that ends with it
    #[arg(value_name = "NAME")]
    reference: String,
}

pub(crate) async fn run(session: &mut Session<'_>, kind: Kind, args: CreateArgs) -> Result<u8> {
    let (parent, name) = split(kind, &args.reference);
    let name: Name = name.parse().map_err(|error: helix_model::name::NameError| {
        Failure::usage(
            error.to_string(),
            format!("for example `helix {} create web", kind.plural()) + "`",
        )
    })?;
    let scope = session.settings.scope_for(kind, &args.reference)?;
    let request = CreateRequest { name, parent };
    let receipt = session.client()?.create(kind, &request, &scope).await?;
    let target = receipt.subject.as_ref().map_or_else(String::new, |it| it.path.clone());
    let document = serde_json::json!({ "target": target, "receipt": receipt });
    session.ui.warn(&receipt.warnings);
    session.ui.result(&document, |style| {
        let made = format!("{} {kind} {} is there\n", style.tick(), style.bold(&target));
        format!("{made}{}", render::next(&receipt.next, style))
    })?;
    Ok(0)
}

/// What it is made in, when the reference says so, and its name.
fn split(kind: Kind, reference: &str) -> (Option<String>, &str) {
    let separator = if kind == Kind::Env { '@' } else { '/' };
    match reference.rsplit_once(separator) {
        Some((parent, name)) => (Some(parent.to_owned()), name),
        None => (None, reference),
    }
}
