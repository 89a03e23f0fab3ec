//! The world beyond the machine: a network namespace joined to the tests' own
//! by one link, with a server that greets whoever reaches it.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Where the server is: a machine like any other, and where clouds keep the
/// secrets of theirs.
pub(crate) const SERVER: &str = "198.51.100.1";
pub(crate) const METADATA: &str = "169.254.169.254";
/// This machine's address out there.
pub(crate) const MACHINE: &str = "198.51.100.2";
/// The server's port, for TCP and UDP.
pub(crate) const PORT: u16 = 9000;

/// The name of the link's end on this machine.
pub(crate) struct Outside {
    pub(crate) uplink: String,
    process: Child,
}

impl Outside {
    /// Makes the namespace and the machine's default route into it.
    pub(crate) fn new() -> Outside {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let uplink = format!("uplink{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut process = Command::new("unshare")
            .args(["--net", "--"])
            .arg(std::env::current_exe().unwrap())
            .arg("outside")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "there");
        let pid = process.id();
        ip(&format!("link add {uplink} type veth peer name far netns {pid}"));
        ip(&format!("addr add {MACHINE}/24 dev {uplink}"));
        ip(&format!("link set {uplink} up"));
        ip(&format!("route add default via {SERVER}"));
        writeln!(process.stdin.as_mut().unwrap(), "linked").unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "serving");
        Outside { uplink, process }
    }

    /// A process in that namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What the server has been sent by UDP so far.
    pub(crate) fn received(&self) -> String {
        let mut lines = BufReader::new(TcpStream::connect((SERVER, PORT)).unwrap()).lines();
        lines.nth(1).unwrap().unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Its namespace would take the link along, but only in a while.
        let _ = Command::new("ip").args(["link", "del", &self.uplink]).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `outside`: the server. Its first line of greeting is who it sees, its second
/// what datagrams it was sent.
pub(crate) fn run() -> ExitCode {
    let say = |word: &str| {
        let mut out = std::io::stdout();
        writeln!(out, "{word}").unwrap();
        out.flush().unwrap();
    };
    say("there");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    ip("link set lo up");
    ip(&format!("addr add {SERVER}/24 dev far"));
    ip(&format!("addr add {METADATA}/32 dev far"));
    ip("link set far up");
    let sent = Arc::new(Mutex::new(Vec::new()));
    let datagrams = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
    let noted = sent.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 128];
        while let Ok((length, peer)) = datagrams.recv_from(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            noted.lock().unwrap().push(text);
            let _ = datagrams.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
    let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    say("serving");
    while let Ok((mut stream, peer)) = listener.accept() {
        let _ = writeln!(stream, "{}\n{}", peer.ip(), sent.lock().unwrap().join(" "));
    }
    ExitCode::SUCCESS
}

/// Greets whoever connects to this machine itself, on any of its addresses.
/// Lasts as long as the tests.
pub(crate) fn greet_on_this_machine() -> u16 {
    let listener = TcpListener::bind(("::", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let ip: IpAddr = peer.ip();
            let _ = writeln!(stream, "{ip}");
        }
    });
    port
}

/// Runs iproute2's `ip`.
pub(crate) fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "ip {words}");
}
