//! The program inside the images: one mode per behaviour a test needs.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};

pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.into_string().unwrap()).collect();
    let number = |index: usize| args[index].parse::<u64>().unwrap();
    match args[0].as_str() {
        "exit" => return ExitCode::from(u8::try_from(number(1)).unwrap()),
        "print" => print(number(1)),
        "show" => show(),
        "listen" => listen(u16::try_from(number(1)).unwrap()),
        "fill-memory" => fill_memory(),
        "until-term" => return until_term(),
        "ignore-term" => ignore_term(),
        "cat" => drop(std::io::copy(&mut std::io::stdin(), &mut std::io::stdout())),
        "try-forbidden" => try_forbidden(),
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

/// Answers each connection with what it received, after the peer's half-close.
fn listen(port: u16) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    println!("listening");
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

fn wait_for_term() {
    let mask: SigSet = [Signal::SIGTERM].into_iter().collect();
    mask.thread_block().unwrap();
    println!("ready");
    mask.wait().unwrap();
}

fn until_term() -> ExitCode {
    wait_for_term();
    println!("bye");
    ExitCode::from(7)
}

fn ignore_term() {
    wait_for_term();
    println!("not going");
    loop {
        nix::unistd::pause();
    }
}

/// Attempts that isolation must refuse, one line each.
fn try_forbidden() {
    use nix::mount::MsFlags;
    use nix::sched::{CloneFlags, unshare};
    let mount = nix::mount::mount(Some("t"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>);
    println!("mount {mount:?}");
    println!("unshare {:?}", unshare(CloneFlags::CLONE_NEWUSER));
    println!("setns {:?}", nix::sched::setns(std::io::stdin(), CloneFlags::empty()));
    println!("sysctl {:?}", std::fs::write("/proc/sys/kernel/panic", "1").map_err(|e| e.kind()));
    println!(
        "kcore {:?}",
        std::fs::read("/proc/kcore").map(|bytes| bytes.len()).map_err(|e| e.kind())
    );
}

fn tty() {
    use std::io::IsTerminal;
    let name = nix::unistd::ttyname(std::io::stdin()).unwrap();
    println!("terminal {} {}", std::io::stdin().is_terminal(), name.display());
}
