//! The role inside `static` apps: `serve-files --root DIR`, on `$PORT`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use helix_files::Options;

/// What the `static` pack declares, for when nobody says otherwise.
const PORT_DEFAULT: u16 = 8080;

/// Threads that read files too large to be read at once.
const BLOCKING_THREADS_MAX: usize = 8;

/// Serves until told to stop.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    super::logging::start();
    let Some(root) = root(arguments) else {
        tracing::error!("usage: helix serve-files --root DIR");
        return ExitCode::from(2);
    };
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build();
    let served = runtime.map_err(text_of).and_then(|runtime| {
        runtime.block_on(async {
            let stop = helix_files::termination().map_err(text_of)?;
            let options = Options::new(root, port.unwrap_or(PORT_DEFAULT));
            helix_files::serve(options, stop).await.map_err(|error| super::node_link::chain(&error))
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the files cannot be served");
            ExitCode::FAILURE
        }
    }
}

fn root(mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let flag = arguments.next()?;
    (flag == "--root").then(|| arguments.next().map(PathBuf::from)).flatten()
}

fn text_of(error: std::io::Error) -> String {
    error.to_string()
}
