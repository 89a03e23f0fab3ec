//! `helix quotas`: how much an org may have, how much it has, and setting it.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use helix_model::api::QuotaRequest;
use helix_model::quota::Dimension;
use helix_model::reference::Scope;

use crate::failure::{Failure, Result};
use crate::render;
use crate::session::Session;

/// The word that takes a limit back.
const DEFAULT: &str = "default";

/// Show or set how much an org may have
///
/// Shows use and limit of the org that `--org` names. Limits are the
/// operator's to set.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix quotas\n  helix quotas --org acme --json\n  helix quotas set acme instances=20 memory=64Gi\n  helix quotas set --installation apps=50"
)]
pub(crate) struct QuotasArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The limits of orgs that have none of their own
    #[arg(long)]
    installation: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Set(SetArgs),
}

/// Set how much an org may have
///
/// Counts are whole numbers, memory is written 512Mi or 64Gi, cpu as a number
/// of CPUs; `default` takes a limit back. A limit below what is used takes
/// nothing away: it keeps more from coming.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix quotas set acme instances=20 memory=64Gi cpu=8\n  helix quotas set acme instances=default\n  helix quotas set --installation apps=50"
)]
struct SetArgs {
    /// Whose; the org that `--org` names when left out
    #[arg(value_name = "ORG | DIMENSION=LIMIT", required = true)]
    words: Vec<String>,
    /// The limits of orgs that have none of their own
    #[arg(long)]
    installation: bool,
}

pub(crate) async fn run(session: &mut Session<'_>, args: QuotasArgs) -> Result<u8> {
    match args.verb {
        None => show(session, args.installation).await,
        Some(Verb::Set(set)) => {
            let installation = args.installation || set.installation;
            run_set(session, installation, set.words).await
        }
    }
}

async fn show(session: &mut Session<'_>, installation: bool) -> Result<u8> {
    let org = (!installation).then(|| session.settings.org.to_string());
    let scope = Scope { org, ..Scope::default() };
    let report = session.client()?.quotas(&scope).await?;
    session.ui.result(&report, |style| render::quotas::quotas(&report, style))?;
    Ok(0)
}

async fn run_set(session: &mut Session<'_>, installation: bool, words: Vec<String>) -> Result<u8> {
    let mut words = words.into_iter().peekable();
    let named = words.next_if(|word| !word.contains('='));
    if installation && named.is_some() {
        let detail = "both an org and `--installation` were named";
        return Err(Failure::usage(detail, "leave one of them out"));
    }
    let mut limits = BTreeMap::new();
    for word in words {
        let (dimension, limit) = limit(&word).map_err(|why| {
            Failure::usage(format!("`{word}`: {why}"), "write it as `instances=20`")
        })?;
        if limits.insert(dimension, limit).is_some() {
            let detail = format!("{dimension} is set twice");
            return Err(Failure::usage(detail, "name each dimension once"));
        }
    }
    let org = named.or_else(|| (!installation).then(|| session.settings.org.to_string()));
    let target = org.clone().unwrap_or_else(|| "installation".to_owned());
    let request = QuotaRequest { org, limits };
    let receipt = session.client()?.set_quotas(&request).await?;
    let document = serde_json::json!({ "target": target, "receipt": receipt });
    session.ui.result(&document, |style| render::receipt::receipt(&receipt, &target, style))?;
    Ok(0)
}

fn limit(word: &str) -> Result<(Dimension, Option<u64>), String> {
    let (dimension, limit) = word.split_once('=').ok_or("there is no `=` in it")?;
    let dimension: Dimension = dimension.parse()?;
    let limit = (limit != DEFAULT).then(|| dimension.parse_value(limit)).transpose()?;
    Ok((dimension, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_as_they_are_typed() {
        assert_eq!(limit("instances=20"), Ok((Dimension::Instances, Some(20))));
        assert_eq!(limit("memory=64Gi"), Ok((Dimension::Memory, Some(64 << 30))));
        assert_eq!(limit("cpu=default"), Ok((Dimension::Cpu, None)));
        for wrong in ["instances", "instances=", "buckets=3", "memory=64", "=3"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
