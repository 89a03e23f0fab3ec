//! `helix`: picks a role by its arguments and wires the rooms together.
//!
//! Two roles come before anything else, because they must run without threads
//! and with next to no memory: `shim` owns one instance, `serve-files` is the
//! server inside `static` apps. Everything else is the command line, to which
//! [`up::LocalPlatform`] lends a platform for `helix up`, and [`roles`] its parts.

mod access_log;
mod certificate_source;
mod limits;
mod logging;
mod node_link;
mod offline;
mod platform;
mod roles;
mod secret_source;
mod serve_files;
mod token_file;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;

use helix_cli::Io;

/// Exit code for what is broken on our side.
const INTERNAL: u8 = 7;

/// Threads for files and lookups beside the workers. The default of 512 would
/// let a burst cost more memory than the rest of the platform.
const BLOCKING_THREADS_MAX: usize = 32;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|role| role.to_str()) {
        Some("shim") => helix_runtime::shim_main(arguments.into_iter().skip(2)),
        Some("serve-files") => serve_files::run(arguments.into_iter().skip(2)),
        role => {
            let is_platform = matches!(role, Some("up" | "server" | "node" | "edge"));
            command_line(is_platform, arguments)
        }
    }
}

fn command_line(is_platform: bool, arguments: Vec<OsString>) -> ExitCode {
    logging::start();
    limits::keep_memory_private();
    // Fails only when there is one already, which does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if is_platform {
        limits::raise_open_files();
    } else {
        limits::keep_freed_memory();
    }
    let mut builder = if is_platform {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build();
    let (runtime, io) = match (runtime, Io::standard()) {
        (Ok(runtime), Ok(io)) => (runtime, io),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "this process cannot be set up");
            return ExitCode::from(INTERNAL);
        }
    };
    let code = runtime.block_on(helix_cli::run(arguments, io, &up::LocalPlatform));
    // A read of standard input may still be blocked in its thread; the process
    // does not wait for it.
    runtime.shutdown_background();
    ExitCode::from(code)
}
