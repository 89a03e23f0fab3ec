//! `helix up`: the whole platform on this machine, and an app in it.
//!
//! How a platform is started is the binary's business ([`Up`]); what a person
//! sees of it, and how the app gets into it, is the same as for `deploy`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use clap::{Args, ValueEnum};
use helix_client::{Client, Seen};
use helix_model::api::WaitOutcome;
use helix_model::deploy::Phase;
use helix_model::{Code, Deploy, Env, Kind, Problem, Release};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::acme_options::{AcmeArgs, AcmeOptions};
use super::admin::Offline;
use super::deploy::{self, Precondition};
use super::disk::{DiskArgs, DiskLimits};
use super::domain_options::{DomainArgs, DomainOptions};
use super::front::{FrontArgs, FrontOptions};
use super::registry_options::{RegistryArgs, RegistryLoginArgs, RegistryOptions};
use crate::context::{self, Context};
use crate::failure::{Failure, Result};
use crate::output::pairs;
use crate::package::{self, Source, SourceArgs};
use crate::render;
use crate::render::landed::{self, Landed};
use crate::rollout;
use crate::session::Session;
use crate::settings::{self, MANIFEST_FILE, Origin, Setting, Settings, Target};

/// The env that `up` deploys to when nothing else was said; the only command
/// that has such a default, because it makes the installation.
const FIRST_ENV: &str = "production";

/// The first image may be large and the line slow; `deploy` waits as long.
const FIRST_DEPLOY_TIMEOUT: Duration = Duration::from_secs(600);

/// Starts a platform inside this process, and reaches one that is not running.
#[async_trait]
pub trait Up: Offline {
    /// Returns once the API answers and the node is connected.
    async fn start(&self, options: &UpOptions) -> Result<Box<dyn Platform>, Problem>;
}

/// A platform that runs inside this process.
#[async_trait]
pub trait Platform: Send {
    /// The API's base URL.
    fn url(&self) -> String;

    /// A token that may do everything.
    fn token(&self) -> String;

    /// Returns only when the platform ends by itself, which is a failure.
    async fn ended(&mut self) -> Problem;

    /// Drains and stops.
    async fn stop(self: Box<Self>) -> Result<(), Problem>;
}

/// How to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpOptions {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where user traffic comes in.
    pub front: FrontOptions,
    /// The isolation demanded; the strongest there is when `None`.
    pub isolation: Option<Isolation>,
    /// How much of the disk may be used.
    pub disk: DiskLimits,
    /// The thin pool of LVM that volumes are kept in; in files when `None`.
    pub volume_pool: Option<String>,
    /// How other people's registries are reached.
    pub registries: RegistryOptions,
    /// A Docker config whose logins every org may pull with.
    pub registry_logins: Option<PathBuf>,
    /// How long events stay in the database; for ever when `None`.
    pub keep_events: Option<Duration>,
    /// The same for the audit log.
    pub keep_audit: Option<Duration>,
    /// Where older history goes: a directory or `s3://BUCKET/PREFIX`; below the
    /// data directory when `None`.
    pub archive: Option<PathBuf>,
    /// Where backups of volumes go: a directory or `s3://BUCKET/PREFIX`.
    pub backups: Option<PathBuf>,
    /// How domains are looked up.
    pub domains: DomainOptions,
    /// Which authority issues certificates, if one does.
    pub acme: Option<AcmeOptions>,
}

/// What an instance may be demanded to run under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Namespaces, limits and an address of its own; needs root
    Container,
    /// Namespaces inside a user namespace
    ContainerRootless,
    /// A plain process: no isolation
    Process,
}

/// Start the platform on this machine, and run an app in it
///
/// Stays in the foreground; Ctrl-C drains and stops. Run again, it resumes what
/// was there. With neither PATH nor --image, the helix.toml in the current
/// folder is deployed if there is one; otherwise only the platform starts. The
/// env is `production` unless named. Should the app fail while nothing serves,
/// the platform stops again and the exit code says why.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix up examples/hello\n  helix up --image nginx:1.27 --port 80\n  helix up --data-dir ./data --http-port 80 --https-port 443"
)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Where to keep everything (HELIX_DATA_DIR)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7420")]
    listen: SocketAddr,
    #[command(flatten)]
    front: FrontArgs,
    /// Isolation to demand; the strongest there is when absent
    #[arg(long, value_name = "LEVEL", value_enum)]
    isolation: Option<Isolation>,
    #[command(flatten)]
    disk: DiskArgs,
    #[command(flatten)]
    registries: RegistryArgs,
    #[command(flatten)]
    logins: RegistryLoginArgs,
    /// Archive events older than this, such as 90d (HELIX_KEEP_EVENTS)
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    keep_events: Option<Duration>,
    /// Archive entries of the audit log older than this (HELIX_KEEP_AUDIT)
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    keep_audit: Option<Duration>,
    /// Where to archive: a directory or s3://BUCKET/PREFIX (HELIX_ARCHIVE)
    #[arg(long, value_name = "PLACE")]
    archive: Option<String>,
    /// Where backups of volumes go: a directory or s3://BUCKET/PREFIX (HELIX_BACKUPS)
    #[arg(long, value_name = "PLACE")]
    backups: Option<String>,
    #[command(flatten)]
    domains: DomainArgs,
    #[command(flatten)]
    acme: AcmeArgs,
}

