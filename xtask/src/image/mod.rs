//! `cargo xtask image`: a container image that nobody here wrote, made from
//! Debian packages and pushed to a registry, for the tests to pull.
//!
//! [`debian`] brings the packages' files, [`layout`] writes them as an OCI
//! image and pushes it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::output::{result, say};
use crate::{process, workspace};

pub mod debian;
pub mod layout;
mod postgres;
mod servers;
pub mod stack;

use layout::{Image, Layer};

/// Which image to make, and where to push it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The image to build.
    recipe: Recipe,
    /// The registry to push to, spoken to over plain HTTP.
    #[arg(long, value_name = "HOST:PORT")]
    registry: String,
    /// The tag to push.
    #[arg(long, default_value = "latest")]
    tag: String,
    /// The text of the page it serves, to tell one tag from another.
    #[arg(long, default_value = "nginx from Debian packages")]
    message: String,
}

/// The images there are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Recipe {
    /// Debian's nginx on port 80, IPv4 and IPv6, with busybox for a shell.
    Nginx,
    /// Debian's PostgreSQL on port 5432, data where `PGDATA` says.
    Postgres,
    /// Debian's Redis on port 6379, data in `/data`.
    Redis,
    /// Debian's Node with a server of a few lines, on port 8080 or `PORT`.
    Node,
    /// The same with Debian's Python.
    Python,
    /// Debian's HAProxy, which says who asks, on port 8080; on 8081 by the PROXY protocol.
    Haproxy,
    /// Debian's dnsmasq on port 53, which knows `app.test`.
    Dnsmasq,
    /// A shell of busybox with all it has, and its web server on port 80 or `PORT`.
    Busybox,
}

/// In the name of the cached layer: raise it when what goes into it changes.
const BASE_REVISION: u32 = 1;

/// Builds and pushes what the options ask for and prints its reference.
///
/// # Errors
/// When packages cannot be fetched or the registry refuses the image.
pub fn run(options: &Options) -> Result<()> {
    let (name, digest) = match options.recipe {
        Recipe::Nginx => ("nginx", push_nginx(&options.registry, &options.tag, &options.message)?),
        Recipe::Redis => pushed(&servers::REDIS, options)?,
        Recipe::Node => pushed(&servers::NODE, options)?,
        Recipe::Python => pushed(&servers::PYTHON, options)?,
        Recipe::Haproxy => pushed(&servers::HAPROXY, options)?,
        Recipe::Dnsmasq => pushed(&servers::DNSMASQ, options)?,
        Recipe::Busybox => pushed(&servers::BUSYBOX, options)?,
        Recipe::Postgres => ("postgres", postgres::push(&options.registry, &options.tag)?),
    };
    result(&format!("{}/{name}@{digest}", options.registry));
    Ok(())
}

fn pushed(server: &servers::Server, options: &Options) -> Result<(&'static str, String)> {
    Ok((server.name, server.push(&options.registry, &options.tag)?))
}

/// Pushes `nginx:TAG`, serving `message`, to a registry that speaks plain HTTP
/// at `HOST:PORT`. Returns the manifest's digest, `sha256:…`.
///
/// The first call on a machine downloads the packages; later ones take the
/// layer from the cache.
///
/// # Errors
/// When packages cannot be fetched or the registry refuses the image.
pub fn push_nginx(registry: &str, tag: &str, message: &str) -> Result<String> {
    let image = Image {
        layers: vec![nginx_base()?, nginx_site(message)?],
        command: ["nginx", "-g", "daemon off;"].map(str::to_owned).to_vec(),
        port: 80,
        // Lets what is open end first.
        stop_signal: "SIGQUIT",
    };
    layout::push(&image, registry, "nginx", tag)
}

/// The packages' files, from the cache or made now.
fn nginx_base() -> Result<Layer> {
    base(&format!("nginx-base-{BASE_REVISION}"), unpack_nginx)
}

/// What a static program may need of a machine and no more, as the archive of a root file
/// system: certificates of public authorities, and the usual directories.
///
/// # Errors
/// When packages cannot be fetched or unpacked.
pub fn base_of_static() -> Result<PathBuf> {
    cached(&format!("static-base-{BASE_REVISION}"), |root| {
        debian::unpack_programs(&["ca-certificates"], root)?;
        bundle_certificates(root)?;
        make_directories(root)
    })
}

/// busybox with all it has, as the archive of a root file system.
///
/// # Errors
/// When packages cannot be fetched or unpacked.
pub fn busybox_base() -> Result<PathBuf> {
    cached(&format!("busybox-alone-{BASE_REVISION}"), |root| {
        debian::unpack_programs(&["busybox-static"], root)?;
        link_all_applets(root)?;
        make_directories(root)
    })
}

