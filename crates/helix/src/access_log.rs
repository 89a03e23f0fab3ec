//! The edge's access log, for whichever role runs the edge.

use std::io;
use std::path::Path;
use std::sync::Arc;

use helix_cli::FrontOptions;
use helix_edge::{AccessLogConfig, Clients, Edge, LogTarget};
use tokio::signal::unix::{SignalKind, signal};

/// What was asked for.
pub(crate) fn config(front: &FrontOptions) -> Option<AccessLogConfig> {
    let to = match front.access_log.as_deref()? {
        dash if dash == Path::new("-") => LogTarget::Stdout,
        file => LogTarget::File(file.to_owned()),
    };
    let clients = if front.access_log_addresses { Clients::Whole } else { Clients::Masked };
    Some(AccessLogConfig { to, clients })
}

/// Has the file opened anew at SIGHUP, as programs that rotate logs expect. Only with a
/// file: otherwise a terminal that closes ends the program, as ever.
pub(crate) fn reopen_at_hangup(front: &FrontOptions, edge: &Arc<Edge>) -> io::Result<()> {
    let log = config(front);
    if !matches!(log, Some(AccessLogConfig { to: LogTarget::File(_), .. })) {
        return Ok(());
    }
    let mut hangups = signal(SignalKind::hangup())?;
    let edge = Arc::downgrade(edge);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let Some(edge) = edge.upgrade() else { return };
            edge.reopen_access_log();
        }
    });
    Ok(())
}
