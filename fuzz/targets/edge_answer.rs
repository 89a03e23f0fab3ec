//! What a backend answers, over a real connection. The client is the oracle: whatever an app
//! says, each of its clients reads one answer whose end is known, and nothing behind it.
#![no_main]

mod edge_world;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, OnceLock};

use edge_world::{HOST, PATIENCE, World};
use libfuzzer_sys::fuzz_target;

/// What the backend says next.
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fuzz_target!(|bytes: &[u8]| {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(|| World::before(serve));
    *ANSWER.lock().expect("the answer") = bytes.to_vec();
    let mut client = TcpStream::connect(world.address).expect("a connection");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    let outcome = client.read_to_end(&mut answer);
    let hung = outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!hung, "neither an answer nor an end");
    // An app may break off, even before anything was passed on.
    if !answer.is_empty() {
        check(&answer);
    }
});

/// Says what is to be said, and hangs up. Twice, as the edge may ask again.
fn serve(mut connection: TcpStream) {
    let _ = connection.read(&mut [0; 4096]);
    let answer = ANSWER.lock().expect("the answer").clone();
    let _ = connection.write_all(&answer);
}

fn check(answer: &[u8]) {
    let text = answer.escape_ascii();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 "), "an answer that is no HTTP: {text}");
    assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "a bare line end: {text}");
    let lengths = head.matches("\r\ncontent-length:").count();
    let codings = head.matches("\r\ntransfer-encoding: chunked").count();
    assert!(lengths + codings <= 1, "an ambiguous body: {text}");
    let body = &answer[end + 4..];
    let said = head.split("\r\ncontent-length: ").nth(1);
    let said = said.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
    match said {
        Some(said) => assert!(body.len() <= said, "more than was said: {text}"),
        None if codings == 1 => assert!(is_at_most_one_body(body), "no chunks: {text}"),
        None => assert!(body.is_empty(), "a body that nobody said is there: {text}"),
    }
}

/// Whether these are chunks that may break off, and nothing behind the last.
fn is_at_most_one_body(mut rest: &[u8]) -> bool {
    loop {
        let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else { return true };
        let digits = std::str::from_utf8(&rest[..line]).unwrap_or_default();
        let Ok(size) = usize::from_str_radix(digits, 16) else { return false };
        rest = &rest[line + 2..];
        if size == 0 {
            return rest == b"\r\n";
        }
        let Some(behind) = rest.get(size + 2..) else { return true };
        rest = behind;
    }
}
