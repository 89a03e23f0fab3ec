//! `helix users`: people, for who runs the installation.

use clap::{Args, Subcommand};
use helix_client::Client;
use helix_model::api::access::{CreateUserRequest, SetupReply, SetupRequest};
use helix_model::{Kind, Name};

use super::kinds;
use crate::failure::Result;
use crate::output::pairs;
use crate::render;
use crate::secrets::Input;
use crate::session::Session;

/// Users: list, describe, events, create, setup, operator, remove
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix users create alice\n  helix users list\n  helix users remove alice"
)]
pub(crate) struct UsersArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Any(kinds::Verb),
    Create(CreateArgs),
    Setup(SetupArgs),
    Operator(OperatorArgs),
    Remove(RemoveArgs),
}

/// Make a user
///
/// Prints a setup code with which they choose a password; it is shown once and
/// works for a day.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix users create alice\n  helix users create alice --email alice@example.com\n  helix users create ci-admin --operator --password-stdin < password"
)]
struct CreateArgs {
    name: Name,
    /// They run the installation: every org, every node
    #[arg(long)]
    operator: bool,
    /// Where to reach them; kept encrypted, apart from everything else
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Read their password from standard input instead of printing a code
    #[arg(long)]
    password_stdin: bool,
}

/// Print a new setup code, for who lost theirs or the password
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix users setup alice")]
struct SetupArgs {
    name: String,
}

/// Let a user run the installation, or no longer
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix users operator alice\n  helix users operator alice --no"
)]
struct OperatorArgs {
    name: String,
    /// No longer
    #[arg(long)]
    no: bool,
}

/// Remove a user with their memberships and tokens
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  helix users remove alice")]
struct RemoveArgs {
    name: String,
}

impl UsersArgs {
    /// Whether the result is a stream.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.verb, Verb::Any(verb) if verb.streams())
    }
}

pub(crate) async fn run(session: &mut Session<'_>, args: UsersArgs) -> Result<u8> {
    let client = session.client()?;
    let receipt = match args.verb {
        Verb::Any(verb) => return kinds::run_verb(session, Kind::User, verb).await,
        Verb::Create(args) => return create(session, &client, args).await,
        Verb::Setup(args) => {
            let made = client.new_setup_code(&args.name).await?;
            return show(session, &client, &args.name, &made);
        }
        Verb::Operator(args) => client.set_operator(&args.name, !args.no).await?,
        Verb::Remove(args) => client.remove_user(&args.name).await?,
    };
    session.ui.result(&receipt, |style| render::receipt::receipt(&receipt, client.url(), style))?;
    Ok(0)
}

async fn create(session: &mut Session<'_>, client: &Client, args: CreateArgs) -> Result<u8> {
    // Before anything is made: a password that cannot be read makes no user.
    let password = match args.password_stdin {
        true => Some(Input::of(session).read_new_password(session)?),
        false => None,
    };
    let CreateArgs { name, operator, email, .. } = args;
    let request = CreateUserRequest { name: name.clone(), operator, email };
    let made = client.create_user(&request).await?;
    let Some(password) = password else {
        return show(session, client, name.as_str(), &made);
    };
    let setup_code = made.setup_code;
    let receipt =
        client.choose_password(&SetupRequest { user: name, setup_code, password }).await?;
    session.ui.result(&receipt, |style| render::receipt::receipt(&receipt, client.url(), style))?;
    Ok(0)
}

fn show(session: &mut Session<'_>, client: &Client, name: &str, made: &SetupReply) -> Result<u8> {
    session.ui.result(made, |style| {
        let rows = [
            ("user", name.to_owned()),
            ("page", format!("{}{}", client.url(), made.setup_path)),
            ("setup code", made.setup_code.clone()),
            ("valid until", made.expires_at.to_string()),
        ];
        let next = [format!("helix members set {name} --role developer")];
        format!(
            "{} give this to {}; the code is shown this once\n{}{}",
            style.tick(),
            style.bold(name),
            pairs(&rows, 2, style),
            render::next(&next, style)
        )
    })?;
    Ok(0)
}
