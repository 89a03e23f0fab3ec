//! `helix deploy`: validate, build, send, deploy, and see it through.

use std::time::Duration;

use clap::Args;
use helix_client::{Client, Seen};
use helix_model::api::DeployRequest;
use helix_model::{Deploy, Endpoint, Instance, Kind, Node, Receipt, Release};

use super::plan;
use crate::failure::{Failure, Result};
use crate::package::{self, Source, SourceArgs};
use crate::render::landed::{self, Isolation, Landed};
use crate::rollout;
use crate::session::Session;
use crate::settings::Target;

/// An edge takes a route up in milliseconds; after this long the result says
/// what is missing instead of waiting on.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(5);

/// Build and run a folder, or run an image
///
/// A folder with a helix.toml is built as it says. Without one it is served as
/// files (index.html), built from its Dockerfile, or run as the static
/// executable in it. The app is named after `--app`, `app.name` of the
/// manifest, the folder, or the last part of the image's repository. With
/// `--image`, a helix.toml in the current folder is used too.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix deploy\n  helix deploy examples/hello --env staging\n  helix deploy --image nginx:1.27 --app web --port 80\n  helix deploy --plan\n  helix deploy --no-wait --json"
)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Build, and show what would change; `helix apply` then does it
    #[arg(long, conflicts_with_all = ["wait", "no_wait", "expected_version"])]
    plan: bool,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    precondition: Precondition,
}

/// What must not have changed since the author of a change looked.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Precondition {
    /// Refuse if the env is no longer this version (`helix describe` shows it)
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) expected_version: Option<u64>,
}

/// How long to stay with a change.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitFlags {
    /// Wait until it has taken effect (the default)
    #[arg(long, conflicts_with = "no_wait")]
    wait: bool,
    /// Return as soon as it is accepted
    #[arg(long)]
    no_wait: bool,
    /// How long to wait, such as 90s or 5m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = crate::duration::parse)]
    wait_timeout: Duration,
}

