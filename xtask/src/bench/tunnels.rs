//! Bench: what an idle tunnel costs an edge, and how long many take to come back to one
//! that was killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::http;
use super::proxies;
use super::report::{Bound, Report, Row, Target};
use super::server::{Place, Server};
use super::tunnel_peers::{self, Rathole, spawn};
use crate::output::say;
use crate::process::{self, Owned, free_port};
use crate::processes::Memory;
use crate::workspace;

/// Idle tunnels on one edge.
const IDLE: usize = 10_000;

/// Tunnels that come back to one that was killed. rathole keeps eight connections ready
/// for each, so that many more than these would be too many files for it.
const RETURNING: usize = 1_000;

/// Tunnels of TCP have ports from here on, rathole's the same.
const FIRST_PORT: u16 = 20_000;

/// All of them take minutes to be made; one that takes longer than this hangs.
const ATTACHED_WITHIN: Duration = Duration::from_secs(600);
const BACK_WITHIN: Duration = Duration::from_secs(120);

/// After the last has attached, until what that took has been given back.
const SETTLES: Duration = Duration::from_secs(20);

/// Between two looks for what has come back.
const PAUSE: Duration = Duration::from_millis(20);

/// What a visitor of an answer waits for.
const ANSWER: &str = "HTTP/1.1 200";

/// Measures all of them.
///
/// # Errors
/// When one does not start, or its tunnels do not come back.
pub fn run(binary: &Path) -> Result<Report> {
    let (peers, agents) = (tunnel_peers::provide()?, build_agents()?);
    let origin = proxies::Server::start(1)?;
    let ports: Vec<u16> = (FIRST_PORT..).take(RETURNING).collect();
    let mut rows = Vec::new();
    let directory = tempfile::tempdir().context("make a directory")?;
    // Not with its noise: of a thousand tunnels few have answered then after minutes.
    let rathole = Rathole::set_up(&peers, directory.path(), &ports, origin.port, false)?;
    say(&format!("measuring {}", rathole.name));
    rows.push(measure_rathole(&rathole, &ports)?);
    say("measuring helix");
    rows.push(measure_helix(binary, &agents, origin.port, &ports)?);
    Ok(report(rows))
}

/// Builds the program that is many agents.
fn build_agents() -> Result<PathBuf> {
    let arguments = ["--release", "--package", "helix-client", "--features", "tunnel"];
    let arguments = [&arguments[..], &["--example", "agents", "--locked"]].concat();
    workspace::build(&mut workspace::cargo(), &arguments)?.pop().context("cargo built no `agents`")
}

fn measure_rathole(rathole: &Rathole, ports: &[u16]) -> Result<Row> {
    let mut server = rathole.server()?;
    thread::sleep(SETTLES);
    let before = pss_kib(&server);
    let _agent = rathole.agent()?;
    all_answer(ports, ATTACHED_WITHIN)?;
    thread::sleep(SETTLES);
    let each = (pss_kib(&server) - before) / ports.len() as f64;
    server.kill()?;
    let begun = Instant::now();
    let _server = rathole.server()?;
    all_answer(ports, BACK_WITHIN)?;
    let back = begun.elapsed().as_secs_f64();
    Ok(Row { subject: rathole.name.clone(), values: vec![each, back] })
}

fn measure_helix(binary: &Path, agents: &Path, origin: u16, ports: &[u16]) -> Result<Row> {
    let mut front = Front::start(binary)?;
    let before = pss_kib(&front.edge);
    let many = front.agents(agents, IDLE, "http", origin)?;
    thread::sleep(SETTLES);
    let each = (pss_kib(&front.edge) - before) / IDLE as f64;
    drop((many, front));
    front = Front::start(binary)?;
    let _some = front.agents(agents, RETURNING, "tcp", origin)?;
    all_answer(ports, ATTACHED_WITHIN)?;
    let begun = Instant::now();
    front.restart_edge()?;
    all_answer(ports, BACK_WITHIN)?;
    let back = begun.elapsed().as_secs_f64();
    Ok(Row { subject: "helix, TLS".to_owned(), values: vec![each, back] })
}

fn pss_kib(process: &Owned) -> f64 {
    Memory::of(&[process.id()].into()).pss_kib as f64
}

/// Returns when each of these public ports has answered.
fn all_answer(ports: &[u16], limit: Duration) -> Result<()> {
    let (mut left, begun) = (ports.to_vec(), Instant::now());
    loop {
        let address = |port: u16| format!("127.0.0.1:{port}");
        left.retain(|port| {
            !http::get(&address(*port), "localhost", "/").is_ok_and(|it| it.starts_with(ANSWER))
        });
        if left.is_empty() {
            return Ok(());
        }
        ensure!(begun.elapsed() < limit, "{} of {} do not answer", left.len(), ports.len());
        thread::sleep(PAUSE);
    }
}

