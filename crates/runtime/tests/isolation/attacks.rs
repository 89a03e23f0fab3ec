//! What somebody inside an instance tries, to get out or to get at something
//! that is not the instance's. The list is the documentation: each `what` is a
//! row of the table in docs/isolation.md, and a test compares the two.
//!
//! Every attempt says what it gained or how it was refused, and runs in a
//! process of its own, as some of them change the process for good.

#![allow(unsafe_code)] // raw system calls, as an attacker makes them

use std::ffi::{CString, OsString};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::libc;

/// One attempt.
pub(crate) struct Attack {
    /// As the documentation calls it.
    pub(crate) what: &'static str,
    attempt: Attempt,
}

/// `Ok` says what was gained, `Err` how it was refused.
type Attempt = fn(&Target) -> Result<String, String>;

/// What there is outside to get at.
pub(crate) struct Target {
    /// A file of the machine.
    pub(crate) file: PathBuf,
    /// A port on the machine's loopback that accepts.
    pub(crate) port: u16,
    /// The abstract name of a Unix socket on the machine that accepts.
    pub(crate) name: String,
}

macro_rules! attacks {
    ($($what:literal => $attempt:expr,)*) => {
        &[$(Attack { what: $what, attempt: $attempt }),*]
    };
}

/// All of them, in the order of the documentation.
pub(crate) const ATTACKS: &[Attack] = attacks![
    "open a file of the machine by its path" => |target| gained(std::fs::read(&target.file)),
    "climb out of the root with `chroot`" => climb,
    "find a descriptor that was left open" => descriptors,
    "open a file by its handle" => |_| call(libc::SYS_open_by_handle_at, [libc::AT_FDCWD as u64, bytes(), 0]),
    "make a device node and read the disk" => device_node,
    "use a device that should not be there" => devices,
    "mount a file system" => |_| mount("tmpfs", "/tmp", "tmpfs", 0),
    "mount one with the newer calls" => |_| call(libc::SYS_fsopen, [c"tmpfs".as_ptr() as u64, 0]),
    "make what is read-only writable" => |_| mount("", "/proc/sys", "", libc::MS_REMOUNT | libc::MS_BIND),
    "uncover what is masked" => |_| call(libc::SYS_umount2, [c"/proc/keys".as_ptr() as u64, libc::MNT_DETACH as u64]),
    "turn a switch of the kernel" => |_| write("/proc/sys/kernel/core_pattern", "|/app"),
    "use the magic key" => |_| write("/proc/sysrq-trigger", "h"),
    "write to the kernel's tree of devices" => |_| write("/sys/kernel/mm/ksm/run", "0"),
    "read the memory of the machine" => |_| not_empty("/proc/kcore"),
    "read keys and firmware" => |_| not_empty("/proc/keys").or_else(|first| entries("/sys/firmware").map_err(|second| format!("{first}; {second}"))),
    "read the kernel's log" => |_| call(libc::SYS_syslog, [3, bytes(), 64]),
    "create a user namespace with `unshare`" => |_| call(libc::SYS_unshare, [libc::CLONE_NEWUSER as u64]),
    "create one with `clone`" => |_| child(libc::SYS_clone, [(libc::CLONE_NEWUSER | libc::SIGCHLD) as u64, 0, 0, 0, 0]),
    "create one with `clone3`" => clone3,
    "enter another namespace" => enter_namespace,
    "see processes that are not the instance's" => processes,
    "look into another process" => |_| call(libc::SYS_ptrace, [u64::from(libc::PTRACE_ATTACH), u64::from(std::os::unix::process::parent_id())]),
    "read another process's memory" => |_| call(libc::SYS_process_vm_readv, [u64::from(std::os::unix::process::parent_id()), 0, 0, 0, 0]),
    "write to the program that started it" => starter,
    "make calls under their 32-bit numbers" => |_| call(X32 | libc::SYS_mount, [c"t".as_ptr() as u64, c"/tmp".as_ptr() as u64, c"tmpfs".as_ptr() as u64, 0, 0]),
    "use one that has a number of its own there" => |_| call(X32_PTRACE, [u64::from(libc::PTRACE_TRACEME)]),
    "load a module into the kernel" => |_| call(libc::SYS_init_module, [bytes(), 8, c"".as_ptr() as u64]),
    "start another kernel" => |_| call(libc::SYS_kexec_load, [0, 0, 0, 0]),
    "load a program into the kernel" => |_| call(libc::SYS_bpf, [0, bytes(), 64]),
    "watch the machine's counters" => |_| call(libc::SYS_perf_event_open, [bytes(), 0, u64::MAX, u64::MAX, 0]),
    "stall the kernel on a page of its own" => |_| call(libc::SYS_userfaultfd, [0]),
    "pass calls by in a ring" => |_| call(libc::SYS_io_uring_setup, [4, bytes()]),
    "use the kernel's keyring" => |_| call(libc::SYS_keyctl, [0, u64::MAX - 2, 1]),
    "reach the ports of the hardware" => |_| call(IOPL, [3]),
    "reboot the machine" => |_| call(libc::SYS_reboot, [0xfee1_dead, 672_274_793, 0]),
    "set the clock" => |_| call(libc::SYS_clock_settime, [0, bytes()]),
    "rename the machine" => |_| call(libc::SYS_sethostname, [c"x".as_ptr() as u64, 1]),
    "send packets of its own making" => |_| socket(libc::AF_INET, libc::SOCK_RAW),
    "listen to the wire" => |_| socket(libc::AF_PACKET, libc::SOCK_RAW),
    "reach the hypervisor by its sockets" => |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM),
    "reach the kernel's ciphers by sockets" => |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET),
    "change its own network" => interface_down,
    "connect to the machine's loopback" => loopback,
    "connect to a socket of the machine by name" => abstract_socket,
    "take back a capability" => capabilities,
    "become root by a set-user-id program" => set_user_id,
    "write to its own limits" => limits,
    "start processes without end" => processes_without_end,
];

