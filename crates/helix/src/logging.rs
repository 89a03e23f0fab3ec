//! Diagnostics of the process itself, on standard error.
//!
//! `HELIX_LOG` chooses what is shown (`debug`, `helix_node=trace`, …); without
//! it only warnings and errors are, so that they do not drown the command's own
//! output.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

const DEFAULT_FILTER: &str = "warn";

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Starts showing diagnostics. Called once.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("HELIX_LOG");
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !is_set("NO_COLOR"))
        .init();
}
