//! `helix secrets`: what programs must know and nobody else.
//!
//! Values come from standard input, a file or a terminal that does not show them;
//! from arguments only when that was asked for. They go to the server and never
//! come back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use helix_client::{Client, ClientError};
use helix_model::api::{
    CreateRequest, SecretText, SecretsRequest, SecretsRollbackRequest, SecretsStepRequest,
};
use helix_model::secret_file::{self, Key, Secrets, Value};
use helix_model::{Code, Kind, Problem, Receipt};
use serde_json::json;

use super::deploy::WaitFlags;
use crate::failure::{Failure, Result};
use crate::secrets::{Input, read_file};
use crate::session::Session;
use crate::settings::Target;
use crate::{render, rollout};

/// The word for standard input where a file is named.
const STANDARD_INPUT: &str = "-";

/// Secrets of an env: set, unset, import, list, render, status, rollback, apply, discard, confirm
///
/// A change makes a new version and replaces the env's instances one after
/// another; with --stage it waits for the next deploy. Programs find the values in
/// the file that HELIX_SECRETS_FILE names. docs/secrets.md has all of it.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix secrets set DATABASE_URL            asks for the value\n  pass show db | helix secrets set DATABASE_URL\n  helix secrets import --from prod.secrets\n  helix secrets list\n  helix secrets rollback"
)]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Set(SetArgs),
    Unset(UnsetArgs),
    Import(ImportArgs),
    List(ListArgs),
    Render(RenderArgs),
    Status(StatusArgs),
    Rollback(RollbackArgs),
    Apply(ApplyArgs),
    Discard(DiscardArgs),
    Confirm(ConfirmArgs),
}

/// What must not have changed.
#[derive(Clone, Copy, Debug, Args)]
struct Precondition {
    /// Refuse if the secrets are no longer this version (`helix describe bundle/secrets` shows it)
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    expected_version: Option<u64>,
}

/// How a change takes effect.
#[derive(Debug, Args)]
struct ChangeFlags {
    /// Let it wait for the next deploy, or for `helix secrets apply`
    #[arg(long)]
    stage: bool,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    precondition: Precondition,
}

/// Set secrets
///
/// The value of one key is all of standard input, less one line break at its end;
/// with several keys each is a line. At a terminal each is asked for and not
/// shown.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix secrets set DATABASE_URL\n  pass show db | helix secrets set DATABASE_URL\n  helix secrets set TLS_KEY --file key.pem\n  helix secrets set LOG_SALT --stage"
)]
struct SetArgs {
    /// Names, of A-Z, 0-9 and _
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
    /// Take the value from a file, byte by byte
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Take KEY=VALUE from the arguments, which every user of this machine can see
    #[arg(long, conflicts_with = "file")]
    from_arguments: bool,
    #[command(flatten)]
    change: ChangeFlags,
}

/// Take secrets out
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix secrets unset OLD_TOKEN\n  helix secrets unset A B --stage"
)]
struct UnsetArgs {
    /// Names of what is to go
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
    #[command(flatten)]
    change: ChangeFlags,
}

/// Set all that a file has
///
/// The file begins with the line `# HELIX_SECRETS_V1`; every other is KEY=VALUE,
/// KEY=base64:… or a comment. What it does not name stays, unless --replace is
/// given.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix secrets import --from prod.secrets\n  sops -d prod.enc | helix secrets import\n  helix secrets import --from prod.secrets --replace --stage"
)]
struct ImportArgs {
    /// The file; standard input when it is `-`
    #[arg(long, value_name = "PATH", default_value = STANDARD_INPUT)]
    from: PathBuf,
    /// Take out what the file does not name
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    change: ChangeFlags,
}

/// Show which secrets there are, and how long each is
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix secrets list\n  helix secrets list --of 3 --json")]
struct ListArgs {
    /// Of this version instead of the desired one
    #[arg(long, value_name = "VERSION")]
    of: Option<u64>,
}

