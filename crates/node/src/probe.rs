//! Health probes: asking a program's port, or a command beside it, whether it
//! serves.
//!
//! A program may be reachable by several routes (IPv6, IPv4); the first that
//! passes counts and gives every port its address. Redirects are not followed
//! and bodies not read: the first line of the answer is the verdict.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use helix_model::Name;
use helix_model::manifest::{Check, Health};
use helix_runtime::{ExecEvent, ExecSpec, Exit, Shim};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::lifecycle::Ports;
use crate::machine::chain;

/// A status line fits easily; a server that sends more before its first line
/// break does not speak HTTP.
const STATUS_LINE_BYTES_MAX: usize = 1024;

/// How long a connection through a forwarder must stay open to count as
/// accepted: the forwarder accepts first and asks the program after.
const FORWARD_SETTLE: Duration = Duration::from_millis(30);

/// How to reach one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Each route leads to every declared port; the best first.
    pub(crate) routes: Vec<Ports>,
    /// The declared port numbers, for messages.
    pub(crate) internal: BTreeMap<Name, u16>,
    /// Routes pass through a forwarder that accepts for the program.
    pub(crate) forwarded: bool,
}

/// How long it may take to hear that nobody takes a datagram.
const REFUSAL: Duration = Duration::from_millis(50);

/// How long a handshake may take before it is begun anew.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// Probes once. The error says what was seen instead of health.
pub(crate) async fn probe(
    targets: &Targets,
    rules: &Health,
    shim: Option<&Shim>,
) -> Result<Ports, String> {
    match (&rules.check, shim) {
        (Check::Exec { command }, Some(shim)) => {
            let limit = Duration::from_secs(rules.timeout_seconds.max(1));
            command_passes(shim, command, limit).await?;
            // It says nothing about addresses: whichever accepts is to be used.
            let accepts = Health { check: Check::Tcp, ..rules.clone() };
            let first = targets.routes.first().cloned().unwrap_or_default();
            Ok(probe_port(targets, &accepts).await.unwrap_or(first))
        }
        (Check::Exec { .. }, None) => Err("it does not run".to_owned()),
        _ => probe_port(targets, rules).await,
    }
}

/// Runs a command inside the instance, as the program's own user. What it prints
/// is thrown away: it may well be what must not be in an event.
async fn command_passes(shim: &Shim, argv: &[String], limit: Duration) -> Result<(), String> {
    let name = argv.first().map(String::as_str).unwrap_or_default();
    let spec = ExecSpec { argv: argv.to_vec(), ..ExecSpec::default() };
    let run = async {
        let mut session = shim.exec(&spec).await.map_err(|error| chain(&error))?;
        loop {
            match session.output.next().await.map_err(|error| chain(&error))? {
                ExecEvent::Exit(exit) => return Ok::<_, String>(exit),
                ExecEvent::Stdout(_) | ExecEvent::Stderr(_) => {}
            }
        }
    };
    match timeout(limit, run).await {
        Ok(Ok(Exit { code: 0, signal: None, .. })) => Ok(()),
        Ok(Ok(Exit { signal: Some(signal), .. })) => {
            Err(format!("`{name}` was killed by signal {signal}"))
        }
        Ok(Ok(exit)) => Err(format!("`{name}` ended with code {}", exit.code)),
        Ok(Err(error)) => Err(format!("`{name}` could not be run: {error}")),
        // The session is dropped with the future, and its command killed.
        Err(_) => Err(format!("`{name}` did not end within {} s", limit.as_secs())),
    }
}

async fn probe_port(targets: &Targets, rules: &Health) -> Result<Ports, String> {
    let port = rules.port.as_ref().and_then(|port| targets.internal.get(port));
    let port = port.copied().unwrap_or_default();
    let mut seen: Option<Seen> = None;
    for route in &targets.routes {
        match ask_within(route, rules, targets.forwarded).await {
            None => {}
            Some(Ok(())) => {
                let before = seen.map(|seen| seen.rank());
                return Ok(best(targets, rules, route, before).await);
            }
            Some(Err(now)) => seen = Some(now.or_better(seen)),
        }
    }
    let unreachable = || format!("no way to reach port {port}");
    Err(seen.map_or_else(unreachable, |seen| seen.describe(&rules.check, port)))
}

