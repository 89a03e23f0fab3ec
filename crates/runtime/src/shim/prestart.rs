//! The shim's part while commands run before the workload: it hears when each begins,
//! ends one that takes too long, and notes how it went. Start at [`Shim::hear_prestart`].

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

use super::Shim;
use crate::cleanup;
use crate::failure::{Failure, Reason};
use crate::prestart::{BEGUN, FAILED};
use crate::spec::{Isolation, PrestartSpec};

/// Commands that run before the workload.
pub(super) struct Preparing {
    /// Closed by the execution of the workload.
    pipe: OwnedFd,
    /// Those that have not begun.
    next: VecDeque<PrestartSpec>,
    /// The one that runs, and when it must have ended.
    current: Option<(PrestartSpec, Instant)>,
    /// What is said of a failure, as far as it has come.
    failed: Option<Vec<u8>>,
}

impl Preparing {
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.current.as_ref().map(|(_, until)| *until)
    }

    fn take(&mut self, bytes: &[u8], now: Instant) {
        for (index, byte) in bytes.iter().enumerate() {
            match *byte {
                BEGUN => {
                    let limit = |it: &PrestartSpec| now + Duration::from_millis(it.timeout_ms);
                    self.current = self.next.pop_front().map(|it| (it.clone(), limit(&it)));
                }
                // The rest is its text, and the last there is.
                FAILED => return self.failed.get_or_insert_default().extend(&bytes[index + 1..]),
                _ => {}
            }
        }
    }
}

impl Shim {
    /// Makes the pipe on which to hear of commands before the workload, if there are any;
    /// the end that is returned is theirs.
    pub(super) fn expect_prestart(&mut self) -> Result<Option<OwnedFd>, Failure> {
        if self.spec.prestart.is_empty() {
            return Ok(None);
        }
        if self.spec.isolation == Isolation::Process {
            let detail = "prestart commands run in the instance's own root";
            return Err(Failure::new(Reason::ImageNeedsNamespaces, detail));
        }
        let failed = |errno: nix::Error| {
            Failure::new(Reason::WorkloadStartFailed, format!("make a pipe: {errno}"))
        };
        let (pipe, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
        let next = self.spec.prestart.iter().cloned().collect();
        self.io.prestart = Some(Preparing { pipe, next, current: None, failed: None });
        self.status.preparing = true;
        Ok(Some(theirs))
    }

    /// Takes in what the commands say, and ends one that has had its time.
    pub(super) fn hear_prestart(&mut self) {
        let now = Instant::now();
        let mut buffer = [0; 1024];
        while let Some(preparing) = &mut self.io.prestart {
            match nix::unistd::read(&preparing.pipe, &mut buffer) {
                Ok(0) => self.end_prestart(),
                Ok(count) if preparing.failed.is_some() => {
                    preparing.failed.get_or_insert_default().extend(&buffer[..count]);
                }
                Ok(count) => preparing.take(&buffer[..count], now),
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        let Some(preparing) = &mut self.io.prestart else { return };
        if let Some((late, _)) = preparing.current.take_if(|(_, until)| *until <= now) {
            let (name, limit) = (&late.argv[0], late.timeout_ms / 1000);
            let message = format!("prestart `{name}` did not end within {limit} s");
            preparing.failed = Some(message.into_bytes());
            cleanup::kill_workload(&self.status);
        }
    }

    /// The pipe is closed: the workload runs, or its process has ended.
    fn end_prestart(&mut self) {
        let Some(preparing) = self.io.prestart.take() else { return };
        if let Some(said) = preparing.failed {
            let detail = String::from_utf8_lossy(&said).into_owned();
            self.status.failure = Some(Failure::new(Reason::PrestartFailed, detail));
        } else {
            self.status.preparing = false;
        }
        self.enter_state(self.status.state);
    }

    /// Asks the command that runs to end. The first process of a container hears no TERM
    /// that it does not wait for; what it started does.
    pub(super) fn stop_prestart(&self) {
        if let Some(workload) = self.status.workload {
            // It leads a group of its own; where not, its time ends with the grace.
            let _ = kill(Pid::from_raw(-workload.pid), Signal::SIGTERM);
        }
    }
}
