//! `helix builds`: what builds on this machine said and how they ended.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::builds::{self, Build, Builds};
use crate::context;
use crate::duration::{age, now};
use crate::failure::{Failure, Result};
use crate::output::{Emphasis, Table, plain};
use crate::session::Session;

/// Builds of this machine: list, logs
///
/// `helix deploy` and `helix up` build folders where they run, and that is where the last
/// 50 builds are kept with what they said, those that failed too.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  helix builds list\n  helix builds logs b7"
)]
pub(crate) struct BuildsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List builds, the newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  helix builds list\n  helix builds list --json"
    )]
    List,
    /// Show what a build said
    #[command(after_help = "Examples:\n  helix builds logs b7\n  helix builds logs b7 --json")]
    Logs {
        /// The build's name, such as b7
        #[arg(value_name = "BUILD")]
        name: String,
    },
}

pub(crate) fn run(session: &mut Session<'_>, args: &BuildsArgs) -> Result<u8> {
    let builds = context::builds(&session.environment).map(Builds::at).ok_or_else(|| {
        Failure::usage("there is no place where builds are kept", "set HOME or XDG_STATE_HOME")
    })?;
    match &args.verb {
        Verb::List => list(session, &builds),
        Verb::Logs { name } => logs(session, &builds, name),
    }
}

fn list(session: &mut Session<'_>, builds: &Builds) -> Result<u8> {
    let list = builds.list().map_err(unreadable)?;
    let items: Vec<_> = list.iter().map(document).collect();
    session.ui.result(&json!({ "items": items }), |style| {
        if list.is_empty() {
            return "nothing was built on this machine; `helix deploy PATH` builds\n".to_owned();
        }
        let mut table = Table::new(["BUILD", "FOR", "FOLDER", "PACK", "ENDED", "AGE"]);
        for build in &list {
            let (emphasis, ended) = match &build.end {
                None => (Emphasis::Notable, "no end: it goes on, or was killed".to_owned()),
                Some(end) => match &end.failure {
                    None => (Emphasis::Normal, "well".to_owned()),
                    Some(failure) => (Emphasis::Bad, plain(failure)),
                },
            };
            let folder = plain(&build.folder.display().to_string());
            let age = age(build.began_at, now());
            let cells =
                [build.name(), build.target.clone(), folder, build.pack.clone(), ended, age];
            table.row(emphasis, cells);
        }
        table.render(style)
    })?;
    Ok(0)
}

fn logs(session: &mut Session<'_>, builds: &Builds, name: &str) -> Result<u8> {
    let found = builds::number(name).and_then(|number| builds.get(number));
    let build = found.ok_or_else(|| {
        let detail = format!("there is no build `{name}` on this machine");
        Failure::new(helix_model::Code::NotFound, detail).hint("`helix builds list` has them")
    })?;
    let log = builds.log(build.number).map_err(unreadable)?;
    let mut shown = document(&build);
    shown["log"] = json!(log);
    session.ui.result(&shown, |_| {
        let lines: Vec<_> = log.lines().map(plain).collect();
        match (&build.end, lines.is_empty()) {
            (Some(end), _) if end.failure.is_some() => {
                let failure = plain(end.failure.as_deref().unwrap_or_default());
                format!("{}\n{failure}\n", lines.join("\n"))
            }
            (_, true) => format!("{} said nothing\n", build.name()),
            (_, false) => lines.join("\n"),
        }
    })?;
    Ok(0)
}

fn document(build: &Build) -> serde_json::Value {
    let mut document = json!(build);
    document["name"] = json!(build.name());
    document
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::usage(
        format!("what was kept of builds cannot be read: {error}"),
        "look at the folder helix/builds in ~/.local/state",
    )
}
