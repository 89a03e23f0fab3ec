//! The files of a folder that go into an image.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{ComposeFile, FileSource};
use crate::Result;
use crate::error::ImageError;
use crate::limits::FOLDER_FILES_MAX;

/// A folder, listed.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    /// Its files and symbolic links, sorted by name.
    pub files: Vec<FolderFile>,
}

/// One file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFile {
    /// Path below the folder, with `/`.
    pub name: String,
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// The target, when it is a symbolic link.
    pub link: Option<PathBuf>,
}

impl Folder {
    /// Lists `root`, leaving out what `skip` says by name below the root and
    /// whether it is a directory. Symbolic links are kept as links: following
    /// one could carry a private file of this machine into an image.
    pub fn list(root: &Path, skip: &dyn Fn(&str, bool) -> bool) -> Result<Self> {
        let mut files = Vec::new();
        let mut pending = vec![(root.to_owned(), String::new())];
        while let Some((directory, prefix)) = pending.pop() {
            let entries =
                std::fs::read_dir(&directory).map_err(ImageError::storage("list", &directory))?;
            for entry in entries {
                let entry = entry.map_err(ImageError::storage("list", &directory))?;
                let path = entry.path();
                let name = named(&path, &prefix)?;
                let metadata = entry.metadata().map_err(ImageError::storage("inspect", &path))?;
                if skip(&name, metadata.is_dir()) {
                    continue;
                }
                if metadata.is_dir() {
                    pending.push((path, format!("{name}/")));
                } else if metadata.is_file() || metadata.is_symlink() {
                    files.push(FolderFile::new(name, path, &metadata)?);
                }
            }
            if files.len() > FOLDER_FILES_MAX {
                return Err(ImageError::TooLarge {
                    what: format!("{} has more than {FOLDER_FILES_MAX} files", root.display()),
                    limit: format!("{FOLDER_FILES_MAX} files"),
                });
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { files })
    }

    pub(super) fn files_below(&self, below: &str) -> Vec<ComposeFile> {
        let below = below.trim_end_matches('/');
        let entry = |file: &FolderFile| ComposeFile {
            path: format!("{below}/{}", file.name),
            source: match &file.link {
                Some(target) => FileSource::Link(target.clone()),
                None => FileSource::Path(file.path.clone()),
            },
            mode: match (&file.link, file.executable) {
                (Some(_), _) => 0o777,
                (None, true) => 0o755,
                (None, false) => 0o644,
            },
        };
        self.files.iter().map(entry).collect()
    }
}

impl FolderFile {
    fn new(name: String, path: PathBuf, metadata: &std::fs::Metadata) -> Result<Self> {
        let link = if metadata.is_symlink() {
            Some(std::fs::read_link(&path).map_err(ImageError::storage("read", &path))?)
        } else {
            None
        };
        let executable = metadata.permissions().mode() & 0o100 != 0;
        Ok(Self { name, path, executable, link })
    }
}

fn named(path: &Path, prefix: &str) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        let reason = "file names in an image must be UTF-8";
        ImageError::storage("take", path)(std::io::Error::other(reason))
    })?;
    Ok(format!("{prefix}{name}"))
}
