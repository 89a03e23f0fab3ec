//! The program inside the images: one mode per behaviour a test needs.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};

use crate::attacks;

pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.into_string().unwrap()).collect();
    let number = |index: usize| args[index].parse::<u64>().unwrap();
    match args[0].as_str() {
        "exit" => return ExitCode::from(u8::try_from(number(1)).unwrap()),
        "print" => print(number(1)),
        "show" => show(),
        "listen" => listen(u16::try_from(number(1)).unwrap()),
        "daemon" => daemon(u16::try_from(number(1)).unwrap(), u32::try_from(number(2)).unwrap()),
        "change-files" => change_files(),
        "who" => who(),
        "leave" => leave(&args[1]),
        "find" => args[1..].iter().for_each(|path| find(path)),
        "secrets" => secrets(&args[1]),
        "use-volume" => use_volume(&args[1]),
        "fill-memory" => fill_memory(),
        "fill-directories" => args[1..].iter().for_each(|path| fill_directory(path)),
        "until-term" => return until(Signal::SIGTERM),
        "until-quit" => return until(Signal::SIGQUIT),
        "ignore-term" => ignore_term(),
        "cat" => drop(std::io::copy(&mut std::io::stdin(), &mut std::io::stdout())),
        "attack" => return attacks::main(&args[1..]),
        "attempt" => return attacks::attempt(&args[1..]),
        "effective-user" => println!("{}", nix::unistd::geteuid()),
        "tty" => tty(),
        other => panic!("unknown mode {other}"),
    }
    ExitCode::SUCCESS
}

/// Numbered lines, alternating between both outputs.
fn print(count: u64) {
    for number in 0..count {
        println!("out {number}");
        eprintln!("err {number}");
    }
    print!("no newline");
    std::io::stdout().flush().unwrap();
}

/// Leaves a file behind.
fn leave(path: &str) {
    println!("leaving {path}");
    std::fs::write(path, "left").unwrap();
}

/// Says that a file is there.
fn find(path: &str) {
    assert_eq!(std::fs::read_to_string(path).unwrap(), "left");
    println!("{path}");
}

/// What the workload sees of itself.
fn show() {
    let hostname = nix::unistd::gethostname().unwrap();
    println!("hostname={}", hostname.to_string_lossy());
    println!("pid={}", std::process::id());
    println!("uid={} gid={}", nix::unistd::getuid(), nix::unistd::getgid());
    println!("cwd={}", std::env::current_dir().unwrap().display());
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status
        .lines()
        .filter(|l| l.starts_with("Cap") || l.starts_with("NoNew") || l.starts_with("Seccomp:"))
    {
        println!("{line}");
    }
    println!("mount={:?}", std::fs::write("/written", "x").map_err(|e| e.kind()));
}

/// Shows owners, makes, changes and gives away files.
fn change_files() {
    use nix::unistd::chown;
    use std::os::unix::fs::MetadataExt;
    std::fs::write("/made", "x").unwrap();
    std::fs::write("/given", "x").unwrap();
    chown("/given", Some(33.into()), Some(33.into())).unwrap();
    std::fs::write("/of-33", "changed").unwrap();
    let paths = ["/", "/of-root", "/of-33", "/etc/hosts", "/tmp", "/proc/self", "/made", "/given"];
    for path in paths {
        let meta = std::fs::metadata(path).unwrap();
        println!("{path} {}:{}", meta.uid(), meta.gid());
    }
    println!("give away {:?}", chown("/made", Some(70_000.into()), None));
}

/// Says what is in a volume and whose it is, and adds to it.
fn use_volume(path: &str) {
    use std::os::unix::fs::MetadataExt;
    let about = |path: &str| match std::fs::metadata(path) {
        Ok(meta) => format!("{}:{} {:o}", meta.uid(), meta.gid(), meta.mode() & 0o777),
        Err(error) => format!("{:?}", error.kind()),
    };
    let file = format!("{path}/file");
    println!("volume {}", about(path));
    println!("file {}", about(&file));
    println!("read {:?}", std::fs::read_to_string(&file).ok());
    println!("write {:?}", std::fs::write(&file, "kept").map_err(|error| error.kind()));
}

