//! The agent's small JSON files: replaced whole, never half written, readable
//! by their owner only (plans and slots hold the variables of programs).

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::NodeError;

/// Makes a directory and its parents for this user alone.
pub(crate) fn make_dir(path: &Path) -> Result<(), NodeError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(NodeError::files("create", path))
}

/// Reads a file; `None` when there is none.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, NodeError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(NodeError::files("read", path)(error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| NodeError::Garbled { path: path.to_owned(), source })
}

/// Replaces a file. Survives the agent being killed at any moment. Not synced:
/// after a power cut no program runs, and the control plane sends all of it anew.
pub(crate) fn store(path: &Path, value: &impl Serialize) -> Result<(), NodeError> {
    let next = path.with_extension("json.next");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        std::fs::rename(&next, path)
    };
    write().map_err(NodeError::files("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_absence_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert_eq!(load::<u32>(&path).unwrap(), None);
        store(&path, &1_u32).unwrap();
        store(&path, &2_u32).unwrap();
        assert_eq!(load::<u32>(&path).unwrap(), Some(2));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(load::<u32>(&path), Err(NodeError::Garbled { .. })));
    }
}
