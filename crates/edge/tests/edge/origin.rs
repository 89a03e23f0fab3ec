//! An origin that writes down exactly what it receives, and takes nothing that is not to
//! the letter: what it does not understand is written down as such.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::App;

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Its first line without the version, and its body.
    pub(crate) what: String,
    pub(crate) headers: Vec<String>,
}

pub(crate) struct Origin {
    pub(crate) app: App,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Origin {
    pub(crate) async fn start(number: u128) -> Origin {
        let arrived: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let writing = Arc::clone(&arrived);
        let app = App::tcp(number, move |stream| serve(stream, Arc::clone(&writing)));
        Origin { app: app.await, arrived }
    }

    /// What has arrived since the last look.
    pub(crate) fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.lock().unwrap())
    }
}

async fn serve(mut stream: TcpStream, arrived: Arc<Mutex<Vec<Arrived>>>) {
    let mut unread = Vec::new();
    loop {
        while let Some((request, used)) = read(&unread) {
            unread.drain(..used);
            arrived.lock().unwrap().push(request);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut unread).await, Ok(1..)) {
            break;
        }
    }
    if !unread.is_empty() {
        let what = format!("unfinished: {}", String::from_utf8_lossy(&unread));
        arrived.lock().unwrap().push(Arrived { what, headers: Vec::new() });
    }
}

/// A whole request from the beginning of `bytes`, and how long it is.
fn read(bytes: &[u8]) -> Option<(Arrived, usize)> {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let malformed = |why: &str| {
        let what = format!("malformed ({why}): {}", String::from_utf8_lossy(bytes));
        Some((Arrived { what, headers: Vec::new() }, bytes.len()))
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end - 4]) else { return malformed("text") };
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let headers: Vec<String> = lines.map(str::to_lowercase).collect();
    if first.contains(['\r', '\n', '\0']) || !first.ends_with(" HTTP/1.1") {
        return malformed("first line");
    }
    let is_odd = |header: &String| {
        let name = header.split(':').next().unwrap_or_default();
        header.contains(['\r', '\n', '\0']) || name.contains([' ', '\t']) || name.is_empty()
    };
    if headers.iter().any(is_odd) {
        return malformed("headers");
    }
    let values = |name: &str| -> Vec<&str> {
        headers.iter().filter_map(|it| it.strip_prefix(name)?.strip_prefix(": ")).collect()
    };
    let (body, used) = match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => (Vec::new(), end),
        ([length], []) => {
            let Ok(length) = length.parse::<usize>() else { return malformed("length") };
            (bytes.get(end..end + length)?.to_vec(), end + length)
        }
        ([], ["chunked"]) => match chunked(&bytes[end..]) {
            Ok(whole) => whole.map(|(body, used)| (body, end + used))?,
            Err(()) => return malformed("chunks"),
        },
        _ => return malformed("two lengths"),
    };
    let what = first.strip_suffix(" HTTP/1.1").unwrap_or(first);
    let what = format!("{what} {}", String::from_utf8_lossy(&body)).trim_end().to_owned();
    Some((Arrived { what, headers }, used))
}

/// A chunked body and how long it is; nothing when it has not ended.
fn chunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ()> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = bytes[at..].windows(2).position(|it| it == b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&bytes[at..at + line]).map_err(drop)?;
        let size = usize::from_str_radix(size, 16).map_err(drop)?;
        at += line + 2;
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !data.ends_with(b"\r\n") {
            return Err(());
        }
        body.extend_from_slice(&data[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}
