//! `helix env` and `helix resize`: what is set of an env apart from its manifest.
//!
//! Each change is a release with its own deploy. It is shown before it is made, and made
//! of the very env that was looked at.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use helix_client::Client;
use helix_model::api::{ConfigRequest, ProcessConfigRequest};
use helix_model::config::{Changes, ProcessChanges};
use helix_model::{Kind, Name, diff, manifest};
use serde_json::json;

use super::deploy::{self, Precondition, WaitFlags};
use super::ipv4;
use super::plan::{self, Before};
use crate::failure::{Failure, Result};
use crate::render;
use crate::session::Session;
use crate::settings::Target;

/// What takes back what was set.
const AS_WRITTEN: &str = "manifest";

/// Variables of an env and its IPv4 address: set, unset, list, ipv4
///
/// They win over those of helix.toml, stay through deploys, and go to all processes
/// unless one is named. Each change is a release of its own: `helix rollback` undoes it.
/// What nobody else may read belongs into `helix secrets`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix env set LOG_LEVEL=debug\n  helix env set WORKERS=4 --process worker --plan\n  helix env unset LOG_LEVEL\n  helix env list\n  helix env ipv4 enable"
)]
pub(crate) struct EnvArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Set(SetArgs),
    Unset(UnsetArgs),
    List(ListArgs),
    Ipv4(ipv4::Ipv4Args),
}

/// Set variables
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix env set LOG_LEVEL=debug\n  helix env set A=1 B='two words' --no-wait\n  helix env set WORKERS=4 --process worker --plan"
)]
struct SetArgs {
    /// Names (A-Z, 0-9, _) and values
    #[arg(value_name = "NAME=VALUE", required = true, value_parser = variable)]
    vars: Vec<(String, String)>,
    #[command(flatten)]
    how: How,
}

/// Take back what was set, so that what helix.toml says holds
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix env unset LOG_LEVEL\n  helix env unset WORKERS --process worker"
)]
struct UnsetArgs {
    /// Their names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    how: How,
}

/// Show the variables of each process and where they are from
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix env list\n  helix env list --env staging --json")]
struct ListArgs {}

#[derive(Debug, Args)]
struct How {
    /// Only of this process
    #[arg(long, value_name = "PROCESS")]
    process: Option<Name>,
    #[command(flatten)]
    change: ChangeFlags,
}

/// How a change is made.
#[derive(Debug, Args)]
struct ChangeFlags {
    /// Show what would change; `helix apply` then does it
    #[arg(long, conflicts_with_all = ["wait", "no_wait"])]
    plan: bool,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    precondition: Precondition,
}

/// Set what each instance of a process may use
///
/// It wins over `resources` of helix.toml and stays through deploys; `manifest` takes it
/// back. The instances are replaced one after another, as by a deploy.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix resize web --memory 512Mi\n  helix resize worker --cpu 2 --plan\n  helix resize web --memory manifest --cpu manifest"
)]
pub(crate) struct ResizeArgs {
    /// The process
    #[arg(value_name = "PROCESS")]
    process: Name,
    /// Memory, such as 512Mi or 2Gi; hard limit
    #[arg(long, value_name = "SIZE", required_unless_present = "cpu")]
    memory: Option<String>,
    /// Share of processors; 1 is the weight of one core
    #[arg(long, value_name = "CORES")]
    cpu: Option<String>,
    #[command(flatten)]
    change: ChangeFlags,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as `NAME=VALUE`")?;
    if manifest::is_variable_name(name) {
        return Ok((name.to_owned(), value.to_owned()));
    }
    Err(format!("`{name}`: variable names use A-Z, 0-9 and _"))
}

pub(crate) async fn run(session: &mut Session<'_>, args: EnvArgs) -> Result<u8> {
    match args.verb {
        Verb::Set(args) => {
            let vars = args.vars.into_iter().map(|(name, value)| (name, Some(value)));
            change(session, of_vars(vars.collect(), args.how.process), &args.how.change).await
        }
        Verb::Unset(args) => {
            let vars = args.names.into_iter().map(|name| (name, None)).collect();
            change(session, of_vars(vars, args.how.process), &args.how.change).await
        }
        Verb::List(ListArgs {}) => list(session).await,
        Verb::Ipv4(args) => ipv4::run(session, args).await,
    }
}

