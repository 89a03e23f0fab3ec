//! Request heads on the shared HTTP listener, over a real connection: the edge
//! has no parser to call that is not behind a socket. The backend is the oracle:
//! it must never see a request the edge did not write itself, which is what
//! smuggling one past a proxy amounts to.
#![no_main]

mod edge_world;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;

use edge_world::{PATIENCE, World};
use libfuzzer_sys::fuzz_target;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fuzz_target!(|bytes: &[u8]| {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(|| World::before(serve));
    let mut client = TcpStream::connect(world.address).expect("a connection");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // The edge may hang up before it has read all.
    let _ = client.write_all(bytes);
    let _ = client.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let outcome = client.read_to_end(&mut answer);
    let hung = outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!hung, "neither an answer nor an end");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "an answer that is no HTTP");
});

/// Reads one head, checks that the edge wrote it, answers and hangs up.
fn serve(mut connection: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let lengths = text.matches("\r\ncontent-length:").count();
    let encodings = text.matches("\r\ntransfer-encoding:").count();
    assert!(lengths + encodings <= 1, "an ambiguous body went through: {text}");
    assert_eq!(text.matches("\r\nhost:").count(), 1, "not exactly one host: {text}");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "a bare line end: {text}");
    let _ = connection.write_all(ANSWER);
}
