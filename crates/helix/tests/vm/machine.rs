//! The virtual machine that this program starts and then runs in.
//!
//! ```text
//! first disk    what `cargo xtask vm` makes; writes to it are forgotten
//! second disk   /host: `helix`, this program, and how to start it
//! third disk    empty, for a pool of volumes
//! ttyS0         the kernel's messages
//! ttyS1         what the tests print, then how they ended
//! ```
//! QEMU emulates the processor: that works wherever it runs, in containers and virtual
//! machines too. A machine that does not come up fails the test, with what it said.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::xtask;

/// More than twice what it takes with two processors.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// Of the kernel's messages, so many characters are shown when something failed.
const CONSOLE_CHARS_MAX: usize = 8_000;

/// The disk for a pool, in the machine.
pub const POOL_DISK: &str = "/dev/vdc";

const POOL_DISK_BYTES: u64 = 12 << 30;

/// How the machine says what its tests came to.
const ENDED: &str = "vm: the tests ended with ";

/// What the machine does once its disks are mounted.
const INIT: &str = "\
#!/bin/sh
exec >/dev/ttyS1 2>&1
for module in loop overlay dm_thin_pool dm_snapshot veth bridge; do modprobe $module; done
mkdir -p $(dirname @HELIX@)
ln -s /host/helix @HELIX@
export HELIX_IN_VM=1 HELIX_VM_TESTS=@FILTER@
hostname machine
/host/tests --nocapture
echo @ENDED@$?
sync
poweroff -f
";

/// A test by its name.
pub type Story = (&'static str, fn());

/// Whether this is the machine.
pub fn is_this() -> bool {
    std::env::var_os("HELIX_IN_VM").is_some()
}

/// Tells the stories whose names contain `HELIX_VM_TESTS`, all without it; panics when one
/// ends badly, after the others.
pub fn tell(stories: &[Story]) {
    let wanted = std::env::var("HELIX_VM_TESTS").unwrap_or_default();
    let chosen: Vec<_> = stories.iter().filter(|(name, _)| name.contains(&wanted)).collect();
    assert!(!chosen.is_empty(), "no story has a name with {wanted}");
    let mut failed: Vec<&str> = Vec::new();
    for (name, story) in &chosen {
        let begun = Instant::now();
        let is_ok = std::panic::catch_unwind(story).is_ok();
        let result = if is_ok { "ok" } else { "FAILED" };
        println!("story {name} ... {result}, {} s", begun.elapsed().as_secs());
        failed.extend((!is_ok).then_some(*name));
    }
    assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), chosen.len());
}

/// Boots a machine and has it tell the stories.
pub fn boot() {
    let folder = tempfile::tempdir().expect("make a folder for the machine");
    let host = host_disk(folder.path());
    let pool = folder.path().join("pool.img");
    let pool_file = File::create(&pool).expect("make a disk for the pool");
    pool_file.set_len(POOL_DISK_BYTES).expect("make a disk for the pool");
    let console = folder.path().join("console");
    let begun = Instant::now();
    let mut machine = Machine::boot(&parts(), &[&host, &pool], &console);
    let said = machine.said.take().expect("it is read once");
    let mut ended = None;
    while let (None, Ok(line)) = (&ended, said.recv_timeout(LIMIT.saturating_sub(begun.elapsed())))
    {
        println!("{line}");
        ended = line.strip_prefix(ENDED).map(str::to_owned);
    }
    println!("the machine ran for {} s", begun.elapsed().as_secs());
    let why = match ended.as_deref() {
        Some("0") => return,
        Some(code) => format!("tests failed in it ({code})"),
        None if begun.elapsed() >= LIMIT => "it took too long".to_owned(),
        None => "it ended before its tests had".to_owned(),
    };
    let console = std::fs::read(&console).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    let last = console.char_indices().rev().nth(CONSOLE_CHARS_MAX).map_or(0, |(at, _)| at);
    panic!("the virtual machine: {why}. Its kernel said:\n{}", &console[last..]);
}

/// A machine that runs; it ends with this.
struct Machine {
    process: Child,
    said: Option<std::sync::mpsc::Receiver<String>>,
}

impl Machine {
    fn boot(parts: &Path, disks: &[&Path], console: &Path) -> Machine {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-kernel")
            .arg(parts.join("vmlinuz"))
            .arg("-initrd")
            .arg(parts.join("initrd"))
            .args(["-append", "console=ttyS0 panic=-1 loglevel=4"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-serial", "stdio"]);
        let root = parts.join("root.ext4");
        for disk in [root.as_path()].iter().chain(disks) {
            let disk = disk.display();
            // What is written is kept beside the disk and forgotten with the machine.
            command.arg("-drive").arg(format!("file={disk},format=raw,if=virtio,snapshot=on"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let missing = "start qemu-system-x86_64, which `cargo xtask test --only vm` installs";
        let mut process = command.spawn().expect(missing);
        let output = process.stdout.take().expect("its output is piped");
        let (sender, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
            for line in lines {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Machine { process, said: Some(said) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The kernel and the first disk.
fn parts() -> PathBuf {
    PathBuf::from(xtask::run(&["vm"], Stdio::inherit()).0)
}

/// What the machine has of this one.
fn host_disk(folder: &Path) -> PathBuf {
    let files = folder.join("host");
    std::fs::create_dir(&files).expect("make a folder for the second disk");
    let helix = env!("CARGO_BIN_EXE_helix");
    let own = std::env::current_exe().expect("find this program");
    for (from, name) in [(Path::new(helix), "helix"), (&own, "tests")] {
        // A tenth of it is left, and all of it would have to be read in there.
        run(Command::new("strip").arg("-o").arg(files.join(name)).arg(from));
    }
    let filter = std::env::var("HELIX_VM_TESTS").unwrap_or_default();
    let is_name =
        |name: &str| name.chars().all(|it| it.is_ascii_alphanumeric() || "_:".contains(it));
    assert!(is_name(&filter), "HELIX_VM_TESTS is not the name of a test: {filter}");
    let init = INIT.replace("@HELIX@", helix).replace("@FILTER@", &filter);
    let init = init.replace("@ENDED@", ENDED);
    std::fs::write(files.join("init"), init).expect("write how to start");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(files.join("init"), executable).expect("make it executable");
    let disk = folder.join("host.ext4");
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(&files).arg(&disk).arg("512M"));
    disk
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
