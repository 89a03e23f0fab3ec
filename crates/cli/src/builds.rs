//! What builds said and how they ended, kept where they ran: for whoever asks later why
//! one failed, or what went into an image.
//!
//! Start from [`Builds::begin`]. Each build is two files, `NUMBER.json` and `NUMBER.log`,
//! for their owner alone, because builders print what they like. A build that was killed
//! has a log and no end. Knows nothing of how anything is built.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use helix_model::Timestamp;
use serde::{Deserialize, Serialize};

/// Builds that are kept; the oldest go first.
const BUILDS_MAX: usize = 50;

/// What one build may leave: far beyond what anybody reads, and 50 of them are no burden.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// Stands where the rest of a log would be.
const CUT: &str = "[the rest is not kept: a build keeps 4 MiB of what it says]";

/// One build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Build {
    /// Counts up on this machine, for this user.
    pub number: u64,
    /// What it is for, as `org/project/app@env`.
    pub target: String,
    pub folder: PathBuf,
    /// `static`, `binary` or `dockerfile`.
    pub pack: String,
    pub began_at: Timestamp,
    pub end: Option<End>,
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    pub at: Timestamp,
    /// The image's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Build {
    /// `b7`, what it is called by.
    pub(crate) fn name(&self) -> String {
        format!("b{}", self.number)
    }
}

/// Reads what a build is called by.
pub(crate) fn number(name: &str) -> Option<u64> {
    name.strip_prefix('b')?.parse().ok()
}

/// The builds of one user on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Builds {
    dir: PathBuf,
}

impl Builds {
    pub(crate) fn at(dir: PathBuf) -> Builds {
        Builds { dir }
    }

    /// Begins to keep one, under the next number.
    pub(crate) fn begin(&self, mut build: Build) -> io::Result<Keeping> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        self.tidy()?;
        build.number = self.numbers()?.last().map_or(1, |last| last + 1);
        let log = loop {
            // Another build may have begun this very moment.
            match self.create(&format!("{}.log", build.number)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => build.number += 1,
                created => break created?,
            }
        };
        let keeping = Keeping { builds: self.clone(), build, log, left_bytes: LOG_BYTES_MAX };
        keeping.store()?;
        Ok(keeping)
    }

    /// All of them, the newest first. One that cannot be read is left out.
    pub(crate) fn list(&self) -> io::Result<Vec<Build>> {
        let numbers = self.numbers()?;
        Ok(numbers.into_iter().rev().filter_map(|number| self.get(number)).collect())
    }

    pub(crate) fn get(&self, number: u64) -> Option<Build> {
        let bytes = std::fs::read(self.dir.join(format!("{number}.json"))).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// What a build has said.
    pub(crate) fn log(&self, number: u64) -> io::Result<String> {
        let bytes = std::fs::read(self.dir.join(format!("{number}.log")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut numbers: Vec<u64> =
            names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn tidy(&self) -> io::Result<()> {
        let numbers = self.numbers()?;
        let beyond = (numbers.len() + 1).saturating_sub(BUILDS_MAX);
        for number in numbers.into_iter().take(beyond) {
            // The name goes last: a build without it is none.
            for kind in ["json", "log"] {
                let gone = std::fs::remove_file(self.dir.join(format!("{number}.{kind}")));
                gone.or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })?;
            }
        }
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.dir.join(name))
    }
}

/// A build that is going on.
#[derive(Debug)]
pub(crate) struct Keeping {
    builds: Builds,
    build: Build,
    log: File,
    left_bytes: u64,
}

impl Keeping {
    pub(crate) fn name(&self) -> String {
        self.build.name()
    }

    /// Keeps a line. A disk that is full costs the log and not the build.
    pub(crate) fn line(&mut self, line: &str) {
        if self.left_bytes == 0 {
            return;
        }
        let wanted = line.len() as u64 + 1;
        let (line, left_bytes) = match self.left_bytes.checked_sub(wanted) {
            Some(left_bytes) => (line, left_bytes),
            None => (CUT, 0),
        };
        self.left_bytes = left_bytes;
        if let Err(error) = writeln!(self.log, "{line}") {
            tracing::debug!(%error, "what a build says is not kept");
        }
    }

    /// Notes the end.
    pub(crate) fn end(mut self, end: End) {
        self.build.end = Some(end);
        if let Err(error) = self.store() {
            tracing::debug!(%error, "how a build ended is not kept");
        }
    }

    fn store(&self) -> io::Result<()> {
        let name = format!("{}.json", self.build.number);
        let next = format!("{name}.next");
        let _ = std::fs::remove_file(self.builds.dir.join(&next));
        let mut file = self.builds.create(&next)?;
        file.write_all(&serde_json::to_vec(&self.build)?)?;
        std::fs::rename(self.builds.dir.join(next), self.builds.dir.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build() -> Build {
        Build {
            number: 0,
            target: "acme/main/web@production".to_owned(),
            folder: PathBuf::from("/src/web"),
            pack: "dockerfile".to_owned(),
            began_at: Timestamp(1),
            end: None,
        }
    }

    #[test]
    fn what_was_said_is_there_after_a_failure_and_after_a_kill() {
        let dir = tempfile::TempDir::new().unwrap();
        let builds = Builds::at(dir.path().join("builds"));
        assert_eq!(builds.list().unwrap(), []);
        let mut failing = builds.begin(build()).unwrap();
        failing.line("no such package");
        failing.end(End { at: Timestamp(5), image: None, failure: Some("exit 1".to_owned()) });
        let mut killed = builds.begin(build()).unwrap();
        killed.line("half of it");
        drop(killed);
        let names: Vec<_> = builds.list().unwrap().iter().map(Build::name).collect();
        assert_eq!(names, ["b2", "b1"], "the newest first");
        assert_eq!(builds.log(1).unwrap(), "no such package\n");
        let why = builds.get(1).unwrap().end.unwrap().failure;
        assert_eq!(why.as_deref(), Some("exit 1"));
        assert_eq!(
            (builds.get(2).unwrap().end, builds.log(2).unwrap().as_str()),
            (None, "half of it\n")
        );
    }

    #[test]
    fn only_so_many_are_kept_and_only_so_much_of_each() {
        let dir = tempfile::TempDir::new().unwrap();
        let builds = Builds::at(dir.path().join("builds"));
        for _ in 0..BUILDS_MAX + 3 {
            drop(builds.begin(build()).unwrap());
        }
        assert_eq!(builds.list().unwrap().len(), BUILDS_MAX);
        let mut loud = builds.begin(build()).unwrap();
        let line = "x".repeat(1 << 20);
        (0..8).for_each(|_| loud.line(&line));
        let log = builds.log(loud.build.number).unwrap();
        assert!(log.len() as u64 <= LOG_BYTES_MAX + CUT.len() as u64 + 1);
        assert!(log.ends_with(&format!("{CUT}\n")));
    }
}