impl WaitFlags {
    /// How long to wait, if at all.
    pub(crate) fn limit(&self) -> Option<Duration> {
        (self.wait || !self.no_wait).then_some(self.wait_timeout)
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: DeployArgs) -> Result<u8> {
    let source = Source::find(&args.source, &session.settings.directory)?;
    let target = target(session, &source)?;
    let client = session.client()?;
    let image = package::publish(session, &client, &source, &target).await?;
    if args.plan {
        return plan::make(session, &client, &source, target, image).await;
    }
    let receipt = send(session, &client, &source, &target, image, args.precondition).await?;
    finish(session, &client, &target, receipt, args.wait.limit()).await
}

/// Where a source goes: the app as told, else as the source is called.
pub(crate) fn target(session: &Session<'_>, source: &Source) -> Result<Target> {
    let told = session.settings.app_given.as_ref().map(|app| app.name.clone());
    let app = told.or_else(|| source.app.clone()).ok_or_else(|| {
        let label = source.what.label();
        Failure::usage(
            format!("no app name can be made from `{label}`"),
            "add `--app NAME`, or set `app.name` in helix.toml",
        )
    })?;
    session.settings.target_of(app)
}

/// Asks for the deploy of a published image.
pub(crate) async fn send(
    session: &mut Session<'_>,
    client: &Client,
    source: &Source,
    target: &Target,
    image: String,
    precondition: Precondition,
) -> Result<Receipt> {
    session.ui.step(&format!("deploying to {target}"));
    let request = DeployRequest {
        org: target.org.clone(),
        project: target.project.clone(),
        app: target.app.clone(),
        env: target.env.clone(),
        manifest: source.manifest.as_ref().map(|written| written.text.clone()),
        port: source.port,
        image: Some(image),
        source: Some(source.what.label()),
        expected_version: precondition.expected_version,
    };
    Ok(client.deploy(&request).await?)
}

/// Follows an accepted deploy or rollback as far as was asked, and reports.
pub(crate) async fn finish(
    session: &mut Session<'_>,
    client: &Client,
    target: &Target,
    receipt: Receipt,
    limit: Option<Duration>,
) -> Result<u8> {
    session.ui.warn(&receipt.warnings);
    let Some(limit) = limit else {
        return accepted(session, target, &receipt);
    };
    let deploy = rollout::follow(session.ui, client, target, &receipt, limit).await?;
    let landed = land(client, target, Some(receipt), deploy).await?;
    session.ui.result(&landed, |style| landed::deployed(&landed, style))?;
    Ok(0)
}

/// Reports a change that is not waited for.
pub(crate) fn accepted(
    session: &mut Session<'_>,
    target: &Target,
    receipt: &Receipt,
) -> Result<u8> {
    let document = serde_json::json!({ "target": target.to_string(), "receipt": receipt });
    session.ui.result(&document, |style| {
        crate::render::receipt::receipt(receipt, &target.to_string(), style)
    })?;
    Ok(0)
}

/// What a successful deploy came to. There is no receipt when nothing had to be
/// changed.
pub(crate) async fn land(
    client: &Client,
    target: &Target,
    receipt: Option<Receipt>,
    deploy: Seen<Deploy>,
) -> Result<Landed> {
    let scope = target.scope();
    let release = deploy.desired.release;
    let release = client.get(Kind::Release, &release.to_string(), &scope).await?;
    let endpoints = endpoints(client, target).await?;
    let limited = endpoints.iter().filter_map(|endpoint| {
        let problem = endpoint.current.seen.problem.as_ref()?;
        Some(format!("{}: {problem}", endpoint.view.name))
    });
    Ok(Landed {
        receipt,
        target: target.to_string(),
        app: target.app.to_string(),
        limited: limited.collect(),
        reachable: endpoints
            .iter()
            .flat_map(|endpoint| endpoint.current.seen.reachable.iter().cloned())
            .collect(),
        isolation: isolation(client, target, &deploy).await,
        release,
        deploy: deploy.view,
    })
}

/// The env's endpoints, once an edge has taken them up.
async fn endpoints(client: &Client, target: &Target) -> Result<Vec<Seen<Endpoint>>> {
    let scope = target.scope();
    let mut taken_up = Vec::new();
    for endpoint in client.all::<Endpoint>(&scope).await? {
        if endpoint.current.seen.reachable.is_empty() && endpoint.current.seen.problem.is_none() {
            let id = endpoint.view.id.to_string();
            let waited = client.wait(Kind::Endpoint, &id, ENDPOINT_TIMEOUT, &scope).await?;
            taken_up.push(Seen::new(waited.resource)?);
        } else {
            taken_up.push(endpoint);
        }
    }
    Ok(taken_up)
}

/// What the release's instances run under. Nodes are the operator's; whoever may
/// not see them learns the kind without the reasons.
async fn isolation(client: &Client, target: &Target, deploy: &Seen<Deploy>) -> Option<Isolation> {
    let scope = target.scope();
    let instances = client.all::<Instance>(&scope).await.ok()?;
    let instance = instances
        .into_iter()
        .filter(|instance| instance.desired.release == deploy.desired.release)
        .find(|instance| instance.current.observed.isolation.is_some())?;
    let kind = instance.current.observed.isolation?;
    let node = client.one::<Node>(&instance.desired.node.to_string(), &scope).await;
    let facts = node.ok().and_then(|node| node.current.facts);
    let facts = facts.filter(|facts| facts.isolation == kind);
    Some(Isolation {
        reason: facts.as_ref().map_or_else(String::new, |facts| facts.isolation_reason.clone()),
        advice: facts.and_then(|facts| facts.isolation_advice),
        kind,
    })
}

/// The name of what serves in an env, if anything does.
pub(crate) async fn serving(client: &Client, target: &Target) -> Option<String> {
    let scope = target.scope();
    let env = client.one::<helix_model::Env>(target.env.as_str(), &scope).await.ok()?;
    let release = env.current.release?.to_string();
    let release: Seen<Release> = client.one(&release, &scope).await.ok()?;
    Some(release.view.name.to_string())
}
