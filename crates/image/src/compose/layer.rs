//! Writing one layer archive, hashed on its way into the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use tar::{EntryType, Header};

use super::{ComposeLayer, FileSource};
use crate::Result;
use crate::blob::Written;
use crate::error::ImageError;
use crate::limits::COMPRESSED_IMAGE_BYTES_MAX;
use crate::store::Store;

const DIRECTORY_MODE: u32 = 0o755;

/// What is at one path of the layer.
enum Item<'a> {
    Directory,
    File { source: &'a FileSource, mode: u32 },
}

pub(super) fn write(store: &Store, layer: &ComposeLayer) -> Result<Written> {
    let files = match layer {
        ComposeLayer::Files(files) => files.clone(),
        ComposeLayer::Tree { folder, below } => folder.files_below(below),
    };
    let mut items = BTreeMap::new();
    for file in &files {
        place(&mut items, &file.path, Item::File { source: &file.source, mode: file.mode })?;
    }
    let mut archive = tar::Builder::new(store.writer(COMPRESSED_IMAGE_BYTES_MAX)?);
    for (path, item) in &items {
        append(&mut archive, path, item)?;
    }
    let failed = ImageError::storage("finish a layer in", store.root());
    archive.into_inner().map_err(failed)?.commit(None)
}

/// Adds an item and the directories above it. Keys have no leading slash and
/// sort parents before children.
fn place<'a>(items: &mut BTreeMap<String, Item<'a>>, path: &str, item: Item<'a>) -> Result<()> {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let bad = names.is_empty() || names.iter().any(|name| matches!(*name, "." | ".."));
    let clash = |reason: &str| ImageError::Storage {
        action: "compose a layer with",
        path: path.into(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, reason.to_owned()),
    };
    if bad {
        return Err(clash("the path in the image must be absolute and without `..`"));
    }
    for depth in 1..names.len() {
        let above = items.entry(names[..depth].join("/")).or_insert(Item::Directory);
        if !matches!(above, Item::Directory) {
            return Err(clash("a file of the layer is in the place of its directory"));
        }
    }
    match items.insert(names.join("/"), item) {
        None => Ok(()),
        Some(_) => Err(clash("the layer has this path twice")),
    }
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, item: &Item<'_>) -> Result<()> {
    let failed = |error| ImageError::storage("add to a layer:", path)(error);
    match item {
        Item::Directory => {
            let mut header = header(EntryType::Directory, 0, DIRECTORY_MODE);
            archive.append_data(&mut header, format!("{path}/"), std::io::empty()).map_err(failed)
        }
        Item::File { source: FileSource::Link(target), mode } => {
            let mut header = header(EntryType::Symlink, 0, *mode);
            archive.append_link(&mut header, path, target).map_err(failed)
        }
        Item::File { source: FileSource::Bytes(bytes), mode } => {
            let mut header = header(EntryType::Regular, bytes.len() as u64, *mode);
            archive.append_data(&mut header, path, bytes.as_slice()).map_err(failed)
        }
        Item::File { source: FileSource::Path(source), mode } => {
            append_file(archive, path, source, *mode)
        }
    }
}

fn append_file<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    source: &Path,
    mode: u32,
) -> Result<()> {
    let failed = |action| ImageError::storage(action, source);
    let file = File::open(source).map_err(failed("open"))?;
    let size = file.metadata().map_err(failed("inspect"))?.len();
    let mut content = Exactly { inner: file.take(size), missing: size };
    let mut header = header(EntryType::Regular, size, mode);
    archive.append_data(&mut header, path, &mut content).map_err(failed("read"))
}

/// A file that shrinks while it is read would shift everything after it.
struct Exactly<R> {
    inner: R,
    missing: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && self.missing > 0 && !buffer.is_empty() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.missing -= count as u64;
        Ok(count)
    }
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
