//! Finding out which host a connection is for before anything is answered, and giving
//! the bytes that told to whoever goes on with it.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::hello::{self, HELLO_BYTES_MAX, Hello};
use crate::stats::{Counters, count};

/// How long a client may take to say which host it wants. A lost segment alone is sent
/// again only after some 200 ms, and then after twice that.
pub(crate) const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);

/// What most hellos fit in.
const USUAL_BYTES: usize = 2 * 1024;

/// The first bytes of a connection.
#[derive(Debug)]
pub(crate) struct First {
    /// All that was read.
    pub(crate) bytes: Vec<u8>,
    pub(crate) hello: Hello,
}

/// Reads a client's hello, and counts what came of it. `None` for one that goes away or
/// takes too long.
pub(crate) async fn first(stream: &mut TcpStream, counters: &Counters) -> Option<First> {
    let first = match timeout(FIRST_BYTES_TIMEOUT, read(stream)).await {
        Ok(Ok(first)) => first,
        Ok(Err(_)) => return None,
        Err(_) => {
            count(&counters.hello_late);
            return None;
        }
    };
    count(match &first.hello {
        Hello::For(Some(_)) => &counters.hello_named,
        Hello::For(None) => &counters.hello_unnamed,
        Hello::NotTls => &counters.hello_not_tls,
        Hello::Malformed | Hello::Incomplete => &counters.hello_malformed,
    });
    Some(first)
}

async fn read(stream: &mut TcpStream) -> io::Result<First> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let hello = hello::read(&bytes);
        let is_read = hello != Hello::Incomplete || bytes.len() > 2 * HELLO_BYTES_MAX;
        if is_read {
            return Ok(First { bytes, hello });
        }
    }
}
