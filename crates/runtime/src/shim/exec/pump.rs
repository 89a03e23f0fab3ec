//! Carries bytes between a client connection and a command until the command has
//! ended and its output is sent. Start at [`Pump::run`].
//!
//! Both directions wait for the slower side: a client that does not read stops
//! its own command, nobody else's.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::failure::{Failure, Reason};
use crate::protocol::{CHUNK_BYTES, Decoder, Frame, FrameKind, WindowSize};
use crate::status::Exit;
use crate::sys;

/// Input taken from the client before the command reads it.
const INPUT_BYTES_MAX: usize = 256 << 10;

/// How long to wait for output after the command ended, in milliseconds, while
/// something it started still holds its pipes.
const LINGER_MS: u16 = 200;

/// Our ends of a command's streams.
pub(super) struct Channels {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: bool,
}

impl Channels {
    pub(super) fn pipes(stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd) -> Result<Self, Failure> {
        for fd in [&stdin, &stdout, &stderr] {
            no_blocking(fd)?;
        }
        Ok(Self { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr), terminal: false })
    }

    pub(super) fn terminal(controller: OwnedFd) -> Result<Self, Failure> {
        no_blocking(&controller)?;
        let stdin = controller
            .try_clone()
            .map_err(Failure::because(Reason::WorkloadStartFailed, "share the terminal"))?;
        Ok(Self { stdin: Some(stdin), stdout: Some(controller), stderr: None, terminal: true })
    }
}

fn no_blocking(fd: &OwnedFd) -> Result<(), Failure> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map(drop)
        .map_err(Failure::because(Reason::WorkloadStartFailed, "configure a stream"))
}

