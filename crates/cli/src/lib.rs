//! The command line: what a person types, and what comes back.
//!
//! Start at [`run`]: it parses the arguments, resolves the settings, runs one
//! command of `commands` and turns its outcome into output and an exit code.
//! Only `output` prints. [`Up`] and [`Roles`] are how `helix up`, `server`, `node`
//! and `edge` start something without this crate knowing of it.
//!
//! It knows the API through `helix-client` only: not how a server stores or
//! decides, and nothing of nodes or isolation.

mod args;
mod builds;
mod commands;
pub mod context;
mod deferred;
mod duration;
mod failure;
mod io;
mod output;
mod package;
mod ready;
mod render;
mod rollout;
mod secrets;
mod session;
mod settings;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};
use helix_model::{Code, Problem};

pub use commands::acme_options::AcmeOptions;
pub use commands::admin::{Installation, Offline};
pub use commands::disk::DiskLimits;
pub use commands::domain_options::DomainOptions;
pub use commands::front::{FrontOptions, QuicOption};
pub use commands::registry_options::RegistryOptions;
pub use commands::roles::{EdgeOptions, Happening, NodeOptions, Role, Roles, ServerOptions};
pub use commands::up::{Isolation, Platform, Up, UpOptions};
pub use context::Context;
pub use io::{Environment, Io, Terminals};
pub use ready::Part;

use args::{Cli, Command};
use failure::{Failure, Result};
use output::Ui;
use ready::Readiness;
use session::{Confirmation, Session};
use settings::Settings;

/// The whole command line with its hidden words, for parsing and completion.
pub(crate) fn grammar() -> clap::Command {
    deferred::declare(Cli::command())
}

/// Runs one command line, the program's name first, and returns the exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, io: Io, roles: &dyn Roles) -> u8 {
    let arguments = help_as_a_flag(arguments.into_iter().collect());
    let mut ui = Ui::new(io.stdout, io.stderr, io.terminals, &io.environment);
    // Known before parsing, because a line that does not parse is answered in
    // the form it asks for, too.
    ui.set_mode(asks_for_json(&arguments), false);
    let cli = match parse(&arguments, &mut ui) {
        Ok(Some(cli)) => cli,
        Ok(None) => return 0,
        Err(failure) => return finish(&mut ui, Err(failure), false, false),
    };
    ui.set_mode(cli.global.json, cli.global.verbose);
    let (streams, remote) = (cli.command.streams(), matches!(cli.command, Command::Exec(_)));
    let settings = match settings(&cli, &io.environment, &io.directory) {
        Ok(settings) => settings,
        Err(failure) => return finish(&mut ui, Err(failure), streams, remote),
    };
    let mut session = Session {
        ui: &mut ui,
        settings,
        environment: io.environment,
        terminals: io.terminals,
        executable: io.executable,
        confirmation: Confirmation { yes: cli.global.yes, no_input: cli.global.no_input },
        stdin: Some(io.stdin),
        readiness: Readiness::default(),
    };
    let outcome = commands::run(&mut session, cli.command, roles).await;
    finish(&mut ui, outcome, streams, remote)
}

fn settings(cli: &Cli, environment: &Environment, directory: &std::path::Path) -> Result<Settings> {
    let context = match context::load(environment) {
        // `up` writes a new one, and these need none.
        Err(_) if cli.command.works_without_context() => None,
        other => other?,
    };
    Settings::resolve(&cli.global, environment, directory, context)
}

/// Reports the outcome; the exit code. A remote program's own codes must not be
/// mistaken for ours, so what fails before one ran is 255, as with ssh.
fn finish(ui: &mut Ui, outcome: Result<u8>, streams: bool, remote: bool) -> u8 {
    match outcome {
        Ok(code) => {
            ui.quiet();
            code
        }
        Err(mut failure) => {
            if remote && !failure.silent {
                failure.exit_code = commands::exec::NEVER_STARTED;
            }
            ui.failure(&failure, streams);
            failure.exit_code
        }
    }
}

/// The parsed line; `None` when help or the version was asked for and shown.
/// `helix help deploy` is `helix deploy --help`: what fingers know, without a
/// command of its own in every list.
fn help_as_a_flag(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|word| word == "help") {
        arguments.remove(1);
        arguments.push("--help".into());
    }
    arguments
}

fn parse(arguments: &[OsString], ui: &mut Ui) -> Result<Option<Cli>> {
    let parsed = grammar().try_get_matches_from(arguments).and_then(|matches| {
        let answer = deferred::answer(&matches);
        match answer {
            Some(failure) => Ok(Err(failure)),
            None => Cli::from_arg_matches(&matches).map(Ok),
        }
    });
    match parsed {
        Ok(Ok(cli)) => Ok(Some(cli)),
        Ok(Err(failure)) => Err(failure),
        Err(error) if !error.use_stderr() => {
            ui.help(&error.render().to_string())?;
            Ok(None)
        }
        Err(error) => Err(usage(&error)),
    }
}

/// A line that does not parse, in our words: the parser's first sentence is the
/// error, the rest the hint.
fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let problem = Problem::new(Code::InvalidArgument, "a command is missing");
        return Failure::from(problem.hint(format!("choose one of these\n\n{text}")));
    }
    let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let first = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let hint = rest.replace("For more information, try '--help'.", "`--help` shows more");
    let hint = hint.trim();
    let hint = hint.strip_prefix("tip: ").unwrap_or(hint);
    Failure::from(Problem::new(Code::InvalidArgument, first).hint(hint))
}

/// Whether `--json` is among the arguments that are ours to read.
fn asks_for_json(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

#[cfg(test)]
mod tests;
