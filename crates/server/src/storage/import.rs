//! An exported installation into an empty one, all or nothing.
//!
//! Start from [`Storage::import_directory`] or [`Storage::import_database`]. The
//! whole file is read and proved before anything is written. While it is being
//! written a lease says so, and nothing opens the stores for use; a repeat with
//! the same file goes on where a killed one stopped, because what it would write
//! is what is there.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use helix_log::{
    Batch, DumpError, DumpReader, DumpRecord, DumpedLog, Entry, EventLog, Head, LogError, NewEntry,
    NewReceipt, SEALED_KEY_CHECK_ID, SealedRow, StoredReceipt,
};
use helix_model::State;
use helix_model::admin::Moved;
use helix_model::event::Recorded;

use super::{Parts, Storage, StorageError};

/// Held from before the first write until after the last.
pub(super) const LEASE: &str = "import";
/// A century: a killed import must not be forgotten.
const LEASE_TTL: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Entries or receipts written at once, and their bytes.
const BATCH_ENTRIES: usize = 5_000;
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Why nothing was imported, or not all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{} cannot be read", .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} cannot be imported", .path.display())]
    Dump {
        path: PathBuf,
        #[source]
        source: DumpError,
    },
    #[error("event {position} cannot be understood by this version of helix")]
    Event {
        position: u64,
        #[source]
        source: serde_json::Error,
    },
    #[error("there is an installation already: its event log is at position {position}")]
    NotEmpty { position: u64 },
    #[error("an interrupted import of another file is there")]
    OtherImport,
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the import was interrupted")]
    Log(#[from] LogError),
}

impl ImportError {
    /// One thing a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            ImportError::File { .. } => "name a file that `helix admin export` wrote",
            ImportError::Dump { .. } => "export again, and compare the sizes after copying it",
            ImportError::Event { .. } => {
                "import with the helix version that exported, or a newer one"
            }
            ImportError::NotEmpty { .. } => "choose an empty data directory or database",
            ImportError::OtherImport => {
                "import the file it began with, or choose an empty data directory or database"
            }
            ImportError::Storage(error) => error.hint().unwrap_or("see the message"),
            ImportError::Log(LogError::Full { .. }) => "free space, then run the same import again",
            ImportError::Log(_) => "run the same import again: it goes on where it stopped",
        }
    }
}

impl Storage {
    /// Imports `file` into `directory`, as [`Storage::open_directory`] lays it out.
    pub async fn import_directory(directory: &Path, file: &Path) -> Result<Moved, ImportError> {
        check(file).await?;
        write(Parts::in_directory(directory).await?, file).await
    }

    /// Imports `file` into the database that [`Storage::connect`] would use.
    pub async fn import_database(database_url: &str, file: &Path) -> Result<Moved, ImportError> {
        check(file).await?;
        write(Parts::in_database(database_url).await?, file).await
    }
}

fn open(file: &Path) -> Result<DumpReader<BufReader<File>>, ImportError> {
    let opened = File::open(file);
    let opened = opened.map_err(|source| ImportError::File { path: file.to_owned(), source })?;
    Ok(DumpReader::new(BufReader::new(opened)))
}

fn next(
    reader: &mut DumpReader<BufReader<File>>,
    file: &Path,
) -> Result<Option<DumpRecord>, ImportError> {
    reader.next().map_err(|source| ImportError::Dump { path: file.to_owned(), source })
}

/// Reads everything once: it is whole, both chains hold, and this version can
/// fold every event.
async fn check(file: &Path) -> Result<(), ImportError> {
    let mut reader = open(file)?;
    let mut state = State::default();
    let mut unknown = None;
    while let Some(record) = next(&mut reader, file)? {
        let DumpRecord::Entry(DumpedLog::Events, entry) = record else { continue };
        let position = entry.position.0;
        match serde_json::from_slice::<Recorded>(&entry.payload) {
            Ok(recorded) if unknown.is_none() => {
                state.apply(position, recorded.at, &recorded.event);
            }
            Ok(_) => {}
            // Told only once the file has proved whole: more likely it is damaged.
            Err(source) => {
                unknown.get_or_insert(ImportError::Event { position, source });
            }
        }
    }
    unknown.map_or(Ok(()), Err)
}

