//! Bench: what stands before an origin, by connection, by request and by datagram.

use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::bulk;
use super::measure::{median, sum_of};
use super::proxies::{HOST, Origin, Proxy, Server, connections_max, raise_descriptors};
use super::report::{Bound, Report, Row, Target};
use super::wrk::{self, Load};
use crate::output::say;

/// Seconds of each run, after one unmeasured of [`WARM_SECONDS`].
const SECONDS: u64 = 4;

const WARM_SECONDS: u64 = 1;

const CONNECTIONS: usize = 64;

/// Turns, all subjects in each; the median counts.
const TURNS: usize = 5;

/// Connections that do nothing, where the machine allows that many.
const IDLE: u64 = 10_000;

/// Connections left over from the runs before.
const SPARE: u64 = 200;

/// Sockets that send a datagram and wait for its answer.
const SENDERS: usize = 16;

/// Measures all of them.
///
/// # Errors
/// When one does not start or does not answer.
pub fn run(binary: &Path) -> Result<Report> {
    raise_descriptors()?;
    let (server, echo) = (Server::start(bulk::BODY_BYTES)?, Echo::start()?);
    let origin = Origin { tcp: server.port, udp: echo.port };
    let directory = tempfile::tempdir().context("make a directory for helix")?;
    let mut taken: Vec<(String, Vec<[f64; COLUMNS]>)> = Vec::new();
    for turn in 0..TURNS {
        for subject in 0..4 {
            let place = directory.path().join(format!("{turn}"));
            let proxy = match subject {
                0 => Proxy::haproxy(origin)?,
                1 => Proxy::nginx(origin)?,
                2 => Proxy::helix(binary, &place, origin)?,
                _ => Proxy::nothing(origin),
            };
            say(&format!("measuring {}, turn {} of {TURNS}", proxy.name, turn + 1));
            let figures = figures(&proxy, subject != 0)?;
            match taken.get_mut(subject) {
                Some((_, turns)) => turns.push(figures),
                None => taken.push((proxy.name.clone(), vec![figures])),
            }
        }
    }
    let rows: Vec<Row> = taken.into_iter().map(row).collect();
    Ok(report(rows))
}

/// Puts an edge to all of it once, and ends it as one that may say what it did.
///
/// # Errors
/// When it does not start or does not answer.
pub fn work(binary: &Path) -> Result<()> {
    let (server, echo) = (Server::start(bulk::BODY_BYTES)?, Echo::start()?);
    let directory = tempfile::tempdir().context("make a directory for helix")?;
    let origin = Origin { tcp: server.port, udp: echo.port };
    carry(&Proxy::helix(binary, directory.path(), origin)?, true).map(|_| ())
}

const COLUMNS: usize = 10;

/// In the order of the columns.
fn figures(proxy: &Proxy, carries_datagrams: bool) -> Result<[f64; COLUMNS]> {
    let mut figures = carry(proxy, carries_datagrams)?;
    figures[COLUMNS - 1] = idle_kib(proxy)?.unwrap_or(f64::NAN);
    Ok(figures)
}

/// All but the last of the columns, which is about what is not carried.
fn carry(proxy: &Proxy, carries_datagrams: bool) -> Result<[f64; COLUMNS]> {
    let kept = load(proxy.ports.tcp, "/", CONNECTIONS, false)?;
    let fresh = load(proxy.ports.tcp, "/", CONNECTIONS, true)?;
    let bulk = bulk::gbit_per_second(proxy.ports.tcp, WARM_SECONDS, SECONDS)?;
    let routed = load(proxy.ports.http, "/", CONNECTIONS, false)?;
    let datagrams = if carries_datagrams { round_trips(proxy.ports.udp)? } else { f64::NAN };
    Ok([
        kept.per_second,
        kept.p99_ms,
        kept.p999_ms,
        fresh.per_second,
        bulk,
        routed.per_second,
        routed.p99_ms,
        routed.p999_ms,
        datagrams,
        f64::NAN,
    ])
}

fn load(port: u16, path: &str, connections: usize, fresh: bool) -> Result<Load> {
    let close = if fresh { "wrk.headers[\"Connection\"] = \"close\"\n" } else { "" };
    let script = format!("wrk.headers[\"Host\"] = \"{HOST}\"\n{close}{}", wrk::TELL_P999);
    let url = format!("http://127.0.0.1:{port}{path}");
    wrk::run(&url, &script, connections, WARM_SECONDS)?;
    wrk::run(&url, &script, connections, SECONDS)
}

/// Datagrams answered in a second, each sender waiting for one answer at a time.
fn round_trips(port: u16) -> Result<f64> {
    let deadline = Instant::now() + Duration::from_secs(SECONDS);
    let answered = sum_of(SENDERS, || send_until(port, deadline))?;
    ensure!(answered > 0, "no datagram was answered");
    Ok(answered as f64 / SECONDS as f64)
}

