//! `helix status`: one env on one screen.

use clap::Args;
use helix_client::{Client, ClientError, Seen};
use helix_model::{Code, Deploy, Env, Id, Instance, Kind, Release, diff};

use crate::duration::now;
use crate::failure::Result;
use crate::render::Names;
use crate::render::status::{self, Releases, Secrets, Status};
use crate::session::Session;
use crate::settings::Target;

/// Deploys on the screen: enough to see the last success and what came after.
const DEPLOYS_SHOWN: usize = 5;

/// Show what runs, what should, and why they differ
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix status\n  helix status --app hello --env staging\n  helix status --json"
)]
pub(crate) struct StatusArgs {}

pub(crate) async fn run(session: &mut Session<'_>, _args: StatusArgs) -> Result<u8> {
    let target = session.settings.target()?;
    let client = session.client()?;
    let found = match client.one::<Env>(target.env.as_str(), &target.scope()).await {
        Ok(env) => collect(&client, &target, env).await?,
        Err(ClientError::Problem(problem)) if problem.code == Code::NotFound => nothing(&target),
        Err(error) => return Err(error.into()),
    };
    session.ui.result(&found, |style| status::status(&found, now(), style))?;
    Ok(0)
}

fn nothing(target: &Target) -> Status {
    Status {
        target: target.to_string(),
        env: None,
        releases: Releases::default(),
        secrets: None,
        set_apart: Vec::new(),
        processes: Vec::new(),
        instances: Vec::new(),
        endpoints: Vec::new(),
        deploys: Vec::new(),
        names: Names::default(),
    }
}

async fn collect(client: &Client, target: &Target, env: Seen<Env>) -> Result<Status> {
    let scope = target.scope();
    let instances: Vec<Seen<Instance>> = client.all(&scope).await?;
    let mut deploys: Vec<Seen<Deploy>> = client.all(&scope).await?;
    // Ids grow with time, and lists come in their order.
    deploys.reverse();
    deploys.truncate(DEPLOYS_SHOWN);
    let names = names(client, target, &env, &instances, &deploys).await?;
    let serving: Option<Seen<Release>> = match env.current.release {
        Some(release) => Some(client.one(&release.to_string(), &scope).await?),
        None => None,
    };
    let processes = serving
        .as_ref()
        .map(|serving| status::processes(&env, serving, &instances))
        .unwrap_or_default();
    let serving = serving.as_ref().map(|serving| &serving.desired);
    let set_apart = serving.map(|it| diff::manifests(Some(it.written()), &it.manifest));
    let name = |release: Option<Id<Release>>| release.map(|release| names.of(release.any()));
    // Of an env that has none, and for who may not see them, there is no line.
    let report = client.secrets(target.env.as_str(), &scope).await.ok();
    let report = report.filter(|report| !report.versions.is_empty());
    let secrets = report.map(|report| Secrets {
        desired: report.desired,
        applied: report.applied,
        staged: report.staged,
    });
    Ok(Status {
        target: target.to_string(),
        set_apart: set_apart.unwrap_or_default(),
        secrets,
        releases: Releases {
            desired: name(env.desired.release),
            current: name(env.current.release),
        },
        env: Some(env.view),
        processes,
        instances: instances.into_iter().map(|instance| instance.view).collect(),
        endpoints: client.list_all(Kind::Endpoint, &scope).await?,
        deploys: deploys.into_iter().map(|deploy| deploy.view).collect(),
        names,
    })
}

/// The names of the releases and nodes on the screen. Each release is asked for
/// by itself: an app may have had thousands, a screen shows a handful.
async fn names(
    client: &Client,
    target: &Target,
    env: &Seen<Env>,
    instances: &[Seen<Instance>],
    deploys: &[Seen<Deploy>],
) -> Result<Names> {
    let releases = instances.iter().map(|instance| instance.desired.release);
    let releases = releases.chain(deploys.iter().map(|deploy| deploy.desired.release));
    let mut ids: Vec<_> = releases
        .chain(env.desired.release)
        .chain(env.current.release)
        .map(Id::any)
        .chain(instances.iter().map(|instance| instance.desired.node.any()))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let mut names = Names::default();
    for id in ids {
        // Nodes are the operator's; without their names their ids are shown.
        if let Ok(view) = client.get(id.kind(), &id.to_string(), &target.scope()).await {
            names.learn(id, &view.name);
        }
    }
    Ok(names)
}
