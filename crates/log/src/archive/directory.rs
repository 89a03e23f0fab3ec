//! An archive in a local directory, one file for each segment.
//!
//! Start at [`DirectoryArchive`]. A file gets its name once its bytes are on
//! disk; what a crash leaves behind has another suffix and is written over.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::ArchiveError;
use super::segment::SEGMENT_FILE_MAX_BYTES;
use super::store::{ArchiveStore, SegmentName};

/// Events name users, machines and addresses: for the owner's eyes.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// An [`ArchiveStore`] below one directory.
#[derive(Clone, Debug)]
pub struct DirectoryArchive {
    directory: PathBuf,
}

impl DirectoryArchive {
    /// The archive in `directory`, which is created if missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(directory: impl Into<PathBuf>) -> Result<DirectoryArchive, ArchiveError> {
        let directory = directory.into();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&directory)
            .map_err(|source| failed("create", &directory, source))?;
        Ok(DirectoryArchive { directory })
    }

    /// File work takes its time, which is not the callers' threads'.
    async fn off_thread<T: Send + 'static>(
        &self,
        action: &'static str,
        path: PathBuf,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&path);
            result.map_err(|source| failed(action, &path, source))
        });
        worked.await.unwrap_or_else(|panicked| {
            Err(failed(action, &self.directory, io::Error::other(panicked)))
        })
    }
}

#[async_trait]
impl ArchiveStore for DirectoryArchive {
    async fn put(&self, name: &SegmentName, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        let path = self.directory.join(name.to_string());
        self.off_thread("write", path, move |path| write(path, &bytes)).await
    }

    async fn get(&self, name: &SegmentName) -> Result<Vec<u8>, ArchiveError> {
        let path = self.directory.join(name.to_string());
        self.off_thread("read", path, read).await
    }

    async fn list(&self) -> Result<Vec<SegmentName>, ArchiveError> {
        self.off_thread("list", self.directory.clone(), list).await
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("zst.{}.new", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    match path.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = std::fs::metadata(path)?.len();
    if length > SEGMENT_FILE_MAX_BYTES {
        let text = format!("{length} bytes are more than a segment can have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    std::fs::read(path)
}

fn list(directory: &Path) -> io::Result<Vec<SegmentName>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.extend(entry?.file_name().to_str().and_then(SegmentName::parse));
    }
    names.sort();
    Ok(names)
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::File { action, path: path.to_owned(), source }
}