/// The route to use once `answered` did. A program may begin to listen between
/// two questions; without asking the best route again, the addresses of one
/// that has just started would depend on luck, and change with the next probe.
async fn best(targets: &Targets, rules: &Health, answered: &Ports, rank: Option<u8>) -> Ports {
    let first = targets.routes.first().filter(|_| rank == Some(Seen::Refused.rank()));
    if let Some(first) = first
        && let Some(Ok(())) = ask_within(first, rules, targets.forwarded).await
    {
        return first.clone();
    }
    answered.clone()
}

/// Asks one route; `None` when it does not lead to the port.
async fn ask_within(route: &Ports, rules: &Health, forwarded: bool) -> Option<Result<(), Seen>> {
    let limit = Duration::from_secs(rules.timeout_seconds.max(1));
    let attempt = ask(*route.get(rules.port.as_ref()?)?, &rules.check, forwarded);
    Some(timeout(limit, attempt).await.unwrap_or(Err(Seen::Silence(limit))))
}

/// What a failed probe saw.
#[derive(Debug)]
enum Seen {
    Refused,
    Failed(io::Error),
    Silence(Duration),
    Status(u16),
    NotHttp,
}

impl Seen {
    fn rank(&self) -> u8 {
        match self {
            Seen::Refused => 0,
            Seen::Failed(_) => 1,
            Seen::Silence(_) => 2,
            Seen::Status(_) | Seen::NotHttp => 3,
        }
    }

    /// The one that says more: an answer more than a refusal on the other
    /// address family.
    fn or_better(self, before: Option<Seen>) -> Seen {
        match before {
            Some(before) if before.rank() > self.rank() => before,
            _ => self,
        }
    }

    fn describe(&self, check: &Check, port: u16) -> String {
        let what = match check {
            Check::Tcp | Check::Exec { .. } => format!("a connection to port {port}"),
            Check::Udp => format!("a datagram to port {port}"),
            Check::Http { path } => format!("GET {path} on port {port}"),
        };
        match self {
            Seen::Refused if *check == Check::Udp => format!("nothing listens on UDP port {port}"),
            Seen::Refused => format!("connection refused on port {port}"),
            Seen::Failed(error) => format!("{what} failed: {error}"),
            Seen::Silence(limit) => {
                format!("{what} was not answered within {} s", limit.as_secs())
            }
            Seen::Status(status) => format!("{what} answered {status}"),
            Seen::NotHttp => format!("{what} was not answered in HTTP"),
        }
    }
}

impl From<io::Error> for Seen {
    fn from(error: io::Error) -> Seen {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Seen::Refused,
            _ => Seen::Failed(error),
        }
    }
}

/// Connects, beginning the handshake anew when it is not answered at once. The
/// kernel of a machine this near answers in well under a millisecond; but the
/// first packet to a link that came up just now may be lost, and the kernel
/// itself would repeat it only after a second.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    loop {
        if let Ok(connected) = timeout(HANDSHAKE, TcpStream::connect(address)).await {
            return connected;
        }
    }
}

async fn ask(address: SocketAddr, check: &Check, forwarded: bool) -> Result<(), Seen> {
    match check {
        Check::Tcp | Check::Exec { .. } => {
            let mut stream = connect(address).await?;
            if forwarded { settles(&mut stream).await } else { Ok(()) }
        }
        Check::Http { path } => answers(address, path, forwarded).await,
        Check::Udp => takes_datagrams(address).await,
    }
}

async fn answers(address: SocketAddr, path: &str, forwarded: bool) -> Result<(), Seen> {
    let mut stream = connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: helix-health\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        host(address)
    );
    stream.write_all(request.as_bytes()).await?;
    match status(&mut stream).await? {
        Some(200..=399) => Ok(()),
        Some(status) => Err(Seen::Status(status)),
        None if forwarded => Err(Seen::Refused),
        None => Err(Seen::NotHttp),
    }
}

