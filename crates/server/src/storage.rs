//! Everything of an installation that outlives its processes, in one place: the
//! event log, the audit log, the sealed table, leases and the archives.
//!
//! Start from [`Storage::open_directory`], one machine's, or
//! [`Storage::connect`], which any number of replicas share. What events mean is
//! not known here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use helix_log::{
    ArchiveError, ArchiveStore, ArchivedLog, BackupError, BackupStore, Clock, DirectoryArchive,
    EventLog, Leases, LogError, ObjectArchive, PostgresLog, PostgresSchema, Sealed, SealedError,
    SealedRows, SqliteLog,
};

use crate::clock;

mod export;
mod import;
mod state_file;

pub use export::ExportError;
pub use import::ImportError;
pub use state_file::StateImportError;

/// Below the data directory.
const LOG_DIR: &str = "log";
const AUDIT_DIR: &str = "audit";
const ARCHIVE_DIR: &str = "archive";
const AUDIT_ARCHIVE_DIR: &str = "audit-archive";
const KEY_FILE: &str = "keys";

/// How a place begins that is no directory.
const OBJECTS: &str = "s3://";

/// An installation's stores; cheap to clone.
#[derive(Clone)]
pub struct Storage {
    /// All events, from the archive on.
    pub log: Arc<dyn EventLog>,
    /// Who asked for what and what was refused, chained like the log.
    pub audit: Arc<dyn EventLog>,
    /// What must not be in events.
    pub sealed: Arc<Sealed>,
    /// Where backups of volumes go, when the operator has named a place.
    pub backups: Option<BackupStore>,
    /// Which replica does what only one may do.
    pub leases: Arc<dyn Leases>,
    /// Where the oldest events go.
    pub archive: Arc<dyn ArchiveStore>,
    /// The two logs again, as what can be archived.
    pub(crate) history: Arc<ArchivedLog>,
    pub(crate) audit_history: Arc<ArchivedLog>,
    /// What the sealed table is made of, for who moves it without opening it.
    pub(crate) rows: Arc<dyn SealedRows>,
    pub(crate) keep: Keep,
    /// Other replicas have key files of their own.
    pub(crate) is_shared: bool,
}

/// How long history stays in the database before it goes to the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// `None`: for ever.
    pub events: Option<Duration>,
    pub audit: Option<Duration>,
}