fn of_vars(vars: BTreeMap<String, Option<String>>, process: Option<Name>) -> ConfigRequest {
    let Some(process) = process else {
        return ConfigRequest { vars, ..ConfigRequest::default() };
    };
    let own = ProcessConfigRequest { vars, ..ProcessConfigRequest::default() };
    ConfigRequest { processes: [(process, own)].into(), ..ConfigRequest::default() }
}

pub(crate) async fn resize(session: &mut Session<'_>, args: ResizeArgs) -> Result<u8> {
    let set = |text: String| (text != AS_WRITTEN).then_some(text);
    let cores = |text: &String| -> Result<Option<f64>> {
        let Some(text) = set(text.clone()) else { return Ok(None) };
        let cores = text.parse().map_err(|_| {
            Failure::usage(format!("`{text}` is no number of cores"), "write it as 0.5 or 2")
        })?;
        Ok(Some(cores))
    };
    let own = ProcessConfigRequest {
        vars: BTreeMap::new(),
        memory: args.memory.map(set),
        cpu: args.cpu.as_ref().map(cores).transpose()?,
    };
    let request =
        ConfigRequest { processes: [(args.process, own)].into(), ..ConfigRequest::default() };
    change(session, request, &args.change).await
}

/// Shows what a change would change, and makes it.
async fn change(
    session: &mut Session<'_>,
    mut request: ConfigRequest,
    flags: &ChangeFlags,
) -> Result<u8> {
    let target = session.settings.target()?;
    let client = session.client()?;
    let before = Before::of(&client, &target).await?;
    request.plan = flags.plan;
    let seen = (before.version > 0).then_some(before.version);
    request.expected_version = flags.precondition.expected_version.or(seen);
    if flags.plan {
        return planned(session, &client, target, before, &request).await;
    }
    if let Some(differences) = differences(&before, &request) {
        let shown = |style: &crate::output::Style| render::diff::lines(&differences, style);
        session.ui.preview(shown);
    }
    let receipt = client.configure(target.env.as_str(), &request, &target.scope()).await?;
    let rolls = receipt.affected.iter().any(|affected| affected.kind == Kind::Deploy);
    if !rolls {
        let document = json!({ "target": target.to_string(), "receipt": receipt });
        session.ui.result(&document, |_| format!("{target} has that already\n"))?;
        return Ok(0);
    }
    deploy::finish(session, &client, &target, receipt, flags.wait.limit()).await
}

/// What a change changes, if the env is one that the server will take it for.
fn differences(before: &Before, request: &ConfigRequest) -> Option<Vec<diff::Difference>> {
    let (env, release) = (before.env.as_ref()?, &before.release.as_ref()?.desired);
    let processes = request.processes.iter().map(|(name, own)| {
        let memory_bytes = match &own.memory {
            None => None,
            Some(None) => Some(None),
            Some(Some(text)) => Some(Some(manifest::parse_bytes(text)?)),
        };
        Some((name.clone(), ProcessChanges { vars: own.vars.clone(), memory_bytes, cpu: own.cpu }))
    });
    let processes = processes.collect::<Option<_>>()?;
    let changes = Changes { vars: request.vars.clone(), processes };
    let config = release.config_of(env.view.id.typed()?).cloned().unwrap_or_default();
    let after = changes.apply(&config).apply(release.written());
    Some(diff::manifests(Some(&release.manifest), &after))
}

async fn planned(
    session: &mut Session<'_>,
    client: &Client,
    target: Target,
    before: Before,
    request: &ConfigRequest,
) -> Result<u8> {
    let receipt = client.configure(target.env.as_str(), request, &target.scope()).await?;
    plan::present(session, client, target, before, receipt).await
}

async fn list(session: &mut Session<'_>) -> Result<u8> {
    let target = session.settings.target()?;
    let client = session.client()?;
    let before = Before::of(&client, &target).await?;
    let vars = before.release.as_ref().map(|release| render::vars::of(&release.desired));
    let vars = vars.unwrap_or_default();
    let document = json!({ "target": target.to_string(), "items": vars });
    session.ui.result(&document, |style| render::vars::table(&vars, style))?;
    Ok(0)
}
