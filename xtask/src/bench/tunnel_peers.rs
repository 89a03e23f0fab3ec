//! Tunnels to an origin, each with its server and its agent on this machine: rathole and
//! bore as they come from crates.io, and helix.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::platform::Platform;
use crate::process::{self, Owned, free_port};
use crate::workspace;

/// What is taken from crates.io, and how it is built: without what needs a TLS library of
/// the system, and without rathole's lock, whose `time` today's compiler does not take.
const CRATES: &[(&str, &[&str])] = &[
    ("rathole@0.5.0", &["--no-default-features", "--features", "client,server,noise"]),
    ("bore-cli@0.6.0", &["--locked"]),
];

/// A tunnel may take this long to carry something.
const CARRIES_WITHIN: Duration = Duration::from_secs(20);

/// A pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Builds the peers that are not there yet, and says where their programs are.
///
/// # Errors
/// When they cannot be fetched or built.
pub fn provide() -> Result<PathBuf> {
    let root = workspace::cache_dir()?.join("peers");
    for (name, options) in CRATES {
        let mut command = workspace::cargo();
        command.args(["install", "--quiet", "--root"]).arg(&root);
        process::run(command.args(*options).arg(name))?;
    }
    Ok(root.join("bin"))
}

/// A tunnel that carries connections.
pub struct Tunnel {
    pub name: String,
    /// The public port.
    pub port: u16,
    // The agent goes first.
    agent: Option<Owned>,
    _server: Option<Server>,
}

enum Server {
    Peer { _process: Owned },
    Helix { _platform: Box<Platform> },
}

impl Tunnel {
    /// The origin itself, for orientation.
    pub fn none(origin: u16) -> Tunnel {
        Tunnel { name: "no tunnel".to_owned(), port: origin, agent: None, _server: None }
    }

    /// rathole, in the clear or with its encrypted transport.
    ///
    /// # Errors
    /// When it does not start.
    pub fn rathole(bin: &Path, directory: &Path, origin: u16, encrypted: bool) -> Result<Tunnel> {
        let port = free_port()?;
        let rathole = Rathole::set_up(bin, directory, &[port], origin, encrypted)?;
        let (server, agent) = (rathole.server()?, rathole.agent()?);
        Tunnel::peer(rathole.name, port, server, agent)
    }

    /// bore, which has no encryption.
    ///
    /// # Errors
    /// When it does not start.
    pub fn bore(bin: &Path, origin: u16) -> Result<Tunnel> {
        let program = bin.join("bore");
        let said = process::capture(Command::new(&program).arg("--version"))?;
        let version = said.split(' ').next_back().unwrap_or_default().to_owned();
        let port = free_port()?;
        let server = spawn(Command::new(&program).args([
            "server",
            "--bind-addr",
            "127.0.0.1",
            "--min-port",
            "1024",
        ]))?;
        wait_for(BORE_PORT)?;
        let agent = spawn(
            Command::new(&program)
                .args(["local", &origin.to_string(), "--to", "127.0.0.1"])
                .args(["--port", &port.to_string()]),
        )?;
        Tunnel::peer(format!("bore {version}, in the clear"), port, server, agent)
    }

    /// `helix up` and `helix tcp`, with TLS as always.
    ///
    /// # Errors
    /// When it does not start.
    pub fn helix(binary: &Path, origin: u16) -> Result<Tunnel> {
        let platform = Platform::start(binary)?;
        let (agent, said) = agent(&platform, binary, &["tcp", &origin.to_string()])?;
        let url = said["url"].as_str().unwrap_or_default();
        let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.with_context(|| format!("find the port in `{url}`"))?;
        let server = Some(Server::Helix { _platform: Box::new(platform) });
        Ok(Tunnel { name: "helix, TLS".to_owned(), port, agent: Some(agent), _server: server })
    }

    /// Ends it without a kill.
    pub fn end(mut self) {
        if let Some(agent) = &mut self.agent {
            agent.terminate();
        }
    }

    fn peer(name: String, port: u16, server: Owned, agent: Owned) -> Result<Tunnel> {
        wait_for(port)?;
        let server = Some(Server::Peer { _process: server });
        Ok(Tunnel { name, port, agent: Some(agent), _server: server })
    }
}

/// rathole with its settings written: a service for each port, all of one origin.
pub struct Rathole {
    pub name: String,
    program: PathBuf,
    server: PathBuf,
    agent: PathBuf,
}

