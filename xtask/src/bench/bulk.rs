//! Much data over few connections, taken by who costs next to nothing: the bytes are thrown
//! away where the kernel has them (`MSG_TRUNC`, tcp(7)), so that what is measured is what
//! sends them and what stands between. `wrk`, which looks at every byte, is itself what
//! ends first.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::net::{RecvFlags, recv};

use super::measure::sum_of;

/// Connections that fetch.
pub const CONNECTIONS: usize = 4;

/// How large what each of them fetches again and again is.
pub const BODY_BYTES: u64 = 64 << 20;

/// Where an origin has it.
const PATH: &str = "/large";

/// Thrown away with one call at most.
const AT_ONCE_BYTES: usize = 1 << 20;

/// A head is much shorter.
const HEAD_BYTES_MAX: usize = 4096;

/// A server that sends nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Gbit/s of bodies in so many seconds, after some unmeasured.
///
/// # Errors
/// When a server does not answer with a success and a length, or stops.
pub fn gbit_per_second(port: u16, warm_seconds: u64, seconds: u64) -> Result<f64> {
    let run = |seconds| {
        let begun = Instant::now();
        let until = begun + Duration::from_secs(seconds);
        let bytes = sum_of(CONNECTIONS, || take_until(port, until))?;
        Ok(bytes as f64 * 8.0 / 1e9 / begun.elapsed().as_secs_f64())
    };
    run(warm_seconds)?;
    run(seconds)
}

fn take_until(port: u16, until: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect")?;
    stream.set_read_timeout(Some(SILENCE_MAX)).context("set a timeout")?;
    let (mut taken, mut thrown_away) = (0, vec![0; AT_ONCE_BYTES]);
    while Instant::now() < until {
        write!(stream, "GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n").context("ask")?;
        let mut left = body_bytes(&mut stream)?;
        while left > 0 && Instant::now() < until {
            let most = thrown_away.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (_, bytes) =
                recv(&stream, &mut thrown_away[..most], RecvFlags::TRUNC).context("take a body")?;
            ensure!(bytes > 0, "a body ended {left} bytes before its end");
            left -= bytes as u64;
            taken += bytes as u64;
        }
    }
    Ok(taken)
}

/// Reads a head to its end, a byte at a time so as to leave the body; how long that is.
fn body_bytes(stream: &mut TcpStream) -> Result<u64> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < HEAD_BYTES_MAX, "a head has no end");
        stream.read_exact(&mut byte).context("read a head")?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "not a success: {head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.context("find the length")?.trim().parse().context("read the length")
}
