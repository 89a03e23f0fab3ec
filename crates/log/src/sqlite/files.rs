//! The files of a log in its data directory: creating, locking, opening them.
//!
//! Start at [`DataDir::open`]. The database comes into being under another name
//! and is renamed when complete. So an empty or headless `log.db` was never
//! ours to begin with, and a truncated log cannot pass for a new one.

use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::failure::{corrupt, storage_error};
use super::migrate;
use super::rows::ROWS_PER_INSERT;
use crate::error::LogError;
use crate::place::Place;

const DATABASE_FILE: &str = "log.db";
const DRAFT_FILE: &str = "log.db.new";
const LOCK_FILE: &str = "log.lock";

/// Fixed at creation; SQLite's default, said aloud because we reckon with it.
const PAGE_BYTES: u64 = 4096;

/// Events name users, machines and addresses: for the owner's eyes.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Page cache of each connection. State is read from memory, not from here, so
/// this only has to hold the rightmost branch of the tree.
const CACHE_KIB: u32 = 512;

/// Inserts of events and of receipts, with one row to the most there are.
const WRITER_STATEMENTS: usize = 2 * ROWS_PER_INSERT + 32;

/// The write-ahead log is cut back to this after a large snapshot.
const WAL_KEPT_BYTES: u32 = 16 * 1024 * 1024;

/// Only a backup tool that holds the file open can make us wait.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A data directory that this process has for itself.
#[derive(Debug)]
pub(super) struct DataDir {
    pub(super) database: PathBuf,
    /// `database`, as errors name it.
    pub(super) place: Place,
    /// Holds the lock until this is dropped; the kernel releases it however the
    /// process ends.
    lock: std::fs::File,
}

impl Drop for DataDir {
    /// Closing the file would do, were it not for programs that are being started:
    /// between `fork` and `exec` they have all our files open, and with them the lock.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl DataDir {
    /// Creates what is missing and locks the directory.
    pub(super) async fn open(directory: &Path) -> Result<DataDir, LogError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(directory)
            .map_err(|source| file_error("create", directory, source))?;
        let lock = lock(&directory.join(LOCK_FILE))?;
        let database = directory.join(DATABASE_FILE);
        if exists(&database)? {
            refuse_stub(&database)?;
        } else {
            refuse_orphaned_wal(&database)?;
            create_database(directory, &database).await?;
        }
        let place = Place::File(database.clone());
        Ok(DataDir { database, place, lock })
    }

    /// Options of the one connection that writes.
    pub(super) fn writer(&self) -> SqliteConnectOptions {
        connect_options(&self.database).statement_cache_capacity(WRITER_STATEMENTS)
    }

    /// Options of the connections that read.
    pub(super) fn reader(&self) -> SqliteConnectOptions {
        connect_options(&self.database).pragma("query_only", "ON")
    }
}

/// `synchronous=FULL` is what makes an acknowledged append survive a power cut:
/// in WAL mode the lower levels do not sync the log at commit.
fn connect_options(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(false)
        .page_size(PAGE_BYTES as u32)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", format!("-{CACHE_KIB}"))
        .pragma("journal_size_limit", WAL_KEPT_BYTES.to_string())
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

fn lock(path: &Path) -> Result<std::fs::File, LogError> {
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|source| file_error("open", path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            return Err(LogError::InUse { path: path.to_owned(), holder: holder(&mut file) });
        }
        Err(std::fs::TryLockError::Error(source)) => return Err(file_error("lock", path, source)),
    }
    // Whose it is helps the person who finds it locked; nothing depends on it.
    let noted = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    noted.map_err(|source| file_error("write", path, source))?;
    Ok(file)
}

fn holder(file: &mut std::fs::File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

async fn create_database(directory: &Path, database: &Path) -> Result<(), LogError> {
    let draft = directory.join(DRAFT_FILE);
    for leftover in [&draft, &with_suffix(&draft, "-wal"), &with_suffix(&draft, "-shm")] {
        if exists(leftover)? {
            fs::remove_file(leftover).map_err(|it| file_error("remove", leftover, it))?;
        }
    }
    // Created here rather than by SQLite for its mode, which `-wal` inherits.
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&draft)
        .map_err(|source| file_error("create", &draft, source))?;
    let mut connection = SqliteConnection::connect_with(&connect_options(&draft))
        .await
        .map_err(|error| storage_error(&draft, "create the database", error))?;
    migrate::migrate(&mut connection, &draft).await?;
    // Closing the last connection moves the write-ahead log into the file and
    // syncs it.
    let closed = connection.close().await;
    closed.map_err(|error| storage_error(&draft, "create the database", error))?;
    fs::rename(&draft, database).map_err(|it| file_error("create", database, it))?;
    let synced = std::fs::File::open(directory).and_then(|it| it.sync_all());
    synced.map_err(|source| file_error("sync", directory, source))
}

/// What SQLite itself lets pass: it takes a file shorter than a page for a new
/// database, and rounds a cut-off last page up. Ours had its first page before
/// it had its name, and grows by whole pages; only a crash may leave half of
/// one, and then the write-ahead log that repairs it is there.
fn refuse_stub(database: &Path) -> Result<(), LogError> {
    let length = length(database)?.unwrap_or(0);
    // It goes when whoever had the database open last closes it, maybe just now.
    let is_repairable = self::length(&with_suffix(database, "-wal"))?.unwrap_or(0) > 0;
    if length < PAGE_BYTES || (length % PAGE_BYTES != 0 && !is_repairable) {
        let detail = format!("it is cut off at {length} bytes");
        return Err(corrupt(database, detail));
    }
    Ok(())
}

/// `None` when there is no such file.
fn length(path: &Path) -> Result<Option<u64>, LogError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", path, error)),
    }
}

/// A write-ahead log without its database is what remains when somebody deletes
/// `log.db` of a log that was not closed; starting afresh would destroy it.
fn refuse_orphaned_wal(database: &Path) -> Result<(), LogError> {
    if exists(&with_suffix(database, "-wal"))? {
        let detail = "it is missing, but its write-ahead log is there";
        return Err(corrupt(database, detail.to_owned()));
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn exists(path: &Path) -> Result<bool, LogError> {
    path.try_exists().map_err(|source| file_error("look for", path, source))
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> LogError {
    LogError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_lets_go_has_let_go_although_a_program_is_being_started() {
        let parent = tempfile::tempdir().unwrap();
        let first = DataDir::open(parent.path()).await.unwrap();
        // As between `fork` and `exec`.
        let forked = first.lock.try_clone().unwrap();
        drop(first);
        DataDir::open(parent.path()).await.unwrap();
        drop(forked);
    }
}
