//! Peer: a proxy in front of containers that is reconfigured at each deploy,
//! the usual way to deploy without a platform.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::image;
use crate::process::{self, Owned, free_port};

/// Debian's nginx, run from an unpacked tree: nothing is installed.
pub struct Proxy {
    version: String,
    port: u16,
    settings: PathBuf,
    server: Owned,
    _directory: TempDir,
}

impl Proxy {
    /// Starts it on a free loopback port, pointing at `upstream` (`HOST:PORT`).
    ///
    /// # Errors
    /// When the packages cannot be fetched or the server does not start.
    pub fn start(upstream: &str) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for nginx")?;
        let root = directory.path().join("root");
        image::unpack_nginx(&root)?;
        let port = free_port()?;
        let settings = directory.path().join("nginx.conf");
        write_settings(&settings, directory.path(), port, upstream)?;
        let said = process::output(program(&root)?.arg("-v"))?;
        let said = String::from_utf8_lossy(&said.stderr);
        let version = said.trim().rsplit('/').next().unwrap_or_default().to_owned();
        let mut command = program(&root)?;
        command.arg("-c").arg(&settings).args(["-e", "stderr"]).stdin(Stdio::null());
        let server = Owned::spawn(&mut command)?;
        Ok(Self { version, port, settings, server, _directory: directory })
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Points it at another upstream and has it reload.
    ///
    /// # Errors
    /// When its settings cannot be written or it is gone.
    pub fn point_at(&self, upstream: &str) -> Result<()> {
        let directory = self.settings.parent().context("find the settings' directory")?;
        write_settings(&self.settings, directory, self.port, upstream)?;
        // What `nginx -s reload` does.
        process::output(Command::new("kill").arg("-HUP").arg(self.server.id().to_string()))
            .map(drop)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The master takes its workers with it, which a kill does not.
        self.server.terminate();
    }
}

fn write_settings(path: &Path, directory: &Path, port: u16, upstream: &str) -> Result<()> {
    let directory = directory.display();
    let text = format!(
        "daemon off;\npid {directory}/nginx.pid;\nerror_log stderr crit;\nworker_processes 1;\n\
         events {{ worker_connections 1024; }}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {directory}/body;\n  proxy_temp_path {directory}/proxy;\n  \
         fastcgi_temp_path {directory}/fastcgi;\n  uwsgi_temp_path {directory}/uwsgi;\n  \
         scgi_temp_path {directory}/scgi;\n  server {{\n    listen 127.0.0.1:{port};\n    \
         location / {{ proxy_pass http://{upstream}; }}\n  }}\n}}\n"
    );
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// With its own loader and its own libraries: the machine's may be older.
fn program(root: &Path) -> Result<Command> {
    let mut command = Command::new(loader(root)?);
    command.arg("--library-path").arg(library_path(root)?).arg(root.join("usr/sbin/nginx"));
    Ok(command)
}

fn loader(root: &Path) -> Result<PathBuf> {
    ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"]
        .iter()
        .filter_map(|path| resolve_inside(root, &root.join(path)))
        .find(|path| path.is_file())
        .context("find the loader among nginx's packages")
}

/// Follows a link the way a process with this root would.
fn resolve_inside(root: &Path, path: &Path) -> Option<PathBuf> {
    match fs::read_link(path) {
        Ok(target) if target.is_absolute() => Some(root.join(target.strip_prefix("/").ok()?)),
        _ => path.canonicalize().ok(),
    }
}

fn library_path(root: &Path) -> Result<PathBuf> {
    ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .iter()
        .map(|triple| root.join("usr/lib").join(triple))
        .find(|path| path.is_dir())
        .context("find the libraries among nginx's packages")
}
