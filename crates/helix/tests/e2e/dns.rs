//! A DNS server of others' making, dnsmasq, that knows what it is told here.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::world::wait_for;

/// How often it is tried with another port: one that was free may be taken meanwhile.
const STARTS: usize = 5;

/// The server, ended when dropped.
pub struct Dns {
    process: Child,
    address: SocketAddr,
}

impl Dns {
    /// `None`, having said so, when dnsmasq is not installed. `records` are its own
    /// options, such as `--txt-record=NAME,TEXT`.
    pub fn start(records: &[String]) -> Option<Dns> {
        let found = Command::new("dnsmasq").arg("--version").stdout(Stdio::null()).status();
        if found.is_err() {
            println!("skipped: dnsmasq is not installed; `cargo xtask test` does");
            return None;
        }
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr();
        let mut started = (0..STARTS).filter_map(|_| Dns::at(free().ok()?, records));
        started.next().or_else(|| panic!("dnsmasq does not start"))
    }

    fn at(address: SocketAddr, records: &[String]) -> Option<Dns> {
        let process = Command::new("dnsmasq")
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
            // Below `test` it answers alone: what it does not know is not there.
            .args(["--bind-interfaces", "--listen-address=127.0.0.1", "--local=/test/"])
            .args(["--user=root", "--pid-file="])
            .arg(format!("--port={}", address.port()))
            .args(records)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start dnsmasq");
        let mut dns = Dns { process, address };
        let mut has_ended = false;
        let answers = wait_for(|| {
            has_ended = dns.process.try_wait().is_ok_and(|ended| ended.is_some());
            has_ended || TcpStream::connect(address).is_ok()
        });
        (answers && !has_ended).then_some(dns)
    }

    /// Knows these and no others from now on.
    pub fn know(&mut self, records: &[String]) {
        self.end();
        let started = (0..STARTS).find_map(|_| Dns::at(self.address, records));
        *self = started.expect("dnsmasq starts again at its port");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn end(&mut self) {
        // An error means that it is gone, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.end();
    }
}
