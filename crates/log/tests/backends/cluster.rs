//! A PostgreSQL server of the tests' own: its data in a temporary directory, a
//! Unix socket there instead of a port, gone when dropped. Used by the tests of
//! other rooms too.
//!
//! Start at [`Cluster::start`].

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Starting takes a second; this is for a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server and its data.
pub struct Cluster {
    programs: PathBuf,
    /// Whom the server runs as, when this is root, which it refuses to be.
    user: Option<(u32, u32)>,
    /// Loopback and TLS instead of the socket only; needs `openssl`.
    tls_port: Option<u16>,
    directory: TempDir,
    process: Mutex<Option<Child>>,
    databases: AtomicU64,
}

impl Cluster {
    /// `None`, having said so, when PostgreSQL is not installed.
    pub fn start() -> Option<Cluster> {
        Cluster::start_on(None)
    }

    /// A server that takes connections over TLS too, on a loopback port, with a
    /// certificate of its own for `localhost`. `None` without `openssl` as well.
    pub fn start_with_tls() -> Option<Cluster> {
        if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: openssl is not installed (apt-get install openssl)");
            return None;
        }
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Cluster::start_on(Some(port))
    }

    fn start_on(tls_port: Option<u16>) -> Option<Cluster> {
        let Some(programs) = programs() else {
            println!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("helix-pg-").tempdir().unwrap();
        let user = nix::unistd::geteuid().is_root().then(unprivileged_user);
        if let Some((uid, gid)) = user {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let (process, databases) = (Mutex::default(), AtomicU64::default());
        let cluster = Cluster { programs, user, tls_port, directory, process, databases };
        let mut initdb = cluster.command("initdb");
        initdb.args(["--username=helix", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        let output = initdb.args(["--no-sync", "-D"]).arg(cluster.data()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if tls_port.is_some() {
            cluster.make_certificate();
        }
        cluster.restart();
        Some(cluster)
    }

    /// An empty database; its URL.
    pub fn create_database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut createdb = self.command("createdb");
        createdb.arg("--username=helix").arg("--host").arg(self.directory.path());
        createdb.arg("--port").arg(self.tls_port.unwrap_or(5432).to_string()).arg(&name);
        let output = createdb.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.url(&name)
    }

    /// Kills the server as a power cut would: no process of it does another step.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut server) = process.take() else { return };
        let backends = children(server.id());
        let _ = server.kill();
        let _ = server.wait();
        for pid in backends {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }

    /// Starts the server after [`Cluster::kill`] and waits until it answers. It
    /// refuses to start while a process of its predecessor is still going.
    pub fn restart(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let running = match process.as_mut() {
                Some(server) => server.try_wait().unwrap().is_none(),
                None => false,
            };
            if !running {
                *process = Some(self.spawn());
            }
            if self.answers() {
                return;
            }
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the server does not start:\n{log}");
        }
    }

    /// Blocks for as long as a connection attempt takes, which paces the loop
    /// above.
    fn answers(&self) -> bool {
        let mut ready = self.command("pg_isready");
        ready.args(["--quiet", "--timeout=1", "--username=helix", "--port"]);
        ready.arg(self.tls_port.unwrap_or(5432).to_string()).arg("--host");
        ready.arg(self.directory.path()).status().unwrap().success()
    }

    fn spawn(&self) -> Child {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data()).arg("-k").arg(self.directory.path());
        server.args(["-c", "max_connections=200"]);
        match self.tls_port {
            None => server.args(["-c", "listen_addresses="]),
            Some(port) => server
                .args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-p"])
                .arg(port.to_string()),
        };
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// `server.crt` and `server.key`, by the names the server looks for.
    fn make_certificate(&self) {
        let mut openssl = self.command("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
        openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.arg("-keyout").arg(self.data().join("server.key"));
        openssl.arg("-out").arg(self.certificate());
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn certificate(&self) -> PathBuf {
        self.data().join("server.crt")
    }

    /// Of a database, over TLS.
    pub fn tls_url(&self, database: &str) -> String {
        format!("postgres://helix@localhost:{}/{database}", self.tls_port.unwrap())
    }

    fn command(&self, program: &str) -> Command {
        let own = self.programs.join(program);
        let mut command = Command::new(if own.is_file() { own } else { program.into() });
        command.current_dir(self.directory.path()).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn url(&self, database: &str) -> String {
        let (port, directory) = (self.tls_port.unwrap_or(5432), self.directory.path().display());
        format!("postgres://helix@localhost:{port}/{database}?host={directory}")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The directory with the newest `postgres` that has `initdb` beside it.
fn programs() -> Option<PathBuf> {
    let has_all = |it: &PathBuf| {
        ["postgres", "initdb", "pg_isready"].iter().all(|name| it.join(name).is_file())
    };
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|it| it.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort_by_key(|it| version(it));
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian.into_iter().rev().chain(std::env::split_paths(&path)).find(has_all)
}

fn version(programs: &Path) -> u32 {
    let name = programs.parent().and_then(Path::file_name).and_then(|it| it.to_str());
    name.and_then(|it| it.parse().ok()).unwrap_or(0)
}

fn unprivileged_user() -> (u32, u32) {
    let user =
        ["postgres", "nobody"].iter().find_map(|name| nix::unistd::User::from_name(name).ok()?);
    user.map_or((65_534, 65_534), |it| (it.uid.as_raw(), it.gid.as_raw()))
}

fn children(parent: u32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before it may hold anything, in parentheses.
        let (_, rest) = stat.rsplit_once(") ")?;
        (rest.split(' ').nth(1)? == parent.to_string()).then_some(pid)
    })
    .collect()
}