/// x86-64 kernels built for it know every call under a second number, for
/// programs with 32-bit pointers, and a few of them under a number of their own.
const X32: i64 = 0x4000_0000;
const X32_PTRACE: i64 = X32 | 521;

#[cfg(target_arch = "x86_64")]
const IOPL: i64 = libc::SYS_iopl;
/// There is nothing of the kind elsewhere; no call has this number.
#[cfg(not(target_arch = "x86_64"))]
const IOPL: i64 = 1 << 20;

/// `attack FILE PORT NAME` in an instance: one line for each attempt.
pub(crate) fn main(args: &[String]) -> ExitCode {
    for (index, attack) in ATTACKS.iter().enumerate() {
        let mut attempt = Command::new("/proc/self/exe");
        attempt.args(["workload", "attempt", &index.to_string()]).args(args);
        let output = attempt.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let verdict = if said.is_empty() {
            format!("refused: it ended with {}", output.status)
        } else {
            said.trim_end().to_owned()
        };
        println!("{}: {verdict}", attack.what);
    }
    ExitCode::SUCCESS
}

/// `attempt INDEX FILE PORT NAME`.
pub(crate) fn attempt(args: &[String]) -> ExitCode {
    let index: usize = args[0].parse().unwrap();
    let target = Target {
        file: PathBuf::from(&args[1]),
        port: args[2].parse().unwrap(),
        name: args[3].clone(),
    };
    match (ATTACKS[index].attempt)(&target) {
        Ok(gain) => println!("GAINED {gain}"),
        Err(refusal) => println!("refused: {refusal}"),
    }
    ExitCode::SUCCESS
}

/// A place the kernel may write to or read from.
fn bytes() -> u64 {
    Box::leak(Box::new([0_u64; 64])).as_ptr() as u64
}

fn call<const N: usize>(number: i64, args: [u64; N]) -> Result<String, String> {
    let arg = |index: usize| args.get(index).copied().unwrap_or(0);
    // SAFETY: what a call does to this process does not matter, it ends after
    // it; pointers among the arguments lead to memory that is never freed.
    let result = unsafe { libc::syscall(number, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) };
    gained(if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) })
}

/// A call that returns twice where it succeeds.
fn child(number: i64, args: [u64; 5]) -> Result<String, String> {
    let result = call(number, args);
    if result == Ok("0".to_owned()) {
        // SAFETY: ends the child, which shares nothing with us.
        unsafe { libc::_exit(0) };
    }
    result
}

fn gained<T: std::fmt::Debug>(result: io::Result<T>) -> Result<String, String> {
    result.map(|gain| format!("{gain:?}")).map_err(|error| error.to_string())
}

fn write(path: &str, text: &str) -> Result<String, String> {
    gained(std::fs::write(path, text))
}

