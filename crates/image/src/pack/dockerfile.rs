//! The `dockerfile` pack: hands the folder to docker, buildah or podman and
//! imports what they made.
//!
//! Building is theirs: a Dockerfile runs arbitrary programs, which wants the
//! sandbox these tools bring. Programs are run by argument list, never through
//! a shell, in a process group of their own that ends with the build.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::{BuildOutput, PackError, lines};
use crate::archive::import_archive;
use crate::blob::Temporary;
use crate::digest::Digest;
use crate::limits::BUILD_TIMEOUT;
use crate::store::Store;

/// Time for a docker engine to say that it is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// An image id as the builders write it.
const IMAGE_ID_BYTES_MAX: usize = 256;

/// A program that builds Dockerfiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Builder {
    Docker,
    Buildah,
    Podman,
}

/// Builds `file` with `folder` as context and imports the image.
pub async fn build(
    store: &Store,
    folder: &Path,
    file: &Path,
    output: &BuildOutput,
) -> Result<Digest, PackError> {
    let builder = Builder::find(file).await?;
    let scratch = Temporary::directory(store)?;
    let work = async {
        let id_file = scratch.path.join("id");
        run(builder, &builder.build_arguments(folder, file, &id_file), output).await?;
        let id = std::fs::read_to_string(&id_file).map_err(PackError::io("read", &id_file))?;
        let id = image_id(builder, &id)?;
        let archive = scratch.path.join("image.tar");
        run(builder, &builder.save_arguments(&id, &archive), output).await?;
        Ok(import_archive(store, &archive).await?)
    };
    tokio::time::timeout(BUILD_TIMEOUT, work).await.unwrap_or(Err(PackError::BuildTimeout))
}

/// The program that would build a Dockerfile with this `PATH`, or why there is
/// none.
pub async fn builder(path: &OsStr) -> Result<&'static str, String> {
    Builder::usable(path).await.map(Builder::program).map_err(str::to_owned)
}

impl Builder {
    async fn find(file: &Path) -> Result<Self, PackError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::usable(&path).await.map_err(|found| PackError::BuilderMissing {
            file: file.to_owned(),
            found: found.to_owned(),
        })
    }

    /// The first usable one. Docker comes first where its engine answers, as
    /// its cache is usually the warm one.
    async fn usable(path: &OsStr) -> Result<Self, &'static str> {
        let mut found = "none of them is installed";
        if installed(path, "docker") {
            if engine_answers().await {
                return Ok(Self::Docker);
            }
            found = "docker is installed, but its engine does not answer";
        }
        for builder in [Self::Buildah, Self::Podman] {
            if installed(path, builder.program()) {
                return Ok(builder);
            }
        }
        Err(found)
    }

    fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Buildah => "buildah",
            Self::Podman => "podman",
        }
    }

    fn build_arguments(self, folder: &Path, file: &Path, id_file: &Path) -> Vec<String> {
        let mut arguments = vec!["build".to_owned()];
        for (flag, path) in [("--file", file), ("--iidfile", id_file)] {
            arguments.push(flag.to_owned());
            arguments.push(path.display().to_string());
        }
        arguments.push(folder.display().to_string());
        arguments
    }

    fn save_arguments(self, id: &str, archive: &Path) -> Vec<String> {
        let archive = archive.display().to_string();
        let arguments: Vec<&str> = match self {
            Self::Docker => vec!["save", "--output", &archive, id],
            Self::Podman => vec!["save", "--format", "oci-archive", "--output", &archive, id],
            Self::Buildah => {
                return vec!["push".to_owned(), id.to_owned(), format!("oci-archive:{archive}")];
            }
        };
        arguments.into_iter().map(str::to_owned).collect()
    }
}

/// Checks what the builder wrote before it becomes an argument.
fn image_id(builder: Builder, text: &str) -> Result<String, PackError> {
    let id = text.trim();
    let fine = !id.is_empty()
        && id.len() <= IMAGE_ID_BYTES_MAX
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b':');
    if fine {
        Ok(id.to_owned())
    } else {
        Err(PackError::BuildFailed {
            builder: builder.program().to_owned(),
            status: "no image id".to_owned(),
        })
    }
}

fn installed(path: &OsStr, program: &str) -> bool {
    std::env::split_paths(path).any(|directory| directory.join(program).is_file())
}

async fn engine_answers() -> bool {
    let mut command = Command::new("docker");
    command
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let answer = tokio::time::timeout(PROBE_TIMEOUT, command.status()).await;
    matches!(answer, Ok(Ok(status)) if status.success())
}

async fn run(
    builder: Builder,
    arguments: &[String],
    output: &BuildOutput,
) -> Result<(), PackError> {
    let program = builder.program();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(PackError::io("run", PathBuf::from(program)))?;
    let mut group = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let forward_stdout = async {
        if let Some(stdout) = stdout {
            lines::forward(stdout, output.clone()).await;
        }
    };
    let forward_stderr = async {
        if let Some(stderr) = stderr {
            lines::forward(stderr, output.clone()).await;
        }
    };
    let (status, (), ()) = tokio::join!(child.wait(), forward_stdout, forward_stderr);
    let status = status.map_err(PackError::io("wait for", PathBuf::from(program)))?;
    group.ended();
    if status.success() {
        Ok(())
    } else {
        Err(PackError::BuildFailed { builder: program.to_owned(), status: status.to_string() })
    }
}

/// Kills a builder and all it started, unless it has ended by itself.
struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { leader: id.map(Pid::from_raw) }
    }

    fn ended(&mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // It may have ended this moment; then there is nothing to kill.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[tokio::test]
    async fn a_build_nobody_waits_for_ends() {
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        drop(Group::of(&child));
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    }

    #[test]
    fn only_an_image_id_becomes_an_argument() {
        let id = format!("sha256:{}", "a".repeat(64));
        assert_eq!(image_id(Builder::Docker, &format!("{id}\n")).unwrap(), id);
        for text in ["", "--privileged", "a b", "a/../b"] {
            assert_eq!(image_id(Builder::Docker, text).unwrap_err().code(), "build_failed");
        }
    }
}
