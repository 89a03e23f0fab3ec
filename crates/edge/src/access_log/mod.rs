//! A line for each request, connection and session that has ended, for who runs the edge.
//!
//! `line` says what is written, `writer` writes it, on a thread of its own: a full queue
//! loses lines and counts them, and traffic waits for no disk. No query, no header and
//! nothing of a body is ever in it.

mod line;
mod writer;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(crate) use line::{Connection, Line};

use self::line::Entry;
use self::writer::{Flags, Writer};

/// Lines that may wait for a slow disk: some seconds of a busy edge, and a few MiB.
const QUEUE: usize = 16 * 1_024;

/// How long the end of all waits for lines that are left.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// How often it is looked whether they are written.
const LOOK: Duration = Duration::from_millis(5);

/// Whether and how lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    pub to: LogTarget,
    pub clients: Clients,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    File(PathBuf),
}

/// What is written of a client's address. Whole addresses are personal data of people who
/// are no customers of who runs the edge; a network is enough to see where load comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// The network: the first 24 bits of IPv4, 48 of IPv6.
    #[default]
    Masked,
    Whole,
}

/// The way to the writer.
#[derive(Debug)]
pub(crate) struct AccessLog {
    queue: SyncSender<Box<Entry>>,
    clients: Clients,
    dropped: Arc<AtomicU64>,
    flags: Arc<Flags>,
    writer: JoinHandle<()>,
}

impl AccessLog {
    pub(crate) fn start(config: AccessLogConfig) -> io::Result<AccessLog> {
        let (queue, messages) = sync_channel(QUEUE);
        let (dropped, flags) = (Arc::default(), Arc::default());
        let writer = Writer::open(config.to, Arc::clone(&dropped), Arc::clone(&flags))?;
        let writer =
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
                writer.run(&messages);
            })?;
        Ok(AccessLog { queue, clients: config.clients, dropped, flags, writer })
    }

    /// Lines that were lost.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Has the file opened anew before the next line.
    pub(crate) fn reopen(&self) {
        self.flags.reopen.store(true, Ordering::Release);
    }

    /// Waits until all lines are written, or as long as one waits for a disk that hangs:
    /// the process ends without it then.
    pub(crate) async fn finish(&self) {
        self.flags.ending.store(true, Ordering::Release);
        let begun = Instant::now();
        while !self.writer.is_finished() && begun.elapsed() < LAST_WAIT {
            sleep(LOOK).await;
        }
    }

    fn write(&self, entry: Entry) {
        if self.queue.try_send(Box::new(entry)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn client(&self, address: IpAddr) -> IpAddr {
        let address = address.to_canonical();
        match (self.clients, address) {
            (Clients::Whole, address) => address,
            (Clients::Masked, IpAddr::V4(ip)) => {
                let [a, b, c, _] = ip.octets();
                Ipv4Addr::new(a, b, c, 0).into()
            }
            (Clients::Masked, IpAddr::V6(ip)) => {
                let [a, b, c, ..] = ip.segments();
                Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
            }
        }
    }
}
