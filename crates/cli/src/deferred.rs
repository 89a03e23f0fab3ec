//! What does not exist yet, and what to do instead. One table.
//!
//! A word of the plan that is not built answers with `not_supported_yet` and
//! exit code 2; only words that mean nothing are unknown.

use clap::{Arg, ArgAction, ArgMatches, Command};
use helix_model::{Code, Problem};

use crate::failure::Failure;

/// Commands that will come, and the way that works today.
const DEFERRED: &[(&[&str], &str)] = &[
    (
        &["volumes", "attach"],
        "mount it in helix.toml (`[[processes.NAME.mounts]]`) and run `helix deploy`",
    ),
    (
        &["volumes", "detach"],
        "take its mount out of helix.toml and run `helix deploy`, or destroy the env",
    ),
    (
        &["backups"],
        "`helix snapshots create VOLUME --backup` keeps a volume; `helix admin export` the rest",
    ),
    (&["login"], "use `helix auth login`"),
    (&["machines"], "start `helix up` on the machine itself"),
    (&["devices"], "use the addresses that `helix endpoints list` shows"),
    (&["gateways"], "the edge runs inside `helix up`"),
    (&["plugins"], "nothing can be plugged in yet"),
    (&["policies"], "the limits in helix.toml apply per process"),
    (&["launch"], "write a helix.toml (see `helix deploy --help`), then `helix deploy`"),
    (&["dev"], "run `helix deploy` after a change; only changed layers are sent"),
    (&["ssh"], "use `helix exec -- sh`"),
    (&["join"], "start `helix up` there as an installation of its own"),
    (&["plan"], "`helix deploy --plan` shows what a deploy would change, `helix apply` does it"),
    (&["use"], "set HELIX_APP and HELIX_ENV, or add `--app` and `--env`"),
    (&["fmt"], "`helix validate` checks the file; its layout is up to you"),
    (&["destroy"], "`helix apps destroy NAME` destroys an app, `helix envs destroy NAME` an env"),
    (&["nodes", "create"], "start `helix node --server URL` on that machine"),
    (&["edges", "create"], "start `helix edge --server URL` on that machine"),
    (
        &["endpoints", "create"],
        "`helix endpoints expose`, or an `[[endpoints]]` section in helix.toml",
    ),
    (
        &["endpoints", "destroy"],
        "`helix endpoints unexpose NAME`, or remove its section from helix.toml",
    ),
    (&["instances", "restart"], "`helix deploy` again replaces every instance, one after another"),
    (&["instances", "destroy"], "`helix scale` to fewer instances"),
    (&["releases", "create"], "`helix deploy` makes the release and deploys it"),
    (&["releases", "rollback"], "use `helix rollback --to RELEASE`"),
];

/// Adds a hidden command for each entry, so that it parses like any other.
pub(crate) fn declare(mut command: Command) -> Command {
    for (words, _) in DEFERRED {
        command = match words {
            [word] => command.subcommand(hidden(word)),
            [parent, word] => {
                command.mut_subcommand(parent, |parent| parent.subcommand(hidden(word)))
            }
            _ => command,
        };
    }
    command
}

fn hidden(word: &'static str) -> Command {
    let rest = Arg::new("rest")
        .action(ArgAction::Append)
        .num_args(0..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true);
    // `helix volumes --help` must say that there are none yet, too.
    Command::new(word).hide(true).disable_help_flag(true).arg(rest)
}

/// The answer, when what was typed is in the table.
pub(crate) fn answer(matches: &ArgMatches) -> Option<Failure> {
    let (first, below) = matches.subcommand()?;
    let second = below.subcommand_name();
    let (words, instead) = DEFERRED.iter().find(|(words, _)| match words {
        [word] => *word == first,
        [parent, word] => *parent == first && Some(*word) == second,
        _ => false,
    })?;
    let typed = words.join(" ");
    let problem =
        Problem::new(Code::NotSupportedYet, format!("`helix {typed}` does not exist yet"));
    Some(Failure::from(problem.hint(*instead)))
}