/// Whether a forwarded connection stays open, or brings data at once.
async fn settles(stream: &mut TcpStream) -> Result<(), Seen> {
    match timeout(FORWARD_SETTLE, stream.read(&mut [0; 1])).await {
        Err(_) | Ok(Ok(1..)) => Ok(()),
        Ok(Ok(_) | Err(_)) => Err(Seen::Refused),
    }
}

/// The status code of the answer; `None` when it is no HTTP.
async fn status(stream: &mut TcpStream) -> io::Result<Option<u16>> {
    let mut line = Vec::with_capacity(64);
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_BYTES_MAX {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&line);
    let mut words = text.split_ascii_whitespace();
    let http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let code = words.next().and_then(|word| word.parse().ok());
    Ok(code.filter(|_| http))
}

fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        SocketAddr::V4(v4) => v4.ip().to_string(),
    }
}

/// Whether a datagram, an empty one, is not refused. What is not refused at once is taken:
/// a program need not answer, and the kernel of a machine this near says at once that
/// nobody listens.
async fn takes_datagrams(address: SocketAddr) -> Result<(), Seen> {
    let own: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(address).await?;
    socket.send(&[]).await?;
    match timeout(REFUSAL, socket.recv(&mut [0])).await {
        Err(_) | Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn rules(check: Check) -> Health {
        Health {
            check,
            port: Some("http".parse().unwrap()),
            interval_seconds: 1,
            timeout_seconds: 1,
            grace_seconds: 1,
            success_threshold: 1,
            failure_threshold: 1,
        }
    }

    fn http() -> Health {
        rules(Check::Http { path: "/ok".to_owned() })
    }

    fn targets(addresses: &[SocketAddr]) -> Targets {
        let name: Name = "http".parse().unwrap();
        Targets {
            routes: addresses.iter().map(|at| Ports::from([(name.clone(), *at)])).collect(),
            internal: BTreeMap::from([(name, 80)]),
            forwarded: false,
        }
    }

    /// A server that gives every connection the same answer.
    async fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 512];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    async fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn the_route_that_answers_gives_the_addresses() {
        let (closed, open) = (closed().await, server("HTTP/1.1 204 No Content\r\n\r\n").await);
        let answered = probe_port(&targets(&[closed, open]), &http()).await.unwrap();
        assert_eq!(answered.values().collect::<Vec<_>>(), [&open]);
        assert!(probe_port(&targets(&[closed, open]), &rules(Check::Tcp)).await.is_ok());
    }

    #[tokio::test]
    async fn failures_say_what_was_seen() {
        let closed = closed().await;
        let broken = server("HTTP/1.1 500 Oops\r\n\r\n").await;
        let strange = server("220 mail.example ESMTP\r\n").await;
        let seen = async |addresses: &[SocketAddr]| {
            probe_port(&targets(addresses), &http()).await.unwrap_err()
        };
        assert_eq!(seen(&[closed]).await, "connection refused on port 80");
        assert_eq!(seen(&[broken, closed]).await, "GET /ok on port 80 answered 500");
        assert_eq!(seen(&[strange]).await, "GET /ok on port 80 was not answered in HTTP");
    }

    #[tokio::test]
    async fn silence_ends_with_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = probe_port(&targets(&[address]), &http()).await.unwrap_err();
        assert_eq!(seen, "GET /ok on port 80 was not answered within 1 s");
    }

    #[tokio::test]
    async fn a_forwarder_that_hangs_up_at_once_does_not_count() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let forwarder = tokio::spawn(async move { drop(listener.accept().await) });
        let through = Targets { forwarded: true, ..targets(&[address]) };
        let seen = probe_port(&through, &rules(Check::Tcp)).await.unwrap_err();
        assert_eq!(seen, "connection refused on port 80");
        forwarder.await.unwrap();
    }
}
