//! The program inside the instances: a tiny HTTP server that can be told to
//! misbehave, or something even simpler.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is dropped without a word takes this long to be seen.
const PATIENCE: Duration = Duration::from_secs(2);

/// A file that exists while the program is well.
const WELL: &str = "/tmp/well";

static SICK: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.into_string().unwrap()).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["serve"] => serve(),
        ["crash", code] => {
            say("about to end");
            ExitCode::from(code.parse::<u8>().unwrap())
        }
        ["idle"] => loop {
            std::thread::park();
        },
        ["keep", path, text] => keep(path, text),
        ["read", path] => {
            say(std::fs::read_to_string(path).unwrap_or_default().trim());
            ExitCode::SUCCESS
        }
        ["eat"] => eat(),
        ["be-well"] => {
            std::fs::write(WELL, "").unwrap();
            loop {
                std::thread::park();
            }
        }
        ["get-well"] => {
            std::fs::write(WELL, "").unwrap();
            ExitCode::SUCCESS
        }
        ["get-ill"] => {
            std::fs::remove_file(WELL).unwrap();
            ExitCode::SUCCESS
        }
        ["is-well"] => ExitCode::from(u8::from(!std::path::Path::new(WELL).exists())),
        ["echo", text] => {
            say(text);
            ExitCode::SUCCESS
        }
        ["get", from] => {
            say(&crate::world::get(from.parse().unwrap(), "/"));
            ExitCode::SUCCESS
        }
        ["reach", to] => {
            say(&reach(to));
            ExitCode::SUCCESS
        }
        ["send", from, to, text] => {
            say(&send(from, to, text));
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}

/// Adds to a file, makes sure that it is written, and stays.
fn keep(path: &str, text: &str) -> ExitCode {
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.sync_all().unwrap();
    loop {
        std::thread::park();
    }
}

/// Connects and tells the line it is greeted with, or what went wrong.
fn reach(to: &str) -> String {
    // Link-local addresses need the number of the link.
    let to: SocketAddr = to.replace("%eth0", &format!("%{}", link_number())).parse().unwrap();
    let greeting = TcpStream::connect_timeout(&to, PATIENCE).and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    });
    greeting.unwrap_or_else(|error| format!("failed: {error}"))
}

/// Sends a datagram and tells the answer, or what went wrong.
fn send(from: &str, to: &str, text: &str) -> String {
    let answer = UdpSocket::bind((from, 0)).and_then(|socket| {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(text.as_bytes(), to)?;
        let mut bytes = [0; 128];
        let length = socket.recv(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    });
    answer.unwrap_or_else(|error| format!("failed: {error}"))
}

/// From the kernel's list of IPv6 addresses: the second field, hexadecimal.
fn link_number() -> u32 {
    let list = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let line = list.lines().find(|line| line.ends_with("eth0"));
    let number = line.and_then(|line| line.split_ascii_whitespace().nth(1)).unwrap_or("0");
    u32::from_str_radix(number, 16).unwrap()
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
}

fn serve() -> ExitCode {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener =
        TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))).unwrap();
    say(&format!("serving as {}", std::env::var("HELIX_INSTANCE_NAME").unwrap()));
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut line = String::new();
        let _ = BufReader::new(&stream).read_line(&mut line);
        let (status, body) = match line.split_ascii_whitespace().nth(1).unwrap_or("") {
            "/sicken" => {
                SICK.store(true, Ordering::Relaxed);
                (200, "as you wish".to_owned())
            }
            "/secrets" => {
                let path = std::env::var("HELIX_SECRETS_FILE").unwrap();
                (200, std::fs::read_to_string(path).unwrap())
            }
            "/talk" => {
                (0..200).for_each(|line| say(&format!("{line} {}", "word ".repeat(1000))));
                (200, "talked".to_owned())
            }
            "/eat" => return eat(),
            "/exit" => return ExitCode::from(3),
            "/health" if SICK.load(Ordering::Relaxed) => (500, String::new()),
            _ => (200, std::env::var("HELIX_INSTANCE_ID").unwrap()),
        };
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
    ExitCode::SUCCESS
}

/// Takes memory and uses it, until it is stopped.
fn eat() -> ExitCode {
    let mut eaten = Vec::new();
    for round in 0..2048_u32 {
        let seed = u8::try_from(round % 251).unwrap();
        eaten.push(std::hint::black_box(vec![seed | 1; 1 << 20]));
    }
    ExitCode::SUCCESS
}
