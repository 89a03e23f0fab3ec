//! The key file: the master keys of the sealed table, for their owner's eyes.
//!
//! Start at [`KeyFile`]. One key on each line, `ID HEX`, the last of them the
//! active one; lines that begin with `#` are notes. The file is replaced as a
//! whole and atomically, because losing a key loses every record under it.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::SealedError;
use super::cipher::{KeyBytes, random_key};

/// AES-256.
pub(super) const KEY_BYTES: usize = 32;

const FILE_MODE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// Keeps a key's id apart from every other digest of it.
const ID_TAG: &[u8] = b"helix/sealed/key-id/1\0";
/// Enough to tell keys apart, and no more of the digest than that takes.
const ID_BYTES: usize = 8;

const NOTE: &str = "# Keys of helix's sealed records. Without this file they are lost: keep a \
                    copy of it\n# apart from the database. The last key is the active one.\n";

/// A key that wraps data keys.
#[derive(Clone)]
pub struct MasterKey {
    id: String,
    bytes: KeyBytes,
}

impl MasterKey {
    /// A new random key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<MasterKey, SealedError> {
        random_key().map(MasterKey::from_bytes)
    }

    fn from_bytes(bytes: KeyBytes) -> MasterKey {
        let digest = Sha256::new().chain_update(ID_TAG).chain_update(&bytes[..]).finalize();
        MasterKey { id: hex(&digest[..ID_BYTES]), bytes }
    }

    /// Derived from the key, so that a name can never point at another key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn bytes(&self) -> &KeyBytes {
        &self.bytes
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys of one file.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    /// All but the last, which is `active`.
    older: Vec<MasterKey>,
    active: MasterKey,
}

impl KeyFile {
    /// Reads the keys at `path`; if there is no such file, makes one with a new
    /// key. Of several processes that do so at once, all get the same key.
    ///
    /// # Errors
    /// When the file is open to others, malformed, or cannot be read or made.
    pub fn open_or_create(path: impl Into<PathBuf>) -> Result<KeyFile, SealedError> {
        let path = path.into();
        let exists = path.try_exists().map_err(|it| key_file("look for", &path, it))?;
        if exists {
            return read(path);
        }
        let _lock = lock(&path)?;
        // Another may have made it while this process waited for the lock.
        if path.try_exists().map_err(|it| key_file("look for", &path, it))? {
            return read(path);
        }
        let new = KeyFile { path, older: Vec::new(), active: MasterKey::generate()? };
        write(&new.path, new.all()).map_err(|it| key_file("create", &new.path, it))?;
        Ok(new)
    }

    /// The file itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that wraps new records.
    #[must_use]
    pub fn active(&self) -> &MasterKey {
        &self.active
    }

    pub(super) fn older_ids(&self) -> Vec<String> {
        self.older.iter().map(|it| it.id.clone()).collect()
    }

    pub(super) fn find(&self, id: &str) -> Option<&MasterKey> {
        self.all().find(|it| it.id == id)
    }

    /// Makes `key` the active one; the file has it before anything uses it.
    pub(super) fn add(&mut self, key: MasterKey) -> Result<(), SealedError> {
        let _lock = lock(&self.path)?;
        self.reload()?;
        if key.id == self.active.id {
            return Ok(());
        }
        let older = self.all().filter(|it| it.id != key.id).cloned().collect();
        self.replace(KeyFile { path: self.path.clone(), older, active: key })
    }

    /// Removes the older keys for which `keep` is false; returns their ids.
    pub(super) fn retain(
        &mut self,
        keep: impl Fn(&MasterKey) -> bool,
    ) -> Result<Vec<String>, SealedError> {
        let _lock = lock(&self.path)?;
        self.reload()?;
        let (older, retired): (Vec<_>, Vec<_>) = self.older.iter().cloned().partition(keep);
        if !retired.is_empty() {
            let (path, active) = (self.path.clone(), self.active.clone());
            self.replace(KeyFile { path, older, active })?;
        }
        Ok(retired.into_iter().map(|it| it.id).collect())
    }

    pub(super) fn reload(&mut self) -> Result<(), SealedError> {
        *self = read(self.path.clone())?;
        Ok(())
    }

    fn replace(&mut self, new: KeyFile) -> Result<(), SealedError> {
        write(&new.path, new.all()).map_err(|it| key_file("replace", &new.path, it))?;
        *self = new;
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &MasterKey> {
        self.older.iter().chain([&self.active])
    }
}

fn read(path: PathBuf) -> Result<KeyFile, SealedError> {
    let failed = |source| key_file("read", &path, source);
    let mode = std::fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(SealedError::KeyFileExposed { path, mode });
    }
    let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(failed)?);
    let mut keys = Vec::new();
    let mut lines = 0;
    for line in text.lines() {
        lines += 1;
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let Some(key) = parse(line) else {
            return Err(SealedError::KeyFileMalformed { path, line: lines });
        };
        keys.push(key);
    }
    let Some(active) = keys.pop() else {
        return Err(SealedError::KeyFileMalformed { path, line: lines });
    };
    Ok(KeyFile { path, older: keys, active })
}

/// `None` also when the id is not the key's: a line that was damaged.
fn parse(line: &str) -> Option<MasterKey> {
    let (id, digits) = line.trim().split_once(' ')?;
    if digits.len() != 2 * KEY_BYTES || !digits.is_ascii() {
        return None;
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(MasterKey::from_bytes(bytes)).filter(|it| it.id == id)
}

/// Writes the keys beside `path` and moves them there.
fn write<'a>(path: &Path, keys: impl IntoIterator<Item = &'a MasterKey>) -> io::Result<()> {
    let mut text = Zeroizing::new(String::from(NOTE));
    for key in keys {
        let digits = Zeroizing::new(hex(&key.bytes[..]));
        for part in [&key.id, " ", &digits, "\n"] {
            text.push_str(part);
        }
    }
    let draft = with_suffix(path, ".new");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    sync_parent(path)
}

/// Held while the file is made or changed: of two processes that read it and
/// write it back at once, one would lose the other's key.
fn lock(path: &Path) -> Result<std::fs::File, SealedError> {
    let lock = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(with_suffix(path, ".lock"));
    let locked = lock.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| key_file("lock", path, source))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn key_file(action: &'static str, path: &Path, source: io::Error) -> SealedError {
    SealedError::KeyFile { action, path: path.to_owned(), source }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |it: u8| char::from(DIGITS[usize::from(it & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
