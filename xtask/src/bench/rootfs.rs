//! The root file system every subject runs: one static busybox, with a page
//! for its web server.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{packages, process};

/// The port its web server listens on.
pub const HTTP_PORT: u16 = 8080;

/// What an idle instance runs.
pub const IDLE_COMMAND: [&str; 3] = ["/bin/busybox", "sleep", "86400"];

/// What a serving instance runs.
pub const HTTP_COMMAND: [&str; 7] = ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"];

/// Writes the file system into `root`, its page saying `page`.
///
/// # Errors
/// When busybox is not there or a file cannot be written.
pub fn write(root: &Path, page: &str) -> Result<()> {
    for directory in ["bin", "www", "proc", "sys", "dev", "tmp", "etc"] {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("create /{directory}"))?;
    }
    let busybox = packages::find("busybox")?.context("find busybox")?;
    fs::copy(busybox, root.join("bin/busybox")).context("copy busybox")?;
    symlink("busybox", root.join("bin/sh")).context("link /bin/sh")?;
    fs::write(root.join("www/index.html"), page).context("write the page")
}

/// Lines in the file `/lines`, and the length of each with its end.
pub const LINES: usize = 320_000;
pub const LINE_BYTES: usize = 100;

/// The same with a file of lines, as a program might log them.
///
/// # Errors
/// When a file cannot be written.
pub fn write_with_lines(root: &Path) -> Result<()> {
    write(root, "lines\n")?;
    let mut text = String::with_capacity(LINES * LINE_BYTES);
    for number in 0..LINES {
        let line = format!("{number:08} INFO request served path=/shop/items status=200 ");
        text.push_str(&format!("{line:x<width$}\n", width = LINE_BYTES - 1));
    }
    fs::write(root.join("lines"), text).context("write the lines")
}

/// The same as an archive, for engines that import one.
///
/// # Errors
/// When it cannot be written.
pub fn archive(root: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(archive).arg("--directory").arg(root).arg(".");
    process::output(&mut tar).map(drop)
}
