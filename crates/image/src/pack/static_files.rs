//! The `static` pack: the `helix` binary serves a folder's files.
//!
//! Two layers, so that a changed page does not change the layer with the
//! binary, which all static apps of one version share.

use std::path::Path;

use super::PackError;
use super::ignored::Ignored;
use crate::compose::{ComposeFile, ComposeLayer, FileSource, Folder, compose};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::store::Store;

const BINARY: &str = "/helix";
const ROOT: &str = "/srv";
/// The same from the working directory: under `process` isolation the image is
/// a folder of the machine, and an absolute path would lead out of it.
const ROOT_FROM_WORKDIR: &str = "srv";
/// Nobody: serving files needs no rights at all.
const USER: &str = "65534:65534";
/// What the file server listens on when `PORT` is not set.
const PORT: &str = "8080/tcp";

/// Makes an image that serves the files below `root`, which is `folder` or
/// inside it. What the folder's `.helixignore` says holds for `root` too.
pub async fn build(
    store: &Store,
    folder: &Path,
    root: &Path,
    helix_binary: &Path,
) -> Result<Digest, PackError> {
    let ignored = Ignored::of(folder)?;
    let below = root.strip_prefix(folder).unwrap_or(Path::new(""));
    let files = Folder::list(root, &|name, directory| {
        ignored.skips(&below.join(name).to_string_lossy(), directory)
    })?;
    let server = ComposeLayer::Files(vec![ComposeFile {
        path: BINARY.to_owned(),
        source: FileSource::Path(helix_binary.to_owned()),
        mode: 0o755,
    }]);
    let files = ComposeLayer::Tree { folder: files, below: ROOT.to_owned() };
    let config = ImageConfig {
        entrypoint: [BINARY, "serve-files", "--root", ROOT_FROM_WORKDIR]
            .map(str::to_owned)
            .to_vec(),
        working_dir: "/".to_owned(),
        exposed_ports: [PORT.to_owned()].into(),
        user: USER.to_owned(),
        ..ImageConfig::default()
    };
    Ok(compose(store, vec![server, files], config).await?)
}
