//! `helix registries`: where an org logs in to pull its images.

use clap::{Args, Subcommand};
use helix_image::Auth;
use helix_image::docker_config::DockerConfig;
use helix_model::api::RegistryRequest;
use helix_model::reference::Scope;
use helix_model::registry::PASSWORD_BYTES_MAX;

use crate::failure::{Failure, Result};
use crate::output::{Emphasis, Table};
use crate::render;
use crate::secrets::Input;
use crate::session::Session;

/// Log an org in at registries: list, add, remove
///
/// With a login an org releases and pulls images that not everybody may have.
/// Passwords are kept sealed and never shown again.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix registries list\n  helix registries add ghcr.io --username ann\n  helix registries remove ghcr.io"
)]
pub(crate) struct RegistriesArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List where the org logs in, without the passwords
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  helix registries list\n  helix registries list --org acme --json"
    )]
    List,
    Add(AddArgs),
    /// Remove a login with its password
    ///
    /// What runs goes on; what is pulled from now on is pulled as nobody.
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  helix registries remove ghcr.io\n  helix registries rm registry.internal:5000 --org acme"
    )]
    Remove {
        /// The registry
        #[arg(value_name = "HOST")]
        host: String,
    },
}

/// Log in at a registry with this from now on
///
/// In place of the login before, if there is one. The password is asked for at a
/// terminal and is standard input elsewhere. Whether it is right turns out at the
/// next release.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix registries add ghcr.io --username ann\n  pass show ghcr | helix registries add ghcr.io --username ann --password-stdin\n  helix registries add ghcr.io --docker-config ~/.docker/config.json"
)]
struct AddArgs {
    /// The registry, as references name it: ghcr.io, registry.internal:5000, docker.io
    #[arg(value_name = "HOST")]
    host: String,
    /// The user to log in as
    #[arg(long, required_unless_present = "docker_config")]
    username: Option<String>,
    /// Read the password from standard input also at a terminal
    #[arg(long)]
    password_stdin: bool,
    /// Take the login from what `docker login` keeps on this machine, helpers included
    #[arg(long, value_name = "FILE", conflicts_with_all = ["username", "password_stdin"])]
    docker_config: Option<std::path::PathBuf>,
}

pub(crate) async fn run(session: &mut Session<'_>, args: RegistriesArgs) -> Result<u8> {
    let scope = Scope { org: Some(session.settings.org.to_string()), ..Scope::default() };
    match args.verb {
        Verb::List => {
            let report = session.client()?.registries(&scope).await?;
            session.ui.result(&report, |style| {
                let mut table = Table::new(["REGISTRY", "USER"]);
                for login in &report.items {
                    let row = [login.host.clone(), login.username.clone()];
                    table.row(Emphasis::Normal, row);
                }
                table.render(style)
            })?;
            Ok(0)
        }
        Verb::Add(args) => add(session, &scope, args).await,
        Verb::Remove { host } => {
            let receipt = session.client()?.remove_registry(&host, &scope).await?;
            done(session, &host, &receipt)
        }
    }
}

async fn add(session: &mut Session<'_>, scope: &Scope, args: AddArgs) -> Result<u8> {
    let (username, password) = match (&args.docker_config, args.username) {
        (Some(path), _) => from_docker(path, &args.host).await?,
        (None, Some(username)) => (username, password(session, args.password_stdin)?),
        (None, None) => return Err(Failure::usage("no user is named", "add `--username USER`")),
    };
    let request = RegistryRequest { host: args.host, username, password };
    let receipt = session.client()?.set_registry(&request, scope).await?;
    done(session, &request.host, &receipt)
}

fn password(session: &mut Session<'_>, from_stdin: bool) -> Result<String> {
    let mut input = Input::of(session);
    if input.is_terminal() && !from_stdin {
        return input.read(session, "password");
    }
    let bytes = input.read_all(PASSWORD_BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Failure::usage("the password is not text", "registries take passwords of UTF-8 only")
    })?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Failure::usage("no password was given", "write it to standard input"));
    }
    Ok(text.to_owned())
}

async fn from_docker(path: &std::path::Path, host: &str) -> Result<(String, String)> {
    let unusable = |error: helix_image::docker_config::DockerConfigError| {
        Failure::usage(error.to_string(), "name the file that `docker login` wrote, or a user")
    };
    let config = DockerConfig::load(path).map_err(unusable)?;
    match config.login(host).await.map_err(unusable)? {
        Some(Auth::Basic { user, password }) => Ok((user, password)),
        _ => Err(Failure::usage(
            format!("{} has no login for {host}", path.display()),
            format!("log in first: `docker login {host}`"),
        )),
    }
}

fn done(session: &mut Session<'_>, host: &str, receipt: &helix_model::Receipt) -> Result<u8> {
    let document = serde_json::json!({ "registry": host, "receipt": receipt });
    session.ui.result(&document, |style| render::receipt::receipt(receipt, host, style))?;
    Ok(0)
}
