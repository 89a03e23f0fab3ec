//! The `binary` pack: a static executable and the files beside it, in an image
//! with nothing else.

use std::path::Path;

use super::ignored::Ignored;
use super::{PackError, elf};
use crate::compose::{ComposeFile, ComposeLayer, FileSource, Folder, compose};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::store::Store;

const DIRECTORY: &str = "/app";

/// Makes an image that runs `path`, a program below `folder`, with the folder's
/// other files beside it.
pub async fn build(store: &Store, folder: &Path, path: &Path) -> Result<Digest, PackError> {
    elf::check(path)?;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| PackError::Missing { path: path.to_owned() })?;
    let program = format!("{DIRECTORY}/{name}");
    let ignored = Ignored::of(folder)?;
    let mut rest = Folder::list(folder, &|name, directory| ignored.skips(name, directory))?;
    rest.files.retain(|file| file.path != path && file.name != name);
    let mut layers = vec![ComposeLayer::Files(vec![ComposeFile {
        path: program.clone(),
        source: FileSource::Path(path.to_owned()),
        mode: 0o755,
    }])];
    if !rest.files.is_empty() {
        layers.push(ComposeLayer::Tree { folder: rest, below: DIRECTORY.to_owned() });
    }
    let config = ImageConfig {
        entrypoint: vec![program],
        working_dir: DIRECTORY.to_owned(),
        ..ImageConfig::default()
    };
    Ok(compose(store, layers, config).await?)
}
