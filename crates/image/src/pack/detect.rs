//! Deciding how a folder is built.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Pack, PackError, PackKind, PackSettings, elf};

const STATIC_ROOTS: [&str; 3] = ["", "public", "dist"];
const DOCKERFILE: &str = "Dockerfile";

/// Finds the pack for a folder: what the settings say, else a Dockerfile, else
/// files to serve, else exactly one static executable.
pub fn detect(folder: &Path, settings: &PackSettings) -> Result<Pack, PackError> {
    match wanted(settings) {
        Some(PackKind::Dockerfile) => {
            let name = settings.dockerfile.as_deref().unwrap_or(DOCKERFILE);
            Ok(Pack::Dockerfile { file: inside(folder, name)? })
        }
        Some(PackKind::Static) => {
            let root = match &settings.static_root {
                Some(name) => inside(folder, name)?,
                None => static_root(folder).unwrap_or_else(|| folder.to_owned()),
            };
            Ok(Pack::Static { root })
        }
        Some(PackKind::Binary) => {
            let path = match &settings.binary {
                Some(name) => inside(folder, name)?,
                None => only_executable(folder)?,
            };
            elf::check(&path)?;
            Ok(Pack::Binary { path })
        }
        None => guess(folder),
    }
}

/// Naming a part of a pack chooses the pack.
fn wanted(settings: &PackSettings) -> Option<PackKind> {
    let named = |part: &Option<String>, kind| part.as_ref().map(|_| kind);
    settings
        .pack
        .or_else(|| named(&settings.dockerfile, PackKind::Dockerfile))
        .or_else(|| named(&settings.binary, PackKind::Binary))
        .or_else(|| named(&settings.static_root, PackKind::Static))
}

fn guess(folder: &Path) -> Result<Pack, PackError> {
    let file = folder.join(DOCKERFILE);
    if file.is_file() {
        return Ok(Pack::Dockerfile { file });
    }
    if let Some(root) = static_root(folder) {
        return Ok(Pack::Static { root });
    }
    let path = only_executable(folder)?;
    elf::check(&path)?;
    Ok(Pack::Binary { path })
}

fn static_root(folder: &Path) -> Option<PathBuf> {
    let roots = STATIC_ROOTS.iter().map(|name| match *name {
        "" => folder.to_owned(),
        name => folder.join(name),
    });
    roots.into_iter().find(|root| root.join("index.html").is_file())
}

fn only_executable(folder: &Path) -> Result<PathBuf, PackError> {
    let mut found = executables(folder)?;
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        (last, _) => {
            let names: Vec<String> = found
                .iter()
                .chain(&last)
                .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
                .collect();
            let executables = if names.is_empty() {
                "no executable".to_owned()
            } else {
                format!("several executables ({})", names.join(", "))
            };
            Err(PackError::Undetected {
                folder: folder.to_owned(),
                looked_for: format!(
                    "it has no Dockerfile, no index.html (nor public/index.html or \
                     dist/index.html) and {executables} where exactly one is needed"
                ),
            })
        }
    }
}

fn executables(folder: &Path) -> Result<Vec<PathBuf>, PackError> {
    let entries = std::fs::read_dir(folder).map_err(PackError::io("list", folder))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            entry.metadata().is_ok_and(|metadata| {
                metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
            })
        })
        .map(|entry| entry.path())
        .filter(|path| elf::is_elf(path))
        .collect();
    found.sort();
    Ok(found)
}

/// A path named by settings, which must stay inside the folder even through
/// symbolic links: settings can come from somebody else's repository.
fn inside(folder: &Path, name: &str) -> Result<PathBuf, PackError> {
    let path = folder.join(name);
    let real = path.canonicalize().map_err(|_| PackError::Missing { path: path.clone() })?;
    let root = folder.canonicalize().map_err(PackError::io("open", folder))?;
    if real.starts_with(&root) {
        Ok(path)
    } else {
        Err(PackError::Outside { name: name.to_owned() })
    }
}
