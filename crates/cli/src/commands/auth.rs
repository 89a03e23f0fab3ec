//! `helix auth`: logging in, and who one is.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use helix_client::{Client, ClientError};
use helix_model::api::access::{DeviceStart, PasswordRequest, SetupRequest, TokenReply, WhoAmI};
use helix_model::reference::Scope;
use helix_model::{Code, Name};
use serde_json::json;

use super::tokens::TokensArgs;
use crate::context::{self, Context};
use crate::failure::{Failure, Result};
use crate::output::{Style, pairs};
use crate::render;
use crate::secrets::Input;
use crate::session::Session;

/// What a token is called on a machine that has no name.
const CLIENT_DEFAULT: &str = "login";

/// Log in, log out, see who you are
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix auth login --url https://helix.example.com\n  helix auth status\n  helix auth logout"
)]
pub(crate) struct AuthArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Login(LoginArgs),
    Status(StatusArgs),
    Logout(LogoutArgs),
    Password(PasswordArgs),
    Setup(SetupArgs),
    /// Tokens: the same as `helix tokens`
    Token(TokensArgs),
}

/// Log in here by approving it in a browser anywhere
///
/// Prints an address and a code; whoever opens the address, gives name and
/// password and approves the code is logged in here. The token is kept in the
/// saved context, for this address only.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix auth login\n  helix auth login --url https://helix.example.com\n  helix auth login --client build-box"
)]
struct LoginArgs {
    /// What to call this machine; the token is named after it
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
}

/// Show who the API takes you for, and what you may
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix auth status\n  helix auth status --json")]
struct StatusArgs {}

/// End the token that is kept here, and forget it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix auth logout")]
struct LogoutArgs {}

/// Change your password
///
/// Asked for at a terminal; otherwise two lines of standard input, the present
/// one and the new one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix auth password")]
struct PasswordArgs {}

/// Choose a password with the setup code you were given
///
/// Asked for at a terminal; otherwise two lines of standard input, the code and
/// the password.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix auth setup alice")]
struct SetupArgs {
    /// Your user name
    name: Name,
}

impl AuthArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, Verb::Token(tokens) if tokens.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: AuthArgs) -> Result<u8> {
    match args.verb {
        Verb::Login(args) => login(session, args).await,
        Verb::Status(StatusArgs {}) => status(session).await,
        Verb::Logout(LogoutArgs {}) => logout(session).await,
        Verb::Password(PasswordArgs {}) => password(session).await,
        Verb::Setup(args) => setup(session, args).await,
        Verb::Token(args) => super::tokens::run(session, args).await,
    }
}

async fn login(session: &mut Session<'_>, args: LoginArgs) -> Result<u8> {
    let client = Client::new(&session.settings.url, None)?;
    let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = args.client.or_else(host).unwrap_or_else(|| CLIENT_DEFAULT.to_owned());
    let started = client.begin_login(&name).await?;
    let page = format!("{}{}", client.url(), started.verification_path);
    session.ui.note(&format!("open {page}?code={}", started.user_code));
    session.ui.note(&format!("and approve the code {}", started.user_code));
    session.ui.step("waiting for the approval");
    let got = approved(&client, &started).await?;
    keep(session, client.url(), Some(&got.token))?;
    let who = Client::new(client.url(), Some(&got.token))?.whoami().await?;
    let document = json!({ "url": client.url(), "who": who, "expires_at": got.expires_at });
    session.ui.result(&document, |style| {
        let head = format!("{} logged in to {}\n", style.tick(), client.url());
        format!("{head}{}", described(&who, style))
    })?;
    Ok(0)
}