/// Show the file programs will find, each value masked
///
/// With --from it checks a file that is here and shows its canonical form; then,
/// and only then, --reveal shows the values, too.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix secrets render\n  helix secrets render --from prod.secrets\n  helix secrets render --from prod.secrets --reveal > canonical.secrets"
)]
struct RenderArgs {
    /// A file that is here; standard input when it is `-`
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    /// Show the values of that file
    #[arg(long, requires = "from")]
    reveal: bool,
    /// Of this version instead of the desired one
    #[arg(long, value_name = "VERSION", conflicts_with = "from")]
    of: Option<u64>,
}

/// Show which version is desired, which one instances have, and what is staged
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix secrets status\n  helix secrets status --json")]
struct StatusArgs {}

/// Go back to the values of an older version
///
/// They become a new version. Without --to it is the last one with other values.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix secrets rollback\n  helix secrets rollback --to 3")]
struct RollbackArgs {
    /// The version whose values to take
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    precondition: Precondition,
}

/// Let what is staged take effect now
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix secrets apply")]
struct ApplyArgs {
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    precondition: Precondition,
}

/// Give up what is staged
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix secrets discard")]
struct DiscardArgs {
    #[command(flatten)]
    precondition: Precondition,
}

/// Say that the env needs no secrets
///
/// A release whose manifest has `[secrets] required = true` is deployed only to an
/// env that has some, or of which this was said.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix secrets confirm --none")]
struct ConfirmArgs {
    /// None are needed
    #[arg(long, required = true)]
    none: bool,
    #[command(flatten)]
    precondition: Precondition,
}

pub(crate) async fn run(session: &mut Session<'_>, args: SecretsArgs) -> Result<u8> {
    match args.verb {
        Verb::Set(args) => set(session, args).await,
        Verb::Unset(UnsetArgs { keys, change }) => {
            let unset = keys.iter().map(|key| named(key)).collect::<Result<Vec<Key>>>()?;
            let unset = unset.iter().map(Key::to_string).collect();
            let request = SecretsRequest { unset, ..SecretsRequest::default() };
            send(session, request, change).await
        }
        Verb::Import(args) => import(session, args).await,
        Verb::List(args) => list(session, &args).await,
        Verb::Render(args) => show(session, args).await,
        Verb::Status(StatusArgs {}) => status(session).await,
        Verb::Rollback(RollbackArgs { to, wait, precondition }) => {
            let (client, target) = (session.client()?, session.settings.target()?);
            let expected_version = precondition.expected_version;
            let request = SecretsRollbackRequest { to, expected_version };
            let env = target.env.as_str();
            let receipt = client.rollback_secrets(env, &request, &target.scope()).await?;
            finish(session, &client, &target, receipt, wait.limit()).await
        }
        Verb::Apply(ApplyArgs { wait, precondition }) => {
            let (client, target) = (session.client()?, session.settings.target()?);
            let request = step(&precondition);
            let env = target.env.as_str();
            let receipt = client.apply_secrets(env, &request, &target.scope()).await?;
            finish(session, &client, &target, receipt, wait.limit()).await
        }
        Verb::Discard(DiscardArgs { precondition }) => {
            let (client, target) = (session.client()?, session.settings.target()?);
            let request = step(&precondition);
            let env = target.env.as_str();
            let receipt = client.discard_secrets(env, &request, &target.scope()).await?;
            finish(session, &client, &target, receipt, None).await
        }
        Verb::Confirm(ConfirmArgs { none: _, precondition }) => {
            let (client, target) = (session.client()?, session.settings.target()?);
            make_env(session, &client, &target).await?;
            let request = step(&precondition);
            let env = target.env.as_str();
            let receipt = client.confirm_no_secrets(env, &request, &target.scope()).await?;
            finish(session, &client, &target, receipt, None).await
        }
    }
}

fn step(precondition: &Precondition) -> SecretsStepRequest {
    SecretsStepRequest { expected_version: precondition.expected_version }
}