pub(crate) async fn run(
    session: &mut Session<'_>,
    args: UpArgs,
    up: &dyn super::roles::Roles,
) -> Result<u8> {
    let mut stop = StopSignals::new()?;
    // What can be wrong with the app is found before anything is started.
    let source = source(&args.source, &session.settings)?;
    let options = UpOptions {
        data_dir: data_dir(&args, session)?,
        listen: args.listen,
        front: args.front.options(&session.environment)?,
        isolation: args.isolation,
        disk: args.disk.limits(&session.environment)?,
        volume_pool: args.disk.volume_pool(&session.environment)?,
        registries: args.registries.options(&session.environment),
        registry_logins: args.logins.file(&session.environment),
        keep_events: settings::keep(args.keep_events, "HELIX_KEEP_EVENTS", &session.environment)?,
        keep_audit: settings::keep(args.keep_audit, "HELIX_KEEP_AUDIT", &session.environment)?,
        archive: session.archive(args.archive.as_deref()),
        backups: session.backups(args.backups.as_deref()),
        domains: args.domains.options(&session.environment)?,
        acme: args.acme.options(&session.environment)?,
    };
    session.ui.step("starting the platform");
    let mut platform = tokio::select! {
        started = up.start(&options) => started?,
        () = stop.wait() => return Ok(0),
    };
    adopt(session, platform.as_ref(), &options)?;
    let part = session.readiness.part();
    let ran = tokio::select! {
        ran = serve(session, source, &options) => ran,
        problem = platform.ended() => Err(problem.into()),
        () = stop.wait() => return finish(session, platform, stop, Ok(0)).await,
    };
    if ran.is_err() {
        return finish(session, platform, stop, ran).await;
    }
    part.set(true);
    session.ui.note("Ctrl-C drains and stops");
    let outcome = tokio::select! {
        problem = platform.ended() => Err(problem.into()),
        () = stop.wait() => Ok(0),
    };
    part.set(false);
    finish(session, platform, stop, outcome).await
}

fn data_dir(args: &UpArgs, session: &Session<'_>) -> Result<PathBuf> {
    let chosen = settings::data_dir(args.data_dir.as_deref(), &session.environment)?;
    Ok(session.settings.directory.join(chosen))
}

/// What to deploy, if anything.
fn source(args: &SourceArgs, settings: &Settings) -> Result<Option<Source>> {
    let named = args.path.is_some() || args.image.is_some() || args.manifest.is_some();
    if named || settings.directory.join(MANIFEST_FILE).exists() {
        return Source::find(args, &settings.directory).map(Some);
    }
    Ok(None)
}

/// Makes this platform the one that commands here lead to.
fn adopt(session: &mut Session<'_>, platform: &dyn Platform, options: &UpOptions) -> Result<()> {
    let settings = &mut session.settings;
    settings.url = platform.url();
    settings.token = Some(platform.token());
    let named_env = settings.env.take().filter(|env| env.origin != Origin::Context);
    let env = match named_env {
        Some(env) => env,
        None => Setting {
            name: FIRST_ENV.parse().map_err(|error: helix_model::name::NameError| {
                Failure::usage(error.to_string(), "")
            })?,
            origin: Origin::Context,
        },
    };
    let context = Context {
        url: settings.url.clone(),
        token: settings.token.clone(),
        org: Some(settings.org.clone()),
        project: Some(settings.project.clone()),
        env: Some(env.name.clone()),
        data_dir: Some(options.data_dir.clone()),
        logins: settings.context.take().map(|before| before.logins).unwrap_or_default(),
    };
    settings.env = Some(env);
    context::save(&session.environment, &context)?;
    settings.context = Some(context);
    Ok(())
}

