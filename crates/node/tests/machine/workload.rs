//! The program inside the instances: a tiny HTTP server that can be told to
//! misbehave, or something even simpler.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

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
        ["eat"] => eat(),
        ["echo", text] => {
            say(text);
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
}

fn serve() -> ExitCode {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind(("::", port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .unwrap();
    say(&format!(
        "serving as {}",
        std::env::var("HELIX_INSTANCE_NAME").unwrap()
    ));
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut line = String::new();
        let _ = BufReader::new(&stream).read_line(&mut line);
        let (status, body) = match line.split_ascii_whitespace().nth(1).unwrap_or("") {
            "/sicken" => {
                SICK.store(true, Ordering::Relaxed);
                (200, "as you wish".to_owned())
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