/// Why an installation's stores cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("the event log cannot be opened")]
    Log(#[source] LogError),
    #[error("the audit log cannot be opened")]
    Audit(#[source] LogError),
    #[error("an import into this installation was interrupted")]
    HalfImported,
    #[error("the sealed records cannot be used")]
    Sealed(#[from] SealedError),
    #[error("the place for backups cannot be used")]
    Backups(#[from] BackupError),
    #[error("the archive cannot be used")]
    Archive(#[from] ArchiveError),
}

impl StorageError {
    /// One thing a person can do about it, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            StorageError::Log(error) | StorageError::Audit(error) => error.hint(),
            StorageError::Sealed(error) => error.hint(),
            StorageError::HalfImported => {
                Some("run `helix admin import` with the same file again, or choose an empty place")
            }
            StorageError::Archive(ArchiveError::Elsewhere { .. }) => Some(
                "name the place with `--archive` where history was moved to, or copy it there first",
            ),
            StorageError::Archive(ArchiveError::Objects { .. }) => Some(
                "check `--archive`, AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ),
            StorageError::Backups(_) => Some(
                "check `--backups`, AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ),
            StorageError::Archive(_) => None,
        }
    }
}

impl Storage {
    /// The stores of one machine, in files below `directory`, which one process
    /// at a time can have.
    pub async fn open_directory(directory: &Path) -> Result<Storage, StorageError> {
        let parts = Parts::in_directory(directory).await?;
        Storage::of(directory, parts, false).await
    }

    /// The stores that replicas share: logs, records and leases in the
    /// PostgreSQL database at `database_url`. `directory` has this replica's copy
    /// of the key file, and the archives, which all replicas must see.
    pub async fn connect(database_url: &str, directory: &Path) -> Result<Storage, StorageError> {
        let parts = Parts::in_database(database_url).await?;
        Storage::of(directory, parts, true).await
    }

    /// The same with another idea of how long history stays in the database; for
    /// ever when nothing is said.
    #[must_use]
    pub fn keeping(self, keep: Keep) -> Storage {
        Storage { keep, ..self }
    }

    /// The same with a place for backups: a directory, or `s3://BUCKET/PREFIX` as with
    /// [`Storage::archived_at`].
    pub fn backed_up_to(
        self,
        place: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Storage, StorageError> {
        let Some(place) = place else { return Ok(self) };
        let store = BackupStore::open(&place.to_string_lossy(), variables)?;
        Ok(Storage { backups: Some(store), ..self })
    }

    /// The same with the archive in another place: a directory, or
    /// `s3://BUCKET/PREFIX`, whose endpoint and credentials are among `variables`
    /// (`AWS_…`). Refuses a place without the entries that are no longer in the
    /// database.
    pub async fn archived_at(
        self,
        place: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Storage, StorageError> {
        let variables: Vec<_> = variables.into_iter().collect();
        let archive = archive_below(place, ARCHIVE_DIR, &variables)?;
        let audit_archive = archive_below(place, AUDIT_ARCHIVE_DIR, &variables)?;
        let shown = place.display().to_string();
        let history = Arc::new(self.history.moved_to(Arc::clone(&archive), &shown).await?);
        let audit_history = self.audit_history.moved_to(audit_archive, &shown).await?;
        let audit_history = Arc::new(audit_history);
        Ok(Storage {
            log: history.clone(),
            audit: audit_history.clone(),
            archive,
            history,
            audit_history,
            ..self
        })
    }

    async fn of(directory: &Path, parts: Parts, is_shared: bool) -> Result<Storage, StorageError> {
        let Parts { log, audit, rows, leases } = parts;
        if leases.current(import::LEASE).await.map_err(StorageError::Log)?.is_some() {
            return Err(StorageError::HalfImported);
        }
        let sealed = Sealed::open(Arc::clone(&rows), directory.join(KEY_FILE)).await?;
        let archive: Arc<dyn ArchiveStore> =
            Arc::new(DirectoryArchive::open(directory.join(ARCHIVE_DIR))?);
        let audit_archive = Arc::new(DirectoryArchive::open(directory.join(AUDIT_ARCHIVE_DIR))?);
        let history = Arc::new(ArchivedLog::new(log, Arc::clone(&archive)));
        let audit_history = Arc::new(ArchivedLog::new(audit, audit_archive));
        Ok(Storage {
            log: history.clone(),
            audit: audit_history.clone(),
            sealed: Arc::new(sealed),
            backups: None,
            leases,
            archive,
            history,
            audit_history,
            rows,
            keep: Keep::default(),
            is_shared,
        })
    }
}

fn archive_below(
    place: &Path,
    name: &str,
    variables: &[(String, String)],
) -> Result<Arc<dyn ArchiveStore>, ArchiveError> {
    if let Some(bucket) = place.to_str().filter(|place| place.starts_with(OBJECTS)) {
        let url = format!("{}/{name}", bucket.trim_end_matches('/'));
        return Ok(Arc::new(ObjectArchive::s3(&url, variables.iter().cloned())?));
    }
    Ok(Arc::new(DirectoryArchive::open(place.join(name))?))
}

/// The stores before anyone may use them: without keys and without an archive.
struct Parts {
    log: Arc<dyn EventLog>,
    audit: Arc<dyn EventLog>,
    rows: Arc<dyn SealedRows>,
    leases: Arc<dyn Leases>,
}

impl Parts {
    async fn in_directory(directory: &Path) -> Result<Parts, StorageError> {
        let log = SqliteLog::open(directory.join(LOG_DIR)).await.map_err(StorageError::Log)?;
        let audit =
            SqliteLog::open(directory.join(AUDIT_DIR)).await.map_err(StorageError::Audit)?;
        let rows = Arc::new(log.sealed_rows());
        let clock: Clock = Arc::new(|| clock::now().0);
        let leases = Arc::new(log.leases(clock));
        Ok(Parts { log: Arc::new(log), audit: Arc::new(audit), rows, leases })
    }

    async fn in_database(database_url: &str) -> Result<Parts, StorageError> {
        let log = PostgresLog::connect_to(database_url, PostgresSchema::EVENTS);
        let log = log.await.map_err(StorageError::Log)?;
        let audit = PostgresLog::connect_to(database_url, PostgresSchema::AUDIT);
        let audit = audit.await.map_err(StorageError::Audit)?;
        let rows = Arc::new(log.sealed_rows());
        let leases = Arc::new(log.leases());
        Ok(Parts { log: Arc::new(log), audit: Arc::new(audit), rows, leases })
    }
}
