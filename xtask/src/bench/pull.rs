//! Bench: bringing an image from a registry and unpacking it, ready to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::measure::Samples;
use super::report::{Bound, Report, Row, Target};
use crate::image::stack::{self, Stack};
use crate::output::say;
use crate::{packages, process, workspace};

mod registry;

use registry::Registry;

/// Turns of each, alternating; the median counts.
const TURNS: usize = 5;

/// Who does it.
enum Subject {
    SkopeoAndUmoci,
    Buildah,
    Helix(PathBuf),
}

/// What one has done so far.
struct Times {
    subject: Subject,
    name: String,
    gzip: Vec<Duration>,
    zstd: Vec<Duration>,
    /// What helix says of its two halves.
    said: Vec<String>,
}

/// Measures all.
///
/// # Errors
/// When a program is missing, or an image does not arrive whole.
pub fn run(ours: &Path) -> Result<Report> {
    let place = tempfile::tempdir().context("make a directory")?;
    let registry = Registry::start(place.path())?;
    say("making an image of four programs, with gzip and with zstd");
    let stack = stack::push(registry.address())?;
    let mut all = subjects(ours.to_owned())?;
    for turn in 0..TURNS {
        say(&format!("turn {} of {TURNS}", turn + 1));
        for times in &mut all {
            times.take(&stack, place.path())?;
        }
    }
    let rate = |took: &Vec<Duration>| match took.is_empty() {
        true => f64::NAN,
        false => {
            let seconds = Samples::of(took.clone()).percentile(50).as_secs_f64();
            stack.unpacked_bytes as f64 / 1e6 / seconds
        }
    };
    let rows: Vec<Row> = all
        .iter()
        .map(|times| Row {
            subject: times.name.clone(),
            values: vec![rate(&times.gzip), rate(&times.zstd)],
        })
        .collect();
    let figure = |row: usize| rows.get(row).map_or(f64::NAN, |row| row.values[0]);
    let ratio = figure(rows.len() - 1) / figure(0);
    Ok(Report {
        name: "pull",
        title: "Pulling and unpacking an image",
        method: method(&stack),
        columns: vec!["gzip, MB/s", "zstd, MB/s"],
        targets: vec![Target {
            figure: "with gzip, as a multiple of skopeo's and umoci's",
            measured: ratio,
            bound: Bound::AtLeast(1.5),
        }],
        remarks: vec![remark(&all)],
        rows,
    })
}

fn method(stack: &Stack) -> String {
    format!(
        "One image of {} layers ({} from Debian packages with their libraries), {:.0} MB of \
         archives, {:.0} MB with gzip at its usual level, in Debian's registry on loopback. From \
         the start of the program until a root file system is there that a container could run \
         from, {TURNS} times, in turn and after a `sync`; the median, in bytes of archives. \
         skopeo copies into an OCI layout and umoci, which reads no zstd, unpacks that; buildah \
         pulls into its overlay storage. helix is its image crate in a program of its own, which \
         pulls into an empty store and unpacks as a node does. helix alone has then flushed all \
         of it to disk.",
        stack::PROGRAMS.len(),
        stack::PROGRAMS.join(", "),
        stack.unpacked_bytes as f64 / 1e6,
        stack.gzip_bytes as f64 / 1e6,
    )
}

/// Where helix's time goes, by its own clock.
fn remark(all: &[Times]) -> String {
    let said = all.iter().flat_map(|times| &times.said);
    let halves: Vec<Vec<f64>> =
        said.map(|line| line.split(' ').filter_map(|word| word.parse().ok()).collect()).collect();
    let median = |half: usize| {
        let seconds = halves.iter().filter_map(|halves| halves.get(half));
        Samples::of(seconds.map(|seconds| Duration::from_secs_f64(*seconds)).collect())
            .percentile(50)
            .as_secs_f64()
    };
    format!(
        "By helix's own clock, with gzip: {:.2} s until everything was in the store, {:.2} s more \
         until it was unpacked and flushed.",
        median(0),
        median(1)
    )
}

fn subjects(ours: PathBuf) -> Result<Vec<Times>> {
    let times = |subject, name: String| Times {
        subject,
        name,
        gzip: Vec::new(),
        zstd: Vec::new(),
        said: Vec::new(),
    };
    let (skopeo, umoci) = (version("skopeo")?, version("umoci")?);
    Ok(vec![
        times(Subject::SkopeoAndUmoci, format!("skopeo {skopeo} copy, umoci {umoci} unpack")),
        times(Subject::Buildah, format!("buildah {} pull", version("buildah")?)),
        times(Subject::Helix(ours), "helix".to_owned()),
    ])
}

