//! A small HTTP client: one request per connection over a plain socket, so that
//! no library retries behind a test's back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request that takes longer counts as failed.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// `GET path` on a new connection.
///
/// # Errors
/// When the connection fails, breaks off, or what comes is not whole.
pub fn get(address: SocketAddr, host: &str, path: &str) -> io::Result<Reply> {
    let mut stream = connect(address)?;
    // In one piece, so that the far end sees all of it or nothing.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
}

/// A request with these header fields and this body, on a new connection.
///
/// # Errors
/// When the connection fails, breaks off, or what comes is not whole.
pub fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &str,
) -> io::Result<Reply> {
    let mut stream = connect(address)?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = body.len();
    request.push_str("Content-Type: application/json\r\nConnection: close\r\n");
    request.push_str(&format!("Content-Length: {length}\r\n\r\n{body}"));
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
}

/// A connection that is kept and asked again, as browsers do.
pub struct Kept {
    stream: BufReader<TcpStream>,
    host: String,
    /// The far end has said that it closes after this answer, as it may.
    pub closed: bool,
}

impl Kept {
    /// Opens it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(address: SocketAddr, host: &str) -> io::Result<Kept> {
        let stream = BufReader::new(connect(address)?);
        Ok(Kept { stream, host: host.to_owned(), closed: false })
    }

    /// `GET path`; the status. The answer must say how long it is.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub fn get(&mut self, path: &str) -> io::Result<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(broken("closed in the head", &head));
            }
        }
        let length = header(&head, "content-length").and_then(|length| length.parse().ok());
        let length = length.ok_or_else(|| broken("no length", &head))?;
        self.closed = header(&head, "connection").is_some_and(|value| value == "close");
        io::copy(&mut self.stream.by_ref().take(length), &mut io::sink())?;
        status(&head)
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn status(head: &str) -> io::Result<u16> {
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| broken("no status", head))
}

fn broken(what: &str, answer: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {answer:?}"))
}

fn parse(answer: &str) -> io::Result<Reply> {
    let whole = answer.split_once("\r\n\r\n");
    let (head, body) = whole.ok_or_else(|| broken("no whole head", answer))?;
    let status = status(head)?;
    let body = if header(head, "transfer-encoding").is_some_and(|value| value == "chunked") {
        unchunk(body).ok_or_else(|| broken("broken chunks", answer))?
    } else {
        body.to_owned()
    };
    let promised = header(head, "content-length").and_then(|length| length.parse::<usize>().ok());
    if promised.is_some_and(|promised| promised != body.len()) {
        return Err(broken("the body is cut off", answer));
    }
    Ok(Reply { status, head: head.to_owned(), body })
}

/// The value of a header field, if there is one.
pub fn header(head: &str, name: &str) -> Option<String> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value.trim().to_ascii_lowercase())
}

fn unchunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}
