//! The smallest HTTP client that can tell whether a page is served yet, and
//! speak to the product's API.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Between two tries: far below what is measured, far above a busy loop.
const PAUSE: Duration = Duration::from_millis(1);

/// A server that says nothing for this long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Asks `address` (`HOST:PORT`) for `/` until it answers 200 with a body that
/// contains `expected`.
///
/// # Errors
/// When it does not within `limit`.
pub fn wait_for_page(address: &str, host: &str, expected: &str, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = get(address, host, "/").unwrap_or_default();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if status(head) == Some("200") && body.contains(expected) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("http://{address}/ did not answer `{expected}` in {limit:?}, last: {answer}");
        }
        thread::sleep(PAUSE);
    }
}

/// Asks once and returns the whole answer, head and body.
///
/// # Errors
/// When the server cannot be reached.
pub fn get(address: &str, host: &str, path: &str) -> Result<String> {
    let mut stream = send(address, "GET", path, &format!("Host: {host}\r\n"), "")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("receive")?;
    Ok(answer)
}

/// Sends a JSON document to who wants no token.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub fn post(address: &str, path: &str, body: &str) -> Result<()> {
    ask(address, path, body).map(drop)
}

/// The same, and reads the answer.
///
/// # Errors
/// When the server cannot be reached or refuses, or answers no JSON.
pub fn ask(address: &str, path: &str, body: &str) -> Result<Value> {
    ask_within(address, path, body, SILENCE_MAX)
}

/// The same, by who goes elsewhere when nothing is said for `limit`.
///
/// # Errors
/// The same, and when nothing is said.
pub fn ask_within(address: &str, path: &str, body: &str, limit: Duration) -> Result<Value> {
    let mut stream = send(address, "POST", path, "Content-Type: application/json\r\n", body)?;
    stream.set_read_timeout(Some(limit)).context("set a timeout")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("receive")?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if status(head) != Some("200") {
        bail!("POST {path}: {answer}");
    }
    serde_json::from_str(body).with_context(|| format!("read the answer to POST {path}"))
}

/// A JSON API that wants a token.
pub struct Api {
    /// `HOST:PORT`.
    pub address: String,
    pub token: String,
}

impl Api {
    /// Reads a resource.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, "")
    }

    /// Sends a command.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, &body.to_string())
    }

    /// Has something destroyed.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn delete(&self, path: &str) -> Result<Value> {
        self.call("DELETE", path, "")
    }

    /// Opens a stream with a JSON document in each line.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn follow(&self, path: &str) -> Result<Lines> {
        let mut lines = BufReader::new(send(&self.address, "GET", path, &self.headers(), "")?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head).context("receive")? == 0 {
                bail!("GET {path}: the server hung up");
            }
        }
        if status(&head) != Some("200") {
            bail!("GET {path}: {head}");
        }
        Ok(Lines(lines))
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let mut stream = send(&self.address, method, path, &self.headers(), body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("receive")?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if !matches!(status(head), Some("200" | "201")) {
            bail!("{method} {path}: {answer}");
        }
        serde_json::from_str(body).with_context(|| format!("read the answer to {method} {path}"))
    }

    fn headers(&self) -> String {
        format!(
            "Host: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.address, self.token
        )
    }
}

/// The documents of a stream, as they come.
pub struct Lines(BufReader<TcpStream>);

impl Lines {
    /// The next document; waits for it.
    ///
    /// # Errors
    /// When the stream ends or nothing comes for long.
    pub fn next_document(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.0.read_line(&mut line).context("receive")? == 0 {
            bail!("the stream ended");
        }
        serde_json::from_str(&line).context("read a line of a stream")
    }
}

/// Sends a request in HTTP/1.0, so that the server closes and the whole answer
/// can be read.
fn send(address: &str, method: &str, path: &str, headers: &str, body: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).context("connect")?;
    stream.set_read_timeout(Some(SILENCE_MAX)).context("set a timeout")?;
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).context("send")?;
    Ok(stream)
}

fn status(head: &str) -> Option<&str> {
    head.split(' ').nth(1)
}