async fn set(session: &mut Session<'_>, args: SetArgs) -> Result<u8> {
    let mut secrets = Secrets::default();
    if args.from_arguments {
        for (number, word) in args.keys.iter().enumerate() {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                let detail = format!("argument {} has no `=`", number + 1);
                Failure::usage(detail, "write it as KEY=VALUE")
            })?;
            secrets.set(named(key)?, Value::new(value));
        }
        return send(session, request_of(&secrets)?, args.change).await;
    }
    let keys = args.keys.iter().map(|key| named(key)).collect::<Result<Vec<_>>>()?;
    if let Some(file) = &args.file {
        let [key] = keys.as_slice() else {
            let detail = "`--file` has the value of one key";
            return Err(Failure::usage(detail, "name one key"));
        };
        let path = session.settings.directory.join(file);
        let bytes = read_file(&path, secret_file::VALUE_BYTES_MAX)?;
        secrets.set(key.clone(), Value::new(bytes.as_slice()));
        return send(session, request_of(&secrets)?, args.change).await;
    }
    let mut input = Input::of(session);
    match keys.as_slice() {
        [key] if !input.is_terminal() => {
            let bytes = input.read_all(secret_file::VALUE_BYTES_MAX + "\r\n".len())?;
            let value = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let value = value.strip_suffix(b"\r").unwrap_or(value);
            secrets.set(key.clone(), Value::new(value));
        }
        keys => {
            for key in keys {
                let value = input.read(session, key.as_str())?;
                secrets.set(key.clone(), Value::new(value.as_str()));
            }
        }
    }
    send(session, request_of(&secrets)?, args.change).await
}

async fn import(session: &mut Session<'_>, args: ImportArgs) -> Result<u8> {
    let secrets = read_secrets(session, &args.from)?;
    let request = SecretsRequest { replace: args.replace, ..request_of(&secrets)? };
    send(session, request, args.change).await
}

fn read_secrets(session: &mut Session<'_>, from: &std::path::Path) -> Result<Secrets> {
    let bytes = if from.as_os_str() == STANDARD_INPUT {
        Input::of(session).read_all(secret_file::FILE_BYTES_MAX)?
    } else {
        let path = session.settings.directory.join(from);
        read_file(&path, secret_file::FILE_BYTES_MAX)?
    };
    Ok(secret_file::parse(&bytes).map_err(Problem::from)?)
}

/// A key, or a refusal that does not repeat what may be a value.
fn named(text: &str) -> Result<Key> {
    let key = text.parse::<Key>();
    key.map_err(|error| match text.contains('=') {
        true => Failure::usage(
            "a value was given as an argument, which every user of this machine can see",
            "pipe it in: `… | helix secrets set KEY`; or add `--from-arguments` if nobody else \
             is here",
        ),
        false => Failure::usage(error.to_string(), "for example `helix secrets set DATABASE_URL`"),
    })
}

fn request_of(secrets: &Secrets) -> Result<SecretsRequest> {
    let file = secrets.canonical().map_err(Problem::from)?;
    // What the canonical form is made of is text.
    let text = std::str::from_utf8(&file).unwrap_or_default().to_owned();
    Ok(SecretsRequest { file: Some(SecretText::from(text)), ..SecretsRequest::default() })
}

async fn send(
    session: &mut Session<'_>,
    request: SecretsRequest,
    change: ChangeFlags,
) -> Result<u8> {
    let (client, target) = (session.client()?, session.settings.target()?);
    if request.unset.is_empty() {
        make_env(session, &client, &target).await?;
    }
    let expected_version = change.precondition.expected_version;
    let request = SecretsRequest { stage: change.stage, expected_version, ..request };
    let receipt = client.set_secrets(target.env.as_str(), &request, &target.scope()).await?;
    finish(session, &client, &target, receipt, change.wait.limit()).await
}

