//! The whole installation as one stream of bytes, while it runs or while nobody
//! has it.
//!
//! Start from [`Storage::export`]. Both logs are of one position each, taken at
//! the beginning; receipts are those of that position; sealed records are as they
//! were when their turn came. Images are not in it.

use bytes::Bytes;
use helix_log::{DumpError, DumpWriter, DumpedLog, EventLog, LogError, Position, READ_MAX_ENTRIES};
use tokio::sync::mpsc;

use super::Storage;
use crate::clock;

/// Receipts and records read at once.
const PAGE: usize = 256;

/// Pieces of a MiB that wait for a slow reader.
const PIECES: usize = 2;

/// Who repeats a request within a day gets its first answer, there too.
const RECEIPTS_MS: i64 = 24 * 60 * 60 * 1000;

/// An export that broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Dump(#[from] DumpError),
}

impl Storage {
    /// The installation, piece by piece; the last piece may be an error, and then
    /// it is not whole.
    #[must_use]
    pub fn export(&self) -> mpsc::Receiver<Result<Bytes, ExportError>> {
        let (pieces, receiver) = mpsc::channel(PIECES);
        let storage = self.clone();
        tokio::spawn(async move {
            let mut dump = Dump { writer: DumpWriter::default(), pieces };
            let last = match dump.all(&storage).await {
                Ok(()) => match dump.writer.finish() {
                    Ok(rest) => Ok(Bytes::from(rest)),
                    Err(error) => Err(error.into()),
                },
                Err(Stopped::Failed(error)) => Err(error),
                Err(Stopped::Gone) => return,
            };
            let _ = dump.pieces.send(last).await;
        });
        receiver
    }
}

/// Why a dump goes no further.
enum Stopped {
    Failed(ExportError),
    Gone,
}

impl<E: Into<ExportError>> From<E> for Stopped {
    fn from(error: E) -> Stopped {
        Stopped::Failed(error.into())
    }
}

struct Dump {
    writer: DumpWriter,
    pieces: mpsc::Sender<Result<Bytes, ExportError>>,
}

impl Dump {
    async fn all(&mut self, storage: &Storage) -> Result<(), Stopped> {
        let position = self.log(DumpedLog::Events, storage.log.as_ref()).await?;
        self.log(DumpedLog::Audit, storage.audit.as_ref()).await?;
        self.receipts(storage.log.as_ref(), position).await?;
        self.sealed(storage).await
    }

    async fn log(&mut self, which: DumpedLog, log: &dyn EventLog) -> Result<Position, Stopped> {
        let head = log.head().await?;
        let mut position = Position::ZERO;
        while position < head.position {
            let page = log.read(position, READ_MAX_ENTRIES).await?;
            for entry in page.iter().take_while(|it| it.position <= head.position) {
                self.writer.entry(which, entry)?;
                position = entry.position;
            }
            if page.is_empty() {
                break;
            }
            self.send().await?;
        }
        self.writer.end(which, head)?;
        self.send().await?;
        Ok(head.position)
    }

    async fn receipts(&mut self, log: &dyn EventLog, position: Position) -> Result<(), Stopped> {
        let since_ms = clock::now().0 - RECEIPTS_MS;
        let mut after = String::new();
        loop {
            let page = log.receipts(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.key);
            for receipt in &page {
                if receipt.position <= position && receipt.at_ms >= since_ms {
                    self.writer.receipt(receipt)?;
                }
            }
            self.send().await?;
        }
    }

    async fn sealed(&mut self, storage: &Storage) -> Result<(), Stopped> {
        let mut after = String::new();
        loop {
            let page = storage.rows.page(&after, PAGE as u32).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.key.id);
            for row in &page {
                self.writer.sealed(row)?;
            }
            self.send().await?;
        }
    }

    async fn send(&mut self) -> Result<(), Stopped> {
        let piece = self.writer.take();
        if piece.is_empty() {
            return Ok(());
        }
        self.pieces.send(Ok(piece.into())).await.map_err(|_| Stopped::Gone)
    }
}
