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

/// A point in the history of the installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// By id.
    Receipt(String),
    Position(u64),
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Point::Receipt(id) => write!(f, "receipt {id}"),
            Point::Position(position) => write!(f, "position {position}"),
        }
    }
}

impl Subject {
    /// The receipt or the position that is meant, if it is one.
    pub(crate) fn point(&self) -> Result<Option<Point>> {
        let (kind, name) = match (&self.name, self.subject.split_once('/')) {
            (Some(name), _) => (self.subject.as_str(), name.as_str()),
            (None, Some((kind, name))) => (kind, name),
            (None, None) if self.subject.starts_with("rcpt_") => ("receipt", self.subject.as_str()),
            (None, None) => return Ok(None),
        };
        Ok(match kind {
            "receipt" | "receipts" => Some(Point::Receipt(name.to_owned())),
            "position" => {
                let position = name.parse().map_err(|_| {
                    let detail = format!("`{name}` is not a position of the log");
                    Failure::usage(detail, "every receipt and every event has its `position`")
                })?;
                Some(Point::Position(position))
            }
            _ => None,
        })
    }

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
