//! A test's own world: a data directory, a home, and the built `helix` as a
//! person would type it.
//!
//! Start from [`World::start`]; [`World::helix`] is the second terminal. When a
//! world is dropped, also by a panic, nothing of it is left on the machine.
//! Included by several test binaries, each of which uses a part of it.

pub mod http;
pub mod load;
pub mod outcome;
pub mod platform;
pub mod tool;
pub mod traces;
pub mod xtask;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub use outcome::{Output, Places};
use platform::Platform;

/// Time for anything to come about. Only a broken build uses it up.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How the binary is started: as whom, and under which wrapper.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Put before the binary on every command line, such as
    /// `["setpriv", "--reuid=1234", "--"]`. It must exec and not fork, so that
    /// signals reach `helix`.
    pub wrapper: Vec<OsString>,
    /// Who owns the world's folders. The binary is copied into the world then,
    /// because a plain user may not be able to read the build directory.
    pub owner: Option<(u32, u32)>,
    /// Added to the environment.
    pub variables: Vec<(OsString, OsString)>,
}

/// Everything a person has at hand.
pub struct World {
    platform: Option<Platform>,
    /// Ids of all instances seen, to look for what is left of them.
    instances: Mutex<BTreeSet<String>>,
    setup: Setup,
    program: PathBuf,
    /// Dropped last.
    folder: TempDir,
}

