//! `helix admin export` and `import`: a whole installation as one file.
//!
//! Online the bytes come from the API; what is offline, the binary does
//! ([`Offline`]): this crate knows neither logs nor files of an installation.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use clap::Args;
use helix_client::Client;
use helix_model::admin::Moved;
use helix_model::{Code, Problem};

use crate::failure::{Failure, Result};
use crate::output::Ui;
use crate::session::Session;
use crate::settings;

/// Where an installation is that no process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    pub data_dir: PathBuf,
    /// Of PostgreSQL, when its logs are there.
    pub database_url: Option<String>,
    /// Where older history is; below `data_dir` when `None`.
    pub archive: Option<PathBuf>,
}

/// Exports and imports of an installation that no process has. A program without
/// a platform in it can do none of these.
#[async_trait]
pub trait Offline: Send + Sync {
    /// Writes all of it to `out`.
    async fn export(
        &self,
        _installation: &Installation,
        _out: &mut (dyn Write + Send),
    ) -> std::result::Result<(), Problem> {
        Err(unable())
    }

    /// Copies its key file to `file`, which must not exist.
    async fn export_keys(
        &self,
        _installation: &Installation,
        _file: &Path,
    ) -> std::result::Result<(), Problem> {
        Err(unable())
    }

    /// Reads `file` into an empty one.
    async fn import(
        &self,
        _installation: &Installation,
        _file: &Path,
    ) -> std::result::Result<Moved, Problem> {
        Err(unable())
    }

    /// Makes an empty one as the state file `file` says.
    async fn import_state(
        &self,
        _installation: &Installation,
        _file: &Path,
    ) -> std::result::Result<Moved, Problem> {
        Err(unable())
    }
}

fn unable() -> Problem {
    Problem::new(Code::NotSupportedYet, "this program has no platform in it")
        .hint("run the `helix` of the server")
}

#[derive(Debug, Args)]
struct Place {
    /// Data directory of a platform that is stopped
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// PostgreSQL database of servers that are stopped (HELIX_DATABASE_URL keeps
    /// a password out of the process list)
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Where its older history is, when the servers were told `--archive` (HELIX_ARCHIVE)
    #[arg(long, value_name = "PLACE")]
    archive: Option<String>,
}

impl Place {
    /// `None` when nothing on the command line says where.
    fn named(&self, session: &Session<'_>) -> Result<Option<Installation>> {
        if self.data_dir.is_none() && self.database_url.is_none() {
            return Ok(None);
        }
        self.installation(session).map(Some)
    }

    fn installation(&self, session: &Session<'_>) -> Result<Installation> {
        let data_dir = settings::data_dir(self.data_dir.as_deref(), &session.environment)?;
        let variable = session.environment.get("HELIX_DATABASE_URL").map(str::to_owned);
        Ok(Installation {
            data_dir: session.settings.directory.join(data_dir),
            database_url: self.database_url.clone().or(variable),
            archive: session.archive(self.archive.as_deref()),
        })
    }
}

