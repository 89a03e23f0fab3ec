//! Why a program is no more, in words and as a reason code.

use std::time::Duration;

use helix_model::Reason;
use helix_model::instance::Exit;
use helix_model::manifest::format_bytes;

use super::crashes::Crashes;

/// How a program ended, as far as its keeper told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// `None` when its keeper vanished and with it the knowledge.
    pub(crate) exit: Option<Exit>,
    /// The memory limit in force, bytes, for the message.
    pub(crate) memory_limit_bytes: Option<u64>,
    /// Why what runs before the program did not end well, if that was the end.
    pub(crate) prestart: Option<String>,
}

/// Why a program could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartFailure {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// What is wrong is on this machine (a full disk, no process to be had) and
    /// not in the program or its image.
    pub(crate) of_machine: bool,
}

impl StartFailure {
    /// One that this machine is to blame for.
    pub(crate) fn of_machine(reason: Reason, message: String) -> StartFailure {
        StartFailure { reason, message, of_machine: true }
    }
}

/// Why a program does not run, though it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    reason: Reason,
    message: String,
    /// It exited with status 0.
    pub(crate) clean: bool,
    /// It never ran, so "crashed" would be the wrong word and the reason says
    /// more than a crash loop would.
    start: bool,
    /// Its restart policy has no say, since the program has done nothing wrong.
    pub(crate) of_machine: bool,
}

impl Cause {
    pub(crate) fn start(failure: StartFailure) -> Cause {
        let StartFailure { reason, message, of_machine } = failure;
        Cause { reason, message, clean: false, start: true, of_machine }
    }

    pub(crate) fn unhealthy(seen: String) -> Cause {
        let reason = Reason::HealthcheckFailed;
        Cause { reason, message: seen, clean: false, start: false, of_machine: false }
    }

    pub(crate) fn exit(end: End) -> Cause {
        if let Some(message) = end.prestart {
            let reason = Reason::PrestartFailed;
            return Cause { reason, message, clean: false, start: false, of_machine: false };
        }
        let oom = end.exit.as_ref().is_some_and(|exit| exit.oom_killed);
        let message = match (&end.exit, end.memory_limit_bytes) {
            (None, _) => "its keeper process was lost".to_owned(),
            (Some(_), Some(limit)) if oom => {
                format!("needed more memory than its limit of {}", format_bytes(limit))
            }
            (Some(_), None) if oom => "needed more memory than its limit".to_owned(),
            (Some(Exit { signal: Some(signal), .. }), _) => format!("killed by signal {signal}"),
            (Some(exit), _) => format!("exited with code {}", exit.code.unwrap_or(-1)),
        };
        let clean = end.exit.is_some_and(|exit| exit.code == Some(0) && exit.signal.is_none());
        let reason = if oom { Reason::OomKilled } else { Reason::WorkloadExited };
        Cause { reason, message, clean, start: false, of_machine: false }
    }

    /// What to say when it will be started again after `pause`.
    pub(crate) fn retried(self, crashes: Crashes, pause: Duration) -> (Reason, String) {
        let next = match pause.as_secs() {
            0 => "starting again".to_owned(),
            seconds => format!("starting again in {seconds} s"),
        };
        if crashes.is_loop() && !self.start {
            let times = crashes.in_a_row;
            let message = format!("ended {times} times in a row, last: {}; {next}", self.message);
            return (Reason::CrashLoopBackoff, message);
        }
        // Only a loop tells its pause: the first time, whoever ordered the
        // instance may well decide not to start it again.
        (self.reason, self.message)
    }

    /// What to say when it will not be, and why not.
    pub(crate) fn last(self, why: &str) -> (Reason, String) {
        (self.reason, format!("{}; not starting again: {why}", self.message))
    }
}
