//! The control socket's connections. Start at [`Client`].
//!
//! A client that does not read is dropped once too much waits for it; it can
//! never stop the loop. It must not know how commands are carried out inside.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags};

use super::{Shim, exec};
use crate::failure::{Failure, Reason};
use crate::protocol::{Decoder, Frame, FrameKind, Request};
use crate::spec::ExecSpec;
use crate::status::{ProcessRef, Status};

/// Connections served at once; the agent needs a handful.
const CLIENTS_MAX: usize = 64;

/// Unsent bytes after which a client counts as gone: hundreds of status frames.
const OUTPUT_BYTES_MAX: usize = 256 << 10;

/// One connection.
pub(super) struct Client {
    stream: UnixStream,
    decoder: Decoder,
    output: VecDeque<u8>,
    watching: bool,
    /// Closed as soon as all output is sent.
    leaving: bool,
}

/// What to do with a client after serving it.
enum Next {
    Keep,
    Drop,
    Exec(ExecSpec),
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            decoder: Decoder::default(),
            output: VecDeque::new(),
            watching: false,
            leaving: false,
        }
    }

    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        let mut flags = PollFlags::POLLIN;
        if self.has_output() {
            flags |= PollFlags::POLLOUT;
        }
        PollFd::new(self.stream.as_fd(), flags)
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Tells a watching client of a new status.
    pub(super) fn notify(&mut self, status: &Status) {
        if self.watching {
            self.queue(&Frame::json(FrameKind::Status, status));
            self.leaving |= status.state.is_final();
            self.flush();
        }
    }

    fn queue(&mut self, frame: &Frame) {
        self.output.extend(frame.encode());
    }

    /// Sends what the socket takes. `false` when the client is gone.
    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            match self.stream.write(self.output.as_slices().0) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.output.len() <= OUTPUT_BYTES_MAX;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        !self.leaving
    }

    /// Reads what came in, at most one buffer a turn. `false` when the client is
    /// gone.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => self.decoder.push(&buffer[..count]),
            Err(error) => {
                return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
            }
        }
        true
    }
}

impl Shim {
    pub(super) fn accept_clients(&mut self) {
        while self.io.clients.len() < CLIENTS_MAX {
            let Ok((stream, _)) = self.listener.accept() else {
                return;
            };
            if stream.set_nonblocking(true).is_ok() {
                self.io.clients.push(Client::new(stream));
            }
        }
    }

    /// Serves the clients whose poll reported something.
    pub(super) fn serve_clients(&mut self, ready: &[bool]) {
        let clients = std::mem::take(&mut self.io.clients);
        for (index, mut client) in clients.into_iter().enumerate() {
            if !ready.get(index).copied().unwrap_or(true) {
                self.io.clients.push(client);
                continue;
            }
            match self.serve(&mut client) {
                Next::Keep => self.io.clients.push(client),
                Next::Drop => {}
                Next::Exec(spec) => self.begin_exec(client, &spec),
            }
        }
    }

    fn serve(&mut self, client: &mut Client) -> Next {
        let alive = client.receive();
        loop {
            match client.decoder.next_frame() {
                Ok(Some(Frame { kind: FrameKind::Request, payload })) => {
                    match serde_json::from_slice(&payload) {
                        Ok(Request::Exec(spec)) => return Next::Exec(spec),
                        Ok(request) => self.answer(client, &request),
                        Err(error) => {
                            let detail = format!("parse the request: {error}");
                            client
                                .queue(&Frame::failed(&Failure::new(Reason::SpecInvalid, detail)));
                        }
                    }
                }
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => return Next::Drop,
            }
        }
        match client.flush() && alive {
            true => Next::Keep,
            false => Next::Drop,
        }
    }

    fn answer(&mut self, client: &mut Client, request: &Request) {
        let frame = match request {
            Request::Status => Frame::json(FrameKind::Status, &self.status),
            Request::Watch => {
                client.watching = true;
                Frame::json(FrameKind::Status, &self.status)
            }
            Request::Signal { signal } => match self.signal(*signal) {
                true => Frame::new(FrameKind::Done, []),
                false => Frame::failed(&Failure::new(
                    Reason::NotRunning,
                    format!("send signal {signal}: the workload is not running"),
                )),
            },
            Request::Stop { grace_ms } => {
                self.stop(*grace_ms);
                Frame::new(FrameKind::Done, [])
            }
            // Taken out before.
            Request::Exec(_) => return,
        };
        client.queue(&frame);
    }

    /// Hands the connection to a helper process, so that any number of sessions
    /// leave this loop as simple and as small as it is.
    fn begin_exec(&mut self, mut client: Client, spec: &ExecSpec) {
        let Some(workload) = self.status.workload.filter(ProcessRef::is_alive) else {
            let failure = Failure::new(Reason::NotRunning, "the instance is not running");
            client.queue(&Frame::failed(&failure));
            client.leaving = true;
            client.flush();
            return;
        };
        let decoder = std::mem::take(&mut client.decoder);
        let session = exec::Session {
            dir: &self.dir,
            instance: &self.spec,
            workload_pid: workload.pid,
            cgroup: self.status.cgroup.as_ref(),
            spec,
        };
        match session.start(&client.stream, decoder) {
            Ok(pid) => self.io.helpers.push(pid),
            Err(failure) => {
                client.queue(&Frame::failed(&failure));
                client.flush();
            }
        }
    }
}
