//! `helix doctor`: one check after the other, and what to do about each.

mod tunnels;

use std::path::Path;
use std::time::Duration;

use clap::Args;
use helix_client::{Client, ClientError, Seen};
use helix_model::reference::Scope;
use helix_model::{Code, Kind, Node, version};
use serde::Serialize;
use serde_json::json;

use crate::context;
use crate::failure::{Failure, Result};
use crate::output::Style;
use crate::package;
use crate::session::Session;

/// What does not answer by then does not work.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Check this machine, the API and the manifest
///
/// Exit code 1 when something is broken.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix doctor\n  helix doctor --tunnels\n  helix doctor --json"
)]
pub(crate) struct DoctorArgs {
    /// Measure the ways to the edges that take agents, by a tunnel that is made for that and deleted
    #[arg(long)]
    tunnels: bool,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// What was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<tunnels::Way>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    Broken,
    /// Neither: optional, or not to be told from here.
    Open,
}

pub(crate) async fn run(session: &mut Session<'_>, args: DoctorArgs) -> Result<u8> {
    session.ui.step("looking around");
    let mut checks = vec![program(), saved_context(session)];
    checks.extend(api(session).await);
    checks.push(builders(session.environment.get("PATH").unwrap_or_default()).await);
    checks.push(manifest(&session.settings.directory));
    if args.tunnels {
        session.ui.step("measuring the ways to edges");
        checks.extend(tunnels::checks(session).await);
    }
    let broken = checks.iter().filter(|check| check.verdict == Verdict::Broken).count();
    let document = json!({ "ok": broken == 0, "checks": checks });
    session
        .ui
        .result(&document, |style| checks.iter().map(|check| line(check, style)).collect())?;
    Ok(u8::from(broken > 0))
}

fn line(check: &Check, style: &Style) -> String {
    let sign = match check.verdict {
        Verdict::Good => style.tick(),
        Verdict::Broken => style.cross(),
        Verdict::Open => style.dash(),
    };
    let hint = check.hint.as_ref().map(|hint| format!("\n   {} {hint}", style.cyan("hint:")));
    format!("{sign} {}: {}{}\n", style.bold(check.name), check.detail, hint.unwrap_or_default())
}

fn good(name: &'static str, detail: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Good, detail: detail.into(), hint: None, way: None }
}

fn open(name: &'static str, detail: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Open, detail: detail.into(), hint: None, way: None }
}

fn broken(name: &'static str, failure: &Failure) -> Check {
    Check {
        name,
        verdict: Verdict::Broken,
        detail: failure.problem.detail.clone(),
        hint: Some(failure.problem.hint.clone()),
        way: None,
    }
}

fn program() -> Check {
    good("program", format!("helix {}", env!("CARGO_PKG_VERSION")))
}

fn saved_context(session: &Session<'_>) -> Check {
    let name = "context";
    match context::load(&session.environment) {
        Ok(Some(saved)) => good(name, format!("leads to {}", saved.url)),
        Ok(None) => Check {
            hint: Some("`helix up` writes one; HELIX_URL and HELIX_TOKEN do as well".to_owned()),
            ..open(name, "none is saved")
        },
        Err(problem) => broken(name, &problem.into()),
    }
}

/// The API, the token and the node; each needs the one before.
async fn api(session: &Session<'_>) -> Vec<Check> {
    let client = match session.client() {
        Ok(client) => client,
        Err(failure) => return vec![broken("api", &failure)],
    };
    let mut checks = Vec::new();
    match within(client.version()).await {
        Ok(server) => checks.push(compatible(&client, &server)),
        Err(failure) => {
            checks.push(broken("api", &failure));
            checks.push(open("auth", "cannot be told without the API"));
            checks.push(open("node", "cannot be told without the API"));
            return checks;
        }
    }
    match within(client.list(Kind::Org, &helix_client::ListQuery::default(), &Scope::default()))
        .await
    {
        Ok(_) => checks.push(good("auth", "the token is accepted")),
        Err(failure) => checks.push(broken("auth", &failure)),
    }
    match within(client.all::<Node>(&Scope::default())).await {
        Ok(nodes) => checks.extend(node_checks(&nodes)),
        Err(failure) if failure.problem.code == Code::Forbidden => {
            checks.push(open("node", "the token may not see nodes"));
        }
        Err(failure) => checks.push(broken("node", &failure)),
    }
    checks
}

async fn within<T>(call: impl Future<Output = Result<T, ClientError>>) -> Result<T> {
    match tokio::time::timeout(CHECK_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_) => {
            let seconds = CHECK_TIMEOUT.as_secs();
            Err(Failure::new(Code::Unavailable, format!("no answer within {seconds} s"))
                .hint("check the machine that runs `helix up`"))
        }
    }
}

fn compatible(client: &Client, server: &helix_model::api::Version) -> Check {
    let detail =
        format!("{} answers, version {} (API {})", client.url(), server.version, server.api);
    if version::are_compatible(env!("CARGO_PKG_VERSION"), &server.version) {
        return good("api", detail);
    }
    let failure = Failure::new(Code::PreconditionFailed, detail)
        .hint(format!("use a `helix` of version {}", server.version));
    broken("api", &failure)
}

fn node_checks(nodes: &[Seen<Node>]) -> Vec<Check> {
    if nodes.is_empty() {
        let failure = Failure::new(Code::Unavailable, "no node has ever connected")
            .hint("start one with `helix up`");
        return vec![broken("node", &failure)];
    }
    nodes.iter().map(node_check).collect()
}

fn node_check(node: &Seen<Node>) -> Check {
    let name = &node.view.name;
    let Some(facts) = node.current.facts.as_ref().filter(|_| node.current.connected) else {
        let failure = Failure::new(Code::Unavailable, format!("{name} is not connected"))
            .hint("start it again with `helix up`");
        return broken("node", &failure);
    };
    Check {
        hint: facts.isolation_advice.clone(),
        ..good(
            "node",
            format!("{name} isolates as {}: {}", facts.isolation, facts.isolation_reason),
        )
    }
}

/// Needed for Dockerfiles only, so their absence breaks nothing.
async fn builders(path: &str) -> Check {
    match helix_image::pack::builder(path.as_ref()).await {
        Ok(builder) => good("builders", format!("{builder} builds Dockerfiles")),
        Err(found) => Check {
            hint: Some(
                "to build Dockerfiles install `buildah` or `podman`, or start docker".into(),
            ),
            ..open("builders", format!("{found}; folders of files and executables work without"))
        },
    }
}

fn manifest(folder: &Path) -> Check {
    match package::find_manifest(folder) {
        Ok(Some(_)) => good("manifest", "helix.toml here is valid"),
        Ok(None) => open("manifest", "there is no helix.toml here"),
        Err(failure) => broken("manifest", &failure),
    }
}