/// Masked is what is empty or not there.
fn not_empty(path: &str) -> Result<String, String> {
    use std::io::Read;
    let mut start = [0; 16];
    let file = std::fs::File::open(path);
    match file.and_then(|mut file| file.read(&mut start)) {
        Ok(0) => Err("it is empty".to_owned()),
        other => gained(other),
    }
}

fn entries(path: &str) -> Result<String, String> {
    match std::fs::read_dir(path).map(Iterator::count) {
        Ok(0) => Err("it is empty".to_owned()),
        other => gained(other),
    }
}

fn mount(source: &str, at: &str, kind: &str, flags: u64) -> Result<String, String> {
    let [source, at, kind] = [source, at, kind].map(|text| CString::new(text).unwrap());
    let pointer = |text: &CString| text.as_ptr() as u64;
    call(libc::SYS_mount, [pointer(&source), pointer(&at), pointer(&kind), flags, 0])
}

fn socket(family: i32, kind: i32) -> Result<String, String> {
    call(libc::SYS_socket, [family as u64, kind as u64, 0])
}

/// A root inside the root leaves the working directory outside of it.
fn climb(target: &Target) -> Result<String, String> {
    let io = |result: nix::Result<()>| result.map_err(|errno| errno.to_string());
    let inner = Path::new("/tmp/inner");
    std::fs::create_dir_all(inner).map_err(|error| error.to_string())?;
    io(nix::unistd::chroot(inner))?;
    for _ in 0..64 {
        io(nix::unistd::chdir(".."))?;
    }
    io(nix::unistd::chroot("."))?;
    gained(std::fs::read(&target.file))
}

/// The standard streams are pipes and the null device. What else is open leads
/// somewhere, at worst to a folder of the machine.
fn descriptors(_: &Target) -> Result<String, String> {
    let listed = std::fs::read_dir("/proc/self/fd").map_err(|error| error.to_string())?;
    let open: Vec<PathBuf> =
        listed.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    let ours = |path: &Path| {
        let text = path.to_string_lossy();
        text.starts_with("pipe:") || text == "/dev/null" || text.ends_with("/fd")
    };
    let left: Vec<&PathBuf> = open.iter().filter(|path| !ours(path)).collect();
    if left.is_empty() {
        Err(format!("{} open, none of them leads out", open.len()))
    } else {
        Ok(format!("{left:?}"))
    }
}

fn device_node(_: &Target) -> Result<String, String> {
    // The first disk of a virtual machine.
    let device = libc::makedev(254, 0);
    let path = CString::new("/tmp/disk").unwrap();
    call(
        libc::SYS_mknodat,
        [libc::AT_FDCWD as u64, path.as_ptr() as u64, u64::from(libc::S_IFBLK) | 0o600, device],
    )?;
    not_empty("/tmp/disk")
}

fn devices(_: &Target) -> Result<String, String> {
    const HARMLESS: [&str; 13] = [
        "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm",
        "mqueue", "core", "fd",
    ];
    let listed = std::fs::read_dir("/dev").map_err(|error| error.to_string())?;
    let names = listed.flatten().map(|entry| entry.file_name());
    let more: Vec<OsString> = names
        .filter(|name| {
            let name = name.to_string_lossy();
            !HARMLESS.contains(&name.as_ref()) && !name.starts_with("std")
        })
        .collect();
    if more.is_empty() {
        Err("only the harmless ones are there".to_owned())
    } else {
        Ok(format!("{more:?}"))
    }
}

fn clone3(_: &Target) -> Result<String, String> {
    // struct clone_args: flags first, the exit signal fifth (clone(2)).
    let mut arguments = [0_u64; 11];
    arguments[0] = libc::CLONE_NEWUSER as u64;
    arguments[4] = libc::SIGCHLD as u64;
    child(libc::SYS_clone3, [arguments.as_ptr() as u64, 88, 0, 0, 0])
}

fn enter_namespace(_: &Target) -> Result<String, String> {
    let file = std::fs::File::open("/proc/1/ns/mnt").map_err(|error| error.to_string())?;
    call(libc::SYS_setns, [std::os::fd::AsRawFd::as_raw_fd(&file) as u64, 0])
}

