//! `helix up` as a child process: what it says, and how it is ended.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{DEADLINE, LOOK_AGAIN, Output};

/// A running process and all it has said so far.
pub struct Platform {
    child: Mutex<Child>,
    pid: u32,
    stdout: Stream,
    stderr: Stream,
}

/// One of its outputs, read all the time.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Platform {
    /// Starts it with nothing to read and everything captured.
    pub fn spawn(mut command: Command) -> Platform {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start helix");
        let stdout = Stream::read(child.stdout.take().expect("its output is piped"));
        let stderr = Stream::read(child.stderr.take().expect("its output is piped"));
        Platform { pid: child.id(), child: Mutex::new(child), stdout, stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has said on the side so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Both, for the message of a failed test.
    pub fn said(&self) -> String {
        format!("{}\n{}\n", self.stderr(), self.stdout())
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if self.is_running() {
            let pid = i32::try_from(self.pid).expect("a process id");
            kill(Pid::from_raw(pid), signal).expect("signal helix");
        }
    }

    /// Waits for its end.
    pub fn wait(self) -> Output {
        self.wait_at_most(DEADLINE)
    }

    /// The same for what may take longer or must not.
    pub fn wait_at_most(self, limit: Duration) -> Output {
        if !self.wait_until_ended(limit) {
            let said = self.said();
            self.end();
            panic!("it does not end:\n{said}");
        }
        let status = self.child().wait().expect("it has ended");
        Output {
            stdout: self.stdout.wait_for_all(),
            stderr: self.stderr.wait_for_all(),
            code: status.code().unwrap_or(-1),
        }
    }

    /// Ends it: politely first, by force when that is not enough. Never panics.
    pub fn end(self) {
        self.signal(Signal::SIGINT);
        self.wait_until_ended(DEADLINE);
        let mut child = self.child();
        // An error means that it is gone, which is what is wanted.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn wait_until_ended(&self, limit: Duration) -> bool {
        let begun = Instant::now();
        while self.is_running() && begun.elapsed() < limit {
            std::thread::sleep(LOOK_AGAIN);
        }
        !self.is_running()
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    fn read(mut from: impl Read + Send + 'static) -> Stream {
        let text = Arc::new(Mutex::new(Vec::new()));
        let growing = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let mut text = growing.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(&buffer[..count]);
            }
        });
        Stream { text, reader }
    }

    fn text(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Everything up to the end of the stream, once its only writer is gone.
    fn wait_for_all(self) -> String {
        let begun = Instant::now();
        // A child that inherited the stream would keep it open; what was said
        // until now has to do then.
        while !self.reader.is_finished() && begun.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(LOOK_AGAIN);
        }
        self.text()
    }
}