/// Makes the env when it is not there, as a deploy would: what an app needs to
/// know comes before its first release.
async fn make_env(session: &mut Session<'_>, client: &Client, target: &Target) -> Result<()> {
    let scope = target.scope();
    match client.get(Kind::Env, target.env.as_str(), &scope).await {
        Err(ClientError::Problem(problem)) if problem.code == Code::NotFound => {}
        found => return Ok(found.map(drop)?),
    }
    let named = |name: &helix_model::Name| CreateRequest { name: name.clone(), parent: None };
    match client.create(Kind::App, &named(&target.app), &scope).await {
        Err(ClientError::Problem(problem)) if problem.code == Code::NameTaken => {}
        made => drop(made?),
    }
    client.create(Kind::Env, &named(&target.env), &scope).await?;
    session.ui.note(&format!("made the env {target}"));
    Ok(())
}

/// Follows the deploy that a change began, if it began one, and tells how things
/// stand.
async fn finish(
    session: &mut Session<'_>,
    client: &Client,
    target: &Target,
    receipt: Receipt,
    limit: Option<Duration>,
) -> Result<u8> {
    session.ui.warn(&receipt.warnings);
    let rolls = receipt.affected.iter().any(|affected| affected.kind == Kind::Deploy);
    if let Some(limit) = limit.filter(|_| rolls) {
        rollout::follow(session.ui, client, target, &receipt, limit).await?;
    }
    let report = client.secrets(target.env.as_str(), &target.scope()).await?;
    let document = json!({ "target": target.to_string(), "receipt": receipt, "secrets": report });
    session.ui.result(&document, |style| {
        let accepted = render::receipt::receipt(&receipt, &target.to_string(), style);
        format!("{}\n{accepted}", render::secrets::status(&report, style))
    })?;
    Ok(0)
}

async fn status(session: &mut Session<'_>) -> Result<u8> {
    let target = session.settings.target()?;
    let report = session.client()?.secrets(target.env.as_str(), &target.scope()).await?;
    session.ui.result(&report, |style| render::secrets::status(&report, style))?;
    Ok(0)
}

async fn list(session: &mut Session<'_>, args: &ListArgs) -> Result<u8> {
    let (number, keys) = keys_of(session, args.of).await?;
    let items: Vec<_> =
        keys.iter().map(|(key, bytes)| json!({ "key": key, "bytes": bytes })).collect();
    let document = json!({ "version": number, "items": items });
    session.ui.result(&document, |style| render::secrets::keys(&keys, style))?;
    Ok(0)
}

async fn show(session: &mut Session<'_>, args: RenderArgs) -> Result<u8> {
    let Some(from) = &args.from else {
        let (number, keys) = keys_of(session, args.of).await?;
        // Of a version that the server knows; its keys are keys.
        let sizes = keys.iter().filter_map(|(key, bytes)| Some((key.parse().ok()?, *bytes)));
        let file = secret_file::masked(&sizes.collect());
        let document = json!({ "version": number, "file": file });
        session.ui.result(&document, |_| file.clone())?;
        return Ok(0);
    };
    let secrets = read_secrets(session, from)?;
    let canonical = secrets.canonical().map_err(Problem::from)?;
    let file = match args.reveal {
        true => String::from_utf8_lossy(&canonical).into_owned(),
        false => secrets.masked(),
    };
    let document = json!({ "file": file, "keys": secrets.len(), "bytes": canonical.len() });
    session.ui.result(&document, |_| file.clone())?;
    Ok(0)
}

/// The keys of a version: the one asked for, else the desired one.
async fn keys_of(
    session: &mut Session<'_>,
    of: Option<u64>,
) -> Result<(Option<u64>, BTreeMap<String, u64>)> {
    let target = session.settings.target()?;
    let report = session.client()?.secrets(target.env.as_str(), &target.scope()).await?;
    let Some(number) = of.or(report.desired) else {
        return Ok((None, BTreeMap::new()));
    };
    let version = report.version_of(number).ok_or_else(|| {
        let detail = format!("there is no version {number} of the secrets of {target}");
        Failure::new(Code::NotFound, detail).hint("`helix secrets status` shows which are kept")
    })?;
    Ok((Some(number), version.keys.clone()))
}
