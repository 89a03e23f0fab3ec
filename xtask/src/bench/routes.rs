//! Bench: what one more route costs when there are ten thousand.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::http;
use super::measure::median;
use super::platform::Platform;
use super::proxies::{head, temporary};
use super::report::{Bound, Report, Row, Target};
use super::unpacked::Unpacked;
use crate::output::say;
use crate::process::{self, Owned, free_port};
use crate::processes;

/// Routes that are there already.
const ROUTES: usize = 10_000;

/// Changes that are measured; the median counts.
const CHANGES: usize = 15;

/// Who makes the routes at the beginning.
const MAKERS: usize = 8;

/// A change that takes longer has failed.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// How long the processes are watched for what a change costs them: until long after it is
/// served, since a reload goes on behind.
const WATCHED: Duration = Duration::from_secs(2);

/// A tick of the kernel's accounting of time.
const TICK_MS: f64 = 10.0;

/// Starts one.
type Start = fn(&Path) -> Result<Box<dyn Router>>;

/// Who routes.
trait Router {
    fn name(&self) -> String;
    /// Where it listens.
    fn address(&self) -> String;
    /// What its processes have used so far.
    fn cpu_ms(&self) -> Result<f64>;
    /// Adds a route for this host, beside those that are there.
    fn add(&mut self, host: &str) -> Result<()>;
}

/// Measures all of them.
///
/// # Errors
/// When one does not start or does not take a route.
pub fn run(binary: &Path) -> Result<Report> {
    let mut rows = Vec::new();
    let routers: [Start; 3] = [
        |_| Ok(Box::new(Nginx::start()?)),
        |_| Ok(Box::new(Haproxy::start()?)),
        |binary| Ok(Box::new(Helix::start(binary)?)),
    ];
    for start in routers {
        let mut router = start(binary)?;
        say(&format!("measuring {}", router.name()));
        rows.push(measure(router.as_mut())?);
    }
    Ok(report(rows))
}

fn measure(router: &mut dyn Router) -> Result<Row> {
    let (mut served, mut used) = (Vec::new(), Vec::new());
    for number in 0..CHANGES {
        let host = format!("new-{number}.localhost");
        let address = router.address();
        ensure!(!is_served(&address, &host), "{host} is there already");
        let before = router.cpu_ms()?;
        let begun = Instant::now();
        router.add(&host)?;
        while !is_served(&address, &host) {
            ensure!(begun.elapsed() < SERVED_WITHIN, "{host} is not routed");
        }
        served.push(begun.elapsed().as_secs_f64() * 1000.0);
        thread::sleep(WATCHED);
        used.push(router.cpu_ms()? - before);
    }
    Ok(Row { subject: router.name(), values: vec![median(served), median(used)] })
}

/// What every route here answers: nobody is behind it.
const SERVED: &str = "503";

fn is_served(address: &str, host: &str) -> bool {
    let answer = http::get(address, host, "/");
    answer.is_ok_and(|answer| answer.split(' ').nth(1) == Some(SERVED))
}

/// CPU that a process and all that descends from it have used so far, with those that
/// have ended meanwhile.
fn cpu_ms(root: u32) -> Result<f64> {
    let mut ticks = 0.0;
    for pid in processes::tree(root)? {
        // One may have ended since the list was made.
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        // utime, stime and those of children that were waited for (proc(5)).
        ticks += fields.skip(11).take(4).filter_map(|it| it.parse::<f64>().ok()).sum::<f64>();
    }
    Ok(ticks * TICK_MS)
}

/// Debian's nginx with a file of its hosts, which it is reloaded for.
struct Nginx {
    version: String,
    port: u16,
    hosts: Vec<String>,
    process: Owned,
    files: Unpacked,
}