/// Deploys what was asked for and says what runs. A deploy that fails beside a
/// release that serves is reported, and the platform stays for that release.
async fn serve(
    session: &mut Session<'_>,
    source: Option<Source>,
    options: &UpOptions,
) -> Result<u8> {
    let client = session.client()?;
    let Some(source) = source else {
        return bare(session, &client, options);
    };
    let target = deploy::target(session, &source)?;
    match deliver(session, &client, &source, &target).await {
        Ok(landed) => {
            session.ui.result(&landed, |style| landed::up(&landed, style))?;
            Ok(0)
        }
        Err(failure) if deploy::serving(&client, &target).await.is_some() => {
            session.ui.failure(&failure, false);
            Ok(0)
        }
        Err(failure) => Err(failure),
    }
}

async fn deliver(
    session: &mut Session<'_>,
    client: &Client,
    source: &Source,
    target: &Target,
) -> Result<Landed> {
    let image = package::publish(session, client, source, target).await?;
    if let Some(deploy) = unchanged(client, source, target, &image).await {
        return resume(session, client, target, deploy).await;
    }
    let receipt =
        deploy::send(session, client, source, target, image, Precondition::default()).await?;
    let deploy =
        rollout::follow(session.ui, client, target, &receipt, FIRST_DEPLOY_TIMEOUT).await?;
    deploy::land(client, target, Some(receipt), deploy).await
}

/// The deploy that brought what serves, when that is exactly this source. An
/// image named by tag never counts: what the tag means may have changed.
async fn unchanged(
    client: &Client,
    source: &Source,
    target: &Target,
    image: &str,
) -> Option<Seen<Deploy>> {
    let scope = target.scope();
    let env: Seen<Env> = client.one(target.env.as_str(), &scope).await.ok()?;
    let serving = env.current.release?;
    let settled = env.desired.release == Some(serving) && env.desired.rolling.is_none();
    let release: Seen<Release> = client.one(&serving.to_string(), &scope).await.ok()?;
    let manifest = source.manifest();
    let same = release.desired.image.pinned() == image && release.desired.manifest == manifest;
    if !settled || !same {
        return None;
    }
    let deploys: Vec<Seen<Deploy>> = client.all(&scope).await.ok()?;
    let brought = |deploy: &Seen<Deploy>| {
        deploy.desired.release == serving && deploy.current.phase == Phase::Succeeded
    };
    deploys.into_iter().rev().find(brought)
}

/// Waits for what was there to serve again.
async fn resume(
    session: &mut Session<'_>,
    client: &Client,
    target: &Target,
    deploy: Seen<Deploy>,
) -> Result<Landed> {
    session.ui.step(&format!("{target} is as it was; waiting for its instances"));
    let scope = target.scope();
    let env = target.env.as_str();
    let waited = client.wait(Kind::Env, env, FIRST_DEPLOY_TIMEOUT, &scope).await?;
    if waited.outcome != WaitOutcome::Satisfied {
        let message = waited.resource.difference.unwrap_or_default();
        let detail = format!("{target} does not serve again yet: {message}");
        return Err(Failure::new(Code::TimedOut, detail));
    }
    deploy::land(client, target, None, deploy).await
}

/// The platform alone.
fn bare(session: &mut Session<'_>, client: &Client, options: &UpOptions) -> Result<u8> {
    let document = json!({ "url": client.url(), "data_dir": options.data_dir, "http_port": options.front.http_port, "https_port": options.front.https_port });
    session.ui.result(&document, |style| {
        let rows =
            [("api", client.url().to_owned()), ("data", options.data_dir.display().to_string())];
        let next = ["helix deploy", "helix apps list", "helix doctor"].map(str::to_owned);
        format!(
            "{} {}\n{}{}",
            style.tick(),
            style.bold("the platform is up"),
            pairs(&rows, 2, style),
            render::next(&next, style)
        )
    })?;
    Ok(0)
}

/// Stops the platform; a second signal does not wait for it.
async fn finish(
    session: &mut Session<'_>,
    platform: Box<dyn Platform>,
    mut stop: StopSignals,
    outcome: Result<u8>,
) -> Result<u8> {
    session.ui.step("draining and stopping");
    tokio::select! {
        stopped = platform.stop() => {
            if let Err(problem) = stopped {
                return outcome.and(Err(problem.into()));
            }
        }
        () = stop.wait() => session.ui.note("stopped at once; instances may still be ending"),
    }
    outcome
}

/// Ctrl-C, and how service managers say the same.
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    pub(super) fn new() -> Result<StopSignals> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                let detail = format!("cannot listen for signals: {error}");
                Failure::new(Code::Internal, detail)
            })
        };
        Ok(StopSignals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