/// Says who it is, also by opening its outputs again.
fn who() {
    let groups: Vec<u32> =
        nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
    println!("uid={} gid={} groups={groups:?}", nix::unistd::getuid(), nix::unistd::getgid());
    println!("user namespace {}", std::fs::read_link("/proc/self/ns/user").unwrap().display());
    for name in ["/dev/stdout", "/dev/stderr"] {
        let mut again = std::fs::File::options().write(true).open(name).unwrap();
        writeln!(again, "again to {name}").unwrap();
    }
}

/// What it finds in a file of secrets, and what it may do there.
fn secrets(path: &str) {
    use std::os::unix::fs::MetadataExt;
    let path = std::path::Path::new(path);
    let folder = path.parent().unwrap();
    println!("contents={:?}", std::fs::read_to_string(path).unwrap());
    let (file, around) = (std::fs::metadata(path).unwrap(), std::fs::metadata(folder).unwrap());
    let (mode, directory) = (file.mode() & 0o777, around.mode() & 0o777);
    println!("mode={mode:o} owner={}:{} directory={directory:o}", file.uid(), file.gid());
    let write = std::fs::File::options().append(true).open(path);
    println!("write={:?}", write.map(drop).map_err(|error| error.kind()));
    let beside = std::fs::write(folder.join("more"), "x");
    println!("beside={:?}", beside.map_err(|error| error.kind()));
    println!("entries={}", std::fs::read_dir(folder).unwrap().count());
    let core = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE);
    let (soft, hard) = core.unwrap();
    println!("core={soft}:{hard}");
}

/// Binds as whoever it is, then becomes somebody else and serves.
fn daemon(port: u16, id: u32) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    let mut log = std::fs::File::options().write(true).open("/dev/stdout").unwrap();
    writeln!(log, "listening").unwrap();
    if nix::unistd::getuid().is_root() {
        nix::unistd::setgroups(&[id.into()]).unwrap();
    }
    nix::unistd::setresgid(id.into(), id.into(), id.into()).unwrap();
    nix::unistd::setresuid(id.into(), id.into(), id.into()).unwrap();
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    writeln!(log, "serving as uid={uid} gid={gid}").unwrap();
    serve(&listener);
}

/// Answers each connection with what it received, after the peer's half-close.
fn listen(port: u16) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    println!("listening");
    serve(&listener);
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            stream.write_all(b"got ").unwrap();
            stream.write_all(&received).unwrap();
        });
    }
}

fn fill_memory() {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&kept);
    }
}

/// Writes until it is told to stop, says how far it came, and cleans up.
fn fill_directory(path: &str) {
    let name = format!("{path}/filled");
    let mut file = std::fs::File::create(&name).unwrap();
    let full = loop {
        if let Err(error) = file.write_all(&[1; 1 << 20]) {
            break error.kind();
        }
    };
    println!("{path} {full:?} {} KiB", file.metadata().unwrap().len() >> 10);
    std::fs::remove_file(name).unwrap();
}

fn wait_for(signal: Signal) {
    let mask: SigSet = [signal].into_iter().collect();
    mask.thread_block().unwrap();
    println!("ready");
    mask.wait().unwrap();
}

fn until(signal: Signal) -> ExitCode {
    wait_for(signal);
    println!("bye");
    ExitCode::from(7)
}

fn ignore_term() {
    wait_for(Signal::SIGTERM);
    println!("not going");
    loop {
        nix::unistd::pause();
    }
}

fn tty() {
    use std::io::IsTerminal;
    let name = nix::unistd::ttyname(std::io::stdin()).unwrap();
    println!("terminal {} {}", std::io::stdin().is_terminal(), name.display());
}