impl Nginx {
    fn start() -> Result<Nginx> {
        let (files, port) = (Unpacked::of(&["nginx"])?, free_port()?);
        let said = process::output(files.program("usr/sbin/nginx")?.arg("-v"))?;
        let said = String::from_utf8_lossy(&said.stderr);
        let version = said.trim().rsplit('/').next().unwrap_or_default().to_owned();
        let settings = files.scratch().join("nginx.conf");
        let text = format!(
            "{}http {{\n  access_log off;\n  {}\n  server_names_hash_max_size 65536;\n  \
             server {{ listen 127.0.0.1:{port} default_server; return 404; }}\n  \
             include {}/hosts.conf;\n}}\n",
            head(files.scratch()),
            temporary(files.scratch()),
            files.scratch().display()
        );
        fs::write(&settings, text).context("write nginx's settings")?;
        let hosts = hosts();
        let mut command = files.program("usr/sbin/nginx")?;
        command.arg("-c").arg(&settings).args(["-e", "stderr", "-p"]).arg(files.scratch());
        write_nginx(&files, port, &hosts)?;
        let process = quietly(&mut command)?;
        let nginx = Nginx { version, port, hosts, process, files };
        wait(&nginx)?;
        Ok(nginx)
    }
}

fn write_nginx(files: &Unpacked, port: u16, hosts: &[String]) -> Result<()> {
    let server = |host: &String| {
        format!("server {{ listen 127.0.0.1:{port}; server_name {host}; return 503; }}\n")
    };
    let text: String = hosts.iter().map(server).collect();
    fs::write(files.scratch().join("hosts.conf"), text).context("write nginx's hosts")
}

impl Router for Nginx {
    fn name(&self) -> String {
        format!("nginx {}, reloaded", self.version)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn cpu_ms(&self) -> Result<f64> {
        cpu_ms(self.process.id())
    }

    fn add(&mut self, host: &str) -> Result<()> {
        self.hosts.push(host.to_owned());
        write_nginx(&self.files, self.port, &self.hosts)?;
        // What `nginx -s reload` does.
        process::output(Command::new("kill").arg("-HUP").arg(self.process.id().to_string()))
            .map(drop)
    }
}

/// Debian's HAProxy with a map of its hosts, which another process takes over for, as
/// `systemctl reload` has it.
struct Haproxy {
    version: String,
    /// What the processes before have used.
    spent_ms: f64,
    port: u16,
    hosts: Vec<String>,
    process: Owned,
    before: Option<Owned>,
    files: Unpacked,
}

impl Haproxy {
    fn start() -> Result<Haproxy> {
        let (files, port) = (Unpacked::of(&["haproxy"])?, free_port()?);
        let said = process::capture(files.program("usr/sbin/haproxy")?.arg("-v"))?;
        let version = said.split_whitespace().nth(2).unwrap_or_default().to_owned();
        let (settings, map) = (files.scratch().join("haproxy.cfg"), files.scratch().join("hosts"));
        let text = format!(
            "global\n  maxconn 2000\n  nbthread 2\ndefaults\n  mode http\n  timeout connect 2s\n  \
             timeout client 10s\n  timeout server 10s\nfrontend http\n  bind 127.0.0.1:{port}\n  \
             use_backend %[req.hdr(host),lower,map({})] if {{ req.hdr(host),lower,map({}) -m found \
             }}\n  http-request return status 404 unless {{ req.hdr(host),lower,map({}) -m found }}\n\
             backend none\n",
            map.display(),
            map.display(),
            map.display()
        );
        fs::write(&settings, text).context("write HAProxy's settings")?;
        let hosts = hosts();
        write_map(&files, &hosts)?;
        let process = haproxy(&files, &[])?;
        let haproxy = Haproxy { version, spent_ms: 0.0, port, hosts, process, before: None, files };
        wait(&haproxy)?;
        Ok(haproxy)
    }
}

fn haproxy(files: &Unpacked, more: &[&str]) -> Result<Owned> {
    let settings = files.scratch().join("haproxy.cfg");
    let mut command = files.program("usr/sbin/haproxy")?;
    quietly(command.args(["-db", "-f"]).arg(settings).args(more))
}

fn write_map(files: &Unpacked, hosts: &[String]) -> Result<()> {
    let text: String = hosts.iter().map(|host| format!("{host} none\n")).collect();
    fs::write(files.scratch().join("hosts"), text).context("write HAProxy's map")
}

impl Router for Haproxy {
    fn name(&self) -> String {
        format!("HAProxy {}, reloaded", self.version)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn cpu_ms(&self) -> Result<f64> {
        Ok(self.spent_ms + cpu_ms(self.process.id())?)
    }

    fn add(&mut self, host: &str) -> Result<()> {
        self.hosts.push(host.to_owned());
        write_map(&self.files, &self.hosts)?;
        self.spent_ms = self.cpu_ms()?;
        let before = self.process.id().to_string();
        let after = haproxy(&self.files, &["-sf", &before])?;
        // It ends by itself once the other listens; dropped here it would at once.
        self.before = Some(std::mem::replace(&mut self.process, after));
        Ok(())
    }
}

/// `helix up`, asked over its API for a tunnel: a host whose agent is not there.
struct Helix {
    platform: Platform,
}

impl Helix {
    fn start(binary: &Path) -> Result<Helix> {
        let platform = Platform::start(binary)?;
        let quota = format!("tunnels={}", 2 * ROUTES);
        let mut command = platform.command(binary);
        process::output(command.args(["quotas", "set", &quota]))?;
        say(&format!("making {ROUTES} routes"));
        let helix = Helix { platform };
        let hosts = hosts();
        thread::scope(|scope| {
            let makers: Vec<_> = hosts
                .chunks(ROUTES / MAKERS)
                .map(|hosts| scope.spawn(|| hosts.iter().try_for_each(|host| helix.make(host))))
                .collect();
            let join = |maker: thread::ScopedJoinHandle<'_, Result<()>>| {
                maker.join().ok().context("a maker panicked")?
            };
            makers.into_iter().try_for_each(join)
        })?;
        wait(&helix)?;
        Ok(helix)
    }