/// Builds the program that pulls and unpacks as a node does.
///
/// # Errors
/// When it cannot be built.
pub fn build() -> Result<PathBuf> {
    let arguments =
        ["--profile", "dist", "--package", "helix-image", "--example", "pull", "--locked"];
    workspace::build(&mut workspace::cargo(), &arguments)?.pop().context("cargo built no `pull`")
}

fn program(name: &str) -> Result<Command> {
    Ok(Command::new(packages::find(name)?.with_context(|| format!("find {name}"))?))
}

/// The word of `NAME --version` that begins with a digit.
fn version(name: &str) -> Result<String> {
    let said = process::capture(program(name)?.arg("--version"))?;
    let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let version = said.split_whitespace().find(is_version).unwrap_or("of unknown version");
    Ok(version.to_owned())
}

impl Times {
    /// One turn of it, with each compression it knows.
    fn take(&mut self, stack: &Stack, place: &Path) -> Result<()> {
        let gzip = self.once(&stack.gzip, place)?;
        self.gzip.push(gzip);
        if !matches!(self.subject, Subject::SkopeoAndUmoci) {
            let halves = self.said.len();
            let zstd = self.once(&stack.zstd, place)?;
            self.said.truncate(halves);
            self.zstd.push(zstd);
        }
        Ok(())
    }

    fn once(&mut self, reference: &str, place: &Path) -> Result<Duration> {
        // Removed with all others at the end: a file system may take long to give out
        // again what was just freed, ext4 a minute.
        let aside = tempfile::tempdir_in(place).context("make a directory")?.keep();
        // Nobody pays for what the one before has left to write.
        process::output(&mut Command::new("sync"))?;
        match &self.subject {
            Subject::SkopeoAndUmoci => skopeo_and_umoci(reference, &aside),
            Subject::Buildah => buildah(reference, &aside),
            Subject::Helix(program) => {
                let (took, said) = helix(program, reference, &aside)?;
                self.said.push(said);
                Ok(took)
            }
        }
    }
}

fn skopeo_and_umoci(reference: &str, place: &Path) -> Result<Duration> {
    let (layout, bundle) = (place.join("layout"), place.join("bundle"));
    let (mut skopeo, mut umoci) = (program("skopeo")?, program("umoci")?);
    skopeo
        .args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"])
        .arg(format!("docker://{reference}"))
        .arg(format!("oci:{}:latest", layout.display()));
    umoci.arg("unpack").arg("--image").arg(format!("{}:latest", layout.display())).arg(&bundle);
    let begun = Instant::now();
    process::output(&mut skopeo)?;
    process::output(&mut umoci)?;
    let took = begun.elapsed();
    check(&[bundle.join("rootfs")])?;
    Ok(took)
}

fn buildah(reference: &str, place: &Path) -> Result<Duration> {
    let storage = || {
        let mut buildah = program("buildah")?;
        buildah.arg("--root").arg(place.join("root")).arg("--runroot").arg(place.join("run"));
        buildah.args(["--storage-driver", "overlay"]);
        Ok::<_, anyhow::Error>(buildah)
    };
    let mut pull = storage()?;
    pull.args(["pull", "--quiet", "--tls-verify=false"]).arg(format!("docker://{reference}"));
    let begun = Instant::now();
    process::output(&mut pull)?;
    let took = begun.elapsed();
    let layers = fs::read_dir(place.join("root/overlay")).context("list buildah's layers")?;
    let layers: Vec<_> = layers.flatten().map(|layer| layer.path().join("diff")).collect();
    check(&layers)?;
    // Its storage is a mount point of its own, which would be in the way of removing it.
    let root = place.join("root/overlay");
    process::output(Command::new("umount").arg("--quiet").arg("--lazy").arg(&root)).ok();
    Ok(took)
}

fn helix(program: &Path, reference: &str, place: &Path) -> Result<(Duration, String)> {
    let store = place.join("store");
    let mut command = Command::new(program);
    command.arg(reference).arg(&store);
    let begun = Instant::now();
    let said = process::capture(&mut command)?;
    let took = begun.elapsed();
    let roots = fs::read_dir(store.join("rootfs")).context("list what was unpacked")?;
    let root = roots.flatten().next().context("find what was unpacked")?;
    check(&[root.path().join("root")])?;
    ensure!(said.split(' ').count() == 2, "`pull` says {said:?}");
    Ok((took, said))
}

/// Whether every program is in one of these roots.
fn check(roots: &[PathBuf]) -> Result<()> {
    let is_there = |root: &PathBuf, program: &str| {
        let folders = ["usr/bin", "usr/sbin"].iter();
        folders
            .map(|folder| root.join(folder).join(program))
            .any(|path| path.is_symlink() || path.exists())
    };
    for program in stack::PROGRAMS {
        if !roots.iter().any(|root| is_there(root, program)) {
            bail!("{program} is missing in {roots:?}");
        }
    }
    Ok(())
}
