//! `helix completion`: completion scripts for shells.

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use crate::failure::Result;
use crate::session::Session;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix completion bash > /etc/bash_completion.d/helix\n  helix completion zsh > ~/.zfunc/_helix\n  helix completion fish > ~/.config/fish/completions/helix.fish"
)]
pub(crate) struct CompletionArgs {
    /// Shell to complete in
    shell: Shell,
}

pub(crate) fn run(session: &mut Session<'_>, args: &CompletionArgs) -> Result<u8> {
    use clap::CommandFactory;

    let mut script = Vec::new();
    // Without the hidden words: completion should not lead to what is missing.
    clap_complete::generate(args.shell, &mut crate::args::Cli::command(), "helix", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let document = json!({ "shell": args.shell.to_string(), "script": script });
    session.ui.result(&document, |_| script.clone())?;
    Ok(0)
}