/// A datagram that is lost costs its sender a tenth of a second, as in life.
fn send_until(port: u16, deadline: Instant) -> Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("make a socket")?;
    socket.connect((Ipv4Addr::LOCALHOST, port)).context("connect a socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(100))).context("set a timeout")?;
    let (mut answered, mut answer) = (0, [0; 64]);
    while Instant::now() < deadline {
        let sent = socket.send(&[7; 64]);
        if sent.is_ok() && socket.recv(&mut answer).is_ok() {
            answered += 1;
        }
    }
    Ok(answered)
}

/// KiB for each of many connections that do nothing.
fn idle_kib(proxy: &Proxy) -> Result<Option<f64>> {
    let Some(before) = proxy.memory()? else { return Ok(None) };
    let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.ports.tcp));
    let idle = IDLE.min(connections_max()?.saturating_sub(SPARE));
    let open: Vec<TcpStream> =
        (0..idle).map(connect).collect::<Result<_, _>>().context("connect")?;
    // The last are accepted a moment after they are connected.
    let mut after = before;
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = proxy.memory()?.unwrap_or_default();
        if now.pss_kib <= after.pss_kib + 64 {
            break;
        }
        after = now;
    }
    let grown = after.pss_kib.saturating_sub(before.pss_kib);
    Ok(Some(grown as f64 / open.len() as f64))
}

/// Sends every datagram back.
struct Echo {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Echo {
    fn start() -> Result<Echo> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("make a socket")?;
        let port = socket.local_addr().context("find the socket's port")?.port();
        socket.set_read_timeout(Some(Duration::from_millis(200))).context("set a timeout")?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        thread::spawn(move || {
            let mut bytes = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                    // Who has gone meanwhile misses nothing.
                    let _ = socket.send_to(&bytes[..length], from);
                }
            }
        });
        Ok(Echo { port, ended })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn row((subject, turns): (String, Vec<[f64; COLUMNS]>)) -> Row {
    let column = |column: usize| median(turns.iter().map(|turn| turn[column]).collect());
    Row { subject, values: (0..COLUMNS).map(column).collect() }
}

fn report(rows: Vec<Row>) -> Report {
    let targets = targets(&rows);
    Report {
        name: "edge",
        title: "Before an origin",
        method: format!(
            "Load generator (`wrk`, one thread), proxy and origin (nginx) share the cores, all on \
             loopback. By connection (L4): {CONNECTIONS} kept connections with a request at a time \
             on each, {CONNECTIONS} with a new connection for every request, and \
             {} that fetch {} MiB again and again and throw it away in the kernel \
             (`MSG_TRUNC`). By request (L7): the same kept connections, routed by host, with \
             connections to the origin kept, too. Datagrams: \
             {SENDERS} sockets that send 64 bytes and wait for the answer; HAProxy carries none. \
             Memory: what the proxy's processes grow by (PSS) for each of {IDLE} \
             connections that do nothing (as many as the machine allows). {SECONDS} s each after {WARM_SECONDS} s unmeasured, {TURNS} turns, the \
             median. helix is `helix edge` with the plan on its disk, and no server.",
            bulk::CONNECTIONS,
            bulk::BODY_BYTES >> 20
        ),
        columns: vec![
            "L4 kept, req/s",
            "p99 ms",
            "p99.9 ms",
            "L4 new, conn/s",
            "L4 bulk, Gbit/s",
            "L7 kept, req/s",
            "p99 ms",
            "p99.9 ms",
            "UDP, round trips/s",
            "KiB per idle connection",
        ],
        rows,
        remarks: Vec::new(),
        targets,
    }
}

/// Holds for the order in [`run`].
fn targets(rows: &[Row]) -> Vec<Target> {
    let [haproxy, nginx, helix, _] = rows else { return Vec::new() };
    let best = |column: usize| haproxy.values[column].max(nginx.values[column]);
    let least = |column: usize| haproxy.values[column].min(nginx.values[column]);
    let rate = |figure, column: usize, bound| Target {
        figure,
        measured: helix.values[column] / best(column),
        bound: Bound::AtLeast(bound),
    };
    let cost = |figure, column: usize| Target {
        figure,
        measured: helix.values[column] / least(column),
        bound: Bound::AtMost(1.0),
    };
    vec![
        rate("L4 kept, of the better peer's", 0, 1.0),
        cost("its p99, of the better peer's", 1),
        rate("L4 new connections, of the better peer's", 3, 1.0),
        rate("L4 bulk, of the better peer's", 4, 1.3),
        rate("L7 kept, of the better peer's", 5, 1.0),
        Target {
            figure: "UDP round trips, of nginx's",
            measured: helix.values[8] / nginx.values[8],
            bound: Bound::AtLeast(1.0),
        },
    ]
}
