//! A laptop: a program that listens on it, and the agent that gives it a public name.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::world::http::get;
use crate::world::platform::Platform;
use crate::world::{Output, World, until};

/// Longest head of a request that the program is sent here.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Answers every request with this text, for as long as the tests run.
pub fn program(text: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("the program's address");
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || serve(stream, &answer));
        }
    });
    address
}

fn serve(mut stream: TcpStream, answer: &str) {
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|it| it == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => head.extend_from_slice(&buffer[..length]),
        }
    }
    // Whoever has gone meanwhile misses nothing.
    let _ = stream.write_all(answer.as_bytes());
}

/// A running agent; killed when it is dropped.
pub struct Agent(Option<Platform>);

impl Agent {
    /// `helix` with these words and `--json`, until visitors come.
    pub fn start(world: &World, words: &[&str]) -> Agent {
        Agent::spawn(world.command(world.work()), words)
    }

    /// The same by a command that has all but the words.
    pub fn spawn(mut command: Command, words: &[&str]) -> Agent {
        command.args(words).arg("--json");
        let agent = Agent(Some(Platform::spawn(command)));
        agent.attaches(1);
        agent
    }

    fn process(&self) -> &Platform {
        self.0.as_ref().expect("it runs")
    }

    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Tells its process something.
    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// What it has said so far of this kind.
    pub fn said(&self, kind: &str) -> Vec<Value> {
        let said = self.process().stdout();
        let whole = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        whole.filter(|line| line["type"] == kind).collect()
    }

    /// Waits until it has attached so often.
    pub fn attaches(&self, times: usize) {
        until("the agent to be attached", || {
            let process = self.process();
            assert!(process.is_running(), "the agent has ended:\n{}", process.said());
            self.said("attached").len() >= times
        });
    }

    /// Where visitors come from, as it was told last.
    pub fn reachable(&self) -> Vec<String> {
        let told = self.said("attached").pop().expect("it is attached");
        let urls = told["reachable"].as_array().expect("a list").iter();
        urls.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The public HTTP address.
    pub fn http(&self) -> SocketAddr {
        let urls = self.reachable();
        let url = urls.iter().find_map(|url| url.strip_prefix("http://")).expect("a URL");
        let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Waits until a visitor of the host gets this text.
    pub fn serves(&self, host: &str, text: &str) {
        until("the tunnel to carry", || {
            get(self.http(), host, "/").is_ok_and(|reply| reply.status == 200 && reply.body == text)
        });
    }

    pub fn kill(mut self) {
        let process = self.0.take().expect("it runs");
        process.signal(Signal::SIGKILL);
        process.wait();
    }

    pub fn wait(mut self) -> Output {
        self.0.take().expect("it runs").wait()
    }

    /// Ctrl-C.
    pub fn interrupt(mut self) -> Output {
        let process = self.0.take().expect("it runs");
        process.signal(Signal::SIGINT);
        process.wait()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            if thread::panicking() {
                println!("--- agent ---\n{}---", process.said());
            }
            process.end();
        }
    }
}