async fn approved(client: &Client, started: &DeviceStart) -> Result<TokenReply> {
    let deadline = Instant::now() + Duration::from_secs(started.expires_in_seconds);
    let mut pause = Duration::from_secs(started.poll_interval_seconds.max(1));
    loop {
        tokio::time::sleep(pause).await;
        match client.poll_login(&started.device_code).await {
            Ok(got) => return Ok(got),
            Err(ClientError::Problem(problem)) if problem.code == Code::AuthorizationPending => {}
            Err(ClientError::Problem(problem)) if problem.code == Code::SlowDown => {
                pause += Duration::from_secs(1);
            }
            Err(ClientError::Unreachable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= deadline {
            let detail = "nobody approved the login in time";
            return Err(Failure::new(Code::ExpiredToken, detail));
        }
    }
}

/// Keeps or forgets the token for an API. What else the context says stays; an
/// API that is the first becomes the one that commands lead to.
fn keep(session: &mut Session<'_>, url: &str, token: Option<&str>) -> Result<()> {
    let mut context = session.settings.context.take().unwrap_or_else(|| Context::of(url));
    let url = url.trim_end_matches('/').to_owned();
    match token {
        Some(token) => {
            // What was remembered of another installation is not there.
            if context.url.trim_end_matches('/') != url {
                let logins = std::mem::take(&mut context.logins);
                let own = context.token.take().map(|token| (context.url.clone(), token));
                context = Context { logins, ..Context::of(&url) };
                context.logins.extend(own);
            }
            context.logins.insert(url, token.to_owned());
        }
        None => {
            context.logins.remove(&url);
        }
    }
    context::save(&session.environment, &context)?;
    session.settings.context = Some(context);
    Ok(())
}

async fn status(session: &mut Session<'_>) -> Result<u8> {
    let client = session.client()?;
    let who = client.whoami().await?;
    let document = json!({ "url": client.url(), "who": who });
    session.ui.result(&document, |style| {
        format!("{}\n{}", style.bold(client.url()), described(&who, style))
    })?;
    Ok(0)
}

fn described(who: &WhoAmI, style: &Style) -> String {
    let scopes = |set: helix_model::Permissions| {
        if set == helix_model::Permissions::ALL {
            return "everything".to_owned();
        }
        set.iter().map(helix_model::Permission::as_str).collect::<Vec<_>>().join(" ")
    };
    let mut rows = vec![("as", who.actor.name().to_owned())];
    if let Some(token) = &who.token {
        rows.push(("token", token.clone()));
    }
    if let Some(expires_at) = who.expires_at {
        rows.push(("expires", expires_at.to_string()));
    }
    if !who.everywhere.is_empty() {
        rows.push(("everywhere", scopes(who.everywhere)));
    }
    let orgs = who.orgs.iter().map(|org| format!("{}: {}", org.org, scopes(org.scopes)));
    rows.extend(orgs.map(|org| ("org", org)));
    pairs(&rows, 2, style)
}

async fn logout(session: &mut Session<'_>) -> Result<u8> {
    let url = session.settings.url.trim_end_matches('/').to_owned();
    let context = session.settings.context.as_ref();
    let Some(kept) = context.and_then(|context| context.logins.get(&url).cloned()) else {
        let detail = format!("nobody is logged in to {url} here");
        return Err(Failure::new(Code::PreconditionFailed, detail)
            .hint("`helix auth status` shows whose token is used"));
    };
    let client = Client::new(&url, Some(&kept))?;
    match client.revoke_token("self", &Scope::default()).await {
        Ok(_) => {}
        // It is worth nothing already; what is left is to forget it.
        Err(ClientError::Problem(problem)) if problem.code == Code::Unauthorized => {}
        Err(error) => return Err(error.into()),
    }
    keep(session, &url, None)?;
    session.ui.result(&json!({ "url": url, "logged_out": true }), |style| {
        format!("{} logged out of {url}; the token is revoked", style.tick())
    })?;
    Ok(0)
}

async fn password(session: &mut Session<'_>) -> Result<u8> {
    let client = session.client()?;
    let mut secrets = Input::of(session);
    let current = secrets.read(session, "present password")?;
    let new = secrets.read_new_password(session)?;
    let receipt = client.change_password(&PasswordRequest { current, new }).await?;
    session.ui.result(&receipt, |style| render::receipt::receipt(&receipt, client.url(), style))?;
    Ok(0)
}

async fn setup(session: &mut Session<'_>, args: SetupArgs) -> Result<u8> {
    let client = Client::new(&session.settings.url, None)?;
    let mut secrets = Input::of(session);
    let setup_code = secrets.read(session, "setup code")?;
    let password = secrets.read_new_password(session)?;
    let request = SetupRequest { user: args.name, setup_code, password };
    let receipt = client.choose_password(&request).await?;
    session.ui.result(&receipt, |style| render::receipt::receipt(&receipt, client.url(), style))?;
    Ok(0)
}
