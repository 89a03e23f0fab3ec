//! What a deploy would change, before it does: `helix deploy --plan`, `helix diff` and
//! `helix apply`.
//!
//! A plan is a release that is there and not deployed, and the version of the env it was
//! compared with. Both are in its name, so there is nothing to keep and nothing to forget.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use helix_client::{Client, Seen};
use helix_model::api::{PromoteRequest, ReleaseRequest};
use helix_model::config::Config;
use helix_model::reference::Scope;
use helix_model::{Code, Env, Kind, Manifest, Name, Receipt, Release, diff};
use serde_json::json;

use super::deploy::{self, WaitFlags};
use crate::failure::{Failure, Result};
use crate::package::{Source, SourceArgs};
use crate::render;
use crate::render::diff::{changes, planned};
use crate::session::Session;
use crate::settings::Target;

/// What names a plan: `ORG/PROJECT/APP@ENV:RELEASE:VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlanName {
    target: Target,
    release: Name,
    /// Of the env; 0 when there is none yet.
    version: u64,
}

impl fmt::Display for PlanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.target, self.release, self.version)
    }
}

impl FromStr for PlanName {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<PlanName, String> {
        let read = || {
            let (rest, version) = text.rsplit_once(':')?;
            let (path, release) = rest.rsplit_once(':')?;
            let (app, env) = path.split_once('@')?;
            let mut names = app.split('/').map(|name| name.parse::<Name>().ok());
            let (org, project, app) = (names.next()??, names.next()??, names.next()??);
            let target = Target { org, project, app, env: env.parse().ok()? };
            let (release, version) = (release.parse().ok()?, version.parse().ok()?);
            names.next().is_none().then_some(PlanName { target, release, version })
        };
        read().ok_or_else(|| {
            "not a plan; `helix deploy --plan` names one, such as acme/main/web@production:v7:12"
                .to_owned()
        })
    }
}

/// Do what a plan says
///
/// The plan is one that `helix deploy --plan` made. It is refused if the env has changed
/// since: then what it says would not be what happens.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix deploy --plan\n  helix apply acme/main/web@production:v7:12"
)]
pub(crate) struct ApplyArgs {
    /// The plan's name
    #[arg(value_name = "PLAN")]
    plan: PlanName,
    #[command(flatten)]
    wait: WaitFlags,
}

/// Show what a deploy from here would change
///
/// Compares the manifest of a folder with what the env should be running, or with
/// `--release` two releases. Nothing is built and nothing is changed; `helix deploy
/// --plan` also builds.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix diff\n  helix diff --release v3\n  helix diff --env staging --json"
)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Compare this release instead of the folder
    #[arg(long, value_name = "RELEASE", conflicts_with_all = ["path", "image", "port", "manifest"])]
    release: Option<String>,
}

/// An env as it is before a deploy.
pub(super) struct Before {
    /// 0 when there is none yet.
    pub version: u64,
    pub env: Option<Seen<Env>>,
    /// What it should be running.
    pub release: Option<Seen<Release>>,
}

impl Before {
    pub(super) async fn of(client: &Client, target: &Target) -> Result<Before> {
        let scope = target.scope();
        let env = match client.one::<Env>(target.env.as_str(), &scope).await {
            Ok(env) => env,
            Err(error) => {
                let failure = Failure::from(error);
                // Nothing of it is there; who may not see it would not get this far.
                let is_new = failure.code() == Code::NotFound.as_str();
                let before = Before { version: 0, env: None, release: None };
                return if is_new { Ok(before) } else { Err(failure) };
            }
        };
        let release = match env.desired.release {
            Some(release) => Some(client.one::<Release>(&release.to_string(), &scope).await?),
            None => None,
        };
        Ok(Before { version: env.view.version, env: Some(env), release })
    }

    fn manifest(&self) -> Option<&Manifest> {
        self.release.as_ref().map(|release| &release.desired.manifest)
    }

    /// What is set of the env, which a release for it will have.
    fn config(&self) -> Config {
        let env = self.env.as_ref().and_then(|env| env.view.id.typed());
        let release = self.release.as_ref().map(|release| &release.desired);
        release
            .zip(env)
            .and_then(|(release, env)| release.config_of(env))
            .cloned()
            .unwrap_or_default()
    }

    fn effects(&self, after: &Manifest) -> Vec<String> {
        let scale = self.env.as_ref().map(|env| env.desired.scale.clone()).unwrap_or_default();
        diff::effects(self.manifest(), after, &scale)
    }
}

/// Makes the release of a published image, and shows what deploying it would change.
pub(crate) async fn make(
    session: &mut Session<'_>,
    client: &Client,
    source: &Source,
    target: Target,
    image: String,
) -> Result<u8> {
    let request = ReleaseRequest {
        org: target.org.clone(),
        project: target.project.clone(),
        app: target.app.clone(),
        env: Some(target.env.clone()),
        manifest: source.manifest.as_ref().map(|written| written.text.clone()),
        port: source.port,
        image: Some(image),
        source: Some(source.what.label()),
    };
    let before = Before::of(client, &target).await?;
    let receipt = client.release(&request).await?;
    present(session, client, target, before, receipt).await
}