impl World {
    /// A world in which nothing runs yet.
    pub fn new(setup: Setup) -> World {
        let folder = tempfile::Builder::new()
            .prefix("helix-e2e-")
            .tempdir()
            .expect("make a folder for the world");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("open the world's folder");
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_helix"));
        for name in ["data", "home", "work"] {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).expect("make a folder in the world");
            if let Some((user, group)) = setup.owner {
                chown(&path, Some(user), Some(group)).expect("give a folder away");
            }
        }
        if setup.owner.is_some() {
            let copy = folder.path().join("helix");
            std::fs::copy(&program, &copy).expect("copy the binary");
            program = copy;
        }
        World { platform: None, instances: Mutex::default(), setup, program, folder }
    }

    /// `helix up` with these arguments, until it says that it stays.
    pub fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> World {
        let mut world = World::new(Setup::default());
        world.up(args);
        world
    }

    /// `helix up` on free ports; returns when it says that it stays.
    pub fn up<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &Platform {
        self.launch(args);
        self.wait_until_up();
        self.platform()
    }

    /// `helix up` on free ports unless others are named, without waiting for anything.
    pub fn launch<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &Platform {
        assert!(self.platform.is_none(), "this world's platform runs already");
        let mut command = self.command(self.work());
        command.arg("up").arg("--data-dir").arg(self.data());
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        for (flag, free) in
            [("--listen", "127.0.0.1:0"), ("--http-port", "0"), ("--https-port", "0")]
        {
            if !args.iter().any(|arg| arg == flag) {
                command.args([flag, free]);
            }
        }
        command.args(args);
        self.platform = Some(Platform::spawn(command));
        self.platform()
    }

    /// Waits until `helix up` says that it stays.
    pub fn wait_until_up(&self) {
        let platform = self.platform();
        until("`helix up` to be up", || {
            assert!(platform.is_running(), "`helix up` has ended:\n{}", platform.said());
            platform.stderr().contains("Ctrl-C drains and stops")
        });
        self.remember();
    }

    /// The running `helix up`.
    pub fn platform(&self) -> &Platform {
        self.platform.as_ref().expect("the platform of this world does not run")
    }

    /// The URL of its API. That it is up it says elsewhere, so that this may come later.
    pub fn api(&self) -> String {
        let told = || {
            let said = self.platform().stdout();
            said.lines().find_map(|line| Some(line.trim().strip_prefix("api")?.trim().to_owned()))
        };
        until("the API to be named", || told().is_some());
        told().expect("it is named")
    }

    /// Ctrl-C, and what `helix up` came to.
    pub fn interrupt(&mut self) -> Output {
        self.remember();
        let platform = self.platform.take().expect("nothing to interrupt");
        platform.signal(nix::sys::signal::Signal::SIGINT);
        platform.wait()
    }

    /// `kill -9` of `helix up`, and what it said until then.
    pub fn kill(&mut self) -> Output {
        self.remember();
        let platform = self.platform.take().expect("nothing to kill");
        platform.signal(nix::sys::signal::Signal::SIGKILL);
        platform.wait()
    }

    /// Waits for `helix up` to end by itself.
    pub fn wait_for_end(&mut self) -> Output {
        self.platform.take().expect("nothing to wait for").wait()
    }

    /// A command in a second terminal, in the world's work folder.
    pub fn helix<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.helix_in(&self.work(), args)
    }

    /// A command in a second terminal, in this folder.
    pub fn helix_in<S: AsRef<OsStr>>(
        &self,
        directory: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Output {
        let mut command = self.command(directory);
        command.args(args).stdin(Stdio::null());
        let output = command.output().expect("run helix");
        Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// The document of a command that must succeed; `--json` is added.
    pub fn json<S: AsRef<OsStr>>(
        &self,
        directory: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Value {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.helix_in(directory, args.chain(["--json".into()])).ok().document()
    }

    /// The binary with this world's environment and nothing else of `helix`'s.
    pub fn command(&self, directory: impl AsRef<Path>) -> Command {
        let mut words = self.setup.wrapper.iter().cloned().chain([self.program.clone().into()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["HELIX_", "CARGO", "XDG_"].iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        command
            .args(words)
            .current_dir(directory)
            .env("HOME", self.home())
            .env("XDG_CONFIG_HOME", self.home().join("config"))
            .env("XDG_DATA_HOME", self.home().join("data"))
            .env("XDG_CACHE_HOME", self.home().join("cache"))
            // The disk of whoever runs the tests is not what they are about: an almost
            // full one failed those of volumes.
            .env("HELIX_DISK_RESERVE", "256Mi")
            // Nor is DNS, where nothing is known of what tests make up: nobody answers here.
            .env("HELIX_DNS", "127.0.0.1:9")
            .envs(self.setup.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Adds to the environment of every command from now on.
    pub fn set_variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.setup.variables.push((name.into(), value.into()));
    }

    /// Where `helix up` keeps its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The home of the person typing.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// An empty folder to work in.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// A copy of a folder of the repository's `examples`, to be edited.
    pub fn copy_example(&self, name: &str) -> PathBuf {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let to = self.work().join(name);
        copy_folder(&from, &to, self.setup.owner);
        to
    }

    /// Where the app of this folder is reachable by host name and by TCP.
    pub fn places(&self, directory: &Path) -> Places {
        let status = self.json(directory, ["status"]);
        Places::of(&status).unwrap_or_else(|| panic!("nothing is reachable: {status:#}"))
    }

    /// What is left on the machine of everything that ran here. Empty after a
    /// clean stop.
    pub fn traces(&self) -> Vec<String> {
        self.remember();
        traces::find(self.folder.path(), &self.data(), &self.seen())
    }

    fn seen(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the instances there are, for [`World::traces`].
    fn remember(&self) {
        self.seen().extend(traces::instances(&self.data()));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(platform) = self.platform.take() {
            if std::thread::panicking() {
                println!("--- helix up ---\n{}---", platform.said());
            }
            platform.end();
        }
        traces::remove(self.folder.path(), &self.data());
    }
}

/// Waits for a condition; a panic names it when it never comes about.
#[track_caller]
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    assert!(wait_for(holds), "never happened: {what}");
}

/// Whether a condition comes about in time.
pub fn wait_for(mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() >= DEADLINE {
            return false;
        }
        wait_before_looking_again();
    }
    true
}

fn wait_before_looking_again() {
    std::thread::sleep(LOOK_AGAIN);
}

/// Whether instances can be containers here; says so when a test skips.
pub fn can_isolate(test: &str) -> bool {
    if !nix::unistd::geteuid().is_root() {
        println!("skip {test}: needs root");
        return false;
    }
    let tried =
        Command::new("unshare").args(["--mount", "--pid", "--net", "--fork", "true"]).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        println!("skip {test}: namespaces are refused here");
    }
    can
}

fn copy_folder(from: &Path, to: &Path, owner: Option<(u32, u32)>) {
    std::fs::create_dir_all(to).expect("make a folder");
    for entry in std::fs::read_dir(from).expect("read a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target, owner);
        } else {
            std::fs::copy(entry.path(), &target).expect("copy a file");
        }
        if let Some((user, group)) = owner {
            chown(&target, Some(user), Some(group)).expect("give a file away");
        }
    }
}