impl Rathole {
    /// Writes them.
    ///
    /// # Errors
    /// When that fails, or it makes no keys.
    pub fn set_up(
        bin: &Path,
        directory: &Path,
        ports: &[u16],
        origin: u16,
        encrypted: bool,
    ) -> Result<Rathole> {
        let program = bin.join("rathole");
        let (version, control) = (version(&program, "Build Version:")?, free_port()?);
        let (server_noise, agent_noise) = match encrypted {
            true => noise(&program)?,
            false => (String::new(), String::new()),
        };
        let mut ends = [
            format!("[server]\nbind_addr = \"127.0.0.1:{control}\"\n"),
            format!("[client]\nremote_addr = \"127.0.0.1:{control}\"\n"),
        ];
        for (end, noise) in ends.iter_mut().zip([server_noise, agent_noise]) {
            end.push_str(&format!("default_token = \"{TOKEN}\"\n{noise}"));
        }
        for port in ports {
            let [server, agent] = &mut ends;
            let listens = format!("[server.services.s{port}]\nbind_addr = \"127.0.0.1:{port}\"\n");
            server.push_str(&listens);
            let leads = format!("[client.services.s{port}]\nlocal_addr = \"127.0.0.1:{origin}\"\n");
            agent.push_str(&leads);
        }
        let (server, agent) = (directory.join("server.toml"), directory.join("agent.toml"));
        for (path, text) in [&server, &agent].into_iter().zip(ends) {
            fs::write(path, text).context("write rathole's settings")?;
        }
        let how = if encrypted { "noise" } else { "in the clear" };
        Ok(Rathole { name: format!("rathole {version}, {how}"), program, server, agent })
    }

    /// Starts the end that visitors come to.
    ///
    /// # Errors
    /// When it does not start.
    pub fn server(&self) -> Result<Owned> {
        spawn(Command::new(&self.program).arg("--server").arg(&self.server))
    }

    /// Starts the other end.
    ///
    /// # Errors
    /// When it does not start.
    pub fn agent(&self) -> Result<Owned> {
        spawn(Command::new(&self.program).arg("--client").arg(&self.agent))
    }
}

/// An agent of helix that is attached, and what it said of that.
///
/// # Errors
/// When it does not attach.
pub fn agent(platform: &Platform, binary: &Path, what: &[&str]) -> Result<(Owned, Value)> {
    let mut command = platform.command(binary);
    command.args(what).arg("--json").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut agent = Owned::spawn(command.stderr(Stdio::null()))?;
    let said = agent.stdout().context("read what the agent says")?;
    let said = attached(said).with_context(|| format!("attach `helix {}`", what.join(" ")))?;
    Ok((agent, said))
}

fn attached(said: ChildStdout) -> Result<Value> {
    for line in BufReader::new(said).lines() {
        let line = line.context("read a line")?;
        let said: Value = serde_json::from_str(&line).context("understand a line")?;
        if said["type"] == "attached" {
            return Ok(said);
        }
        if !said["error"].is_null() {
            bail!("it says {line}");
        }
    }
    bail!("it ended")
}

/// The only control port bore has.
const BORE_PORT: u16 = 7835;

const TOKEN: &str = "a token that nobody has to guess";

/// Starts a program that is listened to by nobody.
///
/// # Errors
/// When it does not start.
pub fn spawn(command: &mut Command) -> Result<Owned> {
    Owned::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}

fn wait_for(port: u16) -> Result<()> {
    let deadline = Instant::now() + CARRIES_WITHIN;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            bail!("nobody listens on port {port}");
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// What a program calls its version, after these words.
fn version(program: &Path, words: &str) -> Result<String> {
    let said = process::capture(Command::new(program).arg("--version"))?;
    let line = said.lines().find_map(|line| line.strip_prefix(words));
    Ok(line.unwrap_or_default().trim().to_owned())
}

/// The settings of both ends for rathole's encrypted transport, with keys of its own.
fn noise(program: &Path) -> Result<(String, String)> {
    let said = process::capture(Command::new(program).arg("--genkey"))?;
    let mut lines = said.lines().map(str::trim);
    let mut after = |title: &str| {
        lines.by_ref().find(|line| line.starts_with(title));
        lines.next().map(str::to_owned).with_context(|| format!("find the {title} in `{said}`"))
    };
    let (private, public) = (after("Private Key")?, after("Public Key")?);
    let section = |end: &str, key: &str, value: &str| {
        format!(
            "[{end}.transport]\ntype = \"noise\"\n[{end}.transport.noise]\n{key} = \"{value}\"\n"
        )
    };
    Ok((
        section("server", "local_private_key", &private),
        section("client", "remote_public_key", &public),
    ))
}