fn make_directories(root: &Path) -> Result<()> {
    for directory in ["tmp", "run", "proc", "sys", "dev", "etc", "var/lib"] {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("create /{directory}"))?;
    }
    Ok(())
}

/// What the package does when it is installed: all of its certificates in one file.
fn bundle_certificates(root: &Path) -> Result<()> {
    let mut bundle = Vec::new();
    let from = root.join("usr/share/ca-certificates/mozilla");
    for entry in fs::read_dir(&from).context("list the certificates")? {
        let path = entry.context("list the certificates")?.path();
        bundle.extend(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    let to = root.join("etc/ssl/certs");
    fs::create_dir_all(&to).context("create /etc/ssl/certs")?;
    fs::write(to.join("ca-certificates.crt"), bundle).context("write the certificates")
}

/// A layer that does not change, from the cache or made now.
fn base(name: &str, unpack: impl FnOnce(&Path) -> Result<()>) -> Result<Layer> {
    let cached = cached(name, unpack)?;
    let compressed = fs::read(&cached).with_context(|| format!("read {}", cached.display()))?;
    Layer::of_archive(compressed)
}

/// The same as a compressed archive.
fn cached(name: &str, unpack: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = workspace::cache_dir()?.join("images");
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let cached = cache.join(format!("{name}.tar.gz"));
    if !cached.exists() {
        say(&format!("building the layer {name} from Debian packages"));
        let root = tempfile::tempdir_in(&cache).context("make a directory for the files")?;
        unpack(root.path())?;
        // Made aside and renamed, so that two callers at once do no harm.
        let made = Layer::of_directory(root.path())?;
        let mut fresh = tempfile::Builder::new();
        // Readable by a plain user's run when root's made it.
        fresh.permissions(fs::Permissions::from_mode(0o644));
        let fresh = fresh.tempfile_in(&cache).context("make a temporary file")?;
        fs::write(&fresh, &made.compressed).context("write the layer")?;
        fresh.persist(&cached).context("keep the layer")?;
    }
    Ok(cached)
}

/// Unpacks Debian's nginx and the libraries it needs into `root`.
///
/// # Errors
/// When packages cannot be fetched or unpacked.
pub fn unpack_nginx(root: &Path) -> Result<()> {
    debian::unpack_programs(&["nginx", "busybox-static"], root)?;
    link_busybox(root)?;
    for directory in ["tmp", "run", "proc", "sys", "dev", "var/log/nginx", "var/lib/nginx"] {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("create {directory}"))?;
    }
    Ok(())
}

/// Gives an image a shell and the usual small programs.
fn link_busybox(root: &Path) -> Result<()> {
    let applets = ["sh", "cat", "ls", "ps", "kill", "sleep", "id", "ip", "wget", "touch", "dd"];
    link_applets(root, applets)
}

/// Gives a root file system every program of busybox that no package brought.
///
/// # Errors
/// When there is no busybox or a link cannot be made.
pub fn link_all_applets(root: &Path) -> Result<()> {
    // It is static: what runs in the image runs here.
    let applets = process::capture(Command::new(busybox(root)?).arg("--list"))?;
    link_applets(root, applets.lines())
}

/// Gives an image these programs of busybox.
fn link_applets<'a>(root: &Path, applets: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let busybox = busybox(root)?;
    for applet in applets {
        // Where a package brought the real program, that one stays. What is there is
        // looked at itself: where it leads is another place on this machine.
        let link = root.join("usr/bin").join(applet);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("/usr/bin").join(busybox.file_name().unwrap_or_default()), &link)
                .with_context(|| format!("link {}", link.display()))?;
        }
    }
    Ok(())
}

/// Where busybox is among the unpacked files.
///
/// # Errors
/// When it is not there.
pub fn busybox(root: &Path) -> Result<PathBuf> {
    ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.exists())
        .context("find busybox among the unpacked files")
}

/// What makes it a site: settings, users and the page.
fn nginx_site(message: &str) -> Result<Layer> {
    let page = format!("<!doctype html><title>nginx</title><p>{message}</p>\n");
    Layer::of_files(&[
        ("etc/nginx/nginx.conf", NGINX_CONF),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n"),
        ("etc/group", "root:x:0:\nwww-data:x:33:\n"),
        ("var/www/html/index.html", &page),
    ])
}

/// As small as it can be, and like the usual images: a root master, workers
/// under the distribution's user, logs where the runtime collects them.
const NGINX_CONF: &str = "\
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    access_log /dev/stdout;
    server {
        listen 80;
        listen [::]:80;
        root /var/www/html;
    }
}
";