async fn write(parts: Parts, file: &Path) -> Result<Moved, ImportError> {
    let begun = parts.leases.current(LEASE).await?.is_some();
    if !begun {
        refuse_used(&parts).await?;
        let held = parts.leases.acquire(LEASE, LEASE, LEASE_TTL).await?;
        if held.is_none() {
            return Err(ImportError::OtherImport);
        }
    }
    let mut events = Log::of(&parts.log).await?;
    let mut audit = Log::of(&parts.audit).await?;
    let mut done = Moved::default();
    let mut receipts = Vec::new();
    let mut reader = open(file)?;
    while let Some(record) = next(&mut reader, file)? {
        match record {
            DumpRecord::Entry(DumpedLog::Events, entry) => events.add(entry).await?,
            DumpRecord::Entry(DumpedLog::Audit, entry) => audit.add(entry).await?,
            DumpRecord::End(DumpedLog::Events, head) => done.events = events.end(head).await?,
            DumpRecord::End(DumpedLog::Audit, head) => done.audit = audit.end(head).await?,
            DumpRecord::Receipt(receipt) => {
                done.receipts += 1;
                receipts.push(receipt);
                if receipts.len() == BATCH_ENTRIES {
                    events.remember(std::mem::take(&mut receipts)).await?;
                }
            }
            DumpRecord::Sealed(row) => done.sealed += u64::from(keep(&parts, row).await?),
        }
    }
    events.remember(receipts).await?;
    if let Some(lease) = parts.leases.current(LEASE).await? {
        parts.leases.release(&lease).await?;
    }
    Ok(done)
}

/// An import that was killed is finished by the same import, and by no other.
pub(super) async fn refuse_begun(parts: &Parts) -> Result<(), ImportError> {
    match parts.leases.current(LEASE).await? {
        Some(_) => Err(ImportError::OtherImport),
        None => Ok(()),
    }
}

pub(super) async fn refuse_used(parts: &Parts) -> Result<(), ImportError> {
    let position = parts.log.head().await?.position.0.max(parts.audit.head().await?.position.0);
    let sealed = parts.rows.page("", 2).await?;
    let is_used = sealed.iter().any(|row| row.key.id != SEALED_KEY_CHECK_ID);
    if position > 0 || is_used {
        return Err(ImportError::NotEmpty { position });
    }
    Ok(())
}

/// `false` for the record that only tells key files apart.
async fn keep(parts: &Parts, row: SealedRow) -> Result<bool, ImportError> {
    let is_record = row.key.id != SEALED_KEY_CHECK_ID;
    parts.rows.put(row).await?;
    Ok(is_record)
}

/// A log being written, from where an earlier attempt had come to.
struct Log<'p> {
    log: &'p Arc<dyn EventLog>,
    /// What was there before this attempt.
    found: Head,
    head: Head,
    waiting: Vec<NewEntry>,
    bytes: usize,
}

impl<'p> Log<'p> {
    async fn of(log: &'p Arc<dyn EventLog>) -> Result<Log<'p>, ImportError> {
        let found = log.head().await?;
        Ok(Log { log, found, head: found, waiting: Vec::new(), bytes: 0 })
    }

    async fn add(&mut self, entry: Entry) -> Result<(), ImportError> {
        if entry.position <= self.found.position {
            let differs = entry.position == self.found.position && entry.hash != self.found.hash;
            return if differs { Err(ImportError::OtherImport) } else { Ok(()) };
        }
        self.bytes += entry.payload.len();
        self.waiting.push(NewEntry { at_ms: entry.at_ms, payload: entry.payload.to_vec() });
        if self.waiting.len() == BATCH_ENTRIES || self.bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ImportError> {
        self.bytes = 0;
        let entries = std::mem::take(&mut self.waiting);
        let appended = self.log.append(Batch::of_entries(self.head.position, entries)).await?;
        self.head = appended.last().map_or(self.head, Entry::head);
        Ok(())
    }

    /// The log is what the file says, hash and all.
    async fn end(&mut self, head: Head) -> Result<u64, ImportError> {
        self.flush().await?;
        if self.head != head {
            return Err(ImportError::OtherImport);
        }
        Ok(head.position.0)
    }

    async fn remember(&self, receipts: Vec<StoredReceipt>) -> Result<(), ImportError> {
        let mut batch = Batch { expected: self.head.position, ..Batch::default() };
        for receipt in receipts {
            if self.log.receipt(&receipt.key).await?.is_none() {
                let StoredReceipt { key, request_hash, body, at_ms, .. } = receipt;
                batch.receipts.push(NewReceipt { key, request_hash, body, at_ms });
            }
        }
        self.log.append(batch).await?;
        Ok(())
    }
}
