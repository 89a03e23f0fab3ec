//! `helix logs`: what the programs say.

use clap::Args;
use helix_client::LogQuery;
use helix_model::LogStream;

use crate::duration::{now, since};
use crate::failure::{Failure, Result};
use crate::output;
use crate::session::Session;

/// Show what the instances write
///
/// Standard output and standard error of every instance, merged in time. With
/// --json one line per log line.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix logs\n  helix logs -f --process web\n  helix logs --instance web-2 --tail 20\n  helix logs --since 1h --until 50m --grep 'status=5..' --stream stderr\n  helix logs --deploy d7\n  helix logs --since 10m --json"
)]
pub(crate) struct LogsArgs {
    /// Go on with what is written
    #[arg(short, long)]
    follow: bool,
    /// The last so many lines
    #[arg(
        short = 'n',
        long,
        visible_alias = "lines",
        value_name = "LINES",
        default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(0..=10_000)
    )]
    tail: u32,
    /// Only since a time, such as 10m ago or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before a time, written like --since
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    until: Option<String>,
    /// Only lines in which this regular expression is found
    #[arg(short, long, value_name = "PATTERN")]
    grep: Option<String>,
    /// Only standard output or only standard error
    #[arg(long, value_name = "STREAM", value_parser = stream)]
    stream: Option<LogStream>,
    /// Only this process
    #[arg(long, value_name = "NAME")]
    process: Option<String>,
    /// Only this instance
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Only instances of this release
    #[arg(long, value_name = "NAME")]
    release: Option<String>,
    /// Only instances that this deploy called for
    #[arg(long, value_name = "NAME")]
    deploy: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
}

fn stream(text: &str) -> std::result::Result<LogStream, String> {
    match text {
        "stdout" => Ok(LogStream::Stdout),
        "stderr" => Ok(LogStream::Stderr),
        _ => Err("use stdout or stderr".to_owned()),
    }
}

fn moment(flag: &str, text: Option<&str>) -> Result<Option<i64>> {
    let moment = text.map(|text| since(text, now())).transpose();
    let moment = moment.map_err(|error| Failure::usage(format!("{flag} is not a time"), error))?;
    Ok(moment.map(|moment| moment.0))
}

pub(crate) async fn run(session: &mut Session<'_>, args: LogsArgs) -> Result<u8> {
    let target = session.settings.target()?;
    let since_ms = moment("--since", args.since.as_deref())?;
    let until_ms = moment("--until", args.until.as_deref())?;
    let query = LogQuery {
        process: args.process,
        instance: args.instance,
        release: args.release,
        deploy: args.deploy,
        tail_lines: Some(args.tail),
        since_ms,
        until_ms,
        grep: args.grep,
        stream: args.stream,
        follow: args.follow,
    };
    let mut stream = session.client()?.logs(&query, &target.scope()).await?;
    while let Some(line) = stream.next().await? {
        session.ui.item(&line, |style| {
            let text = output::log_line(&line, style);
            if args.timestamps {
                format!("{} {text}", style.dim(&line.ts.to_string()))
            } else {
                text
            }
        })?;
    }
    Ok(0)
}
