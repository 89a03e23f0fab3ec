//! Visitors: GETs one after the other, each on a new connection, until told to
//! stop; and an exact account of what went wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{http, until};

/// Between two requests, to leave some of two cores to those who answer.
const PACE: Duration = Duration::from_millis(2);

/// A visitor at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    visitor: Option<JoinHandle<Tally>>,
}

/// What a visitor saw.
#[derive(Debug, Default)]
pub struct Tally {
    pub answered: usize,
    pub failures: Vec<Failure>,
}

/// A request without a good answer, and when it was under way.
#[derive(Debug)]
pub struct Failure {
    pub began: Instant,
    pub ended: Instant,
    pub what: String,
}

impl Load {
    /// Starts asking for `/`, each time on a new connection, until it is stopped.
    /// Anything but 200 is a failure.
    pub fn start(address: SocketAddr, host: &str) -> Load {
        let host = host.to_owned();
        Load::visit(move || good(http::get(address, &host, "/").map(|reply| reply.status)))
    }

    /// The same on one connection that is kept until the far end announces that
    /// it closes it. One that breaks off unannounced is a failure.
    pub fn start_kept(address: SocketAddr, host: &str) -> Load {
        let host = host.to_owned();
        let mut kept: Option<http::Kept> = None;
        Load::visit(move || {
            let mut open = match kept.take() {
                Some(open) => open,
                None => http::Kept::open(address, &host).map_err(|error| error.to_string())?,
            };
            let asked = open.get("/");
            kept = (asked.is_ok() && !open.closed).then_some(open);
            good(asked)
        })
    }

    fn visit(mut ask: impl FnMut() -> Result<(), String> + Send + 'static) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&answered));
        let visitor = std::thread::spawn(move || {
            let mut tally = Tally::default();
            while !stopping.load(Ordering::Relaxed) {
                let began = Instant::now();
                match ask() {
                    Ok(()) => tally.answered = counting.fetch_add(1, Ordering::Relaxed) + 1,
                    Err(what) => {
                        tally.failures.push(Failure { began, ended: Instant::now(), what });
                    }
                }
                wait_for_the_next();
            }
            tally
        });
        Load { stop, answered, visitor: Some(visitor) }
    }

    /// Waits until so many more have been answered: things go on.
    pub fn goes_on(&self, more: usize) {
        let enough = self.answered.load(Ordering::Relaxed) + more;
        until("more requests to be answered", || self.answered.load(Ordering::Relaxed) >= enough);
    }

    /// Stops, and tells.
    pub fn finish(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let visitor = self.visitor.take().expect("finished once");
        visitor.join().expect("a visitor never panics")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Tally {
    /// Fails unless there were requests and all of them were answered.
    #[track_caller]
    pub fn nothing_lost(&self, whose: &str) {
        assert!(self.answered > 0, "{whose}: nothing was asked");
        assert!(
            self.failures.is_empty(),
            "{whose}: {} answered, but {:#?}",
            self.answered,
            self.failures
        );
    }

    /// The same, but forgives what was under way at a moment: a connection that
    /// was already open to a program that dies cannot be moved to another.
    #[track_caller]
    pub fn nothing_lost_but_at(&self, whose: &str, begin: Instant, end: Instant) {
        assert!(self.answered > 0, "{whose}: nothing was asked");
        let struck = |failure: &&Failure| failure.began <= end && failure.ended >= begin;
        let lost: Vec<&Failure> = self.failures.iter().filter(|failure| !struck(failure)).collect();
        assert!(lost.is_empty(), "{whose}: {} answered, but {lost:#?}", self.answered);
        let struck = self.failures.len();
        assert!(struck <= 1, "{whose}: one visitor has one connection open, {struck} broke");
    }
}

fn wait_for_the_next() {
    std::thread::sleep(PACE);
}

fn good(asked: std::io::Result<u16>) -> Result<(), String> {
    match asked {
        Ok(200) => Ok(()),
        Ok(status) => Err(format!("status {status}")),
        Err(error) => Err(error.to_string()),
    }
}
