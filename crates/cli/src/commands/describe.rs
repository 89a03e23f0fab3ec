//! `helix describe`: everything about one resource.

use clap::Args;
use helix_model::{AnyId, Kind};

use crate::duration::now;
use crate::failure::{Failure, Result};
use crate::render::resource;
use crate::session::Session;

/// Show everything about one resource
///
/// Desired and current state, conditions with their reasons, and why the two
/// differ.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix describe app/hello\n  helix describe instance web-1\n  helix describe ins_01J8Z3Q4V5W6X7Y8Z9A0B1C2D3\n  helix describe node/local --json"
)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    subject: Subject,
}

/// A resource of any kind.
#[derive(Clone, Debug, Args)]
pub(crate) struct Subject {
    /// Kind and name, or an id
    #[arg(value_name = "KIND/NAME")]
    subject: String,
    /// The name, when the kind stands alone
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Subject {
    /// The kind and the reference.
    pub(crate) fn parse(&self) -> Result<(Kind, String)> {
        let wrong = |detail: String| {
            Failure::usage(detail, "write it as `app/hello` or `instance/web-1`, or give an id")
        };
        if let Some(name) = &self.name {
            let kind = self
                .subject
                .parse()
                .map_err(|error: helix_model::kind::KindError| wrong(error.to_string()))?;
            return Ok((kind, name.clone()));
        }
        if let Ok(id) = self.subject.parse::<AnyId>() {
            return Ok((id.kind(), id.to_string()));
        }
        let (kind, name) =
            self.subject.split_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(|| {
                wrong(format!("`{}` does not name a kind and a name", self.subject))
            })?;
        let kind =
            kind.parse().map_err(|error: helix_model::kind::KindError| wrong(error.to_string()))?;
        Ok((kind, name.to_owned()))
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: DescribeArgs) -> Result<u8> {
    let (kind, reference) = args.subject.parse()?;
    show(session, kind, &reference).await
}

/// Shows one resource.
pub(crate) async fn show(session: &mut Session<'_>, kind: Kind, reference: &str) -> Result<u8> {
    let scope = session.settings.scope_for(kind, reference)?;
    let view = session.client()?.get(kind, reference, &scope).await?;
    session.ui.result(&view, |style| resource::resource(&view, now(), style))?;
    Ok(0)
}