    fn make(&self, host: &str) -> Result<()> {
        let name = host.trim_end_matches(".localhost");
        let asked = json!({ "requested_name": name });
        self.platform.api.post("/v1/tunnels?org=default", &asked).map(drop)
    }
}

impl Router for Helix {
    fn name(&self) -> String {
        "helix".to_owned()
    }

    fn address(&self) -> String {
        self.platform.http_address()
    }

    fn cpu_ms(&self) -> Result<f64> {
        cpu_ms(self.platform.id())
    }

    fn add(&mut self, host: &str) -> Result<()> {
        self.make(host)
    }
}

fn hosts() -> Vec<String> {
    (0..ROUTES).map(|number| format!("route-{number}.localhost")).collect()
}

fn quietly(command: &mut Command) -> Result<Owned> {
    Owned::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}

/// Until the last of the routes at the beginning is served.
fn wait(router: &dyn Router) -> Result<()> {
    let (address, last) = (router.address(), format!("route-{}.localhost", ROUTES - 1));
    let begun = Instant::now();
    while !is_served(&address, &last) {
        ensure!(begun.elapsed() < 4 * SERVED_WITHIN, "{last} is not routed");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn report(rows: Vec<Row>) -> Report {
    let targets = targets(&rows);
    Report {
        name: "routes",
        title: "One more route",
        method: format!(
            "With {ROUTES} hosts routed, one more is added, {CHANGES} times: for nginx and HAProxy \
             by writing their file of hosts and reloading, for helix by asking its API for a \
             tunnel, which goes through the event log, the plan of the edge and the file that \
             is kept of it. The time until a request for the new host is answered by its route, \
             and the CPU that all processes have used {} s later. The median.",
            WATCHED.as_secs()
        ),
        columns: vec!["ms until it is served", "CPU, ms"],
        rows,
        remarks: Vec::new(),
        targets,
    }
}

/// Holds for the order in [`run`].
fn targets(rows: &[Row]) -> Vec<Target> {
    let [nginx, haproxy, helix] = rows else { return Vec::new() };
    let better = |column: usize| nginx.values[column].min(haproxy.values[column]);
    let target = |figure, column: usize| Target {
        figure,
        measured: helix.values[column] / better(column),
        bound: Bound::AtMost(1.0),
    };
    vec![
        target("ms until it is served, of the better peer's", 0),
        target("its CPU, of the better peer's", 1),
    ]
}