/// Whatever runs inside was started from the image's only program.
fn processes(_: &Target) -> Result<String, String> {
    let listed = std::fs::read_dir("/proc").map_err(|error| error.to_string())?;
    let pids = listed
        .flatten()
        .filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit));
    let lines: Vec<String> = pids
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .collect();
    let strangers: Vec<&String> = lines.iter().filter(|line| !line.contains("workload")).collect();
    if strangers.is_empty() {
        Err(format!("only its own {}", lines.len()))
    } else {
        Ok(format!("{strangers:?}"))
    }
}

/// Process 1 was made by the platform's program: were that still to be had by
/// its name, it could be replaced for all who are started after.
fn starter(_: &Target) -> Result<String, String> {
    let program = std::fs::metadata("/proc/1/exe").map_err(|error| error.to_string())?;
    let own = std::fs::metadata("/app").map_err(|error| error.to_string())?;
    if program.ino() == own.ino() {
        return Err("it is the image's own".to_owned());
    }
    gained(std::fs::File::options().write(true).open("/proc/1/exe"))
}

fn interface_down(_: &Target) -> Result<String, String> {
    let name = CString::new("lo").unwrap();
    // struct ifreq: the name in 16 bytes, then the flags, here none (netdevice(7)).
    let mut request = [0_u8; 40];
    request[..name.as_bytes().len()].copy_from_slice(name.as_bytes());
    let socket = std::net::UdpSocket::bind("[::]:0").map_err(|error| error.to_string())?;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket) as u64;
    call(
        libc::SYS_ioctl,
        [descriptor, u64::from(libc::SIOCSIFFLAGS as u32), request.as_ptr() as u64],
    )
}

fn loopback(target: &Target) -> Result<String, String> {
    let attempts = ["127.0.0.1", "::1"].map(|address| {
        let address = SocketAddr::new(address.parse().unwrap(), target.port);
        gained(TcpStream::connect_timeout(&address, Duration::from_secs(5)))
    });
    attempts.into_iter().reduce(Result::or).unwrap()
}

fn abstract_socket(target: &Target) -> Result<String, String> {
    let address =
        UnixAddress::from_abstract_name(&target.name).map_err(|error| error.to_string())?;
    gained(UnixStream::connect_addr(&address))
}

fn capabilities(_: &Target) -> Result<String, String> {
    // struct __user_cap_header_struct, version 3, and two sets of data (capset(2)).
    let header = [0x2008_0522_u32, 0];
    let wanted = [u32::MAX; 6];
    call(libc::SYS_capset, [header.as_ptr() as u64, wanted.as_ptr() as u64])
}

/// The image has a copy of the program that belongs to root.
fn set_user_id(_: &Target) -> Result<String, String> {
    let before = nix::unistd::getuid();
    let mode = std::fs::metadata("/suid").map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o4000 == 0 {
        return Err("the bit is gone".to_owned());
    }
    let output = Command::new("/suid").args(["workload", "effective-user"]).output();
    let output = output.map_err(|error| error.to_string())?;
    let after = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if after == before.to_string() {
        Err(format!("it remains {after}"))
    } else {
        Ok(format!("it is {after}"))
    }
}

fn limits(_: &Target) -> Result<String, String> {
    let names = ["memory/memory.limit_in_bytes", "memory.max", "pids.max", "cgroup.procs"];
    let tried = names.map(|name| write(&format!("/sys/fs/cgroup/{name}"), "1"));
    tried.into_iter().reduce(Result::or).unwrap()
}

/// More than an instance may have by default, so that the limit is met first.
fn processes_without_end(_: &Target) -> Result<String, String> {
    const ENOUGH: usize = 6000;
    let mut children = Vec::new();
    let mut refusal = None;
    for _ in 0..ENOUGH {
        // SAFETY: the child only waits to be killed.
        match unsafe { nix::unistd::fork() } {
            Ok(nix::unistd::ForkResult::Child) => loop {
                nix::unistd::pause();
            },
            Ok(nix::unistd::ForkResult::Parent { child }) => children.push(child),
            Err(errno) => {
                refusal = Some(errno);
                break;
            }
        }
    }
    for child in &children {
        let _ = nix::sys::signal::kill(*child, nix::sys::signal::Signal::SIGKILL);
    }
    for child in &children {
        let _ = nix::sys::wait::waitpid(*child, None);
    }
    match refusal {
        Some(errno) => Err(format!("after {}: {errno}", children.len())),
        None => Ok(format!("{ENOUGH} processes")),
    }
}