/// The state of one session.
pub(super) struct Pump<'a> {
    stream: &'a UnixStream,
    decoder: Decoder,
    channels: Channels,
    pid: Pid,
    /// Bytes on their way to the command.
    input: VecDeque<u8>,
    /// The client sent the end of input.
    input_over: bool,
    /// Bytes on their way to the client.
    output: VecDeque<u8>,
    exit: Option<Exit>,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        stream: &'a UnixStream,
        decoder: Decoder,
        channels: Channels,
        pid: Pid,
    ) -> Self {
        let output = Frame::new(FrameKind::Started, []).encode().into();
        let (input, input_over, exit) = (VecDeque::new(), false, None);
        Self { stream, decoder, channels, pid, input, input_over, output, exit }
    }

    /// Carries on until all is said. Returns the helper's own exit code.
    pub(super) fn run(mut self) -> i32 {
        let Ok(ended) = sys::open_pidfd(self.pid) else {
            return self.give_up();
        };
        loop {
            if !self.take_frames() || !self.flush() {
                return self.give_up();
            }
            self.feed_command();
            let open = self.channels.stdout.is_some() || self.channels.stderr.is_some();
            if self.exit.is_some() && !open && self.output.is_empty() {
                return self.finish();
            }
            let events = self.wait(&ended, open);
            if self.exit.is_some() && events == 0 {
                // Something the command left behind keeps its pipes open.
                self.channels.stdout = None;
                self.channels.stderr = None;
            }
            self.reap();
            if !self.receive() {
                return self.give_up();
            }
            self.read_output();
        }
    }

    fn wait(&self, ended: &OwnedFd, open: bool) -> i32 {
        let mut fds = Vec::with_capacity(5);
        let mut client = PollFlags::empty();
        client.set(PollFlags::POLLIN, self.input.len() < INPUT_BYTES_MAX);
        client.set(PollFlags::POLLOUT, !self.output.is_empty());
        fds.push(PollFd::new(self.stream.as_fd(), client));
        if self.exit.is_none() {
            fds.push(PollFd::new(ended.as_fd(), PollFlags::POLLIN));
        }
        // The next output is read only once the last is sent.
        if self.output.is_empty() {
            for pipe in [&self.channels.stdout, &self.channels.stderr].into_iter().flatten() {
                fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
            }
        }
        if let Some(stdin) = self.channels.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        let lingering = self.exit.is_some() && open && self.output.is_empty();
        let timeout = if lingering { PollTimeout::from(LINGER_MS) } else { PollTimeout::NONE };
        // An interrupted wait counts as an event: every source is looked at.
        poll(&mut fds, timeout).unwrap_or(1)
    }

    fn reap(&mut self) {
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, 128 + signal as i32, Some(signal))
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if pid == self.pid {
                let signal = signal.map(|signal| signal as i32);
                self.exit = Some(Exit { code, signal, ..Exit::default() });
            }
        }
    }

    /// Reads from the client. `false` when it is gone.
    fn receive(&mut self) -> bool {
        if self.input.len() >= INPUT_BYTES_MAX {
            return true;
        }
        let mut buffer = [0; CHUNK_BYTES];
        match (&mut &*self.stream).read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.decoder.push(&buffer[..count]);
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    /// Acts on the client's frames. `false` when it breaks the protocol.
    fn take_frames(&mut self) -> bool {
        loop {
            let frame = match self.decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return true,
                Err(_) => return false,
            };
            match frame.kind {
                FrameKind::Stdin => self.input.extend(frame.payload),
                FrameKind::StdinClosed => self.input_over = true,
                FrameKind::Resize => self.resize(&frame.payload),
                FrameKind::Signal => self.signal(&frame.payload),
                _ => return false,
            }
        }
    }

    fn resize(&self, payload: &[u8]) {
        let size = serde_json::from_slice::<WindowSize>(payload);
        if let (Ok(size), Some(terminal), true) =
            (size, &self.channels.stdin, self.channels.terminal)
        {
            // A size the terminal does not take leaves the old one.
            let _ = sys::set_window_size(terminal, size.cols, size.rows);
        }
    }

    fn signal(&self, payload: &[u8]) {
        let signal = serde_json::from_slice::<i32>(payload).ok();
        if let (Some(signal), None) = (signal.and_then(|n| Signal::try_from(n).ok()), &self.exit) {
            // Ended in this moment: then its exit is the answer.
            let _ = kill(self.pid, signal);
        }
    }

    fn feed_command(&mut self) {
        while let Some(stdin) = self.channels.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            match nix::unistd::write(stdin, self.input.as_slices().0) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(_) => {
                    // The command closed its input; the rest goes nowhere.
                    self.input.clear();
                    self.channels.stdin = None;
                }
            }
        }
        if self.input_over && self.input.is_empty() && !self.channels.terminal {
            self.channels.stdin = None;
        }
    }

    fn read_output(&mut self) {
        if !self.output.is_empty() {
            return;
        }
        let mut buffer = [0; CHUNK_BYTES];
        let streams = [
            (FrameKind::Stdout, &mut self.channels.stdout),
            (FrameKind::Stderr, &mut self.channels.stderr),
        ];
        for (kind, slot) in streams {
            let Some(pipe) = slot else { continue };
            match nix::unistd::read(&*pipe, &mut buffer) {
                // A terminal reports the end of its last user as an error.
                Ok(0) | Err(Errno::EIO) => *slot = None,
                Ok(count) => self.output.extend(Frame::new(kind, &buffer[..count]).encode()),
                Err(_) => {}
            }
        }
    }

    /// Sends what the client takes. `false` when it is gone.
    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            match (&mut &*self.stream).write(self.output.as_slices().0) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn finish(self) -> i32 {
        let exit = self.exit.unwrap_or_default();
        let frame = Frame::json(FrameKind::Exit, &exit).encode();
        let sent = self.stream.set_nonblocking(false);
        i32::from(sent.and_then(|()| (&mut &*self.stream).write_all(&frame)).is_err())
    }

    /// The client is gone: so is its command, with the process group it leads.
    fn give_up(self) -> i32 {
        if self.exit.is_none() {
            // Either may be gone already; waiting below settles it.
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
        1
    }
}
