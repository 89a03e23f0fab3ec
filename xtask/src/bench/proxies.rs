//! What stands before an origin: nothing, nginx, HAProxy, or `helix edge` with a plan
//! that it finds on its disk. All on loopback, with the same origin behind them.

use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::unpacked::Unpacked;
use crate::process::{self, Owned, free_port};
use crate::processes::{self, Memory};

/// The host of the routed requests.
pub const HOST: &str = "bench.localhost";

/// Descriptors are raised to this where the machine allows as many.
const DESCRIPTORS_MAX: u64 = 65_536;

/// What a proxy has open besides connections.
const DESCRIPTORS_SPARE: u64 = 1_000;

/// A proxy may take this long to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// Where the origin listens.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub tcp: u16,
    pub udp: u16,
}

/// Where a subject listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub tcp: u16,
    pub http: u16,
    pub udp: u16,
}

/// A subject that listens.
pub struct Proxy {
    pub name: String,
    pub ports: Ports,
    process: Option<Owned>,
    _files: Option<Unpacked>,
}

impl Proxy {
    /// The origin itself, for orientation.
    pub fn nothing(origin: Origin) -> Proxy {
        let ports = Ports { tcp: origin.tcp, http: origin.tcp, udp: origin.udp };
        Proxy { name: "no proxy".to_owned(), ports, process: None, _files: None }
    }

    /// Debian's nginx with its `stream` module.
    ///
    /// # Errors
    /// When the packages cannot be fetched or it does not start.
    pub fn nginx(origin: Origin) -> Result<Proxy> {
        let files = Unpacked::of(&["nginx", "libnginx-mod-stream"])?;
        let (ports, settings) = (ports()?, files.scratch().join("nginx.conf"));
        let module = files.root().join("usr/lib/nginx/modules/ngx_stream_module.so");
        let directory = files.scratch().display();
        let text = format!(
            "load_module {};\n{}stream {{\n  server {{ listen 127.0.0.1:{}; proxy_pass 127.0.0.1:{}; }}\n  \
             server {{ listen 127.0.0.1:{} udp; proxy_pass 127.0.0.1:{}; proxy_timeout 60s; }}\n}}\n\
             http {{\n  access_log off;\n  {}\n  upstream origin {{ server 127.0.0.1:{}; keepalive 128; }}\n  \
             server {{\n    listen 127.0.0.1:{};\n    keepalive_requests 100000000;\n    location / {{\n      \
             proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n",
            module.display(),
            head(files.scratch()),
            ports.tcp,
            origin.tcp,
            ports.udp,
            origin.udp,
            temporary(files.scratch()),
            origin.tcp,
            ports.http,
        );
        fs::write(&settings, text).context("write nginx's settings")?;
        let mut asked = files.program("usr/sbin/nginx")?;
        let said = process::output(asked.arg("-v"))?;
        let said = String::from_utf8_lossy(&said.stderr);
        let version = said.trim().rsplit('/').next().unwrap_or_default().to_owned();
        let mut command = files.program("usr/sbin/nginx")?;
        command.arg("-c").arg(&settings).args(["-e", "stderr", "-p"]).arg(directory.to_string());
        Proxy::start(format!("nginx {version}"), command, ports, Some(files))
    }