/// A control plane and an edge, each in a process of its own.
struct Front {
    server: Server,
    edge: Owned,
    binary: PathBuf,
    ports: [u16; 2],
    directory: TempDir,
}

impl Front {
    fn start(binary: &Path) -> Result<Front> {
        let directory = tempfile::tempdir().context("make a directory for helix")?;
        let place = Place { directory: directory.path().to_owned(), database_url: None };
        let server = Server::start(binary, &place, BACK_WITHIN)?;
        let mut command = Command::new(binary);
        speak(&mut command, &server);
        let quota = format!("tunnels={}", 2 * IDLE);
        process::output(command.args(["quotas", "set", &quota]))?;
        let ports = [free_port()?, free_port()?];
        let edge = start_edge(binary, &server, ports, directory.path())?;
        let front = Front { server, edge, binary: binary.to_owned(), ports, directory };
        front.wait_for_edge()?;
        Ok(front)
    }

    /// So many agents, once all are attached.
    fn agents(&self, program: &Path, count: usize, protocol: &str, origin: u16) -> Result<Owned> {
        let mut command = Command::new(program);
        speak(&mut command, &self.server);
        command.args([&count.to_string(), protocol, protocol, &format!("127.0.0.1:{origin}")]);
        let said = fs::File::create(self.directory.path().join("agents")).context("make a log")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said);
        let mut agents = Owned::spawn(&mut command)?;
        let said = agents.stdout().context("read what the agents say")?;
        attached(said).with_context(|| {
            fs::read_to_string(self.directory.path().join("agents")).unwrap_or_default()
        })?;
        Ok(agents)
    }

    /// Kills the edge and starts another in its place.
    fn restart_edge(&mut self) -> Result<()> {
        self.edge.kill()?;
        self.edge = start_edge(&self.binary, &self.server, self.ports, self.directory.path())?;
        Ok(())
    }

    /// Until it is linked, with what agents reach it by.
    fn wait_for_edge(&self) -> Result<()> {
        let begun = Instant::now();
        while self.server.api.get("/v1/edges")?["items"][0]["current"]["connected"] != true {
            ensure!(begun.elapsed() < BACK_WITHIN, "the edge is not linked");
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn start_edge(binary: &Path, server: &Server, ports: [u16; 2], directory: &Path) -> Result<Owned> {
    let [http, https] = ports.map(|port| port.to_string());
    let mut command = Command::new(binary);
    let url = format!("http://{}", server.api.address);
    command
        .args(["edge", "--name", "bench", "--http-port", &http, "--https-port", &https])
        .args(["--tunnel-url", "wss://tunnels.localhost", "--server", &url, "--data-dir"])
        .arg(directory.join("edge"))
        .arg("--token-file")
        .arg(directory.join("bench-token"))
        .current_dir(directory);
    spawn(&mut command)
}

/// A command that is spoken to this server by.
fn speak(command: &mut Command, server: &Server) {
    let url = format!("http://{}", server.api.address);
    command.env("HELIX_URL", url).env("HELIX_TOKEN", &server.api.token);
}

/// Reads until all have attached; the rest is read, too, lest they end for want of a reader.
fn attached(said: ChildStdout) -> Result<()> {
    let mut lines = BufReader::new(said).lines();
    match lines.next() {
        Some(line) => line.map(drop).context("read a line")?,
        None => bail!("they ended"),
    }
    thread::spawn(move || lines.for_each(drop));
    Ok(())
}

fn report(rows: Vec<Row>) -> Report {
    let targets = targets(&rows);
    Report {
        name: "tunnels",
        title: "Many tunnels",
        method: format!(
            "What the process that visitors come to has grown by, in proportional memory (PSS), \
             when tunnels are attached that carry nothing: {IDLE} of helix, and {RETURNING} of \
             rathole, which keeps eight connections ready for each and would have too many files \
             open with more. All agents are in one process, on the same machine. Then, with \
             {RETURNING} tunnels of TCP each, that process is killed and started again at once: \
             the time until every public port has answered a request anew. rathole is without its \
             noise, with which most of so many tunnels never answered; bore ends when its server \
             does, and has a process for each tunnel."
        ),
        columns: vec!["KiB a tunnel", "s until all are back"],
        rows,
        remarks: Vec::new(),
        targets,
    }
}

/// Holds for the order in [`run`].
fn targets(rows: &[Row]) -> Vec<Target> {
    let [rathole, helix] = rows else { return Vec::new() };
    vec![
        Target {
            figure: "KiB an idle tunnel (40 KB)",
            measured: helix.values[0],
            bound: Bound::AtMost(40_000.0 / 1024.0),
        },
        Target {
            figure: "until all are back, of rathole's in the clear",
            measured: helix.values[1] / rathole.values[1],
            bound: Bound::AtMost(1.0),
        },
    ]
}
