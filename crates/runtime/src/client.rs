//! The agent's side of a shim: start one, find one again, ask it things. Start
//! at [`Shim`].
//!
//! Async, since an agent holds many. It must not know plans.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::exec::ExecSession;
use crate::failure::{Failure, Reason};
use crate::protocol::{Decoder, Frame, FrameError, FrameKind, Request, SOCKET};
use crate::spec::{ExecSpec, InstanceSpec};
use crate::status::{ProcessRef, State, Status};
use crate::sys;

/// Longest a start may take before the shim itself gives up; see its launcher's
/// limit, which is shorter.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(150);

/// Longest a shim may take to answer. It does nothing slow between events.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Status changes buffered towards a slow watcher; an instance has about three.
const WATCH_BUFFER: usize = 16;

/// Why a start did not happen.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The instance could not be started, with the reason for its owner.
    #[error("start instance")]
    Failed(#[source] Failure),
    /// The instance directory or the shim's binary could not be used.
    #[error("run the shim for {dir}")]
    Io {
        /// Instance directory.
        dir: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// Why a shim could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The shim refused.
    #[error("the shim refused")]
    Refused(#[source] Failure),
    /// The shim cannot be reached; it may have ended meanwhile.
    #[error("talk to the shim of {dir}")]
    Io {
        /// Instance directory.
        dir: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

impl ShimError {
    pub(crate) fn io(dir: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { dir: dir.to_owned(), source: source.into() }
    }

    /// The refusal's reason, if it was one.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Refused(failure) => Some(failure),
            Self::Io { .. } => None,
        }
    }
}

/// A handle on one instance's shim. Cheap; holds no connection, so it stays
/// valid while either side restarts.
#[derive(Clone, Debug)]
pub struct Shim {
    dir: PathBuf,
}

impl Shim {
    /// Writes `spec` into `dir`, starts a shim for it and returns once the
    /// workload runs, or with the reason it does not. `helix_exe` must call
    /// [`crate::shim_main`] when its first argument is `shim`.
    ///
    /// The workload may end at any moment after; [`Shim::watch`] tells.
    pub async fn spawn(
        helix_exe: &Path,
        dir: &Path,
        spec: &InstanceSpec,
    ) -> Result<Self, StartError> {
        spec.check().map_err(StartError::Failed)?;
        let failed = |source: io::Error| StartError::Io { dir: dir.to_owned(), source };
        let status = tokio::time::timeout(SPAWN_TIMEOUT, run_shim(helix_exe, dir, spec))
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        match status.failure {
            Some(failure) => Err(StartError::Failed(failure)),
            None => Ok(Self { dir: dir.to_owned() }),
        }
    }

    /// Finds the living shim of `dir`, e.g. after the agent restarted. `None`
    /// when it is gone; [`Status::load`] then tells the last state, and
    /// [`crate::cleanup`] removes what it may have left.
    pub async fn adopt(dir: &Path) -> Result<Option<Self>, ShimError> {
        let status = Status::load(dir).map_err(|error| ShimError::io(dir, error))?;
        let alive = status.is_some_and(|s| !s.state.is_final() && s.shim.is_alive());
        let shim = Self { dir: dir.to_owned() };
        if !alive {
            return Ok(None);
        }
        // Alive and answering are different things.
        match shim.status().await {
            Ok(_) => Ok(Some(shim)),
            Err(_) if Status::load(dir).is_ok_and(|s| s.is_none_or(|s| s.state.is_final())) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The instance directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The current status; the last one written when the shim has ended.
    pub async fn status(&self) -> Result<Status, ShimError> {
        match self.ask(&Request::Status).await {
            Ok(frame) => self.parse(&frame.payload),
            Err(error) => match Status::load(&self.dir) {
                Ok(Some(s)) if s.state.is_final() || !s.shim.is_alive() => Ok(s),
                _ => Err(error),
            },
        }
    }

    /// Streams the current status and each change. Ends with a final status, or
    /// without one when the shim was lost.
    pub async fn watch(&self) -> Result<mpsc::Receiver<Status>, ShimError> {
        let (sender, receiver) = mpsc::channel(WATCH_BUFFER);
        let mut connection = match self.connect(&Request::Watch).await {
            Ok(connection) => connection,
            Err(error) => {
                // It may have ended just now, which is what a watcher wants to know.
                let last = Status::load(&self.dir).ok().flatten().filter(|s| s.state.is_final());
                let last = last.ok_or(error)?;
                // The channel is new, so there is room.
                let _ = sender.try_send(last);
                return Ok(receiver);
            }
        };
        let dir = self.dir.clone();
        tokio::spawn(async move {
            let mut last = State::Starting;
            while let Ok(Some(frame)) = connection.receive().await {
                let Ok(status) = serde_json::from_slice::<Status>(&frame.payload) else {
                    break;
                };
                last = status.state;
                if sender.send(status).await.is_err() || last.is_final() {
                    return;
                }
            }
            // Cut off: either ended between two frames, or lost.
            if let Ok(Some(status)) = Status::load(&dir)
                && status.state.is_final()
                && !last.is_final()
            {
                // Nobody listening any more is fine.
                let _ = sender.send(status).await;
            }
        });
        Ok(receiver)
    }

    /// Sends a signal to the workload's first process.
    pub async fn signal(&self, signal: i32) -> Result<(), ShimError> {
        self.ask(&Request::Signal { signal }).await.map(drop)
    }

    /// Asks for TERM now and KILL after `grace`. Returns at once; the shim sees
    /// it through even if the caller dies.
    pub async fn stop(&self, grace: Duration) -> Result<(), ShimError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        // Days, rather than arithmetic at the edge of a clock.
        let grace_ms = grace_ms.min(7 * 24 * 3600 * 1000);
        self.ask(&Request::Stop { grace_ms }).await.map(drop)
    }

    /// Runs a command inside the instance. Returns once it has been executed, or
    /// with the reason it was not.
    pub async fn exec(&self, spec: &ExecSpec) -> Result<ExecSession, ShimError> {
        let connection = self.connect(&Request::Exec(spec.clone())).await?;
        ExecSession::begin(&self.dir, connection).await
    }

    /// Memory in use in bytes: by its cgroup, else resident memory of the first
    /// process. `None` when nothing can be measured.
    pub async fn memory_bytes(&self) -> Result<Option<u64>, ShimError> {
        let status = self.status().await?;
        let counted = status.cgroup.as_ref().and_then(crate::cgroup::Cgroup::memory_bytes);
        Ok(counted.or_else(|| resident_bytes(status.workload.filter(ProcessRef::is_alive)?.pid)))
    }

    /// One request, one answer.
    async fn ask(&self, request: &Request) -> Result<Frame, ShimError> {
        let answer = async {
            let mut connection = self.connect(request).await?;
            connection.receive().await.map_err(|error| ShimError::io(&self.dir, error))
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer)
            .await
            .map_err(|_| ShimError::io(&self.dir, io::ErrorKind::TimedOut))??;
        let frame = answer.ok_or_else(|| ShimError::io(&self.dir, io::ErrorKind::UnexpectedEof))?;
        match frame.kind {
            FrameKind::Failed => Err(ShimError::Refused(self.parse(&frame.payload)?)),
            _ => Ok(frame),
        }
    }

    async fn connect(&self, request: &Request) -> Result<Connection, ShimError> {
        let open = async {
            let folder = std::fs::File::open(&self.dir)?;
            let stream = UnixStream::connect(sys::short_path(&folder, SOCKET)).await?;
            let mut connection = Connection { stream, decoder: Decoder::default() };
            connection.send(&Frame::json(FrameKind::Request, request)).await?;
            Ok(connection)
        };
        open.await.map_err(|error: io::Error| ShimError::io(&self.dir, error))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, json: &[u8]) -> Result<T, ShimError> {
        serde_json::from_slice(json).map_err(|error| ShimError::io(&self.dir, error))
    }
}

/// Writes the spec, runs the shim, reads the one line it says.
async fn run_shim(helix_exe: &Path, dir: &Path, spec: &InstanceSpec) -> io::Result<Status> {
    tokio::fs::create_dir_all(dir).await?;
    let dir = tokio::fs::canonicalize(dir).await?;
    // The environment and the log may hold secrets.
    tokio::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).await?;
    let json = serde_json::to_vec_pretty(spec)?;
    let path = dir.join(InstanceSpec::FILE);
    tokio::fs::write(&path, json).await?;
    let complaints = std::fs::File::create(dir.join("shim.log"))?;
    let mut child = Command::new(helix_exe)
        .arg("shim")
        .arg(&dir)
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(complaints)
        .spawn()?;
    let mut line = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // Ends early, without a line, only if the shim could not even begin.
        tokio::io::BufReader::new(stdout).read_until(b'\n', &mut line).await?;
    }
    child.wait().await?;
    if line.is_empty() {
        let detail = "the shim ended without a word; another may hold this directory";
        let failure = Failure::new(Reason::WorkloadStartFailed, detail);
        return Err(io::Error::other(failure));
    }
    Ok(serde_json::from_slice(&line)?)
}

fn resident_bytes(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// A framed connection to a shim.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: UnixStream,
    pub(crate) decoder: Decoder,
}

impl Connection {
    pub(crate) async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.stream.write_all(&frame.encode()).await
    }

    /// The next frame, `None` when the shim closed the connection.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<Frame>> {
        receive(&mut self.stream, &mut self.decoder).await
    }
}

/// Reads one frame from any stream.
pub(crate) async fn receive(
    stream: &mut (impl AsyncReadExt + Unpin),
    decoder: &mut Decoder,
) -> io::Result<Option<Frame>> {
    let mut buffer = [0; 16 << 10];
    loop {
        let next = decoder.next_frame();
        let broken = |error: FrameError| io::Error::new(io::ErrorKind::InvalidData, error);
        if let Some(frame) = next.map_err(broken)? {
            return Ok(Some(frame));
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(None),
            count => decoder.push(&buffer[..count]),
        }
    }
}
