//! The smallest HTTP client that can tell whether a page is served yet.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Between two tries: far below what is measured, far above a busy loop.
const PAUSE: Duration = Duration::from_millis(1);

/// Asks `address` (`HOST:PORT`) for `/` until it answers 200 with a body that
/// contains `expected`.
///
/// # Errors
/// When it does not within `limit`.
pub fn wait_for_page(address: &str, host: &str, expected: &str, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = get(address, host).unwrap_or_default();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if head.split(' ').nth(1) == Some("200") && body.contains(expected) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("http://{address}/ did not answer `{expected}` in {limit:?}, last: {answer}");
        }
        thread::sleep(PAUSE);
    }
}

fn get(address: &str, host: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).context("connect")?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .context("set a timeout")?;
    // HTTP/1.0, so that the server closes and the whole answer can be read.
    let request = format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).context("send")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("receive")?;
    Ok(answer)
}
