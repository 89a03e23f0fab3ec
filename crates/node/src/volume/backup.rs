//! Backups, seen from the node: the parts of a snapshot sent to the server that keeps
//! them, and fetched from there when a volume is made from one.
//!
//! Start from [`Backups::send`] and [`Backups::fetch`]. Only parts that the store lacks are
//! sent. Each part is held against its hash on the way back, and all of them against the
//! hash that the control plane was told. Where they are kept, and how, is not known here.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use helix_model::link::BackupAsk;
use helix_model::{Id, Reason, Snapshot};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::VolumeFailure;
use super::copy::{self, PART_BYTES, ZEROS};
use super::snapshot::{self, Taken};

/// Hashes asked about at once: 65 bytes each.
const PAGE: usize = 1000;

/// For how long something is tried that failed for want of a server or a store: either may
/// be restarted meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two tries: a server that restarts, or another one, is there within seconds.
const PAUSE: Duration = Duration::from_secs(3);

/// How long a server may take with one part: it may have to reach a distant store.
const ANSWER_WAIT: Duration = Duration::from_secs(120);

/// Why nothing came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRefusal {
    /// For people.
    pub message: String,
    /// The same may go well later.
    pub retryable: bool,
}

/// The server that this node is linked to, as keeper of backups.
pub trait BackupKeeper: Send + Sync + 'static {
    /// Asks; what belongs to the question and to the answer goes beside them.
    fn ask(
        &self,
        ask: BackupAsk,
        body: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, BackupRefusal>>;
}

/// The present keeper, while there is a link.
pub(crate) type Keeper = Option<Arc<dyn BackupKeeper>>;

/// The way to backups.
pub(crate) struct Backups {
    keeper: watch::Sender<Keeper>,
}

impl Backups {
    pub(super) fn new() -> Backups {
        Backups { keeper: watch::Sender::new(None) }
    }

    pub(super) fn kept_by(&self, keeper: Keeper) {
        self.keeper.send_replace(keeper);
    }

    /// Sends what the store lacks of a snapshot in a directory, and makes it a backup; how
    /// many bytes were sent.
    pub(super) async fn send(
        &self,
        id: Id<Snapshot>,
        dir: &Path,
        taken: &Taken,
    ) -> Result<u64, VolumeFailure> {
        let unreadable = |error: std::io::Error| {
            let message = format!("disk_read_failed: read {}: {error}", dir.display());
            VolumeFailure::new(Reason::BackupFailed, message)
        };
        let file = Arc::new(File::open(snapshot::disk(dir)).map_err(unreadable)?);
        let parts = taken.parts.iter().enumerate();
        let parts = parts.filter(|(_, hash)| *hash != ZEROS);
        let places: BTreeMap<&String, usize> = parts.map(|(index, hash)| (hash, index)).collect();
        let hashes: Vec<&str> = places.keys().map(|hash| hash.as_str()).collect();
        let mut sent = 0;
        for page in hashes.chunks(PAGE) {
            let lacking =
                self.ask(BackupAsk::Lacks { snapshot: id }, page.join("\n").into_bytes()).await?;
            for hash in String::from_utf8_lossy(&lacking).lines() {
                let hash = hash.to_owned();
                let Some(index) = places.get(&hash) else { continue };
                let (file, offset) = (Arc::clone(&file), copy::offset_of(*index));
                let size_bytes = taken.size_bytes;
                let read = tokio::task::spawn_blocking(move || {
                    let mut buffer = vec![0; PART_BYTES];
                    let length = copy::read_part(&file, offset, size_bytes, &mut buffer)?.len();
                    buffer.truncate(length);
                    Ok(buffer)
                });
                let read = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
                let part = read.map_err(unreadable)?;
                sent += part.len() as u64;
                self.ask(BackupAsk::Put { snapshot: id, sha256: hash }, part).await?;
            }
        }
        self.finish(id, taken).await?;
        Ok(sent)
    }

