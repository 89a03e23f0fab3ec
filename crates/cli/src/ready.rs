//! Whether this process does what it was started for, for whoever looks after it from
//! outside: `HELIX_READY` says where it answers, `helix ready` asks there.
//!
//! Start from [`Readiness`]. Each [`Part`] of the process says how it is doing; the process
//! is ready when there are parts and all of them are. An answer comes from the process
//! itself and not from a file it left behind, so that one that hangs or has died is not
//! taken for a healthy one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use helix_model::{Code, Problem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::failure::{Failure, Result};
use crate::io::Environment;

/// Where the address is told.
pub(crate) const VARIABLE: &str = "HELIX_READY";

/// How long one question or answer may take: those who ask are on this machine.
const TALK_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest question that is read to its end, and longest answer. Probes send less.
const TALK_BYTES_MAX: u64 = 4096;

/// Questions at a time; those that come while all are taken wait.
const QUESTIONS_MAX: usize = 16;

/// What this process was started for, as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<Mutex<Vec<Weak<AtomicBool>>>>);

/// One part of it; not ready at first, and no part any more once all clones are dropped.
#[derive(Clone, Debug, Default)]
pub struct Part(Arc<AtomicBool>);

impl Readiness {
    /// One more part.
    pub(crate) fn part(&self) -> Part {
        let part = Part::default();
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|part| part.strong_count() > 0);
        parts.push(Arc::downgrade(&part.0));
        part
    }

    fn is_ready(&self) -> bool {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut there = parts.iter().filter_map(Weak::upgrade).peekable();
        there.peek().is_some() && there.all(|part| part.load(Ordering::Relaxed))
    }
}

impl Part {
    /// Says how it is doing.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
}

/// Where is answered and asked, as the variable or the command line has it: a port of this
/// machine, or an address of its loopback. Nobody is asked who he is, and a stranger could
/// keep the answer from those who need it.
pub(crate) fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    let port = || text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let address: SocketAddr = text
        .parse()
        .or_else(|_| port())
        .map_err(|_| format!("`{text}` is neither a port nor an address with one"))?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err(format!("{address} is not of this machine alone")),
    }
}

/// Answers for as long as what comes back is there, if the variable says where.
pub(crate) async fn answer(
    environment: &Environment,
    readiness: &Readiness,
) -> Result<JoinSet<()>> {
    let mut answering = JoinSet::new();
    let Some(text) = environment.get(VARIABLE) else { return Ok(answering) };
    let refused = |why| Failure::usage(format!("{VARIABLE}: {why}"), "say a port such as 7421");
    let address = address(text).map_err(refused)?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let detail = format!("{VARIABLE}: cannot answer at {address}: {error}");
        Failure::new(Code::Conflict, detail).hint("choose another port, one for each process")
    })?;
    answering.spawn(serve(listener, readiness.clone()));
    Ok(answering)
}

async fn serve(listener: TcpListener, readiness: Readiness) {
    let mut questions = JoinSet::new();
    loop {
        while questions.len() >= QUESTIONS_MAX {
            questions.join_next().await;
        }
        while questions.try_join_next().is_some() {}
        // What cannot be accepted has gone again, or files are used up: the next may be.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let readiness = readiness.clone();
        questions.spawn(async move {
            // Who is slower than that is no probe.
            let _ = tokio::time::timeout(TALK_TIMEOUT, tell(stream, &readiness)).await;
        });
    }
}

/// One answer in HTTP, whatever was asked: there is only one question.
async fn tell(mut stream: TcpStream, readiness: &Readiness) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = reader.take(TALK_BYTES_MAX);
    let (mut asked, mut buffer) = (Vec::new(), [0; 512]);
    while !asked.ends_with(b"\r\n\r\n") {
        match reader.read(&mut buffer).await? {
            0 => break,
            length => asked.extend_from_slice(&buffer[..length]),
        }
    }
    let (status, body) = match readiness.is_ready() {
        true => ("200 OK", r#"{"ready":true}"#),
        false => ("503 Service Unavailable", r#"{"ready":false}"#),
    };
    let head = "content-type: application/json\r\nconnection: close";
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}");
    writer.write_all(answer.as_bytes()).await?;
    writer.shutdown().await
}

/// Asks the process that answers there; the reason when it is not ready.
pub(crate) async fn ask(address: SocketAddr) -> Result<()> {
    let asked = tokio::time::timeout(TALK_TIMEOUT, asked(address)).await;
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(not_ready(format!("nothing answers at {address}: {error}"))),
        Err(_) => return Err(not_ready(format!("what is at {address} does not answer in time"))),
    };
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(not_ready(format!("the process at {address} is not ready"))),
    }
}

async fn asked(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(TALK_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn not_ready(detail: String) -> Failure {
    Problem::new(Code::Unavailable, detail).hint("what it waits for is on its own output").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_it_has_parts_and_all_of_them_are() {
        let readiness = Readiness::default();
        assert!(!readiness.is_ready(), "nothing is there yet");
        let (edge, tunnel) = (readiness.part(), readiness.part());
        edge.set(true);
        assert!(!readiness.is_ready());
        tunnel.set(true);
        assert!(readiness.is_ready());
        tunnel.set(false);
        assert!(!readiness.is_ready());
        drop(tunnel);
        assert!(readiness.is_ready(), "what has gone is not waited for");
        drop(edge);
        assert!(!readiness.is_ready());
    }

    #[test]
    fn only_this_machine_is_answered() {
        assert_eq!(address("7421"), Ok("127.0.0.1:7421".parse().unwrap()));
        assert_eq!(address("[::1]:7421"), Ok("[::1]:7421".parse().unwrap()));
        for other in ["", "0.0.0.0:7421", "192.0.2.1:7421", "localhost", "127.0.0.1", "70000"] {
            assert!(address(other).is_err(), "{other}");
        }
    }

    #[tokio::test]
    async fn what_is_asked_is_told_as_it_is_now() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let readiness = Readiness::default();
        let part = readiness.part();
        let answering = tokio::spawn(serve(listener, readiness));
        let refused = ask(at).await.unwrap_err();
        assert!(refused.problem.detail.contains("not ready"), "{}", refused.problem.detail);
        // One who says nothing holds up nobody.
        let _silent = TcpStream::connect(at).await.unwrap();
        part.set(true);
        ask(at).await.unwrap();
        answering.abort();
        let _ = answering.await;
        let refused = ask(at).await.unwrap_err();
        assert!(refused.problem.detail.contains("nothing answers"), "{}", refused.problem.detail);
    }
}