/// Write the whole installation to a file
///
/// All events, the audit log, sealed records (still encrypted) and the receipts
/// of the last day; not the images, and not the keys. Without --data-dir or
/// --database-url it comes from the running server, of one log position while
/// work goes on. To standard output unless --output names a file.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix admin export > installation.helix\n  helix admin export --output installation.helix --json\n  helix admin export --data-dir /var/lib/helix --keys keys.copy > installation.helix"
)]
pub(super) struct ExportArgs {
    /// File to write, which must not exist
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also copy the key file, to a file of its own; only beside --data-dir
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Read an exported installation, or a state file, into an empty one
///
/// The server must be stopped. Goes into the data directory, or into the
/// PostgreSQL database when one is named; all or nothing: the file is proved
/// before anything is written, and an import that was killed keeps the server
/// from starting until it is run again. The key file has to be copied by hand.
/// With --state the file is JSON that says what should be there (orgs, projects,
/// apps, envs with their releases, users, members, quotas).
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  helix admin import installation.helix --data-dir /var/lib/helix\n  HELIX_DATABASE_URL=postgres://… helix admin import installation.helix\n  helix admin import --state state.json --data-dir /var/lib/helix"
)]
pub(super) struct ImportArgs {
    /// What `helix admin export` wrote
    #[arg(value_name = "FILE", required_unless_present = "state")]
    file: Option<PathBuf>,
    /// A state file instead: JSON as docs/state-file.schema.json says
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    state: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn export(
    session: &mut Session<'_>,
    args: ExportArgs,
    offline: &dyn Offline,
) -> Result<u8> {
    if args.output.is_none() && (session.ui.json() || session.terminals.stdout) {
        let detail = "the export goes to standard output, where it cannot be used";
        return Err(Failure::usage(detail, "add `--output FILE`, or redirect it with `> FILE`"));
    }
    let path = |file: &Path| session.settings.directory.join(file);
    let (output, keys) = (args.output.as_deref().map(path), args.keys.as_deref().map(path));
    let place = args.place.named(session)?;
    let client = session.client()?;
    session.ui.step("exporting");
    let mut out = Out::open(session.ui, output.as_deref())?;
    let exported = match &place {
        Some(installation) => offline.export(installation, &mut out).await.map_err(Failure::from),
        None => online(&client, &mut out).await,
    };
    let bytes = out.bytes;
    if let Err(failure) = exported.and_then(|()| out.close()) {
        if let Some(output) = &output {
            let _ = std::fs::remove_file(output);
        }
        return Err(failure);
    }
    if let (Some(keys), Some(installation)) = (&keys, &place) {
        offline.export_keys(installation, keys).await?;
    }
    let Some(output) = output else {
        session.ui.note(&format!("{bytes} bytes exported; the key file is not among them"));
        return Ok(0);
    };
    let document = serde_json::json!({ "file": output, "bytes": bytes, "keys": keys });
    session.ui.result(&document, |style| {
        format!("{} {}: {bytes} bytes", style.tick(), output.display())
    })?;
    Ok(0)
}

async fn online(client: &Client, out: &mut (dyn Write + Send)) -> Result<()> {
    let mut export = client.export().await?;
    while let Some(piece) = export.next().await? {
        out.write_all(&piece).map_err(|error| unwritable(&error))?;
    }
    Ok(())
}

pub(super) async fn import(
    session: &mut Session<'_>,
    args: ImportArgs,
    offline: &dyn Offline,
) -> Result<u8> {
    let installation = args.place.installation(session)?;
    if let Some(state) = &args.state {
        return import_state(session, &installation, state, offline).await;
    }
    let file = session.settings.directory.join(args.file.unwrap_or_default());
    session.ui.step("importing");
    let moved = offline.import(&installation, &file).await?;
    session.ui.result(&moved, |style| {
        format!(
            "{} imported {} events, {} entries of the audit log, {} receipts, {} sealed records",
            style.tick(),
            moved.events,
            moved.audit,
            moved.receipts,
            moved.sealed
        )
    })?;
    let keys = installation.data_dir.join("keys");
    if !keys.exists() {
        session.ui.note(&format!("copy the key file to {} before the start", keys.display()));
    }
    Ok(0)
}

async fn import_state(
    session: &mut Session<'_>,
    installation: &Installation,
    file: &Path,
    offline: &dyn Offline,
) -> Result<u8> {
    let file = session.settings.directory.join(file);
    session.ui.step("importing");
    let moved = offline.import_state(installation, &file).await?;
    session.ui.result(&moved, |style| {
        format!("{} imported {} as {} events", style.tick(), file.display(), moved.events)
    })?;
    session.ui.note("users choose a password with a code: `helix users setup NAME`");
    Ok(0)
}

/// Where an export goes, and how much of it has gone there.
struct Out<'u> {
    bytes: u64,
    ui: &'u mut Ui,
    /// Standard output when `None`.
    file: Option<File>,
}

impl<'u> Out<'u> {
    fn open(ui: &'u mut Ui, output: Option<&Path>) -> Result<Out<'u>> {
        let Some(path) = output else { return Ok(Out { bytes: 0, ui, file: None }) };
        // Events name users, machines and addresses: for the owner's eyes.
        let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| {
            let detail = format!("{} cannot be made: {error}", path.display());
            Failure::new(Code::PreconditionFailed, detail).hint("choose another file")
        })?;
        Ok(Out { bytes: 0, ui, file: Some(file) })
    }

    /// Returns when the file is on disk.
    fn close(self) -> Result<()> {
        self.file.map_or(Ok(()), |file| file.sync_all()).map_err(|error| unwritable(&error))
    }
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.file {
            Some(file) => file.write(bytes)?,
            None => {
                let sent = self.ui.remote(bytes, true);
                sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
                bytes.len()
            }
        };
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::new(Code::PreconditionFailed, format!("the export cannot be written: {error}"))
        .hint("make room, or choose another file with `--output`")
}