    /// Debian's HAProxy. It carries no datagrams.
    ///
    /// # Errors
    /// When the packages cannot be fetched or it does not start.
    pub fn haproxy(origin: Origin) -> Result<Proxy> {
        let files = Unpacked::of(&["haproxy"])?;
        let (ports, settings) = (ports()?, files.scratch().join("haproxy.cfg"));
        let most = connections_max()?;
        let text = format!(
            "global\n  maxconn {most}\n  nbthread 2\ndefaults\n  timeout connect 2s\n  timeout client 10m\n  \
             timeout server 10m\n  maxconn {most}\nlisten tcp\n  mode tcp\n  bind 127.0.0.1:{}\n  \
             option splice-auto\n  server origin 127.0.0.1:{}\nlisten http\n  mode http\n  \
             bind 127.0.0.1:{}\n  http-reuse always\n  server origin 127.0.0.1:{}\n",
            ports.tcp, origin.tcp, ports.http, origin.tcp
        );
        fs::write(&settings, text).context("write HAProxy's settings")?;
        let said = process::capture(files.program("usr/sbin/haproxy")?.arg("-v"))?;
        let version = said.split_whitespace().nth(2).unwrap_or_default().to_owned();
        let mut command = files.program("usr/sbin/haproxy")?;
        command.args(["-db", "-f"]).arg(&settings);
        Proxy::start(format!("HAProxy {version}"), command, ports, Some(files))
    }

    /// `helix edge`. No server answers it: it serves the plan on its disk.
    ///
    /// # Errors
    /// When it does not start.
    pub fn helix(binary: &Path, directory: &Path, origin: Origin) -> Result<Proxy> {
        let ports = ports()?;
        let (plan, token) = (directory.join("edge/plan.json"), directory.join("token"));
        fs::create_dir_all(directory.join("edge")).context("make a directory for helix")?;
        fs::write(&plan, plan_text(ports, origin)).context("write a plan")?;
        fs::write(&token, TOKEN).context("write a token")?;
        let mut command = Command::new(binary);
        command.args(["edge", "--server", "http://127.0.0.1:9", "--token-file"]).arg(&token);
        command.arg("--data-dir").arg(directory).arg("--http-port").arg(ports.http.to_string());
        command.arg("--https-port").arg(free_port()?.to_string());
        Proxy::start("helix edge".to_owned(), command, ports, None)
    }

    fn start(
        name: String,
        command: Command,
        ports: Ports,
        files: Option<Unpacked>,
    ) -> Result<Proxy> {
        let process = listening(&name, &command, &[ports.tcp, ports.http])?;
        Ok(Proxy { name, ports, process: Some(process), _files: files })
    }

    /// Memory of all its processes; `None` for the origin itself.
    ///
    /// # Errors
    /// When its processes cannot be listed.
    pub fn memory(&self) -> Result<Option<Memory>> {
        let Some(process) = &self.process else { return Ok(None) };
        Ok(Some(Memory::of(&processes::tree(process.id())?)))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // A master takes its workers with it, which a kill does not.
            process.terminate();
        }
    }
}

/// A token that no server ever sees.
const TOKEN: &str = "hx_at_0123456789012345678901234567890123456789012";

fn ports() -> Result<Ports> {
    let udp = UdpSocket::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let udp = udp.context("find a free port")?.port();
    Ok(Ports { tcp: free_port()?, http: free_port()?, udp })
}

