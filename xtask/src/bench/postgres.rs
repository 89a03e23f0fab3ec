//! Peer: PostgreSQL, as Debian sets it up (every commit reaches the disk), one
//! insert in each transaction, driven by its own `pgbench`.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::measure::Samples;
use super::wrk::Load;
use crate::packages;
use crate::process::{self, Owned};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// Whom the server runs as; it refuses to be root.
const USER: &str = "nobody";

const TABLE: &str = "CREATE TABLE written (id bigserial PRIMARY KEY, at timestamptz NOT NULL \
                     DEFAULT now(), name text NOT NULL UNIQUE, payload text NOT NULL)";

/// As many bytes of payload as an event of the product's has.
const INSERT: &str = "INSERT INTO written (name, payload) VALUES \
                      (md5(random()::text || clock_timestamp()::text), repeat('x', 300));\n";

const SELECT: &str = "SELECT * FROM written WHERE id = 10;\n";

/// A running server with an empty table, on a Unix socket in its directory.
pub struct Postgres {
    version: String,
    server: Owned,
    directory: TempDir,
    identity: (u32, u32),
}

impl Postgres {
    /// Makes a cluster, starts it and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<Postgres> {
        let directory = tempfile::tempdir().context("make a directory for PostgreSQL")?;
        let identity = (id_of(USER, "-u")?, id_of(USER, "-g")?);
        chown(directory.path(), Some(identity.0), Some(identity.1)).context("hand it over")?;
        let data = directory.path().join("data");
        let mut making = program("initdb", directory.path(), identity)?;
        making.args(["--username=bench", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D"]);
        process::output(making.arg(&data))?;
        let said = process::capture(program("postgres", directory.path(), identity)?.arg("-V"))?;
        let version = said.split(' ').nth(2).unwrap_or_default().to_owned();
        let mut serving = program("postgres", directory.path(), identity)?;
        serving.arg("-D").arg(&data).arg("-k").arg(directory.path());
        serving.args(["-c", "listen_addresses="]);
        serving.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Owned::spawn(&mut serving)?;
        let mut postgres = Postgres { version, server, directory, identity };
        postgres.wait_until_it_answers()?;
        process::output(postgres.client("psql")?.args(["-q", "-c", TABLE, "postgres"]))?;
        Ok(postgres)
    }

    /// As the tables call it.
    pub fn name(&self) -> String {
        format!("PostgreSQL {}", self.version)
    }

    /// Makes an empty database, and says where a client finds it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn new_database(&self, name: &str) -> Result<String> {
        let create = format!("CREATE DATABASE {name}");
        process::output(self.client("psql")?.args(["-q", "-c", &create, "postgres"]))?;
        Ok(format!("postgres://bench@localhost/{name}?host={}", self.directory.path().display()))
    }

    /// Rows inserted, each in a transaction of its own.
    ///
    /// # Errors
    /// When `pgbench` fails.
    pub fn insert(&self, clients: usize, seconds: u64) -> Result<Load> {
        self.run(INSERT, clients, seconds)
    }

    /// One row read by its key.
    ///
    /// # Errors
    /// When `pgbench` fails.
    pub fn select(&self, clients: usize, seconds: u64) -> Result<Load> {
        self.run(SELECT, clients, seconds)
    }

    fn run(&self, script: &str, clients: usize, seconds: u64) -> Result<Load> {
        let place = tempfile::tempdir_in(self.directory.path()).context("make a directory")?;
        chown(place.path(), Some(self.identity.0), Some(self.identity.1))
            .context("hand it over")?;
        let path = place.path().join("script.sql");
        fs::write(&path, script).context("write a script")?;
        let mut command = self.client("pgbench")?;
        command
            .current_dir(place.path())
            .args(["--no-vacuum", "--jobs=1", "--protocol=prepared", "--log"])
            .arg(format!("--client={clients}"))
            .arg(format!("--time={seconds}"))
            .arg("--file")
            .arg(&path)
            .arg("postgres");
        let said = process::capture(&mut command)?;
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
        let rate = rate.with_context(|| format!("find the rate in what pgbench said:\n{said}"))?;
        let latencies = latencies(place.path())?;
        Ok(Load {
            per_second: rate.parse().context("read the rate")?,
            p99_ms: latencies.percentile(99).as_secs_f64() * 1000.0,
            p999_ms: f64::NAN,
        })
    }

    fn client(&self, name: &str) -> Result<Command> {
        let mut command = program(name, self.directory.path(), self.identity)?;
        command.arg("-h").arg(self.directory.path()).args(["-U", "bench"]);
        Ok(command)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.server.check_alive()?;
            let mut asking = self.client("psql")?;
            if process::output(asking.args(["-q", "-c", "SELECT 1", "postgres"])).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("PostgreSQL does not answer after {READY_WITHIN:?}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It takes its children with it, which a kill does not.
        self.server.terminate();
    }
}

/// The third word of each line of `pgbench --log` is how long the transaction
/// took, in microseconds.
fn latencies(directory: &Path) -> Result<Samples> {
    let mut durations = Vec::new();
    for entry in fs::read_dir(directory).context("find pgbench's log")? {
        let path = entry.context("find pgbench's log")?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            continue;
        }
        let text = fs::read_to_string(&path).context("read pgbench's log")?;
        let micros = text.lines().filter_map(|line| line.split(' ').nth(2)?.parse().ok());
        durations.extend(micros.map(Duration::from_micros));
    }
    Ok(Samples::of(durations))
}

fn program(name: &str, directory: &Path, (uid, gid): (u32, u32)) -> Result<Command> {
    let path = packages::find(name)?.with_context(|| format!("find {name}"))?;
    let mut command = Command::new(path);
    command.uid(uid).gid(gid).current_dir(directory);
    Ok(command)
}

fn id_of(user: &str, which: &str) -> Result<u32> {
    process::capture(Command::new("id").args([which, user]))?.parse().context("read an id")
}