/// Shows what going to a release that was made for it would change of an env.
pub(super) async fn present(
    session: &mut Session<'_>,
    client: &Client,
    target: Target,
    before: Before,
    receipt: Receipt,
) -> Result<u8> {
    let release = made(&receipt)?;
    let release: Seen<Release> = client.one(&release, &target.scope()).await?;
    let was = before.release.as_ref().map(|release| &release.desired);
    let differences = diff::releases(was, &release.desired);
    let effects = before.effects(&release.desired.manifest);
    let name = release.view.name.clone();
    let plan = PlanName { target, release: name, version: before.version };
    let document = json!({
        "plan": plan.to_string(),
        "target": plan.target.to_string(),
        "release": release.view,
        "env_version": before.version,
        "changes": differences,
        "effects": effects,
        "receipt": receipt,
    });
    session
        .ui
        .result(&document, |style| planned(&plan.to_string(), &differences, &effects, style))?;
    Ok(0)
}

fn made(receipt: &Receipt) -> Result<String> {
    let subject = receipt.subject.as_ref().filter(|subject| subject.kind == Kind::Release);
    let missing = || Failure::new(Code::Internal, "the receipt names no release");
    subject.map(|subject| subject.id.to_string()).ok_or_else(missing)
}

pub(crate) async fn apply(session: &mut Session<'_>, args: ApplyArgs) -> Result<u8> {
    let ApplyArgs { plan, wait } = args;
    let expected = Some(plan.version);
    promote(session, plan.target, plan.release.to_string(), expected, &wait).await
}

/// Deploys a release that is there, and sees it through.
pub(crate) async fn promote(
    session: &mut Session<'_>,
    target: Target,
    release: String,
    expected_version: Option<u64>,
    wait: &WaitFlags,
) -> Result<u8> {
    let client = session.client()?;
    session.ui.step(&format!("deploying {release} to {target}"));
    let scope = Scope {
        org: Some(target.org.to_string()),
        project: Some(target.project.to_string()),
        ..Scope::default()
    };
    let (app, env) = (target.app.to_string(), target.env.clone());
    let request = PromoteRequest { app, env, release, expected_version };
    let receipt = client.promote(&request, &scope).await?;
    deploy::finish(session, &client, &target, receipt, wait.limit()).await
}

pub(crate) async fn diff(session: &mut Session<'_>, args: DiffArgs) -> Result<u8> {
    let client = session.client()?;
    let (target, after) = match args.release {
        Some(release) => {
            let target = session.settings.target()?;
            let release: Seen<Release> = client.one(&release, &target.scope()).await?;
            (target, After::Release(Box::new(release.desired)))
        }
        None => {
            let source = Source::find(&args.source, &session.settings.directory)?;
            let target = deploy::target(session, &source)?;
            (target, After::Manifest(Box::new(source.manifest())))
        }
    };
    let before = Before::of(&client, &target).await?;
    let (after, apart) = match after {
        After::Manifest(written) => {
            let manifest = before.config().within(&written).apply(&written);
            let apart = diff::manifests(Some(&written), &manifest);
            (After::Manifest(Box::new(manifest)), apart)
        }
        After::Release(release) => (After::Release(release), Vec::new()),
    };
    let was = before.release.as_ref().map(|release| &release.desired);
    let (differences, manifest) = match &after {
        After::Release(release) => (diff::releases(was, release), &release.manifest),
        After::Manifest(manifest) => (diff::manifests(before.manifest(), manifest), &**manifest),
    };
    let effects = before.effects(manifest);
    let document = json!({
        "target": target.to_string(),
        "env_version": before.version,
        "changes": differences,
        "effects": effects,
        "set_apart": apart,
    });
    let from = before.release.as_ref().map(|release| release.view.name.to_string());
    session.ui.result(&document, |style| {
        let changes = changes(&target.to_string(), from, &differences, style);
        changes + &render::diff::apart(&apart, style)
    })?;
    Ok(0)
}

/// What is compared with the env.
enum After {
    Release(Box<Release>),
    Manifest(Box<Manifest>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        let text = "acme/main/web@production:v7:12";
        let plan: PlanName = text.parse().unwrap();
        assert_eq!(plan.to_string(), text);
        assert_eq!((plan.release.as_str(), plan.version), ("v7", 12));
        for wrong in
            ["", "v7", "web@production:v7:12", "a/b/c@d:v7:x", "a/b/c/d@e:v7:1", "a/b/c@:v:1"]
        {
            assert!(wrong.parse::<PlanName>().is_err(), "{wrong}");
        }
    }
}