/// How many descriptors a process may have here at most.
fn descriptors() -> Result<u64> {
    let limits = fs::read_to_string("/proc/self/limits").context("read /proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default();
    Ok(hard.parse().unwrap_or(DESCRIPTORS_MAX).min(DESCRIPTORS_MAX))
}

/// How many connections every subject can have at a time: HAProxy wants two and a half
/// descriptors for each before it starts, pipes included.
///
/// # Errors
/// When the machine's limit cannot be read.
pub fn connections_max() -> Result<u64> {
    Ok(descriptors()?.saturating_sub(DESCRIPTORS_SPARE) * 2 / 5)
}

/// Lets this process have them, and with it all it starts.
///
/// # Errors
/// When the machine does not.
pub fn raise_descriptors() -> Result<()> {
    let limit = descriptors()?;
    let own = std::process::id().to_string();
    let limit = format!("--nofile={limit}:{limit}");
    process::output(Command::new("prlimit").args([&limit, "--pid", &own])).map(drop)
}

/// Starts a program and waits until it listens on all of these ports.
fn listening(name: &str, command: &Command, ports: &[u16]) -> Result<Owned> {
    let mut process = Owned::spawn(&mut quiet(command))?;
    let deadline = Instant::now() + STARTS_WITHIN;
    while ports.iter().any(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()) {
        process.check_alive().with_context(|| format!("start {name}"))?;
        if Instant::now() > deadline {
            bail!("{name} does not listen");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

/// Runs a command quietly.
fn quiet(command: &Command) -> Command {
    let mut limited = Command::new(command.get_program());
    limited.args(command.get_args());
    limited.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    limited
}

/// What every nginx here begins with.
pub fn head(directory: &Path) -> String {
    format!(
        "daemon off;\nuser root;\npid {}/nginx.pid;\nerror_log stderr crit;\nworker_processes auto;\n\
         events {{ worker_connections 32768; }}\n",
        directory.display()
    )
}

/// Where nginx may write what it does not keep in memory.
pub fn temporary(directory: &Path) -> String {
    let kinds = [
        ("client_body", "body"),
        ("proxy", "proxy"),
        ("fastcgi", "fastcgi"),
        ("uwsgi", "uwsgi"),
        ("scgi", "scgi"),
    ];
    let line =
        |(kind, place): (&str, &str)| format!("{kind}_temp_path {}/{place};", directory.display());
    kinds.map(line).join(" ")
}

/// A plan as an edge keeps it (`docs/replicas.md`): one endpoint of each kind, all led to
/// the origin.
fn plan_text(ports: Ports, origin: Origin) -> String {
    let endpoint = |number: u8, route: &str, port: u16| {
        format!(
            "{{\"id\":\"end_0000000000000000000000000{number}\",\"route\":{route},\
             \"addresses\":[\"127.0.0.1\"],\"backends\":[{{\"instance\":\
             \"ins_00000000000000000000000001\",\"address\":\"127.0.0.1:{port}\"}}]}}"
        )
    };
    let own = |protocol: &str, port: u16| {
        format!("{{\"protocol\":\"{protocol}\",\"address\":\"::1\",\"port\":{port}}}")
    };
    let http = format!("{{\"protocol\":\"http\",\"hosts\":[\"{HOST}\"]}}");
    let endpoints = [
        endpoint(1, &own("tcp", ports.tcp), origin.tcp),
        endpoint(2, &own("udp", ports.udp), origin.udp),
        endpoint(3, &http, origin.tcp),
    ];
    format!("{{\"version\":1,\"draining\":[],\"endpoints\":[{}]}}", endpoints.join(","))
}

/// The origin: nginx with a small page and a large file.
pub struct Server {
    pub port: u16,
    process: Owned,
    _files: Unpacked,
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// When the packages cannot be fetched or it does not start.
    pub fn start(large_bytes: u64) -> Result<Server> {
        let files = Unpacked::of(&["nginx"])?;
        let (port, pages) = (free_port()?, files.scratch().join("pages"));
        fs::create_dir_all(&pages).context("make a directory for pages")?;
        fs::write(pages.join("index.html"), "x".repeat(100)).context("write a page")?;
        let large = fs::File::create(pages.join("large")).context("make a large file")?;
        large.set_len(large_bytes).context("make a large file")?;
        let settings: PathBuf = files.scratch().join("nginx.conf");
        let text = format!(
            "{}http {{\n  access_log off;\n  sendfile on;\n  {}\n  server {{\n    \
             listen 127.0.0.1:{port} backlog=4096;\n    keepalive_requests 100000000;\n    \
             keepalive_timeout 10m;\n    client_header_timeout 10m;\n    root {};\n  }}\n}}\n",
            head(files.scratch()),
            temporary(files.scratch()),
            pages.display()
        );
        fs::write(&settings, text).context("write nginx's settings")?;
        let mut command = files.program("usr/sbin/nginx")?;
        command.arg("-c").arg(&settings).args(["-e", "stderr", "-p"]).arg(files.scratch());
        let process = listening("the origin", &command, &[port])?;
        Ok(Server { port, process, _files: files })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // As with a proxy: killed, it would leave its workers.
        self.process.terminate();
    }
}
