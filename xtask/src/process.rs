//! Running other programs: argument vectors only, errors that name the whole
//! command, and children that cannot outlive their owner.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a child that was told to end may take before it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Runs a command with this process's own stdin, stdout and stderr.
///
/// # Errors
/// When it cannot start or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start `{}`", words(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", words(command));
    }
    Ok(())
}

/// Runs a command and returns its stdout without the trailing newline.
///
/// # Errors
/// When it cannot start or does not succeed; the error carries its stderr.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    String::from_utf8(output.stdout)
        .map(|text| text.trim_end().to_owned())
        .with_context(|| format!("read the output of `{}`", words(command)))
}

/// Runs a command quietly and returns all it wrote.
///
/// # Errors
/// When it cannot start or does not succeed; the error carries its stderr.
pub fn output(command: &mut Command) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start `{}`", words(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` failed: {}: {}",
            words(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output)
}

/// The command as a person would type it, for messages only.
pub fn words(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where a program is on a search path written like `PATH`.
pub fn find(program: &str, search_path: &OsStr) -> Option<PathBuf> {
    env::split_paths(search_path)
        .map(|directory| directory.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

/// Whether this process has root's user id.
pub fn is_root() -> bool {
    // The owner of /proc/self is the effective user; reading it needs no
    // `unsafe` and no dependency.
    fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// A command that runs as root: directly, or through a `sudo` that may not ask.
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// A loopback port that nobody listens on.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}

/// A child process that is killed and reaped when its owner goes away.
pub struct Owned(Child);

impl Owned {
    /// Starts `command` as an owned child.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        command.spawn().map(Self).with_context(|| format!("start `{}`", words(command)))
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it writes, where that was made a pipe; once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Fails when the child is gone already, for loops that wait for it to be
    /// ready.
    ///
    /// # Errors
    /// When it has exited.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.0.try_wait().context("look at a child process")? {
            Some(status) => bail!("process {} ended early: {status}", self.0.id()),
            None => Ok(()),
        }
    }

    /// Kills it, as a crash would, and reaps it.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        // Fails only when it is gone already.
        let _ = self.0.kill();
        self.0.wait().map(drop).context("wait for a child process")
    }

    /// Tells it to end and waits, but not for ever: `Drop` kills what is still
    /// there.
    pub fn terminate(&mut self) {
        // Fails only when it is gone already.
        let _ = output(Command::new("kill").arg(self.0.id().to_string()));
        let deadline = Instant::now() + ENDS_WITHIN;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only when the child is gone already, which is the aim.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_names_itself_and_its_stderr() {
        let error = capture(Command::new("ls").arg("/does/not/exist")).unwrap_err().to_string();
        assert!(error.contains("`ls /does/not/exist` failed"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn an_owned_child_is_gone_after_drop() {
        let child = Owned::spawn(Command::new("sleep").arg("600")).unwrap();
        let proc_entry = PathBuf::from(format!("/proc/{}", child.id()));
        assert!(proc_entry.exists());
        drop(child);
        assert!(!proc_entry.exists());
    }
}