    /// Sends the list of parts, which may be longer than a part, and says that it is all.
    async fn finish(&self, id: Id<Snapshot>, taken: &Taken) -> Result<(), VolumeFailure> {
        let mut text = taken.parts.join("\n");
        text.push('\n');
        let mut lists = Vec::new();
        // Cut at the ends of lines: each list can be read by itself.
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let most = &rest[..rest.len().min(PART_BYTES)];
            let (list, after) = rest.split_at(most.rfind('\n').map_or(rest.len(), |at| at + 1));
            let sha256 = hex(&Sha256::digest(list.as_bytes()));
            let ask = BackupAsk::Put { snapshot: id, sha256: sha256.clone() };
            self.ask(ask, list.as_bytes().to_vec()).await?;
            lists.push(sha256);
            rest = after;
        }
        let about = serde_json::to_vec(&Taken { parts: Vec::new(), ..taken.clone() });
        let about = about.map_err(|error| failed(&error.to_string()))?;
        self.ask(BackupAsk::Finish { snapshot: id, lists }, about).await.map(drop)
    }

    /// Writes what is in a backup to the beginning of a new file.
    pub(super) async fn fetch(
        &self,
        id: Id<Snapshot>,
        sha256: &str,
        target: &File,
    ) -> Result<(), VolumeFailure> {
        let taken = self.list(id).await?;
        if taken.sha256() != sha256 {
            return Err(damaged("it is not the one that was taken"));
        }
        if taken.parts.len()
            != copy::count(taken.size_bytes).map_err(|it| failed(&it.to_string()))?
        {
            return Err(damaged("it has more parts, or less, than it should"));
        }
        for (index, expected) in taken.parts.iter().enumerate() {
            if expected == ZEROS {
                continue;
            }
            let ask = BackupAsk::Get { snapshot: id, sha256: expected.clone() };
            let part = self.ask(ask, Vec::new()).await?;
            if copy::hash(&part) != *expected || part.len() > PART_BYTES {
                return Err(damaged(&format!("part {index} is damaged")));
            }
            // Whoever asks for this has a thread for it.
            target.write_all_at(&part, copy::offset_of(index)).map_err(|error| {
                let message = format!("write_failed: {error}");
                VolumeFailure::new(Reason::VolumeCreateFailed, message)
            })?;
        }
        Ok(())
    }

    /// What a backup consists of.
    async fn list(&self, id: Id<Snapshot>) -> Result<Taken, VolumeFailure> {
        let index = self.ask(BackupAsk::Open { snapshot: id }, Vec::new()).await?;
        let mut lines = index.splitn(2, |byte| *byte == b'\n');
        let count = lines.next().and_then(|line| std::str::from_utf8(line).ok()?.parse().ok());
        let count: usize = count.ok_or_else(|| damaged("its index says nothing"))?;
        let mut rest = lines.next().unwrap_or_default();
        let mut parts = Vec::new();
        for _ in 0..count {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let end = end.ok_or_else(|| damaged("its index ends early"))?;
            let sha256 = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end + 1..];
            let list = self.ask(BackupAsk::Get { snapshot: id, sha256 }, Vec::new()).await?;
            parts.extend(String::from_utf8_lossy(&list).lines().map(str::to_owned));
        }
        let about: Taken =
            serde_json::from_slice(rest).map_err(|_| damaged("its index is none"))?;
        Ok(Taken { parts, ..about })
    }

    /// Asks the server; again when there is none just now.
    async fn ask(&self, ask: BackupAsk, body: Vec<u8>) -> Result<Vec<u8>, VolumeFailure> {
        let mut why = "no server is in reach".to_owned();
        let begun = Instant::now();
        loop {
            let keeper = self.keeper.borrow().clone();
            if let Some(keeper) = keeper {
                let asked = keeper.ask(ask.clone(), body.clone());
                match tokio::time::timeout(ANSWER_WAIT, asked).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(refusal)) if !refusal.retryable => return Err(refused(&ask, refusal)),
                    Ok(Err(refusal)) => why = refusal.message,
                    Err(_) => "the server does not answer".clone_into(&mut why),
                }
            }
            if begun.elapsed() >= PATIENCE {
                return Err(failed(&why));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What cannot be read now cannot be read later.
fn refused(ask: &BackupAsk, refusal: BackupRefusal) -> VolumeFailure {
    let reason = match ask {
        BackupAsk::Open { .. } | BackupAsk::Get { .. } => Reason::IntegrityCheckFailed,
        _ => Reason::BackupFailed,
    };
    VolumeFailure::new(reason, refusal.message)
}

fn failed(message: &str) -> VolumeFailure {
    VolumeFailure::new(Reason::BackupFailed, message)
}

fn damaged(what: &str) -> VolumeFailure {
    let message = format!("the backup cannot be restored: {what}");
    VolumeFailure::new(Reason::IntegrityCheckFailed, message)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
