//! Debian's own registry on a free loopback port, with Debian's nginx and, once
//! asked for, other software in it: images and a registry that nobody here wrote.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tempfile::TempDir;

use crate::world::xtask;

/// A running registry; it ends with its last user.
pub struct Registry {
    server: Server,
    /// The pinned references of the two pages.
    pub first: String,
    pub second: String,
    postgres: OnceLock<String>,
    _storage: TempDir,
}

/// What the two images' pages say.
pub const FIRST_PAGE: &str = "the first nginx";
pub const SECOND_PAGE: &str = "the second nginx";

/// Shared by the tests that run at the same time. Weak, because statics are
/// never dropped and this one has a process.
static SHARED: Mutex<Weak<Registry>> = Mutex::new(Weak::new());

impl Registry {
    /// The one that runs, or a new one with both images.
    pub fn shared() -> Arc<Registry> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let registry = Arc::new(Registry::start());
            *shared = Arc::downgrade(&registry);
            registry
        })
    }

    fn start() -> Registry {
        let storage = tempfile::Builder::new().prefix("helix-e2e-registry-").tempdir().unwrap();
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            storage.path().display()
        );
        let server = Server::start(&storage.path().join("config.yml"), &text);
        let mut registry = Registry {
            server,
            first: String::new(),
            second: String::new(),
            postgres: OnceLock::new(),
            _storage: storage,
        };
        registry.first = registry.push("nginx", &["--tag", "first", "--message", FIRST_PAGE]);
        registry.second = registry.push("nginx", &["--tag", "second", "--message", SECOND_PAGE]);
        registry
    }

    /// A reference to something in this registry: `HOST:PORT/REST`.
    pub fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.server.address)
    }

    /// The pinned reference of PostgreSQL, made when first asked for: few tests want it.
    pub fn postgres(&self) -> String {
        self.postgres.get_or_init(|| self.software("postgres")).clone()
    }

    /// The pinned reference of what else `cargo xtask image` makes.
    pub fn software(&self, recipe: &str) -> String {
        self.push(recipe, &[])
    }

    /// Makes an image from Debian packages and pushes it; its pinned reference.
    fn push(&self, recipe: &str, arguments: &[&str]) -> String {
        let words = [&["image", recipe, "--registry", &self.server.address], arguments].concat();
        let (reference, said) = xtask::run(&words, Stdio::piped());
        assert!(reference.starts_with(&self.server.address), "{reference:?}\n{said}");
        reference
    }
}

/// Debian's registry with some settings; it ends with this.
pub struct Server {
    pub address: String,
    process: Child,
}

impl Server {
    /// Writes the settings to a file and starts it.
    pub fn start(file: &Path, settings: &str) -> Server {
        std::fs::write(file, settings).unwrap();
        let mut process = Command::new(program())
            .arg("serve")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start docker-registry");
        let log = BufReader::new(process.stderr.take().unwrap());
        // Owned from here on, so that a failure below ends the process.
        let mut server = Server { address: String::new(), process };
        server.address = listening(log);
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads the registry's log until it says where it listens, and goes on reading
/// so that it never blocks.
fn listening(log: BufReader<impl std::io::Read + Send + 'static>) -> String {
    let mut lines = log.lines();
    let mut heard = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        if let Some((_, rest)) = line.split_once("listening on ") {
            let address: String = rest
                .chars()
                .take_while(|char| char.is_ascii_digit() || ".:".contains(*char))
                .collect();
            std::thread::spawn(move || lines.for_each(drop));
            return address;
        }
        heard.push_str(&line);
    }
    panic!("docker-registry does not start: {heard}");
}

/// On the path, or where `cargo xtask test` unpacked it.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = Path::new(env!("CARGO_BIN_EXE_helix"))
        .ancestors()
        .map(|folder| folder.join("xtask/packages/usr/bin"));
    std::env::split_paths(&path)
        .chain(unpacked)
        .map(|folder| folder.join("docker-registry"))
        .find(|program| program.exists())
        .expect("docker-registry is missing: run `cargo xtask test --only packages`")
}
